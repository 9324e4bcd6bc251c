"""Windows equal a count over all events on the definition: the current and five previous sub-buckets of W/6."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamdetect.kernels.windows import BUCKETS, BUCKETS_MS, RETAINED_MS, WINDOWS_MS, add, advance, is_late, total

START = 1_767_225_600_000
compiled = settings(deadline=None, max_examples=200)
steps = st.one_of(st.integers(0, 120_000), st.integers(0, 8 * 3_600_000), st.integers(0, 3 * 86_400_000))
events = st.lists(st.tuples(steps, st.integers(0, 2**20)), min_size=1, max_size=40)
heavy = st.lists(st.tuples(st.integers(0, 70_000), st.integers(0, 2**33)), min_size=1, max_size=12)


def feed(stream):
    """Drive a ring as a key's owner does; returns the ring and the newest time."""
    ring, newest = np.zeros((3, BUCKETS), np.uint32), 0
    for offset, amount in stream:
        at = START + offset
        if not newest:
            newest = at
        elif at > newest:
            advance(ring, newest, at)
            newest = at
        elif is_late(newest, at):
            continue
        add(ring, newest, at, amount)
    return ring, newest


def brute_force(stream, window, newest):
    """Saturate each sub-bucket, then add up those the window covers."""
    size, sums = BUCKETS_MS[window], {}
    for offset, amount in stream:
        bucket = (START + offset) // size
        if bucket > newest // size - BUCKETS:
            sums[bucket] = min(sums.get(bucket, 0) + amount, 2**32 - 1)
    return sum(sums.values())


@compiled
@given(stream=events)
@example(stream=[(0, 1), (60_000, 1), (59_999, 1), (9_999, 1), (10_000, 1)])
def test_totals_are_what_the_definition_says_after_every_event(stream):
    for end in range(1, len(stream) + 1):
        ring, newest = feed(stream[:end])
        assert [total(ring, w) for w in range(3)] == [brute_force(stream[:end], w, newest) for w in range(3)]


@compiled
@given(stream=events, data=st.data())
def test_the_order_of_events_leaves_no_trace(stream, data):
    shuffled = data.draw(st.permutations(stream))

    ring, newest = feed(stream)
    other, other_newest = feed(shuffled)

    assert newest == other_newest
    assert ring.tolist() == other.tolist()


@compiled
@given(stream=heavy)
@example(stream=[(0, 2**32 - 1), (1, 1), (2, 2**33)])
def test_sums_stop_at_the_largest_number_and_never_wrap(stream):
    ring, newest = feed(stream)

    assert [total(ring, w) for w in range(3)] == [brute_force(stream, w, newest) for w in range(3)]


@compiled
@given(newest=st.integers(START, START + 10**9), back=st.integers(0, 2 * 86_400_000))
def test_late_is_what_no_window_retains(newest, back):
    ring = np.zeros((3, BUCKETS), np.uint32)
    add(ring, newest, newest - back, 1)

    assert is_late(newest, newest - back) == (total(ring, 2) == 0)
    assert not (back <= RETAINED_MS and is_late(newest, newest - back))


def test_a_window_is_between_five_and_six_sixths_long():
    for window, length in enumerate(WINDOWS_MS):
        size = BUCKETS_MS[window]
        assert size * BUCKETS == length
        ring, newest = np.zeros((3, BUCKETS), np.uint32), START + length - 1
        add(ring, newest, START, 1)
        assert total(ring, window) == 1
        advance(ring, newest, newest + 1)
        assert total(ring, window) == 0
