"""When exchanges happen: one hour of one cohort's stream as columns sorted by time.

An hour draws the conversations that begin in it, gives each to an account in proportion to its rate, and lays out the
turns. Turns beyond the hour wait for the plan of theirs, so a longer run begins with exactly the events of a shorter
one. Memory follows the events of one hour, about 80 bytes each.
"""

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

from streamdetect.traffic.addresses import COUNTRIES
from streamdetect.traffic.draws import Integers, Keys, below, drawn, generator, lognormal_table, mix, salted
from streamdetect.traffic.population import DAY_MS, HOUR_MS, Accounts

_MINUTE_MS: Final = 60_000
HOURS: Final = {
    "people": (2, 1, 1, 1, 1, 2, 4, 7, 11, 14, 15, 15, 13, 14, 15, 15, 14, 12, 11, 11, 11, 9, 6, 4),
    "office": (1, 1, 1, 1, 1, 1, 3, 10, 22, 28, 28, 26, 18, 24, 28, 28, 26, 18, 8, 4, 3, 2, 1, 1),
    "flat": (12, 12, 11, 11, 11, 11, 11, 12, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 12, 12, 12),
    "even": (1,) * 24,
}
_WEEKEND_PERCENT: Final = 62
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday
_TURNS_MAX: Final = 40
_GAP_MAX_S: Final = 3 * 3600
_AGAIN_PERCENT: Final = 2  # of later turns send the last one once more
_STICKY_MS: Final = HOUR_MS  # a relay forgets which account had a conversation
_SAMPLES_WITHIN_MS: Final = 90_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """Work that comes in bursts: ``minutes`` at ``factor`` times the pace, every few whole hours."""

    every_hours: tuple[int, int] = (2, 6)
    minutes: int = 10
    factor: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Customers who share the accounts: a conversation stays with one until a pause of an hour or a fail-over."""

    fail_over_percent: int = 2  # of the turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How a stream spreads its exchanges. Rates are exchanges an account and day."""

    rate_median: float = 6.0
    rate_sigma: float = 1.4
    rate_limit: int = 300
    hours: str = "people"
    equal: bool = False  # every account gets the same share, in turn
    turns_median: float = 2.2
    turns_sigma: float = 0.8
    gap_median_s: float = 70.0
    gap_sigma: float = 1.1
    weekend: bool = True
    on_the_hour: bool = False
    bursts: Bursts | None = None
    relay: Relay | None = None
    samples: int = 1  # how many accounts get the same prompt within minutes
    users: int = 0  # behind one account


