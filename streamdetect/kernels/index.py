"""Rows of a structured array found by a 64-bit key: open addressing, linear probing, no deletion.

The key is the identity (two values that share a 64-bit hash are one; at ten million keys the chance is 3e-6). Memory is
the row plus 7 bytes of slots and a mark; spare slots take memory, spare rows do not.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.growing import GrowingRows, Rows
from streamdetect.kernels.hashing import fmix64

Slots = NDArray[np.int32]
Record = Any  # one row of a structured array: compiled code reads its fields by name

NO_ROW = -1
_FILL = 0.6  # rows per slot at the most; beyond it probe chains grow quickly


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


class IndexedRows(GrowingRows):
    """Growing rows and slots that find them."""

    __slots__ = ("slots",)
    slots: Slots

    def _moved(self) -> None:
        self.slots = no_slots(len(self.rows))
        self._insert_all()

    def _insert_all(self) -> None:
        """Put every row into the empty slots."""
        raise NotImplementedError

    @property
    def memory_bytes(self) -> int:
        """Bytes held, spare room included."""
        return super().memory_bytes + self.slots.nbytes


class KeyedRows(IndexedRows):
    """Growing rows with a ``key`` field, and their index. Rows are handed out in order of first sight."""

    __slots__ = ()

    def __init__(self, dtype: np.dtype[np.void], capacity: int = 1024) -> None:
        super().__init__(dtype, capacity)

    def _insert_all(self) -> None:
        _insert_all(self.slots, self.rows, self.count)

    def keep(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drop the rows not in ``kept`` (one flag a row) and return the new number of each old row, -1 if dropped."""
        renumbered = np.where(kept, np.cumsum(kept) - 1, NO_ROW)
        survivors = self.live[kept]
        self.rows[: len(survivors)] = survivors
        self.rows[len(survivors) : self.count] = np.zeros(1, self.rows.dtype)
        self.kept(len(survivors))
        return renumbered


def no_slots(rows: int) -> Slots:
    """An empty index for so many rows."""
    return np.full(max(16, int(rows / _FILL) + 1), NO_ROW, np.int32)
