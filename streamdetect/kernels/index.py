"""Rows of a structured array found by a 64-bit key: open addressing, linear probing, no deletion.

The key is the identity (two values that share a 64-bit hash are one; at ten million keys the chance is 3e-6). Memory is
the row plus 7 bytes of slots and a mark; large arrays grow by half and shrink when most of them is empty. Both happen
between batches, so that compiled code never allocates. Spare rows take no memory before they are used; spare slots do.
``dirty`` is 1 for each row that changed since the last image; whoever changes a row sets it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import fmix64
from streamdetect.kernels.images import Dirty, RowSection, capture_rows, restore_rows

Rows = NDArray[np.void]
Slots = NDArray[np.int32]
Record = Any  # one row of a structured array: compiled code reads its fields by name

NO_ROW = -1
_FILL = 0.6  # rows per slot at the most; beyond it probe chains grow quickly
_LEAST, _SMALL = 1024, 1 << 17


@njit(cache=True, nogil=True)
def first_slot(slots: Slots, mixed: np.uint64) -> int:
    """Where the search for a mixed key begins: any number of slots will do, so that there are no more than needed."""
    return int(np.int64((mixed >> np.uint64(32)) * np.uint64(len(slots)) >> np.uint64(32)))


@njit(cache=True, nogil=True)
def next_slot(slots: Slots, position: int) -> int:
    """Where it goes on."""
    return position + 1 if position + 1 < len(slots) else 0


@njit(cache=True, nogil=True)
def find(slots: Slots, rows: Rows, key: np.uint64) -> int:
    """The row that holds ``key``, or -1."""
    position = first_slot(slots, fmix64(key))
    while True:
        row = np.int64(slots[position])
        if row < 0 or rows[row].key == key:
            return int(row)
        position = next_slot(slots, position)


@njit(cache=True, nogil=True)
def find_or_add(slots: Slots, rows: Rows, count: int, key: np.uint64) -> int:
    """The row that holds ``key``; ``count`` means it was put there now, and the caller owns that new row."""
    position = first_slot(slots, fmix64(key))
    while True:
        row = np.int64(slots[position])
        if row < 0:
            slots[position] = np.int32(count)
            rows[count].key = key
            return count
        if rows[row].key == key:
            return int(row)
        position = next_slot(slots, position)


@njit(cache=True, nogil=True)
def _insert_all(slots: Slots, rows: Rows, count: int) -> None:
    for row in range(count):
        position = first_slot(slots, fmix64(rows[row].key))
        while slots[position] >= 0:
            position = next_slot(slots, position)
        slots[position] = np.int32(row)


class KeyedRows:
    """A growing structured array (with a ``key`` field) and its index. Rows are handed out in order of first sight."""

    __slots__ = ("count", "dirty", "rows", "slots")

    def __init__(self, dtype: np.dtype[np.void], capacity: int = _LEAST) -> None:
        self.rows: Rows = np.zeros(capacity, dtype)
        self.dirty: Dirty = np.zeros(capacity, np.uint8)
        self.slots: Slots = no_slots(capacity)
        self.count = 0

    def reserve(self, extra: int) -> None:
        """Make room for ``extra`` new rows; called before a batch, because compiled code cannot grow arrays."""
        needed = self.count + extra
        if needed > len(self.rows):
            self.rows, self.dirty = resized(self.rows, self.dirty, self.count, more_room(needed, len(self.rows)))
            self.slots = no_slots(len(self.rows))
            _insert_all(self.slots, self.rows, self.count)

    def keep(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drop the rows not in ``kept`` (one flag a row) and return the new number of each old row, -1 if dropped."""
        renumbered = np.where(kept, np.cumsum(kept) - 1, NO_ROW)
        survivors = self.rows[: self.count][kept]
        self.rows[: len(survivors)] = survivors
        self.rows[len(survivors) : self.count] = np.zeros(1, self.rows.dtype)
        self.count = len(survivors)
        self.dirty[: self.count] = 1  # renumbered
        if (room := less_room(self.count, len(self.rows))) < len(self.rows):
            self.rows, self.dirty = resized(self.rows, self.dirty, self.count, room)
        self.slots = no_slots(len(self.rows))
        _insert_all(self.slots, self.rows, self.count)
        return renumbered

    def capture(self, stripe: int) -> RowSection:
        """The rows due for an image."""
        return capture_rows(self.rows, self.count, self.dirty, stripe)

    def restore(self, sections: Sequence[RowSection]) -> None:
        """Become what images in order say."""
        self.count = sections[-1].count
        self.rows = restore_rows(sections, self.rows.dtype, at_least=room_for(self.count, len(self.rows)))
        self.dirty = np.zeros(len(self.rows), np.uint8)
        self.slots = no_slots(len(self.rows))
        _insert_all(self.slots, self.rows, self.count)

    @property
    def live(self) -> Rows:
        """The rows in use."""
        return self.rows[: self.count]

    @property
    def memory_bytes(self) -> int:
        """Bytes held, spare room included."""
        return self.rows.nbytes + self.dirty.nbytes + self.slots.nbytes


def resized(rows: Rows, dirty: Dirty, count: int, room: int) -> tuple[Rows, Dirty]:
    """The first ``count`` rows and their marks, in arrays of ``room``; what is spare there takes no memory yet."""
    moved, marks = np.zeros(room, rows.dtype), np.zeros(room, np.uint8)
    whole = count * rows.dtype.itemsize  # as bytes: numpy copies records field by field
    moved.view(np.uint8)[:whole], marks[:count] = rows.view(np.uint8)[:whole], dirty[:count]
    return moved, marks


def more_room(needed: int, held: int) -> int:
    """How long an array must become that holds less than ``needed``.

    Half more, or twice as long while it is small: each time it is indexed anew.
    """
    return max(needed, held + max(held // 2, min(held, _SMALL)))


def less_room(count: int, held: int) -> int:
    """How long an array should be after a sweep: as it is, or a quarter more than is used if that is less than half."""
    return max(_LEAST, count + count // 4) if 2 * count < held else held


def room_for(rows: int, at_least: int) -> int:
    """How long an array that is restored should be: it must not have to grow at once."""
    return max(at_least, rows + rows // 4)


def no_slots(rows: int) -> Slots:
    """An empty index for so many rows."""
    return np.full(max(16, int(rows / _FILL) + 1), NO_ROW, np.int32)
