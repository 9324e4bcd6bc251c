"""What gateways hold in force, as arrays: whether each request of an ordered batch would be let through.

The same order of answers as a gateway's table, without overrides: the strongest record that matches; of nested subnets
only the longest prefix that fits; limits of several subjects all apply; an unknown creation time fits no ``applies_to``
that asks for one. Tokens that an event does not carry count nothing. About 50 ns a request, 100 bytes a subject.
"""

import ipaddress
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import combine64, hash64, hash_spans
from streamdetect.kernels.index import KeyedRows, Record, find, find_or_add
from streamdetect.messages.decision import Decision, Params, RateLimit, Subject, Tier, Verify
from streamdetect.pipeline.accept.columns import AccountTier, RequestColumns
from streamdetect.pipeline.decisions.judge import LEVEL_OF_ACTION

RATE_LIMIT, VERIFY, SUSPEND = (LEVEL_OF_ACTION[name] for name in ("rate_limit", "verify", "suspend"))
NEVER_MS = np.iinfo(np.int64).max

_FIRST_SUBNET = 3  # places of a request's subjects: account, org, api_key, then subnets, longest prefix first
_PLACES = 6
_SCOPE_SALT = {"account": 1, "org": 2, "api_key": 3, 24: 4, 64: 5, 56: 6, 48: 7}
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
_NO_LIMIT = -1

