"""What people decide wins over rules, and a subject is not hit again for what it was pardoned for."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from override_reference import accounts, allow, enforced, keys, kill, override
from pipeline_reference import (
    DAY_MS,
    START,
    accounts_digest,
    columns_of,
    cut,
    decided,
    keys_digest,
    links_from,
    standings_digest,
)
from pipeline_streams import ACCOUNTS, cuts, events, facts, rows, take_facts

from streamdetect.pipeline.accounts.features import EVIDENCE_COLUMN, usage_of
from streamdetect.pipeline.accounts.sharing import KeyType
from streamdetect.pipeline.associations.absorb import absorb, usage_of_key
from streamdetect.pipeline.enforcement.overrides import KILL_KEY
from streamdetect.pipeline.enforcement.pardons import FACTS_MAX, Pardon, places_to_cut
from streamdetect.pipeline.enforcement.subjects import identity_of, subject_of
from streamdetect.replay.rounds import links_of

compiled = settings(deadline=None, max_examples=60)
ends = st.one_of(st.none(), st.integers(START, START + 30_000), st.integers(START, START + 3 * DAY_MS))


orders = st.lists(
    st.one_of(
        st.builds(allow, st.sampled_from([f"account:{name}" for name in ACCOUNTS]), ends),
        st.sampled_from([f"account:{name}" for name in ACCOUNTS]).map(lambda key: (key, None)),
        st.builds(kill, ends),
        st.just((KILL_KEY, None)),
        st.just(("account:ann", override("account:ann", "deny"))),
        st.just(allow("org:org-a")),
    ),
    max_size=4,
)


@compiled
@given(first=events, second=events, told=facts, people=st.tuples(orders, orders), places=cuts)
def test_accounts_do_not_see_how_their_input_was_cut_around_overrides(first, second, told, people, places):
    def run(whole):
        node, decisions = accounts(), []

        def take(work, sequence):
            for piece in whole(sequence):
                decisions.extend(decided(work(piece).decisions))

        take(lambda piece: node.events(columns_of(piece)), first)
        decisions.extend(decided(node.overrides(people[0]).decisions))
        take(lambda piece: take_facts(node, piece), told)
        take(lambda piece: node.events(columns_of(piece)), second)
        decisions.extend(decided(node.overrides(people[1]).decisions))
        take(
            lambda piece: take_facts(node, piece), [(name, f, k, at + DAY_MS, *rest) for name, f, k, at, *rest in told]
        )
        return decisions, accounts_digest(node.state), standings_digest(node.standings)

    singly = run(lambda sequence: [[one] for one in sequence])

    assert run(lambda sequence: [sequence]) == singly
    assert run(lambda sequence: cut(sequence, places)) == singly


shared_orders = st.lists(
    st.one_of(
        st.builds(allow, st.sampled_from(["subnet:0.0.1.0/24", "org:name-1", "api_key:name-1", "org:name-2"]), ends),
        st.sampled_from(["subnet:0.0.1.0/24", "org:name-1", "api_key:name-1"]).map(lambda key: (key, None)),
        st.builds(kill, ends),
        st.just((KILL_KEY, None)),
    ),
    max_size=4,
)


@compiled
@given(first=rows, second=rows, people=st.tuples(shared_orders, shared_orders), places=cuts)
def test_keys_do_not_see_how_their_rows_were_cut_around_overrides(first, second, people, places):
    def run(whole):
        node, decisions = keys(), []
        for orders_now, stream in zip(people, (first, second), strict=True):
            decisions += decided(node.overrides(orders_now).decisions)
            for piece in whole(stream):
                decisions += decided(node.links(links_from(piece)).decisions)
        return decisions, keys_digest(node.state), standings_digest(node.standings)

    singly = run(lambda sequence: [[one] for one in sequence])

    assert run(lambda sequence: [sequence]) == singly
    assert run(lambda sequence: cut(sequence, places)) == singly


@compiled
@given(stream=events, told=facts, ends_at=ends)
def test_an_allowed_account_is_never_restricted(stream, told, ends_at):
    node = accounts()
    half = len(stream) // 2
    node.events(columns_of(stream[:half]))
    lifted = node.overrides([allow("account:ann", ends_at)]).decisions
    later = [*node.events(columns_of(stream[half:])).decisions, *take_facts(node, told).decisions]

    assert {decision.status for decision in lifted} <= {"released"}
    for decision in later:
        if decision.subject.value == "ann" and (ends_at is None or decision.issued_at < ends_at):
            assert decision.simulated or decision.status == "released"


@compiled
@given(stream=events, told=facts, ends_at=ends)
def test_nothing_is_put_in_force_while_the_kill_switch_is_on(stream, told, ends_at):
    node = accounts()
    node.overrides([kill(ends_at)])

    for decision in [*node.events(columns_of(stream)).decisions, *take_facts(node, told).decisions]:
        assert decision.simulated or (ends_at is not None and decision.issued_at >= ends_at)


@compiled
@given(stream=events, told=facts)
def test_overrides_of_others_change_nothing(stream, told):
    def run(people):
        node = accounts()
        node.overrides(people)
        return decided([*node.events(columns_of(stream)).decisions, *take_facts(node, told).decisions])

    assert run([allow("account:nobody-2"), allow("org:org-a"), (KILL_KEY, None), ("account:ann", None)]) == run([])


@compiled
@given(stream=events, told=facts)
def test_after_an_allow_the_same_facts_never_hit_again(stream, told):
    """Whoever was allowed once is not restricted when all that is known of it is told again."""
    node = accounts()
    node.events(columns_of(stream))
    take_facts(node, told)
    node.overrides([allow(f"account:{name}") for name in ACCOUNTS])
    node.overrides([(f"account:{name}", None) for name in ACCOUNTS])
    known = {
        (name, fact["family"], fact["key"])
        for name in ACCOUNTS
        if (row := node._row(("account", name))) >= 0 and (place := node.state.table.rows[row]["ledger"]) >= 0
        for fact in node.state.ledgers[place]
        if fact["at"]
    }
    again = [one for one in told if (one[0], one[1], one[2]) in known]
    youngest = {one[:3]: min(other[5] for other in again if other[:3] == one[:3]) for one in again}

    # As much later as an account's own windows reach, and with no more young accounts than were known of.
    later = [(n, f, k, at + 2 * DAY_MS, e, youngest[n, f, k], t, m) for n, f, k, at, e, _, t, m in again]
    decisions = take_facts(node, later).decisions

    assert enforced(decisions) == []


@compiled
@given(stream=events)
def test_subjects_are_found_by_their_names(stream):
    columns = columns_of(stream)
    output = accounts().events(columns)
    node = keys()
    node.links(links_of(output.shared, columns, output.observed.account, output.observed.event, 0))
    named = [row for row in range(node.state.table.count) if node.state.table.rows[row]["key_type"] <= KeyType.API_KEY]
    for row in named:
        assert identity_of(subject_of(node.state, row)) == node.state.table.rows[row]["key"]


@compiled
@given(stream=events)
def test_usage_of_an_account_is_what_its_newest_event_saw(stream):
    node = accounts()
    observed = node.events(columns_of(stream)).observed
    for row in range(node.state.table.count):
        last = np.flatnonzero(observed.row == row)[-1]
        usage = usage_of(node.state.activity_of(row))
        assert usage[:EVIDENCE_COLUMN].tolist() == observed.features[last][:EVIDENCE_COLUMN].tolist()
        assert not usage[EVIDENCE_COLUMN:].any()


@compiled
@given(stream=rows)
def test_usage_of_a_key_is_what_its_newest_row_saw(stream):
    node = keys()
    absorbed = absorb(node.state, links_from(stream), node._thresholds)
    for key in np.unique(absorbed.row[absorbed.row >= 0]).tolist():
        if node.state.table.rows[key]["key_type"] <= KeyType.API_KEY:
            last = np.flatnonzero(absorbed.row == key)[-1]
            assert usage_of_key(node.state, key)[:9].tolist() == absorbed.features[last][:9].tolist()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60), st.integers(0, 9)), max_size=100))
def test_a_pardon_is_bounded_and_keeps_the_newest_facts_at_their_strongest(told):
    pardon, strongest = Pardon(), {}
    for fact in told:
        pardon = pardon.with_facts([fact])
        strongest[fact[:2]] = max(strongest.pop(fact[:2], 0), fact[2])
    # A fact that was forgotten for lack of room begins anew, so only what never was is compared.
    if len(strongest) <= FACTS_MAX:
        assert pardon.facts == tuple((*key, young) for key, young in strongest.items())
    assert len(pardon.facts) <= FACTS_MAX


@given(
    told=st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=30),
    watched=st.sets(st.integers(1, 4)),
)
def test_no_ledger_that_is_looked_at_changes_again_within_a_piece(told, watched):
    names, trusted = [name for name, _ in told], [spoken for _, spoken in told]
    borders = [0, *places_to_cut(names, trusted, watched), len(told)]
    assert borders == sorted(set(borders)) or not told

    for start, end in pairwise(borders):
        for index in range(start, end):
            spoke = any(trusted[before] and names[before] == names[index] for before in range(index + 1))
            if spoke or names[index] in watched:
                assert names[index] not in names[index + 1 : end]
