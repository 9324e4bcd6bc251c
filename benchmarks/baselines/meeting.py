"""Who met whom on a key within a window: the one primitive behind shared addresses, pair LSH and shared texts.

A key's members stand in a chain, the last to arrive first. A visit walks the chain and tells the others that are alive
there, at most ``limit`` a key. With the threshold as the limit nothing is lost: until a key has more than ``limit``
others every visit tells all of them, and from then on everybody there has met ``limit`` others and has been told so.

Compiled, about 0.25 us a visit and 64 bytes a (key, member); memory follows a window and a quarter of traffic.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Ints
from streamdetect.kernels.hashing import Hashes, combine64

_ENTRY = np.dtype([("key", "u8"), ("member", "u8"), ("last", "i8"), ("next", "i8")])
_START = 1 << 12


@dataclass(slots=True)
class Meetings:
    """Members of keys, newest visit each. ``window_ms``: a visit at t meets visits in (t - window_ms, t]."""

    window_ms: int
    limit: int
    _entries: NDArray[np.void] = field(init=False)
    _heads: Ints = field(init=False)  # slot -> newest entry of a key, -1 empty
    _pairs: Ints = field(init=False)  # slot -> entry of a (key, member), -1 empty
    _count: int = 0
    _tidied_at: int | None = None

    def __post_init__(self) -> None:
        self._reset(_START)

    def __len__(self) -> int:
        return self._count

    def visit(self, keys: Hashes, members: Hashes, at: Ints) -> tuple[Ints, Hashes]:
        """Let ``members[i]`` visit ``keys[i, :]`` at ``at[i]``, in order of time; a key of 0 is none.

        Returns (rows, others): the visit at ``rows[j]`` met ``others[j]``, each other once a row.
        """
        if not len(at):
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        self._make_room(keys.size, int(at[0]))
        rows, others = np.empty(self.limit * keys.size, np.int64), np.empty(self.limit * keys.size, np.uint64)
        self._count, found = _visit(
            self._entries, self._heads, self._pairs, self._count, np.ascontiguousarray(keys), members, at,
            self.window_ms, self.limit, rows, others,
        )  # fmt: skip
        return rows[:found], others[:found]

    def _make_room(self, wanted: int, at: int) -> None:
        if self._tidied_at is None:
            self._tidied_at = at
        full = self._count + wanted > len(self._entries)
        if not full and at - self._tidied_at < self.window_ms // 4:
            return
        self._tidied_at = at
        old = self._entries[: self._count]
        alive = old[old["last"] > at - self.window_ms]
        room = max(_START, 2 * (len(alive) + wanted))
        self._reset(1 << (room - 1).bit_length())
        self._count = len(alive)
        self._entries[: self._count] = alive
        _link(self._entries, self._heads, self._pairs, self._count)

    def _reset(self, size: int) -> None:
        self._entries = np.zeros(size, _ENTRY)
        self._heads, self._pairs = np.full(2 * size, -1, np.int64), np.full(2 * size, -1, np.int64)


@njit(cache=True)
def _head_slot(entries, heads, key):
    mask = len(heads) - 1
    slot = np.int64(combine64(key, np.uint64(1)) & np.uint64(mask))
    while heads[slot] >= 0 and entries[heads[slot]]["key"] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _pair_slot(entries, pairs, key, member):
    mask = len(pairs) - 1
    slot = np.int64(combine64(key, member) & np.uint64(mask))
    while pairs[slot] >= 0 and (entries[pairs[slot]]["key"] != key or entries[pairs[slot]]["member"] != member):
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _link(entries, heads, pairs, count):
    """Chain entries anew, in the order they arrived."""
    for entry in range(count):
        key, member = entries[entry]["key"], entries[entry]["member"]
        pairs[_pair_slot(entries, pairs, key, member)] = entry
        slot = _head_slot(entries, heads, key)
        entries[entry]["next"] = heads[slot]
        heads[slot] = entry


@njit(cache=True)
def _visit(entries, heads, pairs, count, keys, members, at, window_ms, limit, rows, others):
    found = 0
    for row in range(len(at)):
        first, member = found, members[row]
        for column in range(keys.shape[1]):
            key = keys[row, column]
            if key == np.uint64(0):
                continue
            slot = _head_slot(entries, heads, key)
            pair = _pair_slot(entries, pairs, key, member)
            if pairs[pair] < 0:
                entries[count]["key"], entries[count]["member"] = key, member
                entries[count]["next"] = heads[slot]
                heads[slot] = pairs[pair] = count
                count += 1
            entries[pairs[pair]]["last"] = at[row]
            entry, here = heads[slot], 0
            while entry >= 0 and here < limit:
                other = entries[entry]["member"]
                if other != member and entries[entry]["last"] > at[row] - window_ms:
                    here += 1
                    known = False
                    for index in range(first, found):
                        known |= others[index] == other
                    if not known:
                        rows[found], others[found] = row, other
                        found += 1
                entry = entries[entry]["next"]
    return count, found
