"""A worker that starts again goes on from what is in force."""

import orjson

from streamdetect.kernels.chunk import chunk_of
from streamdetect.pipeline.decisions.features import ACCOUNT_FEATURES, SHARED_FEATURES
from streamdetect.pipeline.decisions.policy import default_policy, default_text, load_policy
from streamdetect.pipeline.enforcement.rulings import adopted_from, rule_of
from streamdetect.worker.detector import Detector

START_MS = 1_767_571_200_000
HOUR_MS = 3_600_000


def hammering(first: int, at_ms: int):
    events = [
        orjson.dumps(
            {"event_id": f"e{first + n}", "occurred_at": at_ms + n, "account_id": "a", "account_tier": "paid",
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
