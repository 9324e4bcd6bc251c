"""When exchanges happen: one UTC day of one cohort as columns sorted by time.

A day draws its conversations, gives each to an account in proportion to its rate, places the first turn by the local
hour and spaces the others. Turns beyond midnight wait for the next day's plan, so a longer run begins with exactly the
events of a shorter one. Memory follows the events of one day, about 40 bytes each.
"""

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

from streamdetect.traffic.draws import Integers, Keys, drawn, generator, lognormal_table, mix
from streamdetect.traffic.population import DAY_MS, Accounts

_HOUR_MS: Final = 3_600_000
_HOURS: Final = {
    "people": (2, 1, 1, 1, 1, 2, 4, 7, 11, 14, 15, 15, 13, 14, 15, 15, 14, 12, 11, 11, 11, 9, 6, 4),
    "flat": (12, 12, 11, 11, 11, 11, 11, 12, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 12, 12, 12),
}
_WEEKEND_PERCENT: Final = 62
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday
_TURNS_MAX: Final = 40
_GAP_TABLE: Final = lognormal_table(median=70.0, sigma=1.1, limit=1800, scale=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How a cohort spreads its exchanges."""

    hours: str = "people"
    turns_median: float = 2.2
    turns_sigma: float = 0.8
    weekend: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Exchanges in order of (time, number): when, who, which conversation and turn. ``numbers`` are unique in a run."""

    times_ms: Integers
    numbers: Integers
    accounts: Integers
    conversations: Keys
    turns: Integers
    cohorts: Integers

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


def plan_day(accounts: Accounts, cadence: Cadence, *, cohort: int, seed: int, day_ms: int, day: int) -> Plan:
    """Draw the exchanges whose conversations begin in [day_ms, day_ms + 1 day); ``day`` counts from the start."""
    random = generator(seed, cohort, day)
    table = lognormal_table(median=cadence.turns_median, sigma=cadence.turns_sigma, limit=_TURNS_MAX)
    edges = np.cumsum(accounts.rates)
    thousandths = int(edges[-1]) * (_WEEKEND_PERCENT if cadence.weekend and _is_weekend(day_ms) else 100) // 100
    # The remainder is drawn, so that small cohorts keep their mean rate.
    size, rest = divmod(thousandths * len(table), 1000 * int(table.sum()))
    size += int(random.integers(1000 * int(table.sum())) < rest)
    owner = np.searchsorted(edges, random.integers(int(edges[-1]), size=size), side="right")
    turns = table[random.integers(len(table), size=size)]
    starts = _first_turns(random, cadence, accounts.offsets_ms[owner], day_ms)
    return _unfolded(owner, turns, starts, cohort=cohort, day=day, seed_key=int(random.integers(1 << 62)))


def _first_turns(random: np.random.Generator, cadence: Cadence, offsets_ms: Integers, day_ms: int) -> Integers:
    edges = np.cumsum(np.asarray(_HOURS[cadence.hours], np.int64))
    hours = np.searchsorted(edges, random.integers(int(edges[-1]), size=len(offsets_ms)), side="right")
    local_ms = hours * _HOUR_MS + random.integers(_HOUR_MS, size=len(offsets_ms))
    return day_ms + (local_ms - offsets_ms) % DAY_MS


def _unfolded(owner: Integers, turns: Integers, starts: Integers, *, cohort: int, day: int, seed_key: int) -> Plan:
    """Lay out every turn of every conversation."""
    conversation = np.repeat(np.arange(len(owner)), turns)
    first = np.cumsum(turns) - turns
    turn = np.arange(len(conversation)) - first[conversation]
    keys = mix(np.arange(len(owner), dtype=np.uint64) + np.full(len(owner), seed_key, np.uint64))
    gap_keys = mix(keys[conversation] + turn.astype(np.uint64))
    gaps = np.where(turn > 0, drawn(gap_keys, _GAP_TABLE) + (gap_keys & np.uint64(1023)).astype(np.int64), 0)
    elapsed = np.cumsum(gaps)
    times = starts[conversation] + elapsed - elapsed[first[conversation]]
    numbers = np.arange(len(conversation)) + ((cohort << 56) | (day << 40))
    plan = Plan(times, numbers, owner[conversation], keys[conversation], turn, np.full(len(turn), cohort, np.int64))
    return plan.take(np.lexsort((numbers, times)))


def _is_weekend(day_ms: int) -> bool:
    return (day_ms // DAY_MS + _EPOCH_WEEKDAY) % 7 >= 5
