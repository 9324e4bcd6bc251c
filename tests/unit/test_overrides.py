"""Overrides and pardons one by one: what is lifted, what is logged, and what counts again afterwards."""

import numpy as np
import pytest
from override_reference import accounts, allow, enforced, hammer, keys, kill, override
from pipeline_reference import DAY_MS, HOUR_MS, START, accounts_digest, links_from, low_policy
from pipeline_streams import take_facts

from streamdetect.kernels.hashing import hash64
from streamdetect.pipeline.accounts.sharing import SEED_OF_NAMED, KeyType
from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.enforcement.overrides import KILL_KEY
from streamdetect.pipeline.enforcement.pardons import Pardon
from streamdetect.pipeline.enforcement.rulings import adopted_from
from streamdetect.pipeline.enforcement.standing import Standings

TEMPLATE, PAYMENT = 4, 3  # numbers of families


TOLD = ("ann", TEMPLATE, 1, START + 9, 1, 6, 0, 6)  # six young accounts behind one template: verified


def knowing():
    node = accounts()
    node.events(hammer(1, START))
    return node


def verified():
    node = knowing()
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
    "told", [allow("account:ann", START + HOUR_MS), ("account:ann", None)], ids=["again", "cleared"]
)
def test_an_allow_long_over_pardons_nothing_when_it_is_told_again_or_cleared(told):
    """A worker that starts reads every allow of the topic; what came after its end counts."""
    node = knowing()
    node.overrides([allow("account:ann", START + HOUR_MS)])
    node.events(hammer(2, START + 3 * HOUR_MS))
    before = node.standings.pardon_of(("account", "ann"))
    node.overrides([told])

    assert node.standings.pardon_of(("account", "ann")) == before
    assert [d.reasons[0].value for d in node.events(hammer(2, START + 3 * HOUR_MS + 1000)).decisions] == [4]


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


def test_what_is_in_force_of_an_account_nobody_knew_is_lifted_at_its_first_hit():
    adopted = adopted_from(take_facts(knowing(), [TOLD]).decisions)
    node = AccountsNode(low_policy(), "live", 1, adopted=adopted)
    node.overrides([allow("account:ann")])

    decisions = node.events(hammer(4, START + 1000)).decisions

    assert sorted(d.revision for d in decisions) == [d.revision for d in decisions]
    assert decisions[0].revision > 1
    assert [(d.action, d.status, d.simulated) for d in decisions] == [
        ("release", "released", False),
        ("rate_limit", "issued", True),
    ]


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
    raw = np.frombuffer(name, np.uint8)
    return hash64(raw, 0, len(raw), SEED_OF_NAMED[key_type])


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


def test_what_is_in_force_already_is_not_decided_again_while_the_kill_switch_is_on():
    """However many of the facts come at once: one of them is new to what is in force, the rest are not."""
    told = [later(0), later(HOUR_MS), later(20 * HOUR_MS)]
    singly, at_once = verified(), verified()
    for node in (singly, at_once):
        node.overrides([kill()])

    one_by_one = [decision for fact in told for decision in take_facts(singly, [fact]).decisions]

    assert [(d.status, d.simulated, d.issued_at) for d in one_by_one] == [("issued", True, START + 9 + 20 * HOUR_MS)]
    assert take_facts(at_once, told).decisions == one_by_one
