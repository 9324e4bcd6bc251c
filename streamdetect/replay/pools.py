"""Accounts of a campaign that are in use, by pool, so that compiled code can pick one in constant time."""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import fmix64

NOBODY = -1


@dataclass(slots=True)
class Pools:
    """Rows by pool; who joins and leaves when fixes the order, and with it who is picked."""

    members: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    start: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    length: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _room: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _place: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sizes: NDArray[np.int64]) -> "Pools":
        """Empty pools with room for so many members each."""
        room = np.maximum(sizes, 1)
        return cls(np.zeros(int(room.sum()), np.int64), np.cumsum(room) - room, np.zeros(len(room), np.int64), room)

    def join(self, pool: int, row: int) -> None:
        """Add a row that is in no pool."""
        if self.length[pool] == self._room[pool]:
            self._grow(pool)
        self._place[row] = int(self.length[pool])
        self.members[self.start[pool] + self.length[pool]] = row
        self.length[pool] += 1

    def leave(self, pool: int, row: int) -> None:
        """Take a row out, if it is in; the last one takes its place."""
        place = self._place.pop(row, None)
        if place is None:
            return
        self.length[pool] -= 1
        last = int(self.members[self.start[pool] + self.length[pool]])
        if last != row:
            self.members[self.start[pool] + place] = last
            self._place[last] = place

    def _grow(self, pool: int) -> None:
        room = self._room.copy()
        room[pool] *= 2
        start = np.cumsum(room) - room
        members = np.zeros(int(room.sum()), np.int64)
        for number, length in enumerate(self.length.tolist()):
            old = int(self.start[number])
            members[start[number] : start[number] + length] = self.members[old : old + length]
        self.members, self.start, self._room = members, start, room


@njit(cache=True, nogil=True)
def pick(
    members: NDArray[np.int64], start: NDArray[np.int64], length: NDArray[np.int64], pool: int, key: np.uint64, but: int
) -> int:
    """A member of a pool other than ``but``, the same for the same ``key``; -1 if there is none."""
    count = length[pool]
    if count == 0:
        return NOBODY
    place = np.int64(fmix64(key) % np.uint64(count))
    found = members[start[pool] + place]
    if found != but:
        return int(found)
    return NOBODY if count == 1 else int(members[start[pool] + (place + 1) % count])
