"""At every bound something is forgotten and counted, nothing crashes, and what is left belongs together."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_reference import HOUR_MS, START, columns_of, cut, decided, event, facts_from, links_from, low_policy

from streamdetect.kernels.members import RETAINED_TICKS, TICK_MS
from streamdetect.kernels.seen import SeenHashes, first_seen
from streamdetect.pipeline.accounts.records import account_hash
from streamdetect.pipeline.accounts.sharing import KeyType
from streamdetect.pipeline.accounts.state import SILENT_MS, AccountsState
from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.associations.state import STALE_MS, AssociationsState
from streamdetect.pipeline.associations_node import AssociationsNode

compiled = settings(deadline=None, max_examples=60)
cuts = st.lists(st.integers(0, 100), max_size=8)
accounts = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.booleans()), min_size=10, max_size=80)


def assert_members_belong(members, table, *, chained):
    """Every entry has an owner, is found by the index, and hangs in its owner's chain exactly once."""
    assert sorted(members.slots[members.slots >= 0].tolist()) == list(range(members.count))
    entries = members.live
    assert all(0 <= entry["owner"] < table.count for entry in entries)
    pairs = [(int(entry["owner"]), int(entry["member"])) for entry in entries]
    assert len(set(pairs)) == len(pairs)
    if chained:
        reached = []
        for row, record in enumerate(table.live):
            entry = int(record["head"])
            while entry >= 0:
                assert entries[entry]["owner"] == row
                reached.append(entry)
                entry = int(entries[entry]["next"])
        assert sorted(reached) == list(range(members.count))


def assert_counted(state):
    """What a key says of its members is what their entries say, and only company has a crowd."""
    entries = state.members.live
    crowds = []
    for row, record in enumerate(state.table.live):
        mine, newest = entries[entries["owner"] == row], record["newest"] // TICK_MS
        expected = np.zeros((2, 6, 3), int)
        for entry in mine:
            for window, step in enumerate((1, 24)):
                bucket = entry["tick"] // step
                expected[window, bucket % 6, entry["kind"]] += bucket > newest // step - 6
        assert state.distinct(row).tolist() == expected.tolist()
        assert (record["crowd"] >= 0) == (len(mine) > 1)
        crowds += [int(record["crowd"])] if record["crowd"] >= 0 else []
    assert sorted(crowds) == list(range(state.crowds.count))


def assert_indexed(table):
    assert sorted(table.slots[table.slots >= 0].tolist()) == list(range(table.count))
    assert len(set(table.live["key"].tolist())) == table.count


@compiled
@given(steps=accounts, bound=st.integers(1, 12), places=cuts)
def test_forgotten_accounts_leave_nothing_behind(steps, bound, places):
    node = AccountsNode(low_policy(), "live", 1, state=AccountsState(accounts_max=bound))
    stream = [
        event(f"{n}-{'x' * 50 * long}", f"account-{name}", START + n * HOUR_MS, client_ip=f"10.0.{subnet}.1")
        for n, (name, subnet, long) in enumerate(steps)
    ]
    told = 0
    seen = set()
    for piece in cut(stream, places):
        node.events(columns_of(piece))
        names = sorted({one["account_id"] for one in piece})
        hashes = np.array([account_hash(name) for name in names], np.uint64)
        node.evidence(hashes, facts_from([(4, told + n, START, 1, 2, 0, 2) for n in range(len(names))]))
        told += len(names)
        seen.update(one["account_id"] for one in piece)
        state = node.state
        assert state.table.count <= max(bound, len(piece))
        assert_indexed(state.table)
        assert_members_belong(state.subnets, state.table, chained=False)
        for row, record in enumerate(state.table.live):
            assert account_hash(state.account_id(row)) == record["key"]
            assert state.newest_event(row)[1] == record["newest"]
            assert state.newest_event(row)[0] in {one["event_id"] for one in stream}
        used = sorted(state.table.live["ledger"][state.table.live["ledger"] >= 0].tolist())
        assert used == list(range(state.ledger_count))
        active = state.table.live["activity"]
        assert sorted(active[active >= 0].tolist()) == list(range(state.activities.count))
        assert set(state.long_event_ids) <= set(range(state.table.count))
    assert len(node.state.ids) == sum(len(node.state.account_id(row)) for row in range(node.state.table.count))
    assert node.state.evicted >= len(seen) - node.state.table.count


@compiled
@given(steps=accounts, waits=st.lists(st.sampled_from([0, 1, 30, 60, 200]), min_size=80, max_size=80), places=cuts)
def test_accounts_that_rest_are_seen_as_if_they_had_not(steps, waits, places):
    """Events are up to 20 hours late; resting after every batch changes neither features nor decisions nor rows."""
    resting, awake = (AccountsNode(low_policy(), "live", 1) for _ in range(2))
    stream, hours = [], 0
    for n, (name, subnet, late) in enumerate(steps):
        hours += waits[n]
        at = START + (hours + 20 * (not late)) * HOUR_MS + n
        stream.append(event(n, f"account-{name}", at, client_ip=f"10.0.{subnet}.1", prompt="one two three " * 20))
    for piece in cut(stream, places):
        one, other = (node.events(columns_of(piece)) for node in (resting, awake))
        assert decided(one.decisions) == decided(other.decisions)
        assert one.observed.features.tolist() == other.observed.features.tolist()
        assert one.observed.first_sight.tolist() == other.observed.first_sight.tolist()
        resting.state._let_rest()
        active = resting.state.table.live["activity"]
        silent = resting.state.table.live["newest"] <= resting.state.newest - SILENT_MS
        assert ((active < 0) == silent).all()
        assert sorted(active[active >= 0].tolist()) == list(range(resting.state.activities.count))


