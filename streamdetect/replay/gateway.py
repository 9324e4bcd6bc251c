"""A gateway in arrays: whether each request of an ordered stream is let through by what is in force.

Answers as the gateway client's table and limiter do, without overrides: the strongest record that matches; of nested
subnets only the longest prefix that fits; limits of several subjects all apply; what an event does not say fits no
``applies_to``. Two things are added: people may pass a verification, and an event older than a stretch of restrictions
is not touched by it. Decisions on an AS are counted and left out, since events as read here have no AS. About 0.1 us a
request, 120 bytes a subject.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import combine64, fmix64
from streamdetect.kernels.index import KeyedRows, Record, find, find_or_add
from streamdetect.messages.account import AccountRecord
from streamdetect.messages.decision import Decision, Params, RateLimit, Subject, Tier, Verify
from streamdetect.pipeline.accept.columns import AccountTier, RequestColumns
from streamdetect.pipeline.accounts.records import standing_of
from streamdetect.pipeline.decisions.judge import LEVEL_OF_ACTION
from streamdetect.replay.subjects import FIRST_SUBNET, PLACES, subject_key, subjects_of, text_hash

OBSERVE, RATE_LIMIT, VERIFY, SUSPEND = (
    LEVEL_OF_ACTION[name] for name in ("observe", "rate_limit", "verify", "suspend")
)
NOTHING, ASKS, COMPLETES = 0, 1, 2  # what an event wants: a repeat or a refused one nothing

_REQUESTS, _INPUT, _OUTPUT = 0, 1, 2
_UNITS = {"requests": _REQUESTS, "input_tokens": _INPUT, "output_tokens": _OUTPUT}
_PERIODS_MS = {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_TIER_CODES: dict[Tier, AccountTier] = {
    "unpaid": AccountTier.UNPAID,
    "paid": AccountTier.PAID,
    "verified": AccountTier.VERIFIED,
    "enterprise": AccountTier.ENTERPRISE,
}
_ALL_TIERS = 0xFF

_SUBJECT = np.dtype(
    [
        ("key", "u8"),
        ("decision", "u8"),  # hash of the decision's id: a verification answers one decision and its renewals
        ("since", "i8"),  # start of the unbroken stretch of restrictions; periods of limits begin here
        ("level_since", "i8"),  # start of the unbroken stretch at exactly this level
        ("expires_at", "i8"),
        ("created_after", "i8"),  # reaches accounts made later than this; -1: all
        ("limit", "i8"),
        ("period_ms", "i8"),
        ("counter", "i4"),  # row of what has been let through; -1: nothing is limited
        ("unit", "u1"),
        ("level", "u1"),  # 0: nothing
        ("tiers", "u1"),  # a bit for each account tier reached
    ],
    align=True,
)
_COUNTER = np.dtype([("key", "u8"), ("since", "i8"), ("period", "i8"), ("used", "i8")], align=True)
_KNOWN = np.dtype([("key", "u8"), ("created_at", "i8"), ("tier", "u1")], align=True)
_CHALLENGE = np.dtype([("key", "u8"), ("asked_at", "i8")], align=True)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One entry a request.

    ``denied`` is the level of what stopped it, 0 if it passes. ``level`` is the strongest record that matches, observe
    included, 0 if none; ``shared_level`` leaves the account's own out, and ``shared_since``, ``shared_until`` bound the
    unbroken stretch of that one (ms).
    """

    denied: NDArray[np.uint8]
    level: NDArray[np.uint8]
    shared_level: NDArray[np.uint8]
    shared_since: NDArray[np.int64]
    shared_until: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asking:
    """What the gateway knows of each event beyond its columns.

    ``wants`` is NOTHING, ASKS or COMPLETES; ``passes`` the chance (0 to 1) that its sender passes a verification;
    ``account`` is ``hash_spans`` of the account ids with seed 0.
    """

    account: NDArray[np.uint64]
    wants: NDArray[np.uint8]
    passes: NDArray[np.float64]


