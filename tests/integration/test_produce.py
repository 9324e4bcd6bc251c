"""``streamdetect produce`` from file to topic."""

import asyncio
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import murmur2

from streamdetect.cli.produce import LINE_BYTES_MAX, Pace, produce
from streamdetect.errors import BadDataError, UnreachableError, UsageError
from streamdetect.kafka.follower import read_all
from streamdetect.kafka.topics import create_and_check
from streamdetect.settings import Settings

START = 1_700_000_000_000


def event(number, **more):
    fields = {
        "event_id": f"e{number}",
        "occurred_at": START + 1000 * number,
        "account_id": f"a{number % 5}",
        "account_created_at": START - 86_400_000,
    }
    return fields | more


def write(path, lines):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.writelines(line + b"\n" for line in lines)
    return str(path)


@pytest.fixture
def settings(broker, topic_prefix, monkeypatch):
    admin = "admin" in broker.abilities
    settings = Settings(
        bootstrap_servers=broker.bootstrap_servers, topic_prefix=topic_prefix, group_id=topic_prefix, topic_admin=admin
    )
    asyncio.run(create_and_check(settings))
    monkeypatch.setenv("STREAMDETECT_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setenv("STREAMDETECT_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("STREAMDETECT_GROUP_ID", topic_prefix)
    monkeypatch.setenv("STREAMDETECT_TOPIC_ADMIN", str(admin).lower())
    return settings


def everything_on(settings, topic):
    """All records of a topic, those with a null key too."""

    async def read():
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=settings.bootstrap_servers, group_id=None, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            found = []
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_lines_arrive_untouched_in_order_and_keyed_by_account(settings, tmp_path, capsys):
    lines = [
        json.dumps(event(number), indent=None if number % 2 else 1).replace("\n", " ").encode() for number in range(200)
    ]
    plain = write(tmp_path / "one.jsonl", lines[:100])
    packed = write(tmp_path / "two.jsonl.gz", lines[100:])
    produce(plain, packed, json=True)
    assert json.loads(capsys.readouterr().out)["events"] == 200
    records = everything_on(settings, settings.request_topics[0])
    assert sorted(record.value for record in records) == sorted(lines)
    for account in {f"a{number}".encode() for number in range(5)}:
        mine = [record for record in records if record.key == account]
        assert {record.partition for record in mine} == {(murmur2(account) & 0x7FFFFFFF) % 4}
        times = [json.loads(record.value)["occurred_at"] for record in mine]
        assert times == sorted(times)


def test_what_cannot_be_read_is_sent_with_a_null_key_and_counted(settings, tmp_path, capsys):
    bad = [b"{", b"[1]", b'{"event_id":"x"}', b"\xff\xfe", b'{"account_id":7,"occurred_at":1}']
    too_long = json.dumps(event(1, prompt="x" * LINE_BYTES_MAX)).encode()
    path = write(tmp_path / "f.jsonl", [*bad, too_long, b"", json.dumps(event(2)).encode()])
    produce(path, json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["events"], told["unreadable"], told["too_long"]) == (6, 5, 1)
    records = everything_on(settings, settings.request_topics[0])
    assert sorted(record.value for record in records if record.key is None) == sorted(bad)


def test_rebase_ends_now_and_keeps_distances_ages_and_other_fields(settings, tmp_path, capsys):
    lines = [json.dumps(event(number, prompt="é", x={"y": 1.50})).encode() for number in range(10)]
    accounts = write(tmp_path / "a.jsonl", [json.dumps({"account_id": "a0", "created_at": START - 5000}).encode()])
    before = time.time_ns() // 1_000_000
    produce(write(tmp_path / "f.jsonl", lines), rebase=True, accounts=Path(accounts), json=True)
    after = time.time_ns() // 1_000_000
    assert json.loads(capsys.readouterr().out)["accounts"] == 1
    sent = sorted(
        (json.loads(record.value) for record in everything_on(settings, settings.request_topics[0])),
        key=lambda found: found["occurred_at"],
    )
    shift = sent[0]["occurred_at"] - START
    assert before <= sent[-1]["occurred_at"] <= after
    assert sent == [
        event(number, prompt="é", x={"y": 1.5})
        | {"occurred_at": START + shift + 1000 * number, "account_created_at": START + shift - 86_400_000}
        for number in range(10)
    ]
    held = asyncio.run(read_all(settings, settings.topic("accounts.v1")))
    assert json.loads(held[b"a0"])["created_at"] == START + shift - 5000


def test_a_number_that_is_no_instant_is_not_shifted_and_never_the_newest(settings, tmp_path, capsys):
    huge = 2**64 - 1
    lines = [event(1, account_created_at=huge), event(2), event(3, occurred_at=huge)]
    produce(write(tmp_path / "f.jsonl", [json.dumps(line).encode() for line in lines]), rebase=True, json=True)
    assert json.loads(capsys.readouterr().out)["unreadable"] == 1
    sent = {
        found["event_id"]: found
        for found in (json.loads(record.value) for record in everything_on(settings, settings.request_topics[0]))
    }
    shift = sent["e2"]["occurred_at"] - lines[1]["occurred_at"]
    assert shift > 0
    assert sent["e1"] == lines[0] | {"occurred_at": lines[0]["occurred_at"] + shift}
    assert sent["e3"]["occurred_at"] == huge


async def test_pace_says_when_an_event_is_due(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(round(seconds, 1))

    monkeypatch.setattr("streamdetect.cli.produce.asyncio.sleep", sleep)
    began = time.monotonic()
    await Pace(rate=10, speed=None, began=began).wait(50, 0)
    await Pace(rate=None, speed=60, began=began).wait(1, 600_000)
    await Pace(rate=None, speed=None, began=began).wait(10**9, 10**9)
    assert slept == [5.0, 10.0]


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((), {}, UsageError),
        (("-",), {"rebase": True}, UsageError),
        (("-",), {"rate": 1, "speed": 1}, UsageError),
        (("-",), {"rate": 0}, UsageError),
        (("nowhere.jsonl",), {}, BadDataError),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_sent(arguments, options, error):
    with pytest.raises(error):
        produce(*arguments, **options)


def test_a_torn_file_is_bad_data(settings, tmp_path):
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(event(1)).encode() * 50)[:-20])
    with pytest.raises(BadDataError, match=r"f\.jsonl\.gz"):
        produce(str(path))


def test_an_absent_broker_ends_with_4(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMDETECT_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with pytest.raises(UnreachableError):
        produce(write(tmp_path / "f.jsonl", [b"{}"]))


def test_standard_input_is_a_file_and_misspelt_options_are_not(settings):
    line = json.dumps(event(1)).encode()
    command = [sys.executable, "-m", "streamdetect", "produce", "-", "--json"]
    done = subprocess.run(command, input=line, capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout)["events"] == 1
    assert [record.value for record in everything_on(settings, settings.request_topics[0])] == [line]
    wrong = subprocess.run([*command, "--sped=3"], input=line, capture_output=True, timeout=60, check=False)
    assert wrong.returncode in (2, 3)
