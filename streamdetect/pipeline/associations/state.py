"""What is remembered of each typed key of one links partition.

A key used by somebody has a row of about 140 bytes and an entry for each member. How many members were last seen when
stands in a *crowd* (144 bytes), which a key gets with its second member: of one, its entry says it all. Content keys
and cards, whose windows nobody reads, wait in ``singles`` (about 37 bytes) while one account uses them. Either way the
result is the same as if a key had had everything from the start. Before anything grows, keys whose windows are long
empty are forgotten, which changes nothing. Bounded by ``keys_max`` and ``singles_max``: at the bound those silent
longest go too, and are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.growing import GrowingRows
from streamdetect.kernels.images import StageImage, capture_bytes, restore_bytes
from streamdetect.kernels.index import KeyedRows, Record
from streamdetect.kernels.members import TICK_MS, Distinct, Entries, Members, count_one, room_after_sweep
from streamdetect.kernels.spans import joined
from streamdetect.pipeline.accounts.evidence import FACT_MS

# A key not used for so long has empty windows, and so has a new one. A day more than the longest window, for events
# that come late: only one that is later still could tell the difference.
STALE_MS = 2 * FACT_MS
_LEAST_SWEPT = 8  # of so many lone keys one must go, or moving all the others costs more than its room is worth

KEY = np.dtype(
    [
        ("key", "u8"),  # identity of the typed key
        ("raw", "u8"),  # address bits of a subnet, hash of anything else
        ("newest", "i8"),
        ("requests", "u4", (3, 6)),
        ("quiet_until_s", "u4", (2,)),  # as in the row of an account
        ("name_start", "u4"),  # 16 million names of the longest that a message allows
        ("head", "i4"),  # first of its members
        ("crowd", "i4"),  # where its members are counted, -1 while it has one only
        ("name_length", "u2"),
        ("key_type", "u1"),
        ("suspect", "u1"),
        ("quiet_level", "u1", (2,)),
    ],
    align=True,
)
CROWD = np.dtype([("distinct", "u4", (2, 6, 3))])  # members by window, sub-bucket last seen in, class
SINGLE = np.dtype(  # not aligned: there are many of them, and four bytes of padding would be an eighth
    [
        ("key", "u8"),
        ("member", "u8"),
        ("newest", "i8"),
        ("partition", "u2"),
        ("kind", "u1"),
        ("promoted", "u1"),
    ]
)


@njit(cache=True, nogil=True)
def count_alone(distinct: Distinct, entries: Entries, key: Record) -> None:
    """Write into ``distinct`` the counts of a key without a crowd."""
    distinct[:] = np.uint32(0)
    if key.head >= 0:
        only = entries[key.head]
        count_one(distinct, key.newest // TICK_MS, np.int64(only.tick), np.int64(only.kind), 1)


@njit(cache=True, nogil=True)
def _gather(rows: NDArray[np.void], count: int, entries: Entries, crowds: NDArray[np.uint32]) -> int:
    """Give a crowd to each key that has two entries or more, and to no other; returns how many."""
    gathered = 0
    for row in range(count):
        key = rows[row]
        key.crowd = np.int32(-1)
        entry = np.int64(key.head)
        if entry < 0 or entries[entry].next < 0:
            continue
        distinct = crowds[gathered]
        while entry >= 0:
            member = entries[entry]
            count_one(distinct, key.newest // TICK_MS, np.int64(member.tick), np.int64(member.kind), 1)
            entry = np.int64(member.next)
        key.crowd = np.int32(gathered)
        gathered += 1
    return gathered


@dataclass(slots=True)
class AssociationsState:
    """Rows, members, crowds and lone keys of one links partition."""

    keys_max: int = 8_000_000
    singles_max: int = 16_000_000
    table: KeyedRows = field(default_factory=lambda: KeyedRows(KEY))
    singles: KeyedRows = field(default_factory=lambda: KeyedRows(SINGLE))
    members: Members = field(default_factory=Members)
    crowds: GrowingRows = field(default_factory=lambda: GrowingRows(CROWD))
    names: bytearray = field(default_factory=bytearray)
    high_water: dict[int, int] = field(default_factory=dict)  # source partition -> newest source offset taken in
    newest: int = 0
    evicted: int = 0
    _names_captured: int = 0

    def reserve(self, rows: int) -> None:
        """Make room for ``rows`` incoming rows; what counts nowhere any more goes before anything grows."""
        if self.table.count + rows > min(self.keys_max, len(self.table.rows)):
            self._sweep_keys(rows)
            self.table.reserve(room_after_sweep(self.table.count, self.keys_max))
        if self.singles.count + rows > min(self.singles_max, len(self.singles.rows)):
            self._sweep_singles(rows)
            self.singles.reserve(room_after_sweep(self.singles.count, self.singles_max))
        self.table.reserve(rows)
        self.singles.reserve(rows)
        if self.members.count + 2 * rows > len(self.members.rows):
            ticks = self.table.live["newest"] // TICK_MS
            if self.members.is_worth_sweeping(ticks) and self.members.sweep(np.arange(self.table.count), ticks):
                self._chain_members()
            self.members.reserve(room_after_sweep(self.members.count))
        self.members.reserve(2 * rows)
        self.crowds.reserve(rows)

    def name(self, row: int) -> bytes:
        """The id of an organisation or API key; empty for keys that have none."""
        record = self.table.rows[row]
        start = int(record["name_start"])
        return bytes(self.names[start : start + int(record["name_length"])])

    def distinct(self, row: int) -> Distinct:
        """How many members of a key were last seen when: ``uint32[window, sub-bucket, class]``."""
        key = self.table.rows[row]
        if key["crowd"] >= 0:
            counted: Distinct = self.crowds.rows["distinct"][key["crowd"]]
            return counted
        alone = np.zeros(CROWD["distinct"].shape, np.uint32)
        count_alone(alone, self.members.rows, key)
        return alone

    @property
    def memory_bytes(self) -> int:
        """Bytes of everything that grows with keys."""
        parts = (self.table, self.singles, self.members, self.crowds)
        return sum(part.memory_bytes for part in parts) + len(self.names)

    def capture(self, stripe: int) -> StageImage:
        """What is due for an image; afterwards nothing is marked."""
        rows = {
            "keys": self.table.capture(stripe),
            "singles": self.singles.capture(stripe),
            "members": self.members.capture(stripe),
            "crowds": self.crowds.capture(stripe),
            "names": capture_bytes(self.names, self._names_captured, stripe),
        }
        self._names_captured = len(self.names)
        meta = {
            "high_water": list(self.high_water.items()),
            "names_bytes": len(self.names),
            "newest": self.newest,
            "evicted": self.evicted,
        }
        return StageImage(meta, rows)

    def restore(self, images: Sequence[StageImage]) -> None:
        """Become what images in order say."""
        meta = images[-1].meta
        self.table.restore([image.rows["keys"] for image in images])
        self.singles.restore([image.rows["singles"] for image in images])
        self.members.restore([image.rows["members"] for image in images])
        if all("crowds" in image.rows for image in images):
            self.crowds.restore([image.rows["crowds"] for image in images])
        else:  # an image of an earlier version, which had the counts in the rows
            self._gather_crowds()
        self.names = restore_bytes([image.rows["names"] for image in images], meta["names_bytes"])
        self._names_captured = len(self.names)
        self.high_water = dict(meta["high_water"])
        self.newest, self.evicted = meta["newest"], meta["evicted"]

    def _chain_members(self) -> None:
        """Chain the members of each key anew after a sweep, oldest last."""
        self.table.live["head"] = -1
        self.table.dirty[: self.table.count] = 1
        entries = self.members.live
        order = np.argsort(entries["owner"], kind="stable")
        owner = entries["owner"][order]
        last = np.flatnonzero(np.diff(owner, append=-1))
        following = np.roll(order, 1)
        following[np.flatnonzero(np.diff(owner, prepend=-1))] = -1
        entries["next"][order] = following
        self.table.rows["head"][owner[last]] = order[last]
        self._gather_crowds()

    def _gather_crowds(self) -> None:
        """Count the members of all keys anew, with no room lost to keys that are alone again."""
        entries = self.members.live
        self.crowds.clear(int(np.count_nonzero(np.bincount(entries["owner"]) > 1)))
        self.crowds.count = int(_gather(self.table.rows, self.table.count, entries, self.crowds.rows["distinct"]))
        self.crowds.dirty[: self.crowds.count] = 1

    def _sweep_keys(self, rows: int) -> None:
        """Drop keys whose windows are long empty; at the bound also those that were silent longest."""
        live = self.table.live
        kept = live["newest"] > self.newest - STALE_MS
        over = int(np.count_nonzero(kept)) + rows - self.keys_max
        if over > 0:
            order = np.lexsort((live["key"], live["newest"], kept))
            doomed = order[np.count_nonzero(~kept) :][: max(over, self.keys_max // 10)]
            self.evicted += len(doomed)
            kept[doomed] = False
        if kept.all():
            return
        ticks, starts, lengths = (
            live["newest"] // TICK_MS,
            live["name_start"].astype(np.int64),
            live["name_length"].astype(np.int64),
        )
        owners = self.table.keep(kept)
        starts, ends = starts[kept], starts[kept] + lengths[kept]
        names = joined(np.frombuffer(bytes(self.names), np.uint8), starts, ends)
        self.table.live["name_start"] = np.cumsum(ends - starts) - (ends - starts)
        self.names, self._names_captured = bytearray(names.tobytes()), 0
        self.members.sweep(owners, ticks)
        self._chain_members()

    def _sweep_singles(self, rows: int) -> None:
        """Drop lone keys that have a row by now or that nobody used for long; at the bound also the oldest."""
        live = self.singles.live
        kept = (live["promoted"] == 0) & (live["newest"] > self.newest - STALE_MS)
        staying = int(np.count_nonzero(kept))
        if len(live) + rows <= self.singles_max and _LEAST_SWEPT * (len(live) - staying) < len(live):
            return
        over = staying + rows - self.singles_max
        if over > 0:
            order = np.lexsort((live["key"], live["newest"], kept))
            doomed = order[np.count_nonzero(~kept) :][: max(over, self.singles_max // 4)]
            self.evicted += len(doomed)
            kept[doomed] = False
        if not kept.all():
            self.singles.keep(kept)
