"""Counts requests and tokens against limits in force. Pure: the caller brings the time.

Periods are fixed and start where the unbroken stretch of limits on the subject starts, so a renewal does not refill.
One process counts for itself; a fleet that shares a limit divides it or counts elsewhere.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from streamdetect.enforcer.requests import InForce

PERIOD_MS: Final[dict[str, int]] = {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
COUNTERS_MAX: Final = 200_000

_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Counter:
    """What one limit has let through in its current period."""

    since_ms: int
    period: int
    used: int


class RateLimiter:
    """One counter per subject, unit and period; at the bound the one used longest ago is forgotten."""

    def __init__(self, counters_max: int = COUNTERS_MAX) -> None:
        self._counters: OrderedDict[_Key, _Counter] = OrderedDict()
        self._counters_max = counters_max

    def __len__(self) -> int:
        return len(self._counters)

    def admit(self, limits: tuple[InForce, ...], now_ms: int, *, input_tokens: int = 0) -> int | None:
        """Let one request through all ``limits``, or none: ``None`` when it passes, else ms until trying again.

        A request counts 1 against ``requests`` and its tokens against ``input_tokens``. Output tokens are not known
        yet: the request passes while any are left, and ``charge_output`` counts them later.
        """
        chosen = [(self._counter(record, now_ms), record) for record in limits]
        waits = [
            wait for counter, record in chosen if (wait := _wait_ms(counter, record, now_ms, input_tokens)) is not None
        ]
        if waits:
            return max(waits)
        for counter, record in chosen:
            counter.used += _cost(record, input_tokens)
        return None

    def charge_output(self, limits: tuple[InForce, ...], now_ms: int, output_tokens: int) -> None:
        """Count the tokens of a finished exchange against limits on output."""
        for record in limits:
            if record.limit is None or record.limit.unit != "output_tokens":
                continue
            counter = self._counters.get(_key(record))
            # An exchange admitted in an earlier stretch must not open that one again, and so refill this one.
            if counter is None or counter.since_ms <= record.since_ms:
                self._counter(record, now_ms).used += output_tokens

    def _counter(self, record: InForce, now_ms: int) -> _Counter:
        key = _key(record)
        period = _period(record, now_ms)
        counter = self._counters.get(key)
        if counter is not None and counter.since_ms == record.since_ms:
            # A request stamped before the newest one must not open its old period again.
            period = max(period, counter.period)
        if counter is None:
            counter = self._counters[key] = _Counter(record.since_ms, period, 0)
            if len(self._counters) > self._counters_max:
                self._counters.popitem(last=False)
        else:
            self._counters.move_to_end(key)
            if (counter.since_ms, counter.period) != (record.since_ms, period):
                counter.since_ms, counter.period, counter.used = record.since_ms, period, 0
        return counter


def _key(record: InForce) -> _Key:
    assert record.limit is not None, "only records with a limit are counted"
    return record.scope, record.value, record.limit.unit, record.limit.period


def _period(record: InForce, now_ms: int) -> int:
    assert record.limit is not None
    return max(0, now_ms - record.since_ms) // PERIOD_MS[record.limit.period]


def _cost(record: InForce, input_tokens: int) -> int:
    assert record.limit is not None
    return {"requests": 1, "input_tokens": input_tokens, "output_tokens": 0}[record.limit.unit]


def _wait_ms(counter: _Counter, record: InForce, now_ms: int, input_tokens: int) -> int | None:
    """Time until the next period when this one has no room, else ``None``."""
    assert record.limit is not None
    wanted = max(1, _cost(record, input_tokens))
    if counter.used + wanted <= record.limit.limit:
        return None
    return record.since_ms + (counter.period + 1) * PERIOD_MS[record.limit.period] - now_ms
