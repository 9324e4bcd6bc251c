"""Distinct members per class equal sets built from all sightings, through sweeps and growth, whatever the order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.kernels.members import DAILY, HOURLY, RETAINED_TICKS, Members, advance, distinct_of, touch

OWNERS = 3
FIRST_TICK = 2_945_376  # 2026-01-01 in ten-minute buckets
compiled = settings(deadline=None, max_examples=150)
sightings = st.lists(
    st.tuples(
        st.integers(0, OWNERS - 1),
        st.integers(1, 12),  # member
        st.one_of(st.integers(0, 12), st.integers(0, 400)),  # tick
        st.integers(0, 2),  # class
    ),
    max_size=60,
)


class Owned:
    """Owners as the stages keep them: a ring and a newest bucket each, and one ``Members`` for all."""

    def __init__(self, capacity):
        self.members = Members(capacity)
        self.distinct = np.zeros((OWNERS, 2, 6, 3), np.uint32)
        self.newest = np.zeros(OWNERS, np.int64)

    def see(self, owner, member, tick, kind):
        tick += FIRST_TICK
        if self.newest[owner] == 0:
            self.newest[owner] = tick
        elif tick > self.newest[owner]:
            advance(self.distinct[owner], self.newest[owner], tick)
            self.newest[owner] = tick
        elif tick // 24 <= self.newest[owner] // 24 - 6:
            return
        self.members.reserve(1)
        m = self.members
        entry = touch(
            m.slots, m.rows, m.dirty, m.count, self.distinct[owner], owner, self.newest[owner],
            np.uint64(member), 0, tick, kind,
        )  # fmt: skip
        m.count += entry == m.count

    def sweep(self):
        return self.members.sweep(np.arange(OWNERS), self.newest)

    def counts(self):
        return [
            [distinct_of(ring, window, kind) for window in (HOURLY, DAILY) for kind in range(3)]
            for ring in self.distinct
        ]

    def content(self):
        entries = self.members.live
        return sorted(
            (int(e["owner"]), int(e["member"]), int(e["tick"]), int(e["kind"]))
            for e in entries
            if e["tick"] // 24 > self.newest[e["owner"]] // 24 - 6
        )


def brute_force(stream):
    """For each owner: per window and class, members whose last sighting (highest class of it) the window covers."""
    counts = []
    for owner in range(OWNERS):
        mine = [(FIRST_TICK + tick, kind, member) for o, member, tick, kind in stream if o == owner]
        newest = max((tick for tick, _, _ in mine), default=0)
        last = {}
        for tick, kind, member in mine:
            last[member] = max(last.get(member, (0, 0)), (tick, kind))
        counts.append(
            [
                sum(tick // step > newest // step - 6 and kind == wanted for tick, kind in last.values())
                for step in (1, 24)
                for wanted in range(3)
            ]
        )
    return counts


def fed(stream, *, capacity=1024, sweep_every=0):
    owned = Owned(capacity)
    for number, sighting in enumerate(stream):
        owned.see(*sighting)
        if sweep_every and number % sweep_every == 0:
            owned.sweep()
    return owned


@compiled
@given(stream=sightings, capacity=st.sampled_from([1, 2, 1024]), sweep_every=st.integers(0, 3))
def test_counts_are_exact_through_growth_and_sweeps(stream, capacity, sweep_every):
    for end in range(len(stream) + 1):
        owned = fed(stream[:end], capacity=capacity, sweep_every=sweep_every)
        assert owned.counts() == brute_force(stream[:end])


@compiled
@given(stream=sightings, data=st.data())
def test_the_order_of_sightings_leaves_no_trace(stream, data):
    one, other = fed(stream), fed(data.draw(st.permutations(stream)))

    assert one.distinct.tolist() == other.distinct.tolist()
    assert one.content() == other.content()


@compiled
@given(stream=sightings)
def test_a_sweep_drops_only_what_no_window_covers(stream):
    owned = fed(stream)
    before, held = owned.content(), owned.members.count

    dropped = owned.sweep()

    assert owned.content() == before
    assert owned.members.count == held - dropped
    assert all(e["tick"] > owned.newest[e["owner"]] - RETAINED_TICKS - 24 for e in owned.members.live)


@compiled
@given(stream=sightings, kept=st.sets(st.integers(0, OWNERS - 1)))
def test_dropping_owners_keeps_the_members_of_the_others(stream, kept):
    owned = fed(stream)
    renumbered = np.full(OWNERS, -1, np.int64)
    renumbered[sorted(kept)] = np.arange(len(kept))
    expected = sorted((int(renumbered[o]), m, t, k) for o, m, t, k in owned.content() if o in kept)

    owned.members.sweep(renumbered, owned.newest)
    owned.newest = owned.newest[sorted(kept)]

    assert owned.content() == expected


def test_a_tie_in_one_bucket_goes_to_the_higher_class_and_a_later_bucket_to_its_own():
    assert fed([(0, 1, 5, 2), (0, 1, 5, 1)]).counts()[0] == [0, 0, 1, 0, 0, 1]
    assert fed([(0, 1, 5, 2), (0, 1, 6, 1)]).counts()[0] == [0, 1, 0, 0, 1, 0]
    assert fed([(0, 1, 6, 1), (0, 1, 5, 2)]).counts()[0] == [0, 1, 0, 0, 1, 0]


def test_thousands_of_members_are_counted_exactly():
    assert fed([(0, member, member % 140, member % 3) for member in range(5000)], capacity=4).counts() == brute_force(
        [(0, member, member % 140, member % 3) for member in range(5000)]
    )
