"""What the models accept and how they are written: the contract outsiders build on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamdetect.messages.decision import REVISION_READ_MAX, Decision, Heartbeat, Subject
from streamdetect.messages.label import Label
from streamdetect.messages.override import Override
from streamdetect.messages.reading import Fault, read
from streamdetect.messages.schemas import MODELS, schemas

DECISION = {
    "decision_id": "d1",
    "revision": 1,
    "subject": {"scope": "account", "value": "a:b"},
    "action": "rate_limit",
    "params": {"unit": "requests", "limit": 10, "period": "minute"},
    "status": "issued",
    "mode": "live",
    "origin": "score",
    "issued_at": 5,
    "expires_at": 6,
    "policy": {"id": "p", "version": 1, "hash": "h"},
    "reasons": [{"family": "content", "signal": "template", "value": 2.5, "threshold": 2.0, "window_ms": 1000}],
    "reason_code": "unusual_volume",
    "applies_to": {"account_tiers": ["unpaid"], "created_after": 3},
}
OVERRIDE = {
    "override_id": "o1",
    "subject": {"scope": "account", "value": "a"},
    "effect": "deny",
    "actor": "on-call",
    "reason": "because",
    "created_at": 1,
}


def decision(**changes):
    return read(Decision, json.dumps({**DECISION, **changes}).encode())


def test_a_decision_survives_its_bytes_and_equal_decisions_have_equal_bytes():
    first = decision()
    assert read(Decision, first.to_bytes()) == first
    shuffled = dict(reversed(list(DECISION.items())))
    assert read(Decision, json.dumps(shuffled).encode()).to_bytes() == first.to_bytes()
    assert b"null" not in first.to_bytes()


def test_a_revision_that_leaves_no_room_for_more_is_not_read_but_can_be_written():
    assert decision(revision=REVISION_READ_MAX).revision == REVISION_READ_MAX
    assert decision(revision=REVISION_READ_MAX + 1) == Fault("out_of_range", "revision")
    assert Decision(**DECISION | {"revision": REVISION_READ_MAX + 1}).revision == REVISION_READ_MAX + 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"params": {"unit": "requests", "limit": 10}}, Fault("missing_field", "params.rate_limit.period")),
        ({"params": {"method": "captcha"}}, Fault("invalid_value", "")),
        ({"action": "explode"}, Fault("invalid_value", "action")),
        ({"action": 3}, Fault("wrong_type", "action")),
        ({"revision": -1}, Fault("out_of_range", "revision")),
        ({"subject": {"scope": "subnet", "value": "10.0.0.1/24"}}, Fault("invalid_value", "subject")),
        ({"subject": {"scope": "subnet", "value": "10.0.0.0/8"}}, Fault("invalid_value", "subject")),
        ({"subject": {"scope": "asn", "value": "AS15"}}, Fault("invalid_value", "subject")),
    ],
)
def test_a_wrong_decision_is_a_fault_that_names_the_field(changes, fault):
    assert decision(**changes) == fault


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_scores_survive_exactly(score):
    found = decision(score=score)
    assert read(Decision, found.to_bytes()).score == score


@pytest.mark.parametrize("key", ["account:a:b", "subnet:2001:db8::/48", "subnet:192.0.2.0/24", "asn:64496", "org:é"])
def test_a_subject_is_its_key(key):
    assert Subject.from_key(key).key == key


@pytest.mark.parametrize("key", ["account", "account:", "global:enforcement", "asn:007", "subnet:2001:DB8::/48"])
def test_what_is_no_subject_has_no_key(key):
    with pytest.raises(ValidationError):
        Subject.from_key(key)


def test_an_override_denies_allows_or_kills():
    assert read(Override, json.dumps(OVERRIDE).encode()).key == "account:a"
    kill = {**OVERRIDE, "effect": "kill", "subject": {"scope": "global", "value": "enforcement"}}
    assert read(Override, json.dumps(kill).encode()).key == "global:enforcement"
    for wrong in ({"effect": "kill"}, {"effect": "allow", "action": "verify"}, {"subject": kill["subject"]}):
        assert isinstance(read(Override, json.dumps({**OVERRIDE, **wrong}).encode()), Fault)


def test_heartbeats_have_reserved_keys_and_labels_are_read():
    assert Heartbeat(partition=3, published_at=1, mode="live").key == "heartbeat:3"
    assert read(Label, b'{"account_id":"a","label":"campaign","cohort":"C2","new":1}').cohort == "C2"


def test_models_are_frozen():
    with pytest.raises(ValidationError):
        decision().revision = 2


def test_every_message_and_every_field_is_described():
    assert schemas().keys() == MODELS.keys()
    for name, schema in schemas().items():
        json.dumps(schema)
        for part in (schema, *schema.get("$defs", {}).values()):
            assert part["description"], name
            for field, stated in part["properties"].items():
                assert stated.get("description"), f"{name}.{field}"


def test_optional_means_optional_in_the_schema():
    assert schemas()["request"]["required"] == ["event_id", "occurred_at", "account_id"]
