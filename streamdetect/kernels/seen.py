"""A bounded memory of 64-bit hashes, so that a repeat changes nothing.

Two generations of an open-addressed set: when the newer one is full it becomes the older one, which is forgotten. A
hash is remembered for at least ``generation`` and at most twice as many later ones; 18 to 36 bytes each. Counting, not
time, moves the generations, so that the result does not depend on how a stream was cut.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import fmix64
from streamdetect.kernels.images import Dirty, RowSection, StageImage, capture_rows, restore_rows

Table = NDArray[np.uint64]


@njit(cache=True, nogil=True)
def _position(table: Table, value: np.uint64) -> int:
    mask = np.uint64(len(table) - 1)
    position = fmix64(value) & mask
    while table[np.int64(position)] != np.uint64(0) and table[np.int64(position)] != value:
        position = (position + np.uint64(1)) & mask
    return int(np.int64(position))


@njit(cache=True, nogil=True)
def first_seen(
    tables: NDArray[np.uint64],
    dirty: Dirty,
    state: NDArray[np.int64],
    generation: int,
    value: np.uint64,
) -> bool:
    """Note ``value`` (never 0); whether it is new.

    ``tables`` and ``dirty`` are ``[2, slots]``, ``state`` is (newer table, its fill).
    """
    newer = state[0]
    here = _position(tables[newer], value)
    if tables[newer, here] == value:
        return False
    there = _position(tables[1 - newer], value)
    if tables[1 - newer, there] == value:
        return False
    tables[newer, here], dirty[newer, here] = value, np.uint8(1)
    state[1] += 1
    if state[1] >= generation:
        state[0] = 1 - newer
        state[1] = 0
        tables[1 - newer, :], dirty[1 - newer, :] = np.uint64(0), np.uint8(1)
    return True


@njit(cache=True, nogil=True)
def was_seen(tables: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of ``values`` (never 0) are remembered: ``bool[n]``; notes nothing."""
    found = np.empty(len(values), np.bool_)
    for index in range(len(values)):
        value = values[index]
        found[index] = (
            tables[0, _position(tables[0], value)] == value or tables[1, _position(tables[1], value)] == value
        )
    return found


@njit(cache=True, nogil=True)
def _refill(tables: NDArray[np.uint64], old: NDArray[np.uint64]) -> None:
    for generation in range(2):
        for value in old[generation]:
            if value != np.uint64(0):
                tables[generation, _position(tables[generation], value)] = value


class SeenHashes:
    """The tables, grown from small to their bound between batches."""

    __slots__ = ("dirty", "generation", "state", "tables")

    def __init__(self, generation: int = 1 << 19) -> None:
        self.generation = generation
        self.tables: NDArray[np.uint64] = np.zeros((2, 1024), np.uint64)
        self.dirty: Dirty = np.ones((2, 1024), np.uint8)
        self.state = np.zeros(2, np.int64)

    def reserve(self, extra: int) -> None:
        """Make room for ``extra`` hashes at half load, up to the bound."""
        needed = 1 << int(2 * min(self.state[1] + extra, self.generation)).bit_length()
        if needed > self.tables.shape[1]:
            grown = np.zeros((2, needed), np.uint64)
            _refill(grown, self.tables)
            self.tables, self.dirty = grown, np.ones(grown.shape, np.uint8)

    def capture(self, stripe: int) -> dict[str, RowSection]:
        """The slots of both tables that are due for an image; ``state`` is for the caller to keep."""
        slots = self.tables.shape[1]
        return {f"seen_{n}": capture_rows(self.tables[n], slots, self.dirty[n], stripe) for n in range(2)}

    def restore(self, stages: Sequence[StageImage], state: Sequence[int]) -> None:
        """Become what images in order say."""
        tables = [restore_rows([stage.rows[f"seen_{n}"] for stage in stages], np.uint64) for n in range(2)]
        self.tables, self.state[:] = np.stack(tables), state
        self.dirty = np.zeros(self.tables.shape, np.uint8)
