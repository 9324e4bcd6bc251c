"""Who met whom: the baselines' one index against its definition, and what stands on it."""

import numpy as np
from baselines.acquaintances import Acquaintances
from baselines.docket import Docket, Response
from baselines.meeting import Meetings
from baselines.shared_address import SharedAddress
from baselines.velocity import Limit, Velocity
from events import DAY_MS, columns_of, first_hits, run, times_of_meeting
from hypothesis import given, settings
from hypothesis import strategies as st

RESPONSE = Response(action="suspend", ttl_ms=7 * DAY_MS)
WINDOW_MS = 100

visits = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 30), st.lists(st.integers(1, 5), min_size=2, max_size=2)), max_size=60
)


def in_order(drawn):
    """Turn gaps into times."""
    return [
        (member, int(at), keys) for (member, _, keys), at in zip(drawn, np.cumsum([v[1] for v in drawn]), strict=True)
    ]


def visit_all(meetings, made, batch):
    """Visit in batches; returns (account, at, other) of each meeting."""
    found = []
    for first in range(0, len(made), batch):
        part = made[first : first + batch]
        rows, others = meetings.visit(
            np.array([keys for _, _, keys in part], np.uint64).reshape(len(part), 2),
            np.array([member for member, _, _ in part], np.uint64),
            np.array([at for _, at, _ in part], np.int64),
        )
        found += [(*part[row][:2], int(other)) for row, other in zip(rows.tolist(), others.tolist(), strict=True)]
    return found


@settings(deadline=None)
@given(visits, st.integers(1, 7))
def test_a_visit_meets_everybody_who_was_there_within_the_window(drawn, batch):
    made = in_order(drawn)
    expected, last = [], {}
    for member, at, keys in made:
        others = {m for (key, m), seen in last.items() if key in keys and m != member and seen > at - WINDOW_MS}
        expected += [(member, at, other) for other in others]
        last |= {(key, member): at for key in keys}

    found = visit_all(Meetings(WINDOW_MS, limit=100), made, batch)

    assert sorted(found) == sorted(expected)


@settings(deadline=None)
@given(visits, st.integers(1, 3), st.integers(1, 7))
def test_nobody_who_met_enough_others_is_missed_and_nobody_is_early(drawn, enough, batch):
    made = in_order(drawn)
    met = Acquaintances(WINDOW_MS, enough)

    found = {}
    for member, at, other in visit_all(Meetings(WINDOW_MS, limit=enough), made, batch):
        for account in met.meet(member, other, at):
            found.setdefault(account, at)

    assert found == times_of_meeting(made, WINDOW_MS, enough)


