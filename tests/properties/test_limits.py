"""Laws of the gateway's own counting."""

from hypothesis import given
from hypothesis import strategies as st

from streamdetect.enforcer.limits import PERIOD_MS, RateLimiter
from streamdetect.enforcer.requests import InForce
from streamdetect.messages.decision import RateLimit

FAR_MS = 10**12


def limit_of(count, *, unit="requests", period="minute", since_ms=0, scope="account", value="a", revision=1):
    params = RateLimit(unit=unit, limit=count, period=period)
    return InForce(scope, value, "d", revision, "rate_limit", params, FAR_MS, since_ms)


times = st.lists(st.integers(0, 400_000), max_size=80).map(sorted)


@given(times, st.integers(0, 5), st.integers(0, 100_000), st.sampled_from(["second", "minute"]))
def test_exactly_the_limit_passes_in_each_period(arrivals, count, since_ms, period):
    limiter, passed = RateLimiter(), {}
    wanted = {}
    for now in arrivals:
        slot = max(0, now - since_ms) // PERIOD_MS[period]
        wanted[slot] = wanted.get(slot, 0) + 1
        if limiter.admit((limit_of(count, period=period, since_ms=since_ms),), now) is None:
            passed[slot] = passed.get(slot, 0) + 1
    assert passed == {slot: min(count, number) for slot, number in wanted.items() if count}


@given(times, st.integers(1, 5))
def test_a_renewal_does_not_refill(arrivals, count):
    plain, renewed = RateLimiter(), RateLimiter()
    for revision, now in enumerate(arrivals):
        once = plain.admit((limit_of(count),), now)
        assert renewed.admit((limit_of(count, revision=revision),), now) == once


@given(times, st.integers(0, 5), st.integers(0, 5))
def test_of_two_limits_both_hold_and_a_refusal_charges_neither(arrivals, first, second):
    limiter = RateLimiter()
    both = (limit_of(first), limit_of(second, scope="org", value="o", period="hour"))
    passed = [now for now in arrivals if limiter.admit(both, now) is None]
    alone = RateLimiter()
    assert len(passed) <= second
    assert all(alone.admit(both[:1], now) is None for now in passed)


@given(st.integers(0, 400_000), st.integers(0, 100_000), st.integers(0, 3))
def test_waiting_as_long_as_told_is_enough(now, since_ms, count):
    limiter = RateLimiter()
    limits = (limit_of(count, since_ms=since_ms),)
    for _ in range(count):
        assert limiter.admit(limits, now) is None
    wait = limiter.admit(limits, now)
    assert wait is not None
    assert wait > 0
    assert limiter.admit(limits, now + wait - 1) is not None
    assert (limiter.admit(limits, now + wait) is None) == (count > 0)
    for _ in range(count):
        limiter.admit(limits, now + wait)
    assert limiter.admit(limits, now) is not None, "an old stamp opened its period again"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60_000)), max_size=30), st.integers(1, 200))
def test_input_tokens_never_exceed_the_limit_in_a_period(requests, count):
    limiter, used = RateLimiter(), 0
    for tokens, now in requests:
        if now < 60_000 and limiter.admit((limit_of(count, unit="input_tokens"),), now, input_tokens=tokens) is None:
            used += tokens
    assert used <= count


def test_output_tokens_are_counted_when_they_are_known():
    limiter, limits = RateLimiter(), (limit_of(100, unit="output_tokens"),)
    assert limiter.admit(limits, 0) is None
    limiter.charge_output(limits, 0, 250)
    assert limiter.admit(limits, 1000) == 59_000
    assert limiter.admit(limits, 60_000) is None


def test_a_new_stretch_starts_full():
    limiter = RateLimiter()
    assert limiter.admit((limit_of(1),), 10) is None
    assert limiter.admit((limit_of(1),), 20) is not None
    assert limiter.admit((limit_of(1, since_ms=30),), 30) is None


@given(st.lists(st.integers(0, 300), max_size=20))
def test_output_of_an_earlier_stretch_does_not_refill(finished):
    limiter = RateLimiter()
    old, new = ((limit_of(100, unit="output_tokens", period="day", since_ms=since),) for since in (0, 1000))
    assert limiter.admit(old, 10) is None
    assert limiter.admit(new, 1001) is None
    limiter.charge_output(new, 1002, 100)
    for output_tokens in finished:
        limiter.charge_output(old, 1003, output_tokens)
        assert limiter.admit(new, 1004) is not None


def test_counters_are_bounded():
    limiter = RateLimiter(counters_max=10)
    for number in range(100):
        limiter.admit((limit_of(1, value=str(number)),), 0)
    assert len(limiter) == 10
