"""What a gateway client makes of records as they are, and of the end of one of its followers; no broker is needed."""

import pytest
from test_enforcement_table import KEYS, NOW, REQUEST, decision, override

from streamdetect.enforcer.client import GatewayClient, GatewayOptions
from streamdetect.kafka.fold import Record
from streamdetect.messages.decision import Heartbeat
from streamdetect.settings import Settings

NOBODY = Settings(bootstrap_servers="127.0.0.1:1")


def client_of(settings=NOBODY):
    return GatewayClient(settings, GatewayOptions(wall_ms=lambda: NOW))


@pytest.mark.parametrize("key", KEYS)
def test_a_decision_under_the_key_of_another_subject_is_counted_and_not_obeyed(key):
    client = client_of()
    client.take_enforcement(Record(b"account:other", decision(key).to_bytes(), 0, 0))
    assert (client.check(REQUEST).cause, client.unreadable) == ("nothing", 1)
    client.take_enforcement(Record(key.encode(), decision(key).to_bytes(), 0, 1))
    assert (client.check(REQUEST).cause, client.unreadable) == ("decision", 1)


@pytest.mark.parametrize("effect", ["allow", "deny", "kill"])
def test_an_override_under_the_key_of_another_subject_is_counted_and_not_obeyed(effect):
    client = client_of()
    found = override(effect)
    client.take_override(Record(b"account:other", found.to_bytes(), 0, 0))
    assert (client.check(REQUEST).cause, client.unreadable) == ("nothing", 1)
    client.take_override(Record(found.key.encode(), found.to_bytes(), 0, 1))
    assert (client.check(REQUEST).cause, client.unreadable) == (effect, 1)


def test_a_heartbeat_of_another_partition_is_counted_and_not_believed():
    client = client_of()
    beat = Heartbeat(partition=1, published_at=NOW, mode="live")
    client.take_enforcement(Record(b"heartbeat:0", beat.to_bytes(), 0, 0))
    assert (client.stale, client.unreadable) == (True, 1)
    client.take_enforcement(Record(b"heartbeat:1", beat.to_bytes(), 0, 1))
    assert (client.stale, client.unreadable) == (False, 1)


def test_a_revision_after_which_nothing_could_come_is_counted_and_not_obeyed():
    client = client_of()
    client.take_enforcement(Record(b"account:a", decision(revision=2**40).to_bytes(), 0, 0))
    assert (client.check(REQUEST).cause, client.unreadable) == ("nothing", 1)
    client.take_enforcement(Record(b"account:a", decision(revision=3).to_bytes(), 0, 1))
    assert client.check(REQUEST).denied
