"""What people decide wins over rules, and a subject is not hit again for what it was pardoned for."""

from itertools import pairwise

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
    standings_digest,
)
from pipeline_streams import ACCOUNTS, cuts, events, facts, rows, take_facts

from streamdetect.messages.override import Override
from streamdetect.pipeline.accounts.features import EVIDENCE_COLUMN, usage_of
from streamdetect.pipeline.accounts.sharing import KeyType
from streamdetect.pipeline.associations.absorb import usage_of_key
from streamdetect.pipeline.enforcement.overrides import KILL_KEY
from streamdetect.pipeline.enforcement.pardons import FACTS_MAX, Pardon, places_to_cut
from streamdetect.pipeline.enforcement.standing import Standings
from streamdetect.pipeline.enforcement.subjects import identity_of, subject_of
from streamdetect.pipeline.topology import AccountsNode, AssociationsNode

compiled = settings(deadline=None, max_examples=60)
TEMPLATE, PAYMENT = 4, 3  # numbers of families
ends = st.one_of(st.none(), st.integers(START, START + 30_000), st.integers(START, START + 3 * DAY_MS))


def override(key, effect="allow", expires_at=None):
    scope, _, value = key.partition(":")
    subject = {"scope": scope, "value": value}
    return Override.model_validate(
        {"override_id": "o-1", "subject": subject, "effect": effect, "actor": "alice", "reason": "a customer we know",
         "created_at": START, "expires_at": expires_at}
    )  # fmt: skip


def allow(key, expires_at=None):
    return key, override(key, "allow", expires_at)


def kill(expires_at=None):
    return KILL_KEY, override(KILL_KEY, "kill", expires_at)


def accounts():
    return AccountsNode(low_policy(), "live", 1)


def keys():
    return AssociationsNode(low_policy(), "live")


def hammer(count, at, account="ann", **fields):
    created = {"account_created_at": START}
    return columns_of([event(f"{account}-{at}-{n}", account, at + n, **created, **fields) for n in range(count)])


def enforced(decisions):
    return [(d.action, d.status) for d in decisions if not d.simulated]


# What was put in, in whatever pieces

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


# One by one

TOLD = ("ann", TEMPLATE, 1, START + 9, 1, 6, 0, 6)  # six young accounts behind one template: verified


def verified():
    node = accounts()
    node.events(hammer(1, START))
    assert enforced(take_facts(node, [TOLD]).decisions) == [("verify", "issued")]
    return node


def later(ms, **changes):
    """Tell the fact of the template again, with changes."""
    names = ("account", "family", "key", "at", "event", "young", "trusted", "members")
    values = dict(zip(names, TOLD, strict=True)) | {"at": START + 9 + ms, "event": 1 + ms} | changes
    return tuple(values[name] for name in names)


def test_an_allow_lifts_what_is_in_force_and_says_who_did_it():
    (released,) = verified().overrides([allow("account:ann", START + HOUR_MS)]).decisions

    assert (released.action, released.status, released.simulated) == ("release", "released", False)
    assert (released.origin, released.revision, released.subject_text) == ("human", 2, None)
    assert [(reason.family, reason.signal) for reason in released.reasons] == [("human", "allow")]
    assert "alice" in released.reasons[0].text
    assert "a customer we know" not in released.to_bytes().decode()
    assert released.event_id == f"eann-{START}-0"


def test_decisions_on_an_allowed_account_are_logged_as_simulated_with_the_reason():
    node = verified()
    node.overrides([allow("account:ann")])

    (decision,) = take_facts(node, [later(1)]).decisions

    assert (decision.action, decision.status, decision.simulated, decision.mode) == ("verify", "issued", True, "live")
    assert [reason.family for reason in decision.reasons] == ["content", "content", "human"]


def test_an_allow_that_is_over_by_the_time_of_the_account_lifts_nothing():
    assert verified().overrides([allow("account:ann", START)]).decisions == []