def test_the_accounts_silent_longest_go_first_and_are_counted():
    node = AccountsNode(low_policy(), "live", 1, state=AccountsState(accounts_max=10))
    for number in range(14):
        node.events(columns_of([event(number, f"account-{number}", START + number)]))

    state = node.state
    assert {state.account_id(row) for row in range(state.table.count)} == {f"account-{n}" for n in range(4, 14)}
    assert state.evicted == 4


@compiled
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 2), st.sampled_from([int(k) for k in KeyType]), st.integers(0, 20),
            st.integers(0, 40),
        ),
        min_size=10, max_size=80,
    ),
    keys_max=st.integers(1, 12), singles_max=st.integers(1, 6), places=cuts,
)  # fmt: skip
def test_forgotten_keys_leave_nothing_behind(steps, keys_max, singles_max, places):
    node = AssociationsNode(low_policy(), "live", state=AssociationsState(keys_max=keys_max, singles_max=singles_max))
    named = (KeyType.ORG, KeyType.API_KEY)
    hours = 0
    stream = []
    for n, (account, kind, key_type, key, wait) in enumerate(steps):
        hours += wait if wait > 30 else 0
        name = f"name-{key}".encode() if key_type in named else b""
        stream.append((START + hours * HOUR_MS + n, account + 1, account + 1, n + 1, kind, key_type, key + 1, name))
    for piece in cut(stream, places):
        node.links(links_from(piece))
        state = node.state
        assert state.table.count <= max(keys_max, len(piece))
        assert state.singles.count <= max(singles_max, len(piece))
        assert_indexed(state.table)
        assert_indexed(state.singles)
        assert_members_belong(state.members, state.table, chained=True)
        assert_counted(state)
        for row, record in enumerate(state.table.live):
            expected = f"name-{record['raw'] - 1}".encode() if record["key_type"] in named else b""
            assert state.name(row) == expected
    assert len(node.state.names) == sum(len(node.state.name(row)) for row in range(node.state.table.count))


def test_members_of_long_ago_are_swept_and_the_chain_still_tells_the_rest():
    node = AssociationsNode(low_policy(), "live")
    days_ms = (RETAINED_TICKS + 48) * TICK_MS
    old = [(START, n, n, n, 1, KeyType.PAYMENT, 7, b"") for n in range(1, 400)]
    node.links(links_from(old))
    new = [(START + days_ms + n, n, n, n, 1, KeyType.PAYMENT, 7, b"") for n in range(1000, 1800)]
    found = [f for piece in cut(new, range(0, 800, 100)) for f in node.links(links_from(piece)).findings]

    assert {int(f["account"]) for f in found} == set(range(1000, 1800))
    assert max(int(f["members"]) for f in found) == 800
    assert node.state.members.count == 800
    assert_members_belong(node.state.members, node.state.table, chained=True)


def test_a_sweep_that_frees_little_is_not_due_again_at_once():
    """A thousand keys live at any time, which is what there is room for: each new one makes an old one stale."""
    node = AssociationsNode(low_policy(), "live")
    room = len(node.state.singles.rows)
    step_ms = STALE_MS // (room - 10)
    sweeps, before = 0, 0
    for number in range(1, 4 * room):
        node.links(links_from([(START + number * step_ms, 1, 1, number, 1, KeyType.TEMPLATE, number, b"")]))
        sweeps += node.state.singles.count <= before
        before = node.state.singles.count

    assert 0 < sweeps < 24


@compiled
@given(values=st.lists(st.integers(1, 60), max_size=300), generation=st.integers(1, 20), places=cuts)
def test_repeats_are_known_for_a_generation_and_forgotten_after_two(values, generation, places):
    seen, answers = SeenHashes(generation), []
    for piece in cut(values, places):
        seen.reserve(len(piece))
        answers += [
            bool(first_seen(seen.tables, seen.dirty, seen.state, generation, np.uint64(value))) for value in piece
        ]

    new = []  # values in order of first sight
    for value, is_new in zip(values, answers, strict=True):
        if value in new[-generation:]:
            assert not is_new
        if value not in new[-2 * generation :]:
            assert is_new
        if is_new:
            new.append(value)


@compiled
@given(places=cuts, seed=st.integers(0, 1000))
def test_subjects_are_bounded_while_decisions_flow(places, seed):
    node = AccountsNode(low_policy(), "live", 1)
    node.standings.subjects_max = 5
    stream = [
        event(n, f"account-{(n * (seed + 3)) % 17}", START + n * 50, account_created_at=START) for n in range(120)
    ]

    decisions = [one for piece in cut(stream, places) for one in node.events(columns_of(piece)).decisions]

    assert len(node.standings) <= 5
    assert {one.action for one in decisions} == {"rate_limit"}
