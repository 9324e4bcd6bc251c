"""Who uses what: distinct members per owner over sliding windows, exact, in O(1) an event.

One entry per (owner, member) remembers the newest ten-minute bucket in which the member was seen and its class. The
owner keeps, per window and sub-bucket, how many of its members were *last* seen there; their sum over the ring is the
exact distinct count, whatever its size. State is ``member -> newest bucket``, so order does not matter; of two classes
seen in one bucket the higher wins. An entry is about 34 bytes with its share of the index and a mark; stale ones are
swept only when room is needed, and change no count.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import fmix64
from streamdetect.kernels.images import Dirty
from streamdetect.kernels.index import IndexedRows, first_slot, next_slot
from streamdetect.kernels.windows import BUCKETS

UNKNOWN, YOUNG, TRUSTED = 0, 1, 2
TICK_MS = 600_000  # ten minutes: the sub-bucket of the hour; 24 of them are the sub-bucket of the day
RETAINED_TICKS = 24 * BUCKETS
HOURLY, DAILY = 0, 1

ENTRY = np.dtype(
    [
        ("member", "u8"),
        ("owner", "i4"),
        ("tick", "i4"),  # newest bucket of TICK_MS in which the member was seen
        ("next", "i4"),  # the owner's next entry, -1 at the end
        ("partition", "u2"),  # where evidence for the member goes back to
        ("kind", "u1"),  # UNKNOWN, YOUNG or TRUSTED
    ],
    align=True,
)
_LEAST_SWEPT = 8  # of so many entries one must go, or moving all the others costs more than its room is worth
_STEP = np.array([1, 24], np.int64)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)

Entries = NDArray[np.void]
Distinct = NDArray[np.uint32]  # [window, sub-bucket, class]


@njit(cache=True, nogil=True)
def advance(distinct: Distinct, newest_tick: int, tick: int) -> None:
    """Forget the members last seen in the sub-buckets that the ring reuses when time moves on to ``tick``."""
    for window in range(2):
        first = newest_tick // _STEP[window] + 1
        last = tick // _STEP[window]
        if last - first >= BUCKETS:
            first = last - BUCKETS + 1
        for bucket in range(first, last + 1):
            for kind in range(distinct.shape[2]):
                distinct[window, bucket % BUCKETS, kind] = np.uint32(0)


@njit(cache=True, nogil=True)
def count_one(distinct: Distinct, newest_tick: int, tick: int, kind: int, change: int) -> None:
    """Add ``change`` to those last seen in bucket ``tick``, in each window that still retains it."""
    for window in range(2):
        bucket = tick // _STEP[window]
        if bucket > newest_tick // _STEP[window] - BUCKETS:
            distinct[window, bucket % BUCKETS, kind] = np.uint32(
                np.int64(distinct[window, bucket % BUCKETS, kind]) + change
            )


@njit(cache=True, nogil=True)
def _locate(slots: NDArray[np.int32], entries: Entries, owner: int, member: np.uint64) -> int:
    position = first_slot(slots, fmix64(member + np.uint64(owner) * _SPREAD))
    while True:
        entry = slots[position]
        if entry < 0 or (entries[entry].member == member and entries[entry].owner == owner):
            return int(position)
        position = next_slot(slots, position)


@njit(cache=True, nogil=True)
def touch(
    slots: NDArray[np.int32],
    entries: Entries,
    dirty: Dirty,
    count: int,
    distinct: Distinct,
    owner: int,
    newest_tick: int,
    member: np.uint64,
    partition: int,
    tick: int,
    kind: int,
) -> int:
    """Note that ``member`` used ``owner`` in bucket ``tick`` (at most ``newest_tick``). ``count`` means a new entry."""
    position = _locate(slots, entries, owner, member)
    found = slots[position]
    if found < 0:
        slots[position] = np.int32(count)
        entry = entries[count]
        entry.member, entry.partition = member, np.uint16(partition)
        entry.owner, entry.tick, entry.kind, entry.next = np.int32(owner), np.int32(tick), np.uint8(kind), np.int32(-1)
        dirty[count] = np.uint8(1)
        count_one(distinct, newest_tick, tick, kind, 1)
        return count
    entry = entries[found]
    if tick > entry.tick or (tick == entry.tick and kind > entry.kind):
        count_one(distinct, newest_tick, np.int64(entry.tick), np.int64(entry.kind), -1)
        count_one(distinct, newest_tick, tick, kind, 1)
        entry.tick, entry.kind, dirty[found] = np.int32(tick), np.uint8(kind), np.uint8(1)
    return int(np.int64(found))


@njit(cache=True, nogil=True)
def distinct_of(distinct: Distinct, window: int, kind: int) -> int:
    """Distinct members of one class over one window."""
    value = 0
    for bucket in range(BUCKETS):
        value += int(distinct[window, bucket, kind])
    return value


@njit(cache=True, nogil=True)
def _rehash(slots: NDArray[np.int32], entries: Entries, count: int) -> None:
    for entry in range(count):
        slots[_locate(slots, entries, np.int64(entries[entry].owner), entries[entry].member)] = np.int32(entry)


@njit(cache=True, nogil=True)
def _sweep(entries: Entries, count: int, owners: NDArray[np.int64], newest_ticks: NDArray[np.int64]) -> int:
    """Keep live entries of kept owners, in order; renumber owners. Chains are rebuilt by the caller."""
    kept = 0
    for entry in range(count):
        owner = owners[entries[entry].owner]
        if owner >= 0 and entries[entry].tick > newest_ticks[entries[entry].owner] - RETAINED_TICKS - _STEP[1]:
            entries[kept] = entries[entry]
            entries[kept].owner = np.int32(owner)
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _count_stale(entries: Entries, count: int, newest_ticks: NDArray[np.int64]) -> int:
    """How many entries ``_sweep`` would drop if it kept all owners."""
    stale = 0
    for entry in range(count):
        stale += entries[entry].tick <= newest_ticks[entries[entry].owner] - RETAINED_TICKS - _STEP[1]
    return stale


class Members(IndexedRows):
    """The entries of all owners of one stage and partition, and the index that finds them."""

    __slots__ = ()

    def __init__(self, capacity: int = 1024) -> None:
        super().__init__(ENTRY, capacity)

    def _insert_all(self) -> None:
        _rehash(self.slots, self.rows, self.count)

    def is_worth_sweeping(self, newest_ticks: NDArray[np.int64]) -> bool:
        """Whether a sweep that keeps all owners would drop enough; ``newest_ticks`` as there."""
        return _LEAST_SWEPT * int(_count_stale(self.rows, self.count, newest_ticks)) > self.count

    def sweep(self, owners: NDArray[np.int64], newest_ticks: NDArray[np.int64]) -> int:
        """Drop stale entries and those of dropped owners; returns how many went.

        ``owners`` gives the new number of each old owner (-1 dropped), ``newest_ticks`` each old owner's newest bucket.
        Chains must be rebuilt by the caller, for it owns their heads; if nobody went, all is as it was.
        """
        before = self.count
        left = int(_sweep(self.rows, before, owners, newest_ticks))
        if left == before and (not len(owners) or owners[-1] == len(owners) - 1):
            return 0
        self.kept(left)
        return before - left


def room_after_sweep(count: int, most: int | None = None) -> int:
    """How many more rows to make room for when ``count`` are left, up to ``most`` in all.

    A quarter: a sweep looks at every row, so it must not be due again before many have come.
    """
    return count // 4 if most is None else min(count // 4, max(0, most - count))
