"""A policy takes over at the first row of its time, whatever the batches, for good, and keeps all that is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_reference import (
    DAY_MS,
    HOUR_MS,
    START,
    accounts_digest,
    columns_of,
    cut,
    decided,
    event,
    keys_digest,
    links_from,
    low_policy,
    other_policy,
    standings_digest,
)
from pipeline_streams import cuts, events, facts, rows, take_facts

from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.pipeline.decisions.policy import load_policy

compiled = settings(deadline=None, max_examples=60)
modes = st.sampled_from(["live", "shadow"])
# Within, before and after the times of the streams; None takes effect at once.
times = st.one_of(st.integers(START, START + 30_000), st.integers(START, START + 3 * DAY_MS), st.none())


def accounts(policy=None):
    return AccountsNode(policy or low_policy(), "live", 1)


def scheduled(node, policy, mode):
    node.schedule(policy, mode)
    return node


def by_hand(node, policy, mode, steps):
    """Take steps of (time, work) one by one and change the policy by hand where it is due; gives what each said."""
    outputs, waits = [], True
    for at, work in steps:
        if waits and at >= (policy.model.effective_at or 0):
            node.obey(policy, mode)
            waits = False
        outputs.append(work())
    return outputs


def said(node, outputs, digest):
    decisions = [line for output in outputs for line in decided(output.decisions)]
    return decisions, digest(node.state), standings_digest(node.standings), node.policy.hash, node.mode


def shared_rows(outputs):
    """What events share, by the event that it comes from, in order."""
    found = []
    for output in outputs:
        event_of, shared = output.observed.event, output.shared
        for row in range(len(shared)):
            index = shared.event[row]
            columns = (event_of[index], shared.key_type[row], shared.key[row], shared.owner[row])
            found.append(tuple(int(v) for v in (*columns, shared.member[index], shared.member_kind[index])))
    return found


@compiled
@given(stream=events, effective_at=times, mode=modes, places=cuts)
def test_events_change_policy_at_the_same_one_however_they_are_cut(stream, effective_at, mode, places):
    policy = other_policy(effective_at)

    def run(pieces):
        node = scheduled(accounts(), policy, mode)
        outputs = [node.events(columns_of(piece)) for piece in pieces]
        return said(node, outputs, accounts_digest), shared_rows(outputs)

    node = accounts()
    steps = [(one["occurred_at"], lambda one=one: node.events(columns_of([one]))) for one in stream]
    outputs = by_hand(node, policy, mode, steps)
    expected = said(node, outputs, accounts_digest), shared_rows(outputs)

    assert run([[one] for one in stream]) == expected
    assert run([stream]) == expected
    assert run(cut(stream, places)) == expected


@compiled
@given(stream=events, told=facts, effective_at=times, mode=modes, places=cuts)
def test_evidence_changes_policy_at_the_same_fact_however_it_is_cut(stream, told, effective_at, mode, places):
    policy = other_policy(effective_at)

    def fed():
        node = accounts()
        node.events(columns_of(stream))
        return node

    def run(pieces):
        node = scheduled(fed(), policy, mode)
        return said(node, [take_facts(node, piece) for piece in pieces], accounts_digest)

    node = fed()
    steps = [(one[3], lambda one=one: take_facts(node, [one])) for one in told]
    expected = said(node, by_hand(node, policy, mode, steps), accounts_digest)

    assert run([[one] for one in told]) == expected
    assert run([told]) == expected
    assert run(cut(told, places)) == expected


@compiled
@given(stream=rows, effective_at=times, mode=modes, places=cuts)
def test_rows_change_policy_at_the_same_one_however_they_are_cut(stream, effective_at, mode, places):
    policy = other_policy(effective_at)

    def findings(pieces, outputs):
        """Give every finding with the row it came from, counted from the start of the stream."""
        found, first = [], 0
        for piece, output in zip(pieces, outputs, strict=True):
            for one in output.findings:
                values = {name: one[name].tolist() for name in output.findings.dtype.names}
                values["source_row"] += first
                found.append(values)
            first += len(piece)
        return found

    def run(pieces):
        node = scheduled(AssociationsNode(low_policy(), "live"), policy, mode)
        outputs = [node.links(links_from(piece)) for piece in pieces]
        return said(node, outputs, keys_digest), findings(pieces, outputs)

    node = AssociationsNode(low_policy(), "live")
    singles = [[one] for one in stream]
    outputs = by_hand(node, policy, mode, [(one[0], lambda one=one: node.links(links_from([one]))) for one in stream])
    expected = said(node, outputs, keys_digest), findings(singles, outputs)

    assert run(singles) == expected
    assert run([stream]) == expected
    assert run(cut(stream, places)) == expected


@compiled
@given(stream=events, told=facts, mode=modes)
def test_accounts_that_change_before_their_first_row_are_as_if_made_with_the_policy(stream, told, mode):
    def run(node):
        outputs = [node.events(columns_of(stream)), take_facts(node, told)]
        return said(node, outputs, accounts_digest), shared_rows(outputs[:1])

    policy = other_policy()
    assert run(scheduled(accounts(), policy, mode)) == run(AccountsNode(policy, mode, 1))


@compiled
@given(stream=rows, mode=modes)
def test_keys_that_change_before_their_first_row_are_as_if_made_with_the_policy(stream, mode):
    def run(node):
        output = node.links(links_from(stream))
        return said(node, [output], keys_digest), output.findings.tolist()

    policy = other_policy()
    assert run(scheduled(AssociationsNode(low_policy(), "live"), policy, mode)) == run(AssociationsNode(policy, mode))


@compiled
@given(stream=events, effective_at=times)
def test_the_hash_of_the_policy_in_effect_stands_in_every_decision(stream, effective_at):
    policy, node = other_policy(effective_at), accounts()
    node.schedule(policy, "live")
    before = len(list(_until(stream, effective_at or 0)))

    first, second = (
        node.events(columns_of(part)).decisions if part else [] for part in (stream[:before], stream[before:])
    )

    assert {decision.policy.hash for decision in first} <= {low_policy().hash}
    assert {decision.policy.hash for decision in second} <= {policy.hash}
    assert {decision.policy.version for decision in second} <= {2}


def _until(stream, effective_at):
    for one in stream:
        if one["occurred_at"] >= effective_at:
            return
        yield one


@compiled
@given(bursts=st.lists(st.tuples(st.integers(0, 24), st.sampled_from(["ann", "bob"])), min_size=4, max_size=10))
def test_quiet_fields_change_no_decision_across_a_change_of_renewal(bursts):
    """Bursts that hit, over two hours; the policy that renews sooner comes after one."""

    def run(*, forget):
        node, decisions = scheduled(accounts(), other_policy(START + HOUR_MS), "live"), []
        for slot, account in sorted(bursts):
            decisions += decided(node.events(hammer(5, START + slot * 300_000, account)).decisions)
            if forget:
                node.state.table.rows["quiet_level"] = 0
        return decisions

    assert run(forget=True) == run(forget=False)


def hammer(count, at, account="ann"):
    return columns_of([event(f"{account}-{at}-{n}", account, at + n, account_created_at=START) for n in range(count)])


def test_what_is_in_force_survives_and_is_renewed_under_the_new_policy_with_its_id():
    node = accounts()
    (issued,) = node.events(hammer(5, START)).decisions
    node.schedule(other_policy(START + HOUR_MS // 5), "live")

    assert node.events(hammer(5, START + HOUR_MS // 10)).decisions == []
    (renewed,) = node.events(hammer(5, START + HOUR_MS // 4)).decisions

    # The other policy renews when 5 % of the hour are over, so at its first hit.
    assert (renewed.status, renewed.decision_id) == ("renewed", issued.decision_id)
    assert (renewed.revision, renewed.policy.version) == (2, 2)


def test_rows_that_a_change_of_renewal_touched_are_told_as_changed():
    node = accounts()
    node.events(hammer(5, START))
    node.state.table.dirty[:] = 0
    node.schedule(other_policy(), "live")

    node.events(hammer(1, START + 1, "bob"))

    assert node.state.table.dirty[:2].tolist() == [1, 1]


def test_caps_count_what_the_policy_before_issued():
    node = accounts()
    assert [d.status for n in range(3) for d in node.events(hammer(5, START, f"a{n}")).decisions] == ["issued"] * 3
    node.schedule(other_policy(), "live")

    assert [d.status for d in node.events(hammer(5, START + 60_000, "b")).decisions] == ["held"]
    assert [d.status for d in node.events(hammer(5, START + 2 * HOUR_MS, "c")).decisions] == ["issued"]


def test_a_policy_told_later_replaces_one_that_waits():
    node = accounts()
    first, second = other_policy(START + 10), other_policy(START + 20)
    node.schedule(first, "live")
    node.schedule(second, "live")

    node.events(hammer(1, START + 15))
    assert node.policy.hash == low_policy().hash
    node.events(hammer(1, START + 20, "bob"))
    assert node.policy.hash == second.hash


def test_the_policy_in_effect_told_again_withdraws_one_that_waits():
    node = accounts()
    node.schedule(other_policy(START), "live")
    node.schedule(low_policy(), "live")

    node.events(hammer(1, START + 15))

    assert node.policy.hash == low_policy().hash
    assert node.coming is None


@pytest.mark.parametrize("late_by_ms", [1, HOUR_MS])
def test_an_older_row_after_the_change_does_not_bring_the_old_policy_back(late_by_ms):
    node = accounts()
    policy = other_policy(START + 2 * HOUR_MS)
    node.schedule(policy, "live")
    node.events(hammer(1, START + 2 * HOUR_MS, "bob"))

    decisions = node.events(hammer(2, START + 2 * HOUR_MS - late_by_ms)).decisions

    assert [decision.policy.hash for decision in decisions] == [policy.hash]


def test_a_policy_that_goes_live_enforces_from_its_first_row_on():
    node = AccountsNode(low_policy(), "shadow", 1)
    node.schedule(other_policy(START + 1000), "live")

    shadow = node.events(hammer(5, START)).decisions
    live = node.events(hammer(5, START + 1000)).decisions

    assert [(d.simulated, d.mode) for d in shadow] == [(True, "shadow")]
    assert [(d.simulated, d.mode) for d in live] == [(False, "live")]


def test_the_text_of_the_policy_in_effect_can_be_read_back_from_a_stage():
    node = accounts()
    node.schedule(other_policy(), "live")
    node.events(hammer(1, START))

    again = load_policy(node.policy.text)

    assert again.hash == node.policy.hash == other_policy().hash


def test_these_policies_differ_in_all_that_a_stage_reads():
    """Otherwise equal results would prove little."""
    one, other = low_policy(), other_policy()
    assert one.hash != other.hash
    for name in ("ladder", "caps", "tiers", "associations", "content", "rules"):
        assert getattr(one.model, name) != getattr(other.model, name)
    stream = [event(n, "ann", START + n, account_created_at=START - 4 * DAY_MS) for n in range(3)]
    node, changed = accounts(), accounts(other)
    tiers = [n.events(columns_of(stream)).observed.tier for n in (node, changed)]
    assert not np.array_equal(*tiers)