def test_what_is_over_is_forgotten():
    meetings = Meetings(1000, limit=3)
    for at in range(0, 2_000_000, 100):
        key = np.array([[at // 100 + 1]], np.uint64)
        meetings.visit(key, np.array([7], np.uint64), np.array([at]))
    assert len(meetings) < 20


def request(address, **fields):
    return {"client_ip": address, **fields}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, DAY_MS // 3), st.integers(0, 3)), max_size=40),
    st.integers(1, 5),
)
def test_accounts_that_share_an_address_are_found_when_there_are_enough(drawn, rounds):
    times = np.cumsum([gap for _, gap, _ in drawn]).tolist()
    made = [(f"a{who}", at, request(f"192.0.2.{where}")) for (who, _, where), at in zip(drawn, times, strict=True)]
    if not made:
        return
    docket = Docket("test", Response(action="suspend", ttl_ms=1000 * DAY_MS))
    detector = SharedAddress(docket, per_address=3, per_subnet=99, window_ms=DAY_MS, young_only=False)

    found = first_hits(run(detector, columns_of(made), rounds=rounds))

    # Three on one address at one time: not two here and one there.
    expected, last = {}, {}
    for who, at, fields in made:
        here = last.setdefault(fields["client_ip"], {})
        here[who] = at
        alive = [one for one, seen in here.items() if seen > at - DAY_MS]
        if len(alive) >= 3:
            expected |= {one: at for one in alive if one not in expected}
    assert found == expected


def test_young_accounts_alone_are_counted_and_hit_when_told_so():
    old = {"account_created_at": 1_600_000_000_000, "account_tier": "paid"}
    new = {"account_created_at": 1_767_500_000_000, "account_tier": "paid"}
    made = [(f"old{n}", n, request("192.0.2.9", **old)) for n in range(5)]
    made += [(f"new{n}", 10 + n, request("192.0.2.9", **new)) for n in range(2)]
    made += [("unknown", 20, request("192.0.2.9"))]
    three = [*made, ("new2", 30, request("192.0.2.9", **new))]

    def hit(events):
        detector = SharedAddress(Docket("test", RESPONSE), 3, 99, DAY_MS, young_only=True)
        return set(first_hits(run(detector, columns_of(events))))

    assert hit(made) == set()
    assert hit(three) == {"new0", "new1", "new2"}


def test_subnets_of_the_two_families_do_not_meet():
    made = [("a", 0, request("192.0.2.1")), ("b", 1, request("192.0.2.200")), ("c", 2, request("2001:db8:0:1::1"))]
    made += [("d", 3, request("2001:db8:0:2::1")), ("e", 4, request("2001:db9::1"))]

    detector = SharedAddress(Docket("test", RESPONSE), 99, 2, DAY_MS, young_only=False)

    assert set(first_hits(run(detector, columns_of(made)))) == {"a", "b", "c", "d"}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=60), st.integers(1, 5), st.integers(1, 4))
def test_a_velocity_limit_counts_what_lies_in_its_window(drawn, count, rounds):
    times = np.cumsum([gap for _, gap in drawn]).tolist()
    made = [(f"a{who}", at, {}) for (who, _), at in zip(drawn, times, strict=True)]
    if not made:
        return
    docket = Docket("test", Response(action="rate_limit", ttl_ms=1000 * DAY_MS, limit=1))
    detector = Velocity(docket, (Limit(scope="account", count=count, window_ms=WINDOW_MS),))

    found = first_hits(run(detector, columns_of(made), rounds=rounds))

    expected = {}
    for number, (who, at, _) in enumerate(made):
        recent = [one for one, when, _ in made[: number + 1] if one == who and when > at - WINDOW_MS]
        if len(recent) >= count:
            expected.setdefault(who, at)
    assert found == expected


def test_a_subnet_over_its_limit_is_named_in_full():
    made = [(f"a{n}", n, request(f"192.0.2.{n}")) for n in range(3)]
    made += [(f"b{n}", 10 + n, request(f"2001:db8:0:{n}::1")) for n in range(3)]
    docket = Docket("test", Response(action="rate_limit", ttl_ms=DAY_MS, limit=1))

    decisions = run(Velocity(docket, (Limit(scope="subnet", count=3, window_ms=WINDOW_MS),)), columns_of(made))

    assert [decision.subject.key for decision in decisions] == ["subnet:192.0.2.0/24", "subnet:2001:db8::/48"]


def test_refused_requests_teach_a_baseline_nothing():
    refused = {"client_ip": "192.0.2.1", "outcome": "blocked"}
    made = [(f"a{n}", n, refused) for n in range(50)]

    detector = SharedAddress(Docket("test", RESPONSE), 2, 2, DAY_MS, young_only=False)

    assert run(detector, columns_of(made)) == []


def test_what_is_in_force_is_renewed_late_and_decided_anew_when_it_is_over():
    docket = Docket("test", Response(action="rate_limit", ttl_ms=100, limit=1))
    detector = Velocity(docket, (Limit(scope="account", count=1, window_ms=10),))

    made = run(detector, columns_of([("a", at, {}) for at in (0, 40, 60, 159, 300)]))

    assert [(m.issued_at - made[0].issued_at, m.status, m.revision) for m in made] == [
        (0, "issued", 1), (60, "renewed", 2), (159, "renewed", 3), (300, "issued", 4),
    ]  # fmt: skip
    assert made[1].decision_id == made[0].decision_id != made[3].decision_id
