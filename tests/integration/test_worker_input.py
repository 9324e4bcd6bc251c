"""Every kind of bad and odd input, codecs and keys, through one live worker; and the canary: no text leaves.

Each case has an account of its own. Its rule fires on the tenth counted request of a minute, so the event that a
decision names tells exactly which events were counted. A canary stands in every prompt, good and bad.
"""

import time
from dataclasses import dataclass

import orjson
import pytest
from live import Worker, World, decisions, dumps, world

from streamdetect.kafka.plan import plan

pytestmark = pytest.mark.needs("admin")

CANARY = "zebra-canary-7f3a"
GOOD = 10
YEAR_MS = 31_536_000_000
NOW = time.time_ns() // 1_000_000 - 3_600_000
POLICY = """
id = "input"
version = 1
mode = "live"
round_ms = 10_000
[[rules]]
id = "ten"
when = "requests_1m >= 10"
action = "rate_limit"
params = { unit = "requests", limit = 60, period = "minute" }
ttl = "1h"
reason_code = "rate_exceeded"
"""


def event(account: str, number: object, **fields):
    values = {
        "event_id": f"{account}/{number}",
        "account_id": account,
        "occurred_at": NOW,
        "prompt": f"please tell me about {CANARY} and what became of it in the end " * 2,
        "system_prompt": f"you are {CANARY}",
        **fields,
    }
    return {name: value for name, value in values.items() if value is not ...}


def spliced(account: str, name: str, raw: bytes) -> bytes:
    """An event whose field ``name`` is written as ``raw``."""
    return orjson.dumps(event(account, "odd"))[:-1] + b',"%s":%s}' % (name.encode(), raw)


def odd(**fields):
    return lambda account: dumps(event(account, "odd", **fields))