@pytest.mark.parametrize("ended", ["cleared", "expired", "replaced"])
def test_after_an_allow_the_account_is_not_hit_for_the_same_template(ended):
    node = verified()
    node.overrides([allow("account:ann", START + HOUR_MS if ended == "expired" else None)])
    take_facts(node, [later(1)])
    if ended != "expired":
        node.overrides([("account:ann", None if ended == "cleared" else override("account:ann", "deny"))])

    assert take_facts(node, [later(2 * HOUR_MS)]).decisions == []
    assert node.events(hammer(1, START + 3 * HOUR_MS)).decisions == []


@pytest.mark.parametrize(
    ("news", "hit"),
    [({"key": 2}, True), ({"young": 13, "members": 13}, True), ({"young": 12, "members": 12}, False)],
    ids=["another template", "more than twice as many", "twice as many"],
)
def test_new_evidence_hits_and_tells_its_own_numbers(news, hit):
    node = verified()
    node.overrides([allow("account:ann")])
    node.overrides([("account:ann", None)])

    decisions = take_facts(node, [later(1000, **news)]).decisions

    assert enforced(decisions) == ([("verify", "issued")] if hit else [])
    for decision in decisions:
        assert decision.reasons[0].value == news.get("young", 6)


def test_a_fact_first_told_during_an_allow_is_pardoned_too():
    node = verified()
    node.overrides([allow("account:ann", START + HOUR_MS)])
    take_facts(node, [later(1, key=2)])

    assert enforced(take_facts(node, [later(2 * HOUR_MS, key=2)]).decisions) == []
    assert enforced(take_facts(node, [later(2 * HOUR_MS, key=3)]).decisions) == [("verify", "issued")]


def test_of_requests_only_those_after_the_allow_count_until_the_window_has_passed():
    node = accounts()
    assert enforced(node.events(hammer(5, START)).decisions) == [("rate_limit", "issued")]
    node.overrides([allow("account:ann")])
    node.overrides([("account:ann", None)])

    assert node.events(hammer(3, START + 1000)).decisions == []
    (decision,) = node.events(hammer(1, START + 2000)).decisions
    assert (decision.status, decision.reasons[0].value) == ("issued", 4)
    assert decision.supersedes is None
    # Another minute, the window is empty of what was pardoned.
    assert [d.status for d in node.events(hammer(5, START + 2 * HOUR_MS)).decisions] == ["issued"]


def test_a_weaker_rule_that_new_evidence_meets_still_counts():
    node = accounts()
    node.events(hammer(1, START, client_ip="10.0.0.1"))
    both = [TOLD, ("ann", PAYMENT, 5, START + 10, 2, 3, 0, 3)]
    assert enforced(take_facts(node, both).decisions) == [("verify", "issued"), ("suspend", "issued")]
    node.overrides([allow("account:ann")])
    node.overrides([("account:ann", None)])

    # Another template: the card was pardoned, so this is a template alone.
    assert enforced(take_facts(node, [later(1000, key=2)]).decisions) == [("verify", "issued")]


def test_after_a_release_by_trust_the_account_is_not_hit_again_when_trust_is_forgotten():
    node = verified()
    released = take_facts(node, [later(1, trusted=1, members=7)]).decisions
    assert enforced(released) == [("release", "released")]

    assert take_facts(node, [later(2 * DAY_MS)]).decisions == []
    assert enforced(take_facts(node, [later(2 * DAY_MS, key=2)]).decisions) == [("verify", "issued")]


def test_trust_in_a_text_does_not_pardon_the_card():
    node = accounts()
    node.events(hammer(1, START))
    take_facts(node, [TOLD, ("ann", PAYMENT, 5, START + 10, 2, 3, 1, 4)])
    take_facts(node, [later(1, trusted=1, members=7)])

    pardon = node.standings.pardon_of(("account", "ann"))

    assert pardon == Pardon(facts=((TEMPLATE, 1, 6),))


def test_the_kill_switch_pardons_nobody():
    node = verified()
    node.overrides([kill()])
    assert enforced(take_facts(node, [later(1, key=2)]).decisions) == []
    node.overrides([(KILL_KEY, None)])

    # What was in force stayed so, and runs on; half of its day later it is renewed.
    assert enforced(take_facts(node, [later(14 * HOUR_MS)]).decisions) == [("verify", "renewed")]


