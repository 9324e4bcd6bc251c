"""A bounded memory of 64-bit hashes, so that a repeat changes nothing.

Two generations of an open-addressed set: when the newer one is full it becomes the older one, which is forgotten. A
hash is remembered for at least ``generation`` and at most twice as many later ones; 16 to 32 bytes each. Counting, not
time, moves the generations, so that the result does not depend on how a stream was cut.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import fmix64

Table = NDArray[np.uint64]


@njit(cache=True, nogil=True)
def _position(table: Table, value: np.uint64) -> int:
    mask = np.uint64(len(table) - 1)
    position = fmix64(value) & mask
    while table[np.int64(position)] != np.uint64(0) and table[np.int64(position)] != value:
        position = (position + np.uint64(1)) & mask
    return int(np.int64(position))


@njit(cache=True, nogil=True)
def first_seen(tables: NDArray[np.uint64], state: NDArray[np.int64], generation: int, value: np.uint64) -> bool:
    """Note ``value`` (never 0); whether it is new.

    ``tables`` is ``[2, slots]``, ``state`` is (newer table, its fill).
    """
    newer = state[0]
    here = _position(tables[newer], value)
    if tables[newer, here] == value:
        return False
    there = _position(tables[1 - newer], value)
    if tables[1 - newer, there] == value:
        return False
    tables[newer, here] = value
    state[1] += 1
    if state[1] >= generation:
        state[0] = 1 - newer
        state[1] = 0
        tables[1 - newer, :] = np.uint64(0)
    return True


@njit(cache=True, nogil=True)
def _refill(tables: NDArray[np.uint64], old: NDArray[np.uint64]) -> None:
    for generation in range(2):
        for value in old[generation]:
            if value != np.uint64(0):
                tables[generation, _position(tables[generation], value)] = value


class SeenHashes:
    """The tables, grown from small to their bound between batches."""

    __slots__ = ("generation", "state", "tables")

    def __init__(self, generation: int = 1 << 19) -> None:
        self.generation = generation
        self.tables: NDArray[np.uint64] = np.zeros((2, 1024), np.uint64)
        self.state = np.zeros(2, np.int64)

    def reserve(self, extra: int) -> None:
        """Make room for ``extra`` hashes at half load, up to the bound."""
        needed = 1 << int(2 * min(self.state[1] + extra, self.generation)).bit_length()
        if needed > self.tables.shape[1]:
            grown = np.zeros((2, needed), np.uint64)
            _refill(grown, self.tables)
            self.tables = grown
