"""Both nodes are functions of their ordered input, and signals forget which of two inputs came first."""

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pipeline_reference import (
    HOUR_MS,
    START,
    account_signals,
    accounts_digest,
    columns_of,
    cut,
    decided,
    event,
    key_signals,
    keys_digest,
    links_from,
    low_policy,
    standings_digest,
)
from pipeline_streams import cuts, events, facts, few_facts, rows, take_facts

from streamdetect.pipeline.accounts.sharing import KeyType
from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.associations_node import AssociationsNode

compiled = settings(deadline=None, max_examples=60)


def accounts_node(stream, policy=None):
    node = AccountsNode(policy or low_policy(), "live", 1)
    return node, node.events(columns_of(stream))


@compiled
@given(stream=events, places=cuts, cap=st.sampled_from([0, 1, 50_000]))
def test_accounts_do_not_see_how_their_events_were_cut(stream, places, cap):
    def run(pieces):
        node, decisions = AccountsNode(low_policy(rate_limit_per_hour=cap), "live", 1), []
        for piece in pieces:
            decisions += decided(node.events(columns_of(piece)).decisions)
        return decisions, accounts_digest(node.state), standings_digest(node.standings)

    singly = run([[one] for one in stream])

    assert run([stream]) == singly
    assert run(cut(stream, places)) == singly


@compiled
@given(stream=events, told=facts, places=cuts)
def test_accounts_do_not_see_how_evidence_was_cut(stream, told, places):
    def run(pieces):
        node, _ = accounts_node(stream)
        decisions = [one for piece in pieces for one in decided(take_facts(node, piece).decisions)]
        return decisions, accounts_digest(node.state), standings_digest(node.standings)

    singly = run([[one] for one in told])

    assert run([told]) == singly
    assert run(cut(told, places)) == singly


def test_a_weaker_action_shows_again_where_a_harder_one_ends_before_it():
    """Also within the batch that brought the harder one."""
    hammering = [event(number, "ann", START + number) for number in range(4)]
    late = [*hammering, event(5, "ann", START + 2 * HOUR_MS)]

    def run(pieces):
        node = AccountsNode(low_policy(), "live", 1)
        node.events(columns_of([event(9, "ann", START, account_created_at=START)]))
        take_facts(node, [("ann", 3, 1, START + 2 * HOUR_MS, 5, 5, 0, 7)])  # observed for a day
        return [one for piece in pieces for one in node.events(columns_of(piece)).decisions]

    singly = run([[one] for one in late])

    assert [(one.action, one.status) for one in singly] == [("rate_limit", "issued"), ("observe", "issued")]
    assert decided(run([late])) == decided(singly)


@compiled
@given(stream=rows, places=cuts, cap=st.sampled_from([0, 1, 50_000]))
def test_associations_do_not_see_how_rows_were_cut(stream, places, cap):
    def run(pieces):
        policy = low_policy(rate_limit_per_hour=cap, verify_per_hour=cap)
        node, decisions, findings = AssociationsNode(policy, "live"), [], []
        for piece in pieces:
            output = node.links(links_from(piece))
            decisions += decided(output.decisions)
            names = [name for name in output.findings.dtype.names if name != "source_row"]
            findings += [tuple(finding[name].tolist() for name in names) for finding in output.findings]
        return decisions, findings, keys_digest(node.state), standings_digest(node.standings)

    singly = run([[one] for one in stream])

    assert run([stream]) == singly
    assert run(cut(stream, places)) == singly


def swapped(sequence, place):
    place %= len(sequence) - 1
    return [*sequence[:place], sequence[place + 1], sequence[place], *sequence[place + 2 :]]


def unlike(stream):
    """One event of each (account, id, kind): of two different ones under one name the first counts, by definition."""
    return list({(e["account_id"], e["event_id"], e.get("kind", "request")): e for e in stream}.values())


@compiled
@given(stream=events.map(unlike).filter(lambda s: len(s) > 1), place=st.integers(0, 100))
def test_two_events_may_come_in_either_order(stream, place):
    stream = [{**one, "account_created_at": START} for one in stream]
    for one in stream:
        one.pop("account_tier", None)  # learned from counted events only, so a late one must not tell it

    one, _ = accounts_node(stream)
    other, _ = accounts_node(swapped(stream, place))

    assert account_signals(one.state) == account_signals(other.state)


@compiled
@given(stream=events, told=few_facts.filter(lambda s: len(s) > 1), place=st.integers(0, 100))
def test_two_facts_may_come_in_either_order(stream, told, place):
    one, _ = accounts_node(stream)
    other, _ = accounts_node(stream)

    take_facts(one, told)
    take_facts(other, swapped(told, place))

    assert account_signals(one.state) == account_signals(other.state)