def test_what_is_in_force_is_not_renewed_while_the_kill_switch_is_on():
    node = verified()
    node.overrides([kill(START + 15 * HOUR_MS)])

    assert [d.simulated for d in take_facts(node, [later(14 * HOUR_MS)]).decisions] == [True]
    assert enforced(take_facts(node, [later(15 * HOUR_MS)]).decisions) == [("verify", "renewed")]


def test_an_account_nobody_knows_yet_is_allowed_from_its_first_event_on():
    node = accounts()
    assert node.overrides([allow("account:ann")]).decisions == []

    assert enforced(node.events(hammer(5, START)).decisions) == []


# Shared subjects


def users(first, last, at=START, key_type=KeyType.SUBNET_24, name=b""):
    return links_from([(at + n, n, n, n, 1, key_type, 7, name) for n in range(first, last)])


@pytest.mark.parametrize(
    ("key_type", "name", "key"),
    [(KeyType.SUBNET_24, b"", "subnet:0.0.7.0/24"), (KeyType.API_KEY, b"k:1", "api_key:k:1")],
)
def test_a_shared_subject_is_lifted_and_hit_again_for_new_users_only(key_type, name, key):
    node = keys()
    # An API key needs to be found by its name, so its hash must be that of the name.
    seven = 7 if not name else int(identity_hash(key_type, name))

    def use(first, last):
        stream = [(START + n, n, n, n, 1, key_type, seven, name) for n in range(first, last)]
        return node.links(links_from(stream)).decisions

    assert enforced(use(1, 6)) == [("rate_limit", "issued")]
    assert enforced(node.overrides([allow(key)]).decisions) == [("release", "released")]
    assert enforced(use(6, 9)) == []
    node.overrides([(key, None)])

    assert enforced(use(9, 11)) == []
    (decision,) = use(11, 12)
    assert (decision.action, decision.status) == ("rate_limit", "issued")
    assert decision.reasons[0].value == 3


def identity_hash(key_type, name):
    from streamdetect.kernels.hashing import hash64
    from streamdetect.pipeline.accounts.sharing import SEED_OF_NAMED

    raw = np.frombuffer(name, np.uint8)
    return hash64(raw, 0, len(raw), SEED_OF_NAMED[key_type])


@compiled
@given(stream=events)
def test_subjects_are_found_by_their_names(stream):
    from streamdetect.replay.rounds import links_of

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
        usage = usage_of(node.state.table.rows[row])
        assert usage[:EVIDENCE_COLUMN].tolist() == observed.features[last][:EVIDENCE_COLUMN].tolist()
        assert not usage[EVIDENCE_COLUMN:].any()


@compiled
@given(stream=rows)
def test_usage_of_a_key_is_what_its_newest_row_saw(stream):
    from streamdetect.pipeline.associations.absorb import absorb

    node = keys()
    absorbed = absorb(node.state, links_from(stream), node._thresholds)
    for key in np.unique(absorbed.row[absorbed.row >= 0]).tolist():
        if node.state.table.rows[key]["key_type"] <= KeyType.API_KEY:
            last = np.flatnonzero(absorbed.row == key)[-1]
            assert usage_of_key(node.state.table.rows[key])[:9].tolist() == absorbed.features[last][:9].tolist()


# What is kept


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


def test_a_pardon_survives_in_an_image():
    node = verified()
    node.overrides([allow("account:ann")])

    restored = Standings(low_policy())
    restored.restore([node.standings.capture(0)])

    assert restored.pardon_of(("account", "ann")) == node.standings.pardon_of(("account", "ann"))
    assert restored.pardoned() == [("account", "ann")]


def test_a_successor_that_processes_a_release_again_pardons_as_well():
    """Saved before the release, which is then in the log; the fact that led to it comes again."""
    node = verified()
    image, states = node.standings.capture(0), accounts_digest(node.state)
    trusted = later(1, trusted=1, members=7)
    released = take_facts(node, [trusted]).decisions

    successor = accounts()
    successor.events(hammer(1, START))
    take_facts(successor, [TOLD])
    assert accounts_digest(successor.state) == states
    successor.decider.standings = Standings(low_policy())
    successor.standings.restore([image])
    successor.follow(released)

    assert take_facts(successor, [trusted]).decisions == []
    assert successor.standings.pardon_of(("account", "ann")) == node.standings.pardon_of(("account", "ann"))
