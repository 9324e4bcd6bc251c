"""Rows of a structured array found by a 64-bit key: open addressing, linear probing, no deletion.

The key is the identity (two values that share a 64-bit hash are one; at ten million keys the chance is 3e-6). Memory is
the row plus 8 to 16 bytes of slots and a mark. Growth happens between batches, so that compiled code never allocates.
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


@njit(cache=True, nogil=True)
def find(slots: Slots, rows: Rows, key: np.uint64) -> int:
    """The row that holds ``key``, or -1."""
    mask = np.uint64(len(slots) - 1)
    position = fmix64(key) & mask
    while True:
        row = np.int64(slots[np.int64(position)])
        if row < 0 or rows[row].key == key:
            return int(row)
        position = (position + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def find_or_add(slots: Slots, rows: Rows, count: int, key: np.uint64) -> int:
    """The row that holds ``key``; ``count`` means it was put there now, and the caller owns that new row."""
    mask = np.uint64(len(slots) - 1)
    position = fmix64(key) & mask
    while True:
        row = np.int64(slots[np.int64(position)])
        if row < 0:
            slots[np.int64(position)] = np.int32(count)
            rows[count].key = key
            return count
        if rows[row].key == key:
            return int(row)
        position = (position + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def _insert_all(slots: Slots, rows: Rows, count: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for row in range(count):
        position = fmix64(rows[row].key) & mask
        while slots[np.int64(position)] >= 0:
            position = (position + np.uint64(1)) & mask
        slots[np.int64(position)] = np.int32(row)


class KeyedRows:
    """A growing structured array (with a ``key`` field) and its index. Rows are handed out in order of first sight."""

    __slots__ = ("count", "dirty", "rows", "slots")

    def __init__(self, dtype: np.dtype[np.void], capacity: int = 1024) -> None:
        self.rows: Rows = np.zeros(capacity, dtype)
        self.dirty: Dirty = np.zeros(capacity, np.uint8)
        self.slots: Slots = np.full(_slots_for(capacity), NO_ROW, np.int32)
        self.count = 0

    def reserve(self, extra: int) -> None:
        """Make room for ``extra`` new rows; called before a batch, because compiled code cannot grow arrays."""
        needed = self.count + extra
        if needed > len(self.rows):
            grown = np.zeros(max(needed, len(self.rows) + len(self.rows) // 2), self.rows.dtype)
            grown[: self.count] = self.rows[: self.count]
            self.rows = grown
            self.dirty = longer(self.dirty, len(grown))
        if needed > len(self.slots) * _FILL:
            self.slots = np.full(_slots_for(len(self.rows)), NO_ROW, np.int32)
            _insert_all(self.slots, self.rows, self.count)

    def keep(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drop the rows not in ``kept`` (one flag a row) and return the new number of each old row, -1 if dropped."""
        renumbered = np.where(kept, np.cumsum(kept) - 1, NO_ROW)
        survivors = self.rows[: self.count][kept]
        self.rows[: len(survivors)] = survivors
        self.rows[len(survivors) : self.count] = np.zeros(1, self.rows.dtype)
        self.count = len(survivors)
        self.dirty[: self.count] = 1  # renumbered
        self.slots[:] = NO_ROW
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
        self.slots = np.full(_slots_for(len(self.rows)), NO_ROW, np.int32)
        _insert_all(self.slots, self.rows, self.count)

    @property
    def live(self) -> Rows:
        """The rows in use."""
        return self.rows[: self.count]

    @property
    def memory_bytes(self) -> int:
        """Bytes held, spare room included."""
        return self.rows.nbytes + self.dirty.nbytes + self.slots.nbytes


def longer(dirty: Dirty, length: int) -> Dirty:
    """The same marks, and room for more."""
    grown = np.zeros(length, np.uint8)
    grown[: len(dirty)] = dirty
    return grown


def room_for(rows: int, at_least: int) -> int:
    """How long an array that is restored should be: what it would have grown to, so that it need not grow at once."""
    return max(at_least, 1 << (rows - 1).bit_length()) if rows else at_least


def _slots_for(rows: int) -> int:
    return 1 << max(4, int(rows / _FILL).bit_length())