@compiled
@given(
    weights=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=9, max_size=12),
    place=st.integers(0, 100),
)
def test_a_full_ledger_keeps_the_strongest_facts_in_any_order(weights, place):
    told = [("ann", n % 6, n + 1, START, 1, young, trusted, young) for n, (young, trusted) in enumerate(weights)]

    def run(told):
        node, _ = accounts_node([event(1, "ann", START)])
        take_facts(node, told)
        return account_signals(node.state)

    assert run(told) == run(swapped(told, place))


@compiled
@given(stream=rows.filter(lambda s: len(s) > 1), place=st.integers(0, 100))
def test_two_rows_may_come_in_either_order(stream, place):
    one, other = (AssociationsNode(low_policy(), "live") for _ in range(2))

    one.links(links_from(stream))
    other.links(links_from(swapped(stream, place)))

    assert key_signals(one.state) == key_signals(other.state)


@compiled
@given(stream=events, told=facts)
def test_quiet_fields_save_work_and_change_no_decision(stream, told):
    def run(*, forget):
        node, decisions = AccountsNode(low_policy(), "live", 1), []
        for one in stream:
            decisions += decided(node.events(columns_of([one])).decisions)
            if forget:
                node.state.table.rows["quiet_level"] = 0
        for one in told:
            if forget:
                node.state.table.rows["quiet_level"][node.state.table.rows["quiet_level"] > 0] = 1
                node.state.table.rows["quiet_until_s"] = 0
            decisions += decided(take_facts(node, [one]).decisions)
        return decisions

    assert run(forget=True) == run(forget=False)


@compiled
@given(stream=rows)
def test_quiet_fields_of_keys_change_no_decision(stream):
    def run(*, forget):
        node, decisions = AssociationsNode(low_policy(), "live"), []
        for one in stream:
            decisions += decided(node.links(links_from([one])).decisions)
            if forget:
                node.state.table.rows["quiet_until_s"] = 0
        return decisions

    assert run(forget=True) == run(forget=False)


@compiled
@given(stream=events, told=facts)
def test_revisions_of_a_subject_only_grow(stream, told):
    node, output = accounts_node(stream)
    newest = {}
    for decision in [*output.decisions, *take_facts(node, told).decisions]:
        assert decision.revision > newest.get(decision.subject, 0)
        newest[decision.subject] = decision.revision


def share_of(strategy, holds):
    """Share of a hundred examples, drawn alike in every run, for which something holds."""
    found = []

    @settings(max_examples=100, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
    @given(example=strategy)
    def judge(example):
        found.append(bool(holds(example)))

    judge()
    return sum(found) / len(found)


def test_many_of_these_streams_decide_something():
    def evidence_decides(pair):
        stream, told = pair
        return take_facts(accounts_node(stream)[0], told).decisions

    assert share_of(events, lambda stream: accounts_node(stream)[1].decisions) > 0.3
    assert share_of(st.tuples(events, facts), evidence_decides) > 0.3
    assert (
        share_of(rows, lambda stream: AssociationsNode(low_policy(), "live").links(links_from(stream)).decisions) > 0.3
    )


def test_an_account_is_limited_verified_and_cleared():
    stream = [event(n, "ann", START + n, client_ip=f"10.0.{n}.1", account_created_at=START) for n in range(6)]
    node, output = accounts_node(stream)
    told = take_facts(node, [("ann", 4, 1, START + 9, 1, 6, 0, 6), ("ann", 4, 1, START + 10, 2, 6, 1, 7)])
    lone = links_from([(START + n, n, n, n, 1, KeyType.SUBNET_24, 7, b"") for n in range(1, 5)])
    shared = AssociationsNode(low_policy(), "live").links(lone)

    # The limit and the shadowed verification first; the template's verification; a trusted user lifts it.
    assert [(d.action, d.simulated) for d in output.decisions] == [("verify", True), ("rate_limit", False)]
    assert [(d.action, d.status) for d in told.decisions] == [("verify", "issued"), ("release", "released")]
    assert [d.subject.value for d in shared.decisions] == ["0.0.7.0/24"]
    assert set(shared.findings["account"].tolist()) == {1, 2, 3, 4}


def test_a_scarce_cap_goes_to_the_row_that_came_first_whatever_its_scope():
    policy = low_policy(rate_limit_per_hour=1)
    by_type = [(KeyType.API_KEY, b"key"), (KeyType.SUBNET_24, b"")]
    stream = [(START + n, n, n, n, 1, key_type, 7, name) for key_type, name in by_type for n in range(1, 4)]

    decisions = AssociationsNode(policy, "live").links(links_from(stream)).decisions

    assert [(d.subject.scope, d.status) for d in decisions] == [("api_key", "issued"), ("subnet", "held")]


def test_a_late_row_does_not_turn_the_clock_of_a_key_back():
    stream = [(START + 50_000 - n, n, n, n, 1, KeyType.SUBNET_24, 7, b"") for n in range(1, 4)]

    (decision,) = AssociationsNode(low_policy(), "live").links(links_from(stream)).decisions

    assert decision.issued_at == START + 49_999