_SUBJECT = np.dtype(
    [
        ("key", "u8"),
        ("since", "i8"),  # start of the unbroken stretch of restrictions; periods of limits begin here
        ("level_since", "i8"),  # start of the unbroken stretch at exactly this level
        ("expires_at", "i8"),
        ("created_after", "i8"),  # reaches accounts made later than this; -1: all
        ("limit", "i8"),  # -1: none
        ("period_ms", "i8"),
        ("period", "i8"),  # number of the period ``used`` is counted in
        ("used", "i8"),
        ("unit", "u1"),
        ("level", "u1"),  # 0: nothing
        ("tiers", "u1"),  # a bit for each account tier reached
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One entry a request: whether it is denied, and how hard what matches is.

    ``level`` is the strongest record that matches, observe included, 0 if none. ``shared_level`` leaves the account's
    own out; ``shared_since`` and ``shared_until`` bound the unbroken stretch of that record (ms). ``verify`` is true
    where proving to be genuine is what would let the request through.
    """

    denied: NDArray[np.bool_]
    verify: NDArray[np.bool_]
    level: NDArray[np.uint8]
    shared_level: NDArray[np.uint8]
    shared_since: NDArray[np.int64]
    shared_until: NDArray[np.int64]


@dataclass(slots=True)
class InForce:
    """Records by subject. At the bound the tenth that ends first is forgotten, and counted in ``evicted``."""

    subjects_max: int = 4_000_000
    evicted: int = 0
    reaches_shared: bool = False  # whether any record is about more than one account
    _table: KeyedRows = field(default_factory=lambda: KeyedRows(_SUBJECT))

    def __len__(self) -> int:
        return self._table.count

    def take(self, decision: Decision) -> None:
        """Put a decision in force. Simulated, held and lapsed ones change nothing; those of a subject come in order."""
        if decision.simulated or decision.status not in ("issued", "renewed", "released"):
            return
        record = self._record_of(decision.subject)
        level, params = _enforceable(decision)
        before, unbroken = int(record["level"]), int(record["expires_at"]) > decision.issued_at
        if before < RATE_LIMIT or level < RATE_LIMIT or not unbroken:
            record["since"], record["period"], record["used"] = decision.issued_at, 0, 0
        if before != level or int(record["expires_at"]) < decision.issued_at:
            record["level_since"] = decision.issued_at
        record["level"], record["expires_at"] = level, decision.expires_at
        _set_reach(record, decision)
        _set_limit(record, params)
        self.reaches_shared |= decision.subject.scope != "account"

    def judge(
        self,
        subjects: NDArray[np.uint64],
        columns: RequestColumns,
        *,
        asks: NDArray[np.bool_],
        created_at: NDArray[np.int64],
        verified_at: NDArray[np.int64],
    ) -> Verdicts:
        """Answer the requests of a batch in order, and count them against limits.

        Args:
            subjects: ``uint64[n, 6]`` from ``subjects_of``.
            columns: the events.
            asks: ``bool[n]``; events that ask for nothing (completions, repeats, refused) are let through uncounted.
            created_at: ``int64[n]``, creation time of the account (ms), -1 unknown.
            verified_at: ``int64[n]``, event time from which the account has proven to be genuine; ``NEVER_MS`` if not.
        """
        count = len(columns)
        verdicts = Verdicts(
            np.zeros(count, np.bool_), np.zeros(count, np.bool_), np.zeros(count, np.uint8),
            np.zeros(count, np.uint8), np.zeros(count, np.int64), np.zeros(count, np.int64),
        )  # fmt: skip
        if self._table.count:
            _judge_requests(
                self._table.slots, self._table.rows, subjects, asks, columns.occurred_at, created_at, verified_at,
                columns.account_tier, columns.input_tokens, columns.output_tokens, verdicts.denied, verdicts.verify,
                verdicts.level, verdicts.shared_level, verdicts.shared_since, verdicts.shared_until,
            )  # fmt: skip
        return verdicts

    def _record_of(self, subject: Subject) -> Record:
        if self._table.count >= self.subjects_max:
            self._forget_ended()
        self._table.reserve(1)
        row = find_or_add(self._table.slots, self._table.rows, self._table.count, subject_key(subject))
        if row == self._table.count:
            self._table.count += 1
        return self._table.rows[row]

    def _forget_ended(self) -> None:
        live = self._table.live
        order = np.lexsort((live["key"], live["expires_at"]))
        kept = np.ones(len(live), np.bool_)
        kept[order[: max(1, self.subjects_max // 10)]] = False
        self._table.keep(kept)
        self.evicted += int(np.count_nonzero(~kept))


def subject_key(subject: Subject) -> np.uint64:
    """The number a subject is found by; equal to the one ``subjects_of`` gives its requests."""
    if subject.scope == "subnet":
        network = ipaddress.ip_network(subject.value)
        bits = 32 if network.version == 4 else 128
        raw = np.uint64(int(network.network_address) >> (bits - network.prefixlen))
        return combine64(np.uint64(_SCOPE_SALT[network.prefixlen]), raw)
    raw_value = np.frombuffer(subject.value.encode(), np.uint8)
    return combine64(np.uint64(_SCOPE_SALT[subject.scope]), hash64(raw_value, 0, len(raw_value), np.uint64(0)))


def subjects_of(columns: RequestColumns, account: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The subjects each event belongs to: ``uint64[n, 6]``, 0 where there is none.

    ``account`` is ``hash_spans`` of the account ids with seed 0.
    """
    org, key = columns.org_id, columns.api_key_id
    subjects = np.zeros((len(columns), _PLACES), np.uint64)
    _fill_subjects(
        account,
        hash_spans(columns.identifiers, org.start, org.end, np.uint64(0)),
        hash_spans(columns.identifiers, key.start, key.end, np.uint64(0)),
        columns.address_family,
        columns.address_high,
        columns.address_low,
        subjects,
    )
    return subjects


@njit(cache=True, nogil=True)
def _fill_subjects(
    account: NDArray[np.uint64],
    org: NDArray[np.uint64],
    api_key: NDArray[np.uint64],
    family: NDArray[np.uint8],
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    subjects: NDArray[np.uint64],
) -> None:
    for index in range(len(account)):
        subjects[index, 0] = combine64(np.uint64(1), account[index])
        if org[index] != np.uint64(0):
            subjects[index, 1] = combine64(np.uint64(2), org[index])
        if api_key[index] != np.uint64(0):
            subjects[index, 2] = combine64(np.uint64(3), api_key[index])
        if family[index] == 4:
            subjects[index, 3] = combine64(np.uint64(4), low[index] >> np.uint64(8))
        elif family[index] == 6:
            for shorter in range(3):
                subjects[index, 3 + shorter] = combine64(np.uint64(5 + shorter), high[index] >> np.uint64(8 * shorter))


@njit(cache=True, nogil=True)
def _cost(record: Record, input_tokens: int, output_tokens: int) -> int:
    if record.unit == _REQUESTS:
        return 1
    return max(0, input_tokens if record.unit == _INPUT else output_tokens)


@njit(cache=True, nogil=True)
def _has_room(record: Record, now: int, input_tokens: int) -> bool:
    """Whether a limit lets one more through; opens its next period when that has come."""
    period = max(np.int64(0), now - record.since) // record.period_ms
    if period > record.period:
        record.period, record.used = period, 0
    wanted = max(1, _cost(record, input_tokens, 0))  # output is known afterwards: it passes while any is left
    return bool(record.used + wanted <= record.limit)


@njit(cache=True, nogil=True)
def _judge_requests(
    slots: NDArray[np.int32],
    rows: NDArray[np.void],
    subjects: NDArray[np.uint64],
    asks: NDArray[np.bool_],
    occurred: NDArray[np.int64],
    created: NDArray[np.int64],
    verified: NDArray[np.int64],
    tier: NDArray[np.uint8],
    tokens_in: NDArray[np.int64],
    tokens_out: NDArray[np.int64],
    denied: NDArray[np.bool_],
    asks_proof: NDArray[np.bool_],
    level: NDArray[np.uint8],
    shared_level: NDArray[np.uint8],
    shared_since: NDArray[np.int64],
    shared_until: NDArray[np.int64],
) -> None:
    limits = np.empty(_PLACES, np.int64)
    for index in range(len(occurred)):
        if not asks[index]:
            continue
        now, top, limited, in_subnet = occurred[index], 0, 0, False
        for place in range(_PLACES):
            if subjects[index, place] == np.uint64(0) or (place >= _FIRST_SUBNET and in_subnet):
                continue
            row = find(slots, rows, subjects[index, place])
            if row < 0:
                continue
            record = rows[row]
            if record.level == 0 or now < record.since or now >= record.expires_at:
                continue
            if not (record.tiers >> tier[index]) & 1:
                continue
            if record.created_after >= 0 and created[index] <= record.created_after:
                continue
            level[index] = max(level[index], record.level)
            if place > 0 and record.level > shared_level[index]:
                shared_level[index] = record.level
                shared_since[index], shared_until[index] = record.level_since, record.expires_at
            if record.level < RATE_LIMIT:
                continue
            in_subnet = in_subnet or place >= _FIRST_SUBNET
            if record.level == VERIFY and now >= verified[index]:
                continue
            top = max(top, np.int64(record.level))
            if record.level == RATE_LIMIT and record.limit >= 0:
                limits[limited] = row
                limited += 1
        if top >= VERIFY:
            denied[index], asks_proof[index] = True, top == VERIFY
            continue
        passes = True
        for number in range(limited):
            passes = _has_room(rows[limits[number]], now, tokens_in[index]) and passes
        denied[index] = not passes
        for number in range(limited if passes else 0):
            rows[limits[number]].used += _cost(rows[limits[number]], tokens_in[index], tokens_out[index])


def _enforceable(decision: Decision) -> tuple[int, Params | None]:
    """Level and params a gateway can enforce without looking at content."""
    if decision.action == "release":
        return 0, None
    if decision.match is None:
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


def _set_limit(record: Record, params: Params | None) -> None:
    """Set the limit; what has been used of it stays while stretch, unit and period are the same."""
    if not isinstance(params, RateLimit):
        record["limit"] = _NO_LIMIT
        return
    unit, period_ms = _UNITS[params.unit], _PERIODS_MS[params.period]
    if (int(record["unit"]), int(record["period_ms"])) != (unit, period_ms):
        record["unit"], record["period_ms"] = unit, period_ms
        record["period"], record["used"] = 0, 0
    record["limit"] = params.limit