@dataclass(slots=True)
class Gateway:
    """Records by subject. At the bound the tenth that ends first is forgotten, and counted in ``evicted``.

    ``proof_delay_ms`` is how long people take to pass a verification; ``seed`` draws, once an account, who can. A pass
    answers one decision and its renewals; a new decision asks anew.
    """

    seed: int = 0
    proof_delay_ms: int = 300_000
    subjects_max: int = 4_000_000
    evicted: int = 0
    unmatched: int = 0  # decisions on subjects that events, as read here, do not name
    _records: KeyedRows = field(default_factory=lambda: KeyedRows(_SUBJECT))
    _counters: KeyedRows = field(default_factory=lambda: KeyedRows(_COUNTER))
    _challenges: KeyedRows = field(default_factory=lambda: KeyedRows(_CHALLENGE))
    _known: KeyedRows = field(default_factory=lambda: KeyedRows(_KNOWN))

    def __len__(self) -> int:
        return self._records.count

    def learn(self, records: Sequence[tuple[str, AccountRecord | None]]) -> None:
        """Know of accounts what the provider says, where events say nothing; the last record of an account counts."""
        known = self._known
        for account_id, record in records:
            known.reserve(1)
            row = find_or_add(known.slots, known.rows, known.count, text_hash(account_id))
            known.count += row == known.count
            created_at = None if record is None else record.created_at
            known.rows[row]["created_at"] = -1 if created_at is None else created_at
            known.rows[row]["tier"] = standing_of(record)

    def take(self, decision: Decision) -> None:
        """Put a decision in force. Simulated, held and lapsed ones change nothing; those of a subject come in order.

        ``observe`` is not for gateways: it is kept, for grading, where nothing stronger is in force.
        """
        if decision.simulated or decision.status not in ("issued", "renewed", "released"):
            return
        if decision.subject.scope == "asn":
            self.unmatched += 1
            return
        record, at = self._record_of(decision.subject), decision.issued_at
        level, params = _enforceable(decision)
        before, unbroken = int(record["level"]), int(record["expires_at"]) > at
        if level == OBSERVE and before > OBSERVE and unbroken:
            return
        if before < RATE_LIMIT or not unbroken:
            record["since"] = at
        if before != level or int(record["expires_at"]) < at:
            record["level_since"] = at
        record["decision"] = text_hash(decision.decision_id)
        record["level"], record["expires_at"] = level, decision.expires_at
        _set_reach(record, decision)
        self._set_limit(record, params)

    def judge(self, columns: RequestColumns, asking: Asking) -> Verdicts:
        """Answer the requests of a batch in order, and count what is let through against limits."""
        count = len(columns)
        verdicts = Verdicts(
            np.zeros(count, np.uint8), np.zeros(count, np.uint8), np.zeros(count, np.uint8),
            np.zeros(count, np.int64), np.zeros(count, np.int64),
        )  # fmt: skip
        if self._records.count:
            created, tier = columns.account_created_at, columns.account_tier
            if self._known.count:
                created, tier = created.copy(), tier.copy()
                _fill_known(self._known.slots, self._known.rows, asking.account, created, tier)
            self._challenges.reserve(count * (FIRST_SUBNET + 1))
            self._challenges.count = _judge_requests(
                self._records.slots, self._records.rows, self._counters.rows,
                self._challenges.slots, self._challenges.rows, self._challenges.count,
                subjects_of(columns, asking.account), asking.account, asking.wants, asking.passes,
                np.uint64(self.seed), self.proof_delay_ms, columns.occurred_at, created, tier,
                columns.input_tokens, columns.output_tokens,
                verdicts.denied, verdicts.level, verdicts.shared_level, verdicts.shared_since, verdicts.shared_until,
            )  # fmt: skip
        return verdicts

    def _record_of(self, subject: Subject) -> Record:
        if self._records.count >= self.subjects_max:
            self._forget_ended()
        self._records.reserve(1)
        row = find_or_add(self._records.slots, self._records.rows, self._records.count, subject_key(subject))
        if row == self._records.count:
            self._records.count += 1
            self._records.rows[row]["counter"] = -1
        return self._records.rows[row]

    def _forget_ended(self) -> None:
        live = self._records.live
        order = np.lexsort((live["key"], live["expires_at"]))
        kept = np.ones(len(live), np.bool_)
        kept[order[: max(1, self.subjects_max // 10)]] = False
        self._records.keep(kept)
        self.evicted += int(np.count_nonzero(~kept))

    def _set_limit(self, record: Record, params: Params | None) -> None:
        if not isinstance(params, RateLimit):
            record["counter"] = -1
            return
        unit, period_ms = _UNITS[params.unit], _PERIODS_MS[params.period]
        record["unit"], record["period_ms"], record["limit"] = unit, period_ms, params.limit
        self._counters.reserve(1)
        key = np.uint64(combine64(np.uint64(record["key"]), np.uint64(period_ms * len(_UNITS) + unit)))
        row = find_or_add(self._counters.slots, self._counters.rows, self._counters.count, key)
        if row == self._counters.count:
            self._counters.count += 1
            self._counters.rows[row]["since"] = -1
        record["counter"] = row


@njit(cache=True, nogil=True)
def _fill_known(
    slots: NDArray[np.int32],
    known: NDArray[np.void],
    account: NDArray[np.uint64],
    created: NDArray[np.int64],
    tier: NDArray[np.uint8],
) -> None:
    for index in range(len(account)):
        if created[index] >= 0 and tier[index] != 0:
            continue
        row = find(slots, known, account[index])
        if row < 0:
            continue
        if created[index] < 0:
            created[index] = known[row].created_at
        if tier[index] == 0:
            tier[index] = known[row].tier


@njit(cache=True, nogil=True)
def _cost(unit: int, input_tokens: int, output_tokens: int) -> int:
    if unit == _REQUESTS:
        return 1
    return max(0, input_tokens if unit == _INPUT else output_tokens)


@njit(cache=True, nogil=True)
def _draw(account: np.uint64, seed: np.uint64) -> float:
    """A number from 0 to 1 that is an account's own."""
    return float(fmix64(account ^ fmix64(seed + np.uint64(1))) >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True, nogil=True)
def _open_period(counter: Record, record: Record, now: int) -> None:
    """Move a counter on to the period of ``now``; an old stamp does not open its period again."""
    period = max(np.int64(0), now - record.since) // record.period_ms
    if counter.since != record.since:
        counter.since, counter.period, counter.used = record.since, period, 0
    elif period > counter.period:
        counter.period, counter.used = period, 0


@njit(cache=True, nogil=True)
def _judge_requests(
    slots: NDArray[np.int32],
    records: NDArray[np.void],
    counters: NDArray[np.void],
    asked_slots: NDArray[np.int32],
    asked: NDArray[np.void],
    asked_count: int,
    subjects: NDArray[np.uint64],
    account: NDArray[np.uint64],
    wants: NDArray[np.uint8],
    passes: NDArray[np.float64],
    seed: np.uint64,
    proof_delay_ms: int,
    occurred: NDArray[np.int64],
    created: NDArray[np.int64],
    tier: NDArray[np.uint8],
    tokens_in: NDArray[np.int64],
    tokens_out: NDArray[np.int64],
    denied: NDArray[np.uint8],
    level: NDArray[np.uint8],
    shared_level: NDArray[np.uint8],
    shared_since: NDArray[np.int64],
    shared_until: NDArray[np.int64],
) -> int:
    limits = np.empty(PLACES, np.int64)
    for index in range(len(occurred)):
        if wants[index] == NOTHING:
            continue
        now, top, limited, in_subnet = occurred[index], 0, 0, False
        for place in range(PLACES):
            if subjects[index, place] == np.uint64(0) or (place >= FIRST_SUBNET and in_subnet):
                continue
            row = find(slots, records, subjects[index, place])
            if row < 0:
                continue
            record = records[row]
            if record.level == 0 or now < record.since or now >= record.expires_at:
                continue
            if not (record.tiers >> tier[index]) & 1:
                continue
            if record.created_after >= 0 and created[index] <= record.created_after:
                continue
            if wants[index] == ASKS:
                level[index] = max(level[index], record.level)
                if place > 0 and record.level > shared_level[index]:
                    shared_level[index] = record.level
                    shared_since[index], shared_until[index] = record.level_since, record.expires_at
            if record.level < RATE_LIMIT:
                continue
            in_subnet = in_subnet or place >= FIRST_SUBNET
            if record.level == VERIFY and wants[index] == ASKS and passes[index] > 0.0:
                challenge = combine64(account[index], record.decision)
                found = find_or_add(asked_slots, asked, asked_count, challenge)
                if found == asked_count:
                    asked_count += 1
                    asked[found].asked_at = now
                if _draw(account[index], seed) < passes[index] and now >= asked[found].asked_at + proof_delay_ms:
                    continue
            top = max(top, int(record.level))
            if record.level == RATE_LIMIT and record.counter >= 0:
                limits[limited] = row
                limited += 1
        if wants[index] == COMPLETES:
            for number in range(limited if top == RATE_LIMIT else 0):
                record = records[limits[number]]
                if record.unit == _OUTPUT:
                    _open_period(counters[record.counter], record, now)
                    counters[record.counter].used += max(np.int64(0), tokens_out[index])
            continue
        if top >= VERIFY:
            denied[index] = top
            continue
        for number in range(limited):
            record = records[limits[number]]
            counter = counters[record.counter]
            _open_period(counter, record, now)
            wanted = max(1, _cost(record.unit, tokens_in[index], 0))  # output passes while any is left
            if counter.used + wanted > record.limit:
                denied[index] = RATE_LIMIT
        for number in range(limited if denied[index] == 0 else 0):
            record = records[limits[number]]
            counters[record.counter].used += _cost(record.unit, tokens_in[index], tokens_out[index])
    return asked_count


def _enforceable(decision: Decision) -> tuple[int, Params | None]:
    """Level and params a gateway can enforce without looking at content."""
    if decision.action == "release":
        return 0, None
    if decision.match is None or decision.action == "observe":
        return LEVEL_OF_ACTION[decision.action], decision.params
    fallback = decision.match.fallback
    if isinstance(fallback, RateLimit):
        return RATE_LIMIT, fallback
    return (VERIFY, fallback) if isinstance(fallback, Verify) else (0, None)


def _set_reach(record: Record, decision: Decision) -> None:
    applies = decision.applies_to
    tiers = applies.account_tiers if applies is not None else None
    after = applies.created_after if applies is not None else None
    record["tiers"] = _ALL_TIERS if tiers is None else sum(1 << _TIER_CODES[tier] for tier in set(tiers))
    record["created_after"] = -1 if after is None else after
