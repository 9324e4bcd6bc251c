"""What is remembered of each account of one request partition: a row of about 110 bytes, nothing on the heap.

Its windows stand in an *activity* (300 bytes), which an account has while it is active. Before anything grows, those of
accounts that have been silent for two days are given back: what they hold is empty for every event that is less than a
day late, so that only one which is later still could tell the difference.

Bounded by ``accounts_max``: when it is reached, the tenth of the accounts that has been silent longest is forgotten
(and counted); that is the only way in which a bound can change a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.growing import GrowingRows, more_room, resized, room_for
from streamdetect.kernels.images import (
    BlobSection,
    RowSection,
    StageImage,
    capture_bytes,
    capture_rows,
    restore_blobs,
    restore_bytes,
    restore_rows,
)
from streamdetect.kernels.index import KeyedRows, Record
from streamdetect.kernels.members import TICK_MS, Members, room_after_sweep
from streamdetect.kernels.seen import SeenHashes
from streamdetect.kernels.spans import joined
from streamdetect.kernels.windows import DAY, WINDOWS_MS
from streamdetect.pipeline.accept.columns import ABSENT

EVENT_ID_BYTES = 40  # a longer one lives in ``long_event_ids``
LONG_EVENT_ID = 255
RECENT_DIGESTS = 8
FACTS_PER_ACCOUNT = 8

ACCOUNT = np.dtype(
    [
        ("key", "u8"),
        ("newest", "i8"),  # event time, ms; 0 before the first event
        ("created_at", "i8"),
        ("tier_at", "i8"),  # event time at which the gateway last told the tier
        ("quiet_until_s", "u4", (2,)),  # [live, simulated]: hits up to ``quiet_level`` need no decision before then
        ("id_start", "u4"),
        ("ledger", "i4"),
        ("activity", "i4"),  # -1 while it has none
        ("id_length", "u2"),
        ("event_id", "u1", (EVENT_ID_BYTES,)),  # of the newest event
        ("event_id_length", "u1"),
        ("tier_told", "u1"),  # by the gateway, in events
        ("tier_recorded", "u1"),  # by the provider, in account records
        ("quiet_level", "u1", (2,)),
    ],
    align=True,
)
ACTIVITY = np.dtype(
    [
        ("requests", "u4", (3, 6)),
        ("input_tokens", "u4", (3, 6)),
        ("output_tokens", "u4", (3, 6)),
        ("subnets", "u4", (2, 6, 1)),
        ("recent", "u4", (RECENT_DIGESTS,)),  # digests of prompts whose content rows went out lately
        ("recent_next", "u1"),
    ],
    align=True,
)
SILENT_MS = 2 * WINDOWS_MS[DAY]
_NO_ACTIVITY = np.zeros(1, ACTIVITY)
FACT = np.dtype(
    [
        ("key", "u8"),
        ("at", "i8"),  # event time of the row that produced it; 0 = free
        ("event", "u8"),
        ("young", "u4"),
        ("trusted", "u4"),
        ("members", "u4"),
        ("family", "u1"),
    ],
    align=True,
)


class Strangers:
    """Facts about accounts that have no row yet, by account, until they get one; the oldest go at the bound.

    Without faults there are none, for evidence follows an event of its account. After a restart evidence that was on
    its way can arrive before that event is processed again.
    """

    __slots__ = ("_facts", "dropped", "facts_max")

    def __init__(self, facts_max: int = 1 << 16) -> None:
        self.facts_max = facts_max
        self.dropped = 0
        self._facts: dict[int, list[bytes]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._facts.values()))

    @property
    def accounts(self) -> NDArray[np.uint64]:
        """Whom facts wait for."""
        return np.fromiter(self._facts, np.uint64, len(self._facts))

    def keep(self, accounts: NDArray[np.uint64], facts: NDArray[np.void]) -> None:
        """Keep ``FACT[n]`` about ``accounts``, in order."""
        for account, fact in zip(accounts.tolist(), facts, strict=True):
            self._facts.setdefault(account, []).append(fact.tobytes())
        over = len(self) - self.facts_max
        while over > 0:
            oldest = self._facts.pop(next(iter(self._facts)))
            over, self.dropped = over - len(oldest), self.dropped + len(oldest)

    def take(self, accounts: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.void]]:
        """Facts about any of ``accounts``, which have a row now, in the order of ``accounts``; they wait no longer."""
        found = [(account, raw) for account in accounts.tolist() for raw in self._facts.pop(account, ())]
        about = np.array([account for account, _ in found], np.uint64)
        return about, np.frombuffer(b"".join(raw for _, raw in found), FACT).copy()

    def capture(self) -> list[tuple[int, list[bytes]]]:
        """All of it, for an image."""
        return [(account, list(raw)) for account, raw in self._facts.items()]

    def restore(self, image: Sequence[tuple[int, list[bytes]]]) -> None:
        """Become what an image says."""
        self._facts = {account: list(raw) for account, raw in image}


@dataclass(slots=True)
class AccountsState:
    """Rows, activities, the subnets of each account, evidence ledgers, and the ids that decisions must name."""

    accounts_max: int = 4_000_000
    table: KeyedRows = field(default_factory=lambda: KeyedRows(ACCOUNT))
    activities: GrowingRows = field(default_factory=lambda: GrowingRows(ACTIVITY))
    subnets: Members = field(default_factory=Members)
    seen: SeenHashes = field(default_factory=SeenHashes)
    ledgers: NDArray[np.void] = field(default_factory=lambda: np.zeros((64, FACTS_PER_ACCOUNT), FACT))
    ledgers_dirty: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((64, FACTS_PER_ACCOUNT), np.uint8))
    ledger_count: int = 0
    ids: bytearray = field(default_factory=bytearray)
    long_event_ids: dict[int, bytes] = field(default_factory=dict)
    strangers: Strangers = field(default_factory=Strangers)
    newest: int = 0
    evicted: int = 0
    _ids_captured: int = 0

    def reserve(self, events: int) -> None:
        """Make room for a batch: at most one new row, activity and subnet an event."""
        over = self.table.count + events - self.accounts_max
        if over > 0:
            self._forget_silent(max(over, self.accounts_max // 10))
        self.table.reserve(events)
        if self.activities.count + events > len(self.activities.rows):
            self._let_rest()
            self.activities.reserve(room_after_sweep(self.activities.count))
        self.activities.reserve(events)
        if self.subnets.count + events > len(self.subnets.rows):
            if self.subnets.is_worth_sweeping(self.table.live["newest"] // TICK_MS):
                self._sweep_subnets(np.arange(self.table.count))
            self.subnets.reserve(room_after_sweep(self.subnets.count))
        self.subnets.reserve(events)
        self.seen.reserve(events)

    def reserve_ledgers(self, rows: int) -> None:
        """Make room for ``rows`` new evidence ledgers."""
        if self.ledger_count + rows > len(self.ledgers):
            room = more_room(self.ledger_count + rows, len(self.ledgers)) * FACTS_PER_ACCOUNT
            facts, dirty = resized(
                self.ledgers.reshape(-1), self.ledgers_dirty.reshape(-1), self.ledger_count * FACTS_PER_ACCOUNT, room
            )
            self.ledgers = facts.reshape(-1, FACTS_PER_ACCOUNT)
            self.ledgers_dirty = dirty.reshape(-1, FACTS_PER_ACCOUNT)

    def activity_of(self, row: int) -> Record:
        """The windows of an account; empty ones if it has none."""
        activity = int(self.table.rows["activity"][row])
        return self.activities.rows[activity] if activity >= 0 else _NO_ACTIVITY[0]

    def account_id(self, row: int) -> str:
        """The account's own id, as the gateway wrote it."""
        record = self.table.rows[row]
        start = int(record["id_start"])
        return self.ids[start : start + int(record["id_length"])].decode()

    def newest_event(self, row: int) -> tuple[str | None, int | None]:
        """Id and event time (ms) of the account's newest event, ``None`` before the first."""
        record = self.table.rows[row]
        if record["newest"] == 0:
            return None, None
        length = int(record["event_id_length"])
        raw = self.long_event_ids[row] if length == LONG_EVENT_ID else record["event_id"][:length].tobytes()
        return raw.decode(), int(record["newest"])

    def name_new_rows(
        self, first: int, source: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> None:
        """Store the ids of the rows ``first ...`` that a batch created: spans of ``source``, in order of creation."""
        rows = slice(first, first + len(start))
        ends = len(self.ids) + np.cumsum(end - start)
        self.table.rows["id_start"][rows], self.table.rows["id_length"][rows] = ends - (end - start), end - start
        self.ids += joined(source, start, end).tobytes()
        self.table.dirty[rows] = 1

    @property
    def memory_bytes(self) -> int:
        """Bytes of everything that grows with accounts."""
        return (
            self.table.memory_bytes
            + self.activities.memory_bytes
            + self.subnets.memory_bytes
            + self.seen.tables.nbytes
            + self.ledgers.nbytes
            + self.ledgers_dirty.nbytes
            + len(self.ids)
            + sum(len(raw) + 90 for raw in self.long_event_ids.values())
        )

    def capture(self, stripe: int) -> StageImage:
        """What is due for an image; afterwards nothing is marked."""
        accounts = self.table.capture(stripe)
        due = accounts.numbers
        long_due = due[self.table.rows["event_id_length"][due] == LONG_EVENT_ID].tolist()
        rows = {
            "accounts": accounts,
            "activities": self.activities.capture(stripe),
            "subnets": self.subnets.capture(stripe),
            "facts": capture_rows(self._facts, len(self._facts), self.ledgers_dirty.reshape(-1), stripe),
            "ids": capture_bytes(self.ids, self._ids_captured, stripe),
            **self.seen.capture(stripe),
        }
        self._ids_captured = len(self.ids)
        meta = {
            "seen_state": self.seen.state.tolist(),
            "ids_bytes": len(self.ids),
            "strangers": self.strangers.capture(),
            "newest": self.newest,
            "evicted": self.evicted,
        }
        long_ids = BlobSection({row: self.long_event_ids[row] for row in long_due})
        return StageImage(meta, rows, {"long_event_ids": long_ids})

    def restore(self, images: Sequence[StageImage]) -> None:
        """Become what images in order say."""
        meta = images[-1].meta
        self._restore_accounts([image.rows for image in images])
        self.subnets.restore([image.rows["subnets"] for image in images])
        self.seen.restore(images, meta["seen_state"])
        facts = [image.rows["facts"] for image in images]
        room = room_for(facts[-1].count // FACTS_PER_ACCOUNT, len(self.ledgers)) * FACTS_PER_ACCOUNT
        self.ledger_count = facts[-1].count // FACTS_PER_ACCOUNT
        self.ledgers = restore_rows(facts, FACT, at_least=room).reshape(-1, FACTS_PER_ACCOUNT)
        self.ledgers_dirty = np.zeros(self.ledgers.shape, np.uint8)
        self.ids = restore_bytes([image.rows["ids"] for image in images], meta["ids_bytes"])
        self._ids_captured = len(self.ids)
        long_ids = restore_blobs([image.blobs["long_event_ids"] for image in images])
        lengths = self.table.live["event_id_length"]
        self.long_event_ids = {row: raw for row, raw in long_ids.items() if lengths[row : row + 1] == LONG_EVENT_ID}
        self.strangers.restore(meta["strangers"])
        self.newest, self.evicted = meta["newest"], meta["evicted"]

    def _restore_accounts(self, images: Sequence[dict[str, RowSection]]) -> None:
        """Rows and activities; an earlier version had one in each row, so the first image of this one is whole."""
        of_old = [rows["accounts"] for rows in images if "activities" not in rows]
        if len(of_old) == len(images):
            self.table.restore(of_old)
            self.activities.clear(self.table.count)
            self.activities.rows[: self.table.count] = restore_rows(of_old, ACTIVITY)
            self.activities.count = self.table.count
            self.table.live["activity"] = np.arange(self.table.count)
            self.table.dirty[: self.table.count], self.activities.dirty[: self.table.count] = 1, 1
            return
        self.table.restore([rows["accounts"] for rows in images[len(of_old) :]])
        self.activities.restore([rows["activities"] for rows in images[len(of_old) :]])

    @property
    def _facts(self) -> NDArray[np.void]:
        """The ledgers in use, as one row of facts after the other."""
        return self.ledgers[: self.ledger_count].reshape(-1)

    def _let_rest(self) -> None:
        """Give back the activities of accounts whose windows are long empty."""
        live = self.table.live
        silent = (live["activity"] >= 0) & (live["newest"] <= self.newest - SILENT_MS)
        if silent.any():
            live["activity"][silent] = ABSENT
            self.table.dirty[: self.table.count][silent] = 1
            self._move_activities()

    def _move_activities(self) -> None:
        """Close the gaps between the activities that accounts still have."""
        owners = np.flatnonzero(self.table.live["activity"] > ABSENT)
        kept = self.activities.rows[self.table.live["activity"][owners]]
        self.activities.clear(len(kept))
        self.activities.rows[: len(kept)], self.activities.dirty[: len(kept)] = kept, 1
        self.activities.count = len(kept)
        self.table.live["activity"][owners] = np.arange(len(kept))
        self.table.dirty[owners] = 1

    def _sweep_subnets(self, owners: NDArray[np.int64], newest_ticks: NDArray[np.int64] | None = None) -> None:
        ticks = self.table.live["newest"] // TICK_MS if newest_ticks is None else newest_ticks
        self.subnets.sweep(owners, ticks)

    def _forget_silent(self, count: int) -> None:
        """Drop the accounts that have been silent longest, to stay within the bound."""
        live = self.table.live
        count = min(count, len(live))
        order = np.lexsort((live["key"], live["newest"]))
        kept = np.ones(len(live), np.bool_)
        kept[order[:count]] = False
        ticks, starts, lengths = (
            live["newest"] // TICK_MS,
            live["id_start"].astype(np.int64),
            live["id_length"].astype(np.int64),
        )
        owners = self.table.keep(kept)
        self._move_activities()
        self._sweep_subnets(owners, ticks)
        ids, self.ids = np.frombuffer(bytes(self.ids), np.uint8), bytearray()
        self._ids_captured = 0
        self.name_new_rows(0, ids, starts[kept], starts[kept] + lengths[kept])
        self.long_event_ids = {int(owners[row]): raw for row, raw in self.long_event_ids.items() if owners[row] >= 0}
        used = self.table.live["ledger"] > ABSENT
        ledgers = self.ledgers[self.table.live["ledger"][used]]
        self.ledgers[: len(ledgers)] = ledgers
        self.ledgers[len(ledgers) : self.ledger_count] = np.zeros(1, FACT)
        self.ledger_count = len(ledgers)
        self.ledgers_dirty[: self.ledger_count] = 1
        self.table.live["ledger"][used] = np.arange(len(ledgers))
        self.evicted += count