# What becomes a dead letter: value, code, field.
BAD = {
    "not-json": (lambda _a: b"{" + CANARY.encode(), "invalid_json", ""),
    "not-an-object": (lambda _a: dumps([CANARY]), "not_an_object", ""),
    "invalid-utf8": (lambda a: orjson.dumps(event(a, "odd")).replace(b"please", b"ple\xffase"), "invalid_utf8", ""),
    "half-a-surrogate": (lambda a: spliced(a, "user_agent", b'"\\ud83d"'), "invalid_utf8", ""),
    "empty-value": (lambda _a: b"", "empty_value", ""),
    "null-value": (lambda _a: None, "empty_value", ""),
    "no-event-id": (odd(event_id=...), "missing_field", "event_id"),
    "no-time": (odd(occurred_at=...), "missing_field", "occurred_at"),
    "no-account": (odd(account_id=...), "missing_field", "account_id"),
    "prompt-is-an-object": (odd(prompt={CANARY: CANARY}), "wrong_type", "prompt"),
    "tokens-are-text": (odd(input_tokens=CANARY), "wrong_type", "input_tokens"),
    "account-is-a-number": (odd(account_id=7), "wrong_type", "account_id"),
    "deep": (lambda a: spliced(a, CANARY, b"[" * 500 + b"]" * 500), "too_deep", ""),
    "very-deep": (lambda _a: b'{"a":' * 200_000, "too_deep", ""),
    "nan": (lambda a: spliced(a, "input_tokens", b"NaN"), "invalid_json", ""),
    "infinity": (lambda a: spliced(a, "turn", b"-Infinity"), "invalid_json", ""),
    "huge-integer": (lambda a: spliced(a, "output_tokens", b"9" * 5000), "out_of_range", "output_tokens"),
    "big-integer": (odd(output_tokens=2**70), "out_of_range", "output_tokens"),
    "no-address": (odd(client_ip="10.0.0.256"), "invalid_value", "client_ip"),
    "address-is-text": (odd(client_ip=CANARY), "invalid_value", "client_ip"),
    "time-is-text": (odd(occurred_at=CANARY), "invalid_value", "occurred_at"),
    "ten-years-ahead": (odd(occurred_at=NOW + 10 * YEAR_MS), "future", "occurred_at"),
    "long-id": (odd(event_id=CANARY * 20), "too_long", "event_id"),
}
# What is odd and still one request like any other.
FINE = {
    "megabyte": odd(prompt=(CANARY + " words and more words ") * 25_000),
    "megabyte-without-spaces": odd(prompt="漢" * 333_000),
    "zero-width": odd(prompt="\u200b" * 5000, system_prompt="\u200d\ufeff" * 500),
    "combining": odd(prompt="\u0301" * 5000),
    "null-characters": odd(prompt="\0" * 500, system_prompt=""),
    "mapped-address": odd(client_ip="::ffff:192.0.2.1"),
    "ipv6": odd(client_ip="2001:db8::1"),
    "unknown-values": odd(outcome="teapot", account_tier="gold", kind=None),
    "written-time": odd(occurred_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW // 1000))),
    "unknown-fields": odd(**{CANARY: {"deep": [CANARY]}}),
    "cloud-event": lambda a: dumps(
        {"specversion": "1.0", "id": "x", "type": "request", "source": "gw", "data": event(a, "odd")}
    ),
}
# A CloudEvent in binary mode: the value is the event, and what the headers say is nobody's concern.
HEADERS = {"ce_specversion": "1.0", "ce_id": "x", "ce_type": "request", "ce_source": CANARY}
CODECS = ("lz4", "zstd", "gzip", "snappy")
KEYS, NULL_KEYS, FOREIGN_KEYS = 10_000, 10, 10


@dataclass(frozen=True)
class Ran:
    """What the worker had done when everything was settled."""

    world: World
    worker: Worker
    landed: dict[str, object]
    counted: dict[str, str]
    letters: list
    sent: int
    page: str


def around(account: str, value: bytes | None, good: int) -> list[tuple[bytes, bytes | None]]:
    """The value in the middle of good events."""
    records = [(account.encode(), orjson.dumps(event(account, number))) for number in range(good)]
    return [*records[: good // 2], (account.encode(), value), *records[good // 2 :]]


@pytest.fixture(scope="module")
def ran(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    (folder / "policy.toml").write_text(POLICY)
    environment = {"POLICY_FILE": str(folder / "policy.toml"), "CLOCK": "event"}
    with world(broker.bootstrap_servers, folder, **environment) as made:
        # Every partition knows the time before anything comes that lies about it.
        first = [event(f"first-{number}", 0) for number in range(40)]
        sent = made.events(first)
        assert {landed.partition for landed in sent} == set(range(4))
        worker = made.start()
        landed, total = {}, len(sent)
        for name, (value, *_) in BAD.items():
            records = around(name, value(name), GOOD)
            landed[name] = made.send(records)[GOOD // 2]
            total += len(records)
        for name, value in FINE.items():
            total += len(made.send(around(name, value(name), GOOD - 1)))
        for codec in CODECS:
            total += len(made.events([event(codec, number) for number in range(GOOD)], codec=codec))
        total += len(made.events([event("headers", number) for number in range(GOOD)], headers=HEADERS))
        total += len(made.send(around("long-ago", dumps(event("long-ago", "odd", occurred_at=YEAR_MS)), GOOD)))
        total += len(made.events([event(f"one-of-many-{number}", 0) for number in range(KEYS)]))
        null = [(None, orjson.dumps(event("null-key", number))) for number in range(NULL_KEYS)]
        total += len(made.send(null, partition=1))
        belongs = made.events([event("foreign-key", "there")])[0].partition
        foreign = [event("foreign-key", number) for number in range(FOREIGN_KEYS)]
        total += 1 + len(made.events(foreign, partition=(belongs + 1) % 4))
        made.settled(worker)
        counted = {found["subject"]["value"]: found["event_id"] for found in decisions(made)}
        letters = made.read("dead-letters.v1")
        yield Ran(made, worker, landed, counted, letters, total, worker.page())


def test_every_record_was_read_once_by_a_worker_that_lives(ran):
    assert ran.worker.metric("events_total", topic=ran.world.requests) == ran.sent
    assert ran.worker.process.poll() is None


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_set_aside_and_its_neighbours_count(ran, name):
    _, code, field = BAD[name]
    place = ran.landed[name]
    (letter,) = [
        record for record in ran.letters
        if (record.json["partition"], record.json["offset"]) == (place.partition, place.offset)
    ]  # fmt: skip
    assert letter.key == name.encode()
    assert (letter.json["topic"], letter.json["code"], letter.json.get("field", "")) == (
        ran.world.requests,
        code,
        field,
    )
    assert ran.counted[name] == f"{name}/{GOOD - 1}"


def test_nothing_else_is_set_aside(ran):
    assert len(ran.letters) == len(BAD)
    assert ran.worker.metric("dead_letters_total") == len(BAD)


@pytest.mark.parametrize("name", FINE)
def test_an_odd_record_counts_like_any_other(ran, name):
    """Nine good events and the odd one make ten, so the decision names the last good one."""
    assert ran.counted[name] == f"{name}/{GOOD - 2}"


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_read(ran, codec):
    assert ran.counted[codec] == f"{codec}/{GOOD - 1}"


def test_a_cloud_event_in_binary_mode_is_its_value(ran):
    assert ran.counted["headers"] == f"headers/{GOOD - 1}"


def test_a_time_long_past_is_late_and_nothing_more(ran):
    assert ran.counted["long-ago"] == f"long-ago/{GOOD - 1}"
    assert ran.worker.metric("late_total") == 1


def test_ten_thousand_keys_in_a_second_are_ten_thousand_accounts(ran):
    accounts = 40 + len(BAD) + len(FINE) + len(CODECS) + 2 + KEYS + 1
    # The account on the wrong partition has one record there and one where it belongs.
    assert ran.worker.metric("tracked_accounts") == accounts + 2


def test_events_without_a_key_or_on_a_foreign_partition_count_and_are_told(ran):
    assert ran.counted["null-key"] == f"null-key/{NULL_KEYS - 1}"
    assert ran.counted["foreign-key"] == f"foreign-key/{FOREIGN_KEYS - 1}"
    assert ran.worker.metric("misplaced_keys_total", kind="null") == NULL_KEYS
    assert ran.worker.metric("misplaced_keys_total", kind="foreign") == FOREIGN_KEYS


def test_no_text_leaves_the_request_topic(ran):
    topics = [spec.name for spec in plan(ran.world.settings) if spec.name != ran.world.requests]
    written = {topic: ran.world.read(topic) for topic in topics}
    for name in ("links.v1", "decisions.v1", "enforcement.v1", "dead-letters.v1"):
        assert written[ran.world.topic(name)], name
    shown = [part for records in written.values() for record in records for part in (record.key, record.value) if part]
    shown += [ran.page.encode(), ran.worker.log.encode()]
    assert not [text[:300] for text in shown if b"canary" in text or b"zebra" in text]
    assert any(CANARY.encode() in record.value for record in ran.world.read(ran.world.requests) if record.value)
