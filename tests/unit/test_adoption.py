"""A worker that starts again goes on from what is in force."""

import orjson

from streamdetect.kernels.chunk import chunk_of
from streamdetect.pipeline.decisions.features import ACCOUNT_FEATURES, SHARED_FEATURES
from streamdetect.pipeline.decisions.policy import default_policy, default_text, load_policy
from streamdetect.pipeline.enforcement.rulings import adopted_from, rule_of
from streamdetect.worker.detector import Detector

START_MS = 1_767_571_200_000
HOUR_MS = 3_600_000


def hammering(first: int, at_ms: int, account: str = "a"):
    events = [
        orjson.dumps(
            {"event_id": f"e{first + n}", "occurred_at": at_ms + n, "account_id": account, "account_tier": "paid",
             "account_created_at": START_MS - HOUR_MS}
        )
        for n in range(700)
    ]  # fmt: skip
    return chunk_of("requests", 0, events, offsets=range(first, first + 700))


def detector(policy=None) -> Detector:
    return Detector(policy or default_policy(), "live", ("requests",), 1)


def test_what_is_in_force_is_neither_decided_twice_nor_forgotten():
    first = detector()
    (issued,) = first.requests(hammering(0, START_MS)).decisions
    assert (issued.status, issued.revision) == ("issued", 1)

    second = detector()
    second.adopt(adopted_from([issued]))
    assert second.requests(hammering(700, START_MS + HOUR_MS // 10)).decisions == []
    (renewed,) = second.requests(hammering(1400, START_MS + 6 * HOUR_MS // 10)).decisions
    assert (renewed.status, renewed.decision_id) == ("renewed", issued.decision_id)
    assert renewed.revision > issued.revision

    third = detector()
    third.adopt(adopted_from([renewed]))
    (anew,) = third.requests(hammering(2100, START_MS + 9 * HOUR_MS)).decisions
    assert (anew.status, anew.supersedes) == ("issued", None)
    assert anew.revision > renewed.revision
    assert anew.decision_id != issued.decision_id


def test_without_adoption_a_restart_would_begin_with_a_revision_that_gateways_ignore():
    (again,) = detector().requests(hammering(700, START_MS + HOUR_MS // 10)).decisions
    assert again.revision == 1


def test_what_is_in_force_by_a_rule_whose_id_has_dots_is_known_as_of_that_rule():
    dotted = load_policy(default_text().replace('"hammering"', '"v1.hammering.all"'))
    (issued,) = detector(dotted).requests(hammering(0, START_MS)).decisions
    assert rule_of(issued) == "v1.hammering.all"
    (adopted,) = adopted_from([issued]).values()
    assert adopted.tracks[0].rule_id == "v1.hammering.all"


def test_no_feature_has_a_dot_in_its_name():
    assert not [feature.name for feature in (*ACCOUNT_FEATURES, *SHARED_FEATURES) if "." in feature.name]


def test_a_crash_gives_no_caps_back():
    """What the log says was let pass is spent, although what is in force is known as well."""
    capped = load_policy(default_text().replace("rate_limit_per_hour = 50_000", "rate_limit_per_hour = 4"))
    chunks = [hammering(700 * number, START_MS + 700 * number, f"a{number}") for number in range(8)]

    def issued(decisions):
        return {decision.decision_id for decision in decisions if decision.status == "issued"}

    calm, before = detector(capped), detector(capped)
    expected = issued([decision for chunk in chunks for decision in calm.requests(chunk).decisions])
    log = [decision for chunk in chunks[:4] for decision in before.requests(chunk).decisions]
    successor = detector(capped)
    successor.adopt(adopted_from(log))
    shard = successor.new_shard()
    shard.begin_term(2)
    shard.follow(log, {"requests": 2800})
    successor.add(0, shard)
    again = [decision for chunk in chunks for decision in successor.requests(chunk).decisions]
    assert len(expected) == 4
    assert issued(log + again) == expected


def test_what_a_predecessor_lifted_is_forgotten_once_all_was_processed_again():
    one = detector()
    (issued,) = one.requests(hammering(0, START_MS)).decisions
    standings = one.shards[0].accounts.standings
    subject = ("account", "a")
    released = {"action": "release", "status": "released", "revision": 2, "expires_at": issued.issued_at + 1}
    standings.follow([issued.model_copy(update=released)])
    assert standings.lifted_before(subject) is not None
    standings.forget_followed()
    assert standings.lifted_before(subject) is None
    assert standings.capture(0).blobs["subjects"].blobs[0] is not None


def test_two_owners_in_a_row_never_use_a_revision_twice_though_neither_finds_the_other_in_the_log():
    revisions = []
    for generation in (4, 5, 7):
        one = detector()
        shard = one.new_shard()
        shard.begin_term(1 + generation)
        one.add(0, shard)
        decisions = [
            decision
            for n in range(4)
            for decision in one.requests(hammering(700 * n, START_MS + n * HOUR_MS)).decisions
        ]
        revisions.append([decision.revision for decision in decisions])
    assert all(len(own) > 1 for own in revisions)
    flat = [revision for own in revisions for revision in own]
    assert flat == sorted(set(flat))