@dataclass(frozen=True, slots=True)
class Plan:
    """Exchanges in order of (time, number). ``numbers`` are unique in a run; ``words`` seed what is said."""

    times_ms: Integers  # since the start of the run
    numbers: Integers
    accounts: Integers
    conversations: Keys  # as the people have them
    conversation_ids: Keys  # as the provider sees them
    turns: Integers
    words: Keys
    users: Keys  # 0: none
    streams: Integers

    def __len__(self) -> int:
        return len(self.times_ms)

    def take(self, rows: object) -> Self:
        """Return the rows that an index array, mask or slice names."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def merged(cls, plans: list[Self]) -> Self:
        """Join plans into one, in order of (time, number)."""
        joined = cls(*(np.concatenate([getattr(plan, field.name) for plan in plans]) for field in fields(cls)))
        return joined.take(np.lexsort((joined.numbers, joined.times_ms)))


@dataclass(frozen=True, slots=True)
class Stream:
    """What is planned hour by hour: accounts, their rates in thousandths a day, and the law of their hours.

    ``gaps_ms`` and ``law`` come from the cadence, or from recorded traffic.
    """

    number: int
    seed: int
    start_ms: int
    accounts: Accounts
    cadence: Cadence
    rates: Integers
    starts_ms: Integers
    ends_ms: Integers
    gaps_ms: Integers
    law: Integers


def stream_of(
    number: int,
    accounts: Accounts,
    cadence: Cadence,
    *,
    seed: int,
    start_ms: int,
    spans: tuple[Integers, Integers] | None = None,
    gaps_ms: Integers | None = None,
    law: Integers | None = None,
) -> Stream:
    """Return the stream with this number (0-1023) of a run; ``spans`` narrows the time in which accounts are used."""
    table = lognormal_table(median=cadence.rate_median, sigma=cadence.rate_sigma, limit=cadence.rate_limit, scale=1000)
    gaps = lognormal_table(median=cadence.gap_median_s, sigma=cadence.gap_sigma, limit=_GAP_MAX_S, scale=1000)
    starts_ms, ends_ms = accounts.starts_ms, accounts.ends_ms
    return Stream(
        number=number,
        seed=seed,
        start_ms=start_ms,
        accounts=accounts,
        cadence=cadence,
        rates=drawn(salted(accounts.keys, 502 + number % 16), table),
        starts_ms=starts_ms if spans is None else np.maximum(starts_ms, spans[0]),
        ends_ms=ends_ms if spans is None else np.minimum(ends_ms, spans[1]),
        gaps_ms=gaps if gaps_ms is None else gaps_ms,
        law=np.asarray(HOURS[cadence.hours], np.int64) if law is None else law,
    )


def plan_hour(stream: Stream, hour: int) -> Plan:
    """Draw the exchanges whose conversations begin in hour ``hour`` of the run."""
    begin_ms = hour * HOUR_MS
    random = generator(stream.seed, stream.number, hour)
    cadence = stream.cadence
    edges = np.cumsum(_weights(stream, begin_ms))
    turns_table = lognormal_table(median=cadence.turns_median, sigma=cadence.turns_sigma, limit=_TURNS_MAX)
    paces, burst_ms = _paces(stream, hour)
    # Exchanges of the hour in thousandths: rate x law of the hour / sum of the law. Turns and pace make conversations
    # of them. The remainder is drawn, so that small cohorts keep their mean rate.
    weekend = cadence.weekend and _is_weekend(stream.start_ms + begin_ms)
    amount = int(edges[-1]) * (_WEEKEND_PERCENT if weekend else 100) * len(turns_table) if len(edges) else 0
    divisor = 1000 * 100 * 1000 * int(stream.law.sum()) * int(turns_table.sum()) * cadence.samples
    if cadence.equal:
        before, after = (amount * int(paces[:end].sum()) // divisor for end in (hour, hour + 1))
        size = after - before
        owners = _in_turn(stream, begin_ms, before * cadence.samples, size * cadence.samples)
    else:
        size, rest = divmod(amount * int(paces[-1]), divisor)
        size += int(random.integers(divisor) < rest)
        drawn_at = random.integers(max(1, int(edges[-1]) if len(edges) else 1), size=size * cadence.samples)
        owners = np.searchsorted(edges, drawn_at, side="right").astype(np.int64)
    starts = begin_ms + _within_hour(random, cadence, size, burst_ms)
    keys = mix(np.arange(size, dtype=np.uint64) + np.full(size, int(random.integers(1 << 62)), np.uint64))
    turns = turns_table[random.integers(len(turns_table), size=size)]
    words = keys
    if cadence.samples > 1:
        keys, words, starts = _sampled(keys, starts, cadence.samples)
        turns = np.ones(len(keys), np.int64)
    return _laid_out(stream, hour, keys, words, starts, turns, owners)


def _weights(stream: Stream, begin_ms: int) -> Integers:
    """Return each account's share of the hour: its rate by the law of its local hour, 0 outside its life."""
    accounts = stream.accounts
    offsets = np.array([minutes // 60 for _, _, minutes in COUNTRIES], np.int64)[accounts.homes]
    local = ((stream.start_ms + begin_ms) // HOUR_MS + offsets) % 24
    lives = (stream.starts_ms < begin_ms + HOUR_MS) & (stream.ends_ms > begin_ms)
    return np.where(lives, stream.rates * stream.law[local], 0)


def _paces(stream: Stream, hour: int) -> tuple[Integers, int | None]:
    """Return the pace of the hours up to this one in thousandths of the mean, and when its burst begins, in ms."""
    bursts = stream.cadence.bursts
    if bursts is None:
        return np.full(hour + 1, 1000, np.int64), None
    low, high = bursts.every_hours
    keys = mix(np.arange(hour + 2, dtype=np.uint64) + np.full(hour + 2, stream.number << 20, np.uint64))
    begins = np.cumsum(low + below(keys, high - low + 1)) - low
    extra = (bursts.factor - 1) * bursts.minutes  # ordinary minutes that a burst is worth beside its own
    mean = 60 * (low + high) // 2 + extra  # in ordinary minutes, from one burst to the next
    paces = np.full(hour + 1, 60 * 1000 * (low + high) // 2 // mean, np.int64)
    paces[begins[begins <= hour]] = (60 + extra) * 1000 * (low + high) // 2 // mean
    if hour not in begins:
        return paces, None
    return paces, int(below(salted(keys[hour : hour + 1], 1), 60 - bursts.minutes)[0]) * _MINUTE_MS


def _within_hour(random: np.random.Generator, cadence: Cadence, size: int, burst_ms: int | None) -> Integers:
    if cadence.on_the_hour:
        return random.integers(8_000, size=size)
    starts = random.integers(HOUR_MS, size=size)
    if cadence.bursts is None or burst_ms is None:
        return starts
    extra = (cadence.bursts.factor - 1) * cadence.bursts.minutes
    inside = random.integers(60 + extra, size=size) < extra
    return np.where(inside, burst_ms + random.integers(cadence.bursts.minutes * _MINUTE_MS, size=size), starts)


def _in_turn(stream: Stream, begin_ms: int, before: int, size: int) -> Integers:
    """Return the accounts in use one after the other, going on where the hours before stopped."""
    lives = (stream.starts_ms < begin_ms + HOUR_MS) & (stream.ends_ms > begin_ms)
    alive = np.flatnonzero(lives)
    return alive[(np.arange(size) + before) % len(alive)] if size else np.zeros(0, np.int64)


def _sampled(keys: Keys, starts: Integers, samples: int) -> tuple[Keys, Keys, Integers]:
    """Send each prompt several times: conversations of their own, the same words, within minutes."""
    words = np.repeat(keys, samples)
    own = mix(words + np.tile(np.arange(1, samples + 1, dtype=np.uint64), len(keys)))
    return own, words, np.repeat(starts, samples) + below(salted(own, 90), _SAMPLES_WITHIN_MS)


def _laid_out(
    stream: Stream, hour: int, keys: Keys, words: Keys, starts: Integers, counts: Integers, owners: Integers
) -> Plan:
    """Lay out every turn of every conversation and leave out what is outside the account's life."""
    conversation = np.repeat(np.arange(len(keys)), counts)
    first = np.cumsum(counts) - counts
    turn = np.arange(len(conversation)) - first[conversation]
    gap_keys = mix(keys[conversation] + turn.astype(np.uint64))
    gaps = np.where(turn > 0, drawn(gap_keys, stream.gaps_ms) + (gap_keys & np.uint64(1023)).astype(np.int64), 0)
    elapsed = np.cumsum(gaps)
    times = starts[conversation] + elapsed - elapsed[first[conversation]]
    again = (turn > 0) & (below(salted(gap_keys, 91), 100) < _AGAIN_PERCENT)
    said = mix(words[conversation] + turn.astype(np.uint64) - again.astype(np.uint64))
    accounts, ids = owners[conversation], keys[conversation]
    users = _users(stream.cadence, ids, stream.accounts.keys[accounts])
    if stream.cadence.relay is not None:
        moves = _moves(stream.cadence.relay, gaps, gap_keys, turn)
        moves = (moves - moves[first[conversation]]).astype(np.uint64)
        elsewhere = below(mix(salted(ids, 93) + moves), len(stream.accounts))
        accounts, ids = np.where(moves == 0, accounts, elsewhere), mix(ids + salted(moves, 94))
    numbers = np.arange(len(conversation)) + ((stream.number << 53) | (hour << 36))
    plan = Plan(
        times,
        numbers,
        accounts,
        keys[conversation],
        ids,
        turn,
        said,
        users,
        np.full(len(turn), stream.number, np.int64),
    )
    plan = plan.take((times >= stream.starts_ms[accounts]) & (times < stream.ends_ms[accounts]))
    return plan.take(np.lexsort((plan.numbers, plan.times_ms)))


def _moves(relay: Relay, gaps: Integers, gap_keys: Keys, turn: Integers) -> Integers:
    """Count, over all turns, how often a relay has sent a conversation on through another account."""
    failed = below(salted(gap_keys, 92), 100) < relay.fail_over_percent
    return np.cumsum((turn > 0) & ((gaps > _STICKY_MS) | failed))


def _users(cadence: Cadence, keys: Keys, accounts: Keys) -> Keys:
    """Return who is behind each exchange: users of an account come back, some of them often."""
    if not cadence.users:
        return np.zeros(len(keys), np.uint64)
    uniform = keys >> np.uint64(44)
    number = (uniform * uniform >> np.uint64(20)) * np.uint64(cadence.users) >> np.uint64(20)
    return mix(salted(accounts, 95) + number)


def _is_weekend(time_ms: int) -> bool:
    return (time_ms // DAY_MS + _EPOCH_WEEKDAY) % 7 >= 5
