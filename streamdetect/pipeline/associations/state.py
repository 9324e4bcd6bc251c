"""What is remembered of each typed key of one links partition.

A key used by somebody has a row of about 250 bytes and an entry for each member. Most content keys are used by one
account only, so those wait in ``singles`` (48 bytes) and get a row when a second member comes: the result is the same
as if they had had one from the start. Bounded by ``keys_max`` and ``singles_max``; at the bound the keys that have been
silent longest are forgotten, and counted.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.index import KeyedRows
from streamdetect.kernels.members import TICK_MS, Members

KEY = np.dtype(
    [
        ("key", "u8"),  # identity of the typed key
        ("raw", "u8"),  # address bits of a subnet, hash of anything else
        ("newest", "i8"),
        ("event_at", "i8"),
        ("quiet_until", "i8", (2,)),
        ("name_start", "i8"),
        ("requests", "u4", (3, 6)),
        ("distinct", "u4", (2, 6, 3)),
        ("head", "i4"),  # first of its members
        ("name_length", "u2"),
        ("key_type", "u1"),
        ("suspect", "u1"),
        ("quiet_level", "u1", (2,)),
    ],
    align=True,
)
SINGLE = np.dtype(
    [
        ("key", "u8"),
        ("member", "u8"),
        ("account", "u8"),
        ("newest", "i8"),
        ("partition", "u2"),
        ("kind", "u1"),
        ("promoted", "u1"),
    ],
    align=True,
)


@dataclass(slots=True)
class AssociationsState:
    """Rows, members and lone content keys of one links partition."""

    keys_max: int = 8_000_000
    singles_max: int = 16_000_000
    table: KeyedRows = field(default_factory=lambda: KeyedRows(KEY))
    singles: KeyedRows = field(default_factory=lambda: KeyedRows(SINGLE))
    members: Members = field(default_factory=Members)
    names: bytearray = field(default_factory=bytearray)
    high_water: dict[int, int] = field(default_factory=dict)  # source partition -> newest source offset taken in
    newest: int = 0
    evicted: int = 0

    def reserve(self, rows: int) -> None:
        """Make room for ``rows`` incoming rows."""
        if self.table.count + rows > self.keys_max:
            self._forget_silent(max(rows, self.keys_max // 10))
        if self.singles.count + rows > self.singles_max:
            self._drop_singles(max(rows, self.singles_max // 4))
        self.table.reserve(rows)
        self.singles.reserve(rows)
        if self.members.count + 2 * rows > len(self.members.entries):
            self._sweep_members(np.arange(self.table.count), self.table.live["newest"] // TICK_MS)
        self.members.reserve(2 * rows)

    def name(self, row: int) -> bytes:
        """The id of an organisation or API key; empty for keys that have none."""
        record = self.table.rows[row]
        start = int(record["name_start"])
        return bytes(self.names[start : start + int(record["name_length"])])

    @property
    def memory_bytes(self) -> int:
        """Bytes of everything that grows with keys."""
        return self.table.memory_bytes + self.singles.memory_bytes + self.members.memory_bytes + len(self.names)

    def _sweep_members(self, owners: NDArray[np.int64], newest_ticks: NDArray[np.int64]) -> None:
        """Drop stale entries and chain the rest anew, oldest last."""
        self.members.sweep(owners, newest_ticks)
        self.table.live["head"] = -1
        entries = self.members.entries[: self.members.count]
        order = np.argsort(entries["owner"], kind="stable")
        owner = entries["owner"][order]
        last = np.flatnonzero(np.diff(owner, append=-1))
        following = np.roll(order, 1)
        following[np.flatnonzero(np.diff(owner, prepend=-1))] = -1
        entries["next"][order] = following
        self.table.rows["head"][owner[last]] = order[last]

    def _forget_silent(self, count: int) -> None:
        live = self.table.live
        order = np.lexsort((live["key"], live["newest"]))
        kept = np.ones(len(live), np.bool_)
        kept[order[:count]] = False
        ticks, starts, lengths = live["newest"] // TICK_MS, live["name_start"].copy(), live["name_length"].copy()
        owners = self.table.keep(kept)
        names = [bytes(self.names[s : s + n]) for s, n in zip(starts[kept], lengths[kept], strict=True)]
        self.table.live["name_start"] = np.cumsum([0, *map(len, names)])[: len(names)]
        self.names = bytearray(b"".join(names))
        self._sweep_members(owners, ticks)
        self.evicted += int(np.count_nonzero(~kept))

    def _drop_singles(self, count: int) -> None:
        """Promoted ones first, for they have a row; then the oldest."""
        live = self.singles.live
        order = np.lexsort((live["key"], live["newest"], live["promoted"] == 0))
        kept = np.ones(len(live), np.bool_)
        kept[order[:count]] = False
        self.evicted += int(np.count_nonzero(~kept & (live["promoted"] == 0)))
        self.singles.keep(kept)
