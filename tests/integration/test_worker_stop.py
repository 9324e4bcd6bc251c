"""A worker that is told to stop, before it began or under load, and the one that goes on: nothing is left out."""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from live import STOP_S, until, world

pytestmark = pytest.mark.needs("admin")

POLICY = """
id = "stop"
version = 1
mode = "live"
round_ms = 10_000
[[rules]]
id = "each"
when = "requests_1d >= 1"
action = "observe"
ttl = "1d"
reason_code = "policy"
"""
ACCOUNTS_AT_ONCE, PAUSE_S = 100, 0.05


@pytest.fixture
def place(broker, tmp_path):
    (tmp_path / "policy.toml").write_text(POLICY)
    with world(broker.bootstrap_servers, tmp_path, POLICY_FILE=str(tmp_path / "policy.toml")) as made:
        yield made


class Load(threading.Thread):
    """Sends 2,000 events a second, of ever new accounts, until told to end; each leads to a decision of its own."""

    def __init__(self, place):
        super().__init__()
        self.place, self.ended, self.sent = place, threading.Event(), 0

    def run(self):
        while not self.ended.wait(PAUSE_S):
            now = time.time_ns() // 1_000_000
            numbers = range(self.sent, self.sent + ACCOUNTS_AT_ONCE)
            self.place.events([{"event_id": "e", "account_id": f"a-{n}", "occurred_at": now} for n in numbers])
            self.sent += ACCOUNTS_AT_ONCE

    def end(self):
        self.ended.set()
        self.join()


def decided(place):
    return {record.key.decode().removeprefix("account:") for record in place.read("decisions.v1")}


def test_a_stop_under_load_is_clean_and_the_next_worker_leaves_nothing_out(place):
    load = Load(place)
    load.start()
    try:
        first = place.start()
        until(lambda: first.alive() and len(decided(place)) > 1000, "decisions under load")
        began = time.monotonic()
        assert first.stop() == 0, first.log
        assert time.monotonic() - began < STOP_S
        at_stop, sent_at_stop = decided(place), load.sent
        assert at_stop
        second = place.start()
        until(lambda: second.alive() and len(decided(place)) > sent_at_stop, "the second worker's decisions")
    finally:
        load.end()
    place.settled(second)
    everyone = decided(place)
    assert everyone == {f"a-{number}" for number in range(load.sent)}
    assert at_stop <= everyone
    # It went on from where the first had come to, and did not begin anew.
    assert second.metric("events_total", topic=place.requests) < load.sent
    assert second.stop() == 0, second.log


def test_after_a_restart_a_silent_partition_does_not_hold_back_the_others(place):
    """Old records that are committed are no work that waits, even though the new worker has not seen them."""
    now = time.time_ns() // 1_000_000
    names = [f"b-{number}" for number in range(40)]
    landed = place.events([{"event_id": "e", "account_id": name, "occurred_at": now} for name in names])
    assert {sent.partition for sent in landed} == {0, 1, 2, 3}
    first = place.start()
    place.settled(first)
    assert first.stop() == 0, first.log
    second = place.start().ready()
    # Several fetches, so that the broker has told the ends of the silent partitions; all for one account.
    chosen = names[0]
    for number in range(20):
        event = {"event_id": f"later-{number}", "account_id": chosen, "occurred_at": now + number}
        place.send([(chosen.encode(), orjson.dumps(event))])
    place.settled(second, limit_s=15.0)
    assert second.metric("lag_records") == 0
    assert second.stop() == 0, second.log


def test_what_was_committed_beyond_the_state_is_read_all_the_same(place):
    """As after an image that was acknowledged and lost; here the commits are moved while no worker runs."""
    now = time.time_ns() // 1_000_000
    send = lambda names: place.events([{"event_id": "e", "account_id": one, "occurred_at": now} for one in names])  # noqa: E731
    send(f"c-{number}" for number in range(40))
    first = place.start()
    place.settled(first)
    assert first.stop() == 0, first.log
    landed = send(f"d-{number}" for number in range(40))
    behind = {sent.partition: sent.offset + 1 for sent in landed}
    with closing(Consumer({"bootstrap.servers": place.bootstrap, "group.id": place.settings.group_id})) as group:
        ahead = [TopicPartition(place.requests, partition, offset) for partition, offset in behind.items()]
        until(lambda: committed(group, ahead), "the group to take commits from outside")
    second = place.start()
    until(lambda: second.alive() and len(decided(place)) == 80, "what was committed and not counted")
    assert "images_of_state_are_gone" in second.log
    assert second.stop() == 0, second.log


def test_records_deleted_before_they_were_read_are_told(place):
    now = time.time_ns() // 1_000_000
    first = place.start()
    landed = place.events([{"event_id": "e", "account_id": f"l-{n}", "occurred_at": now} for n in range(40)])
    place.settled(first)
    assert first.stop() == 0, first.log
    partition = landed[0].partition
    missed = place.events([{"event_id": "m", "account_id": f"l-{n}", "occurred_at": now} for n in range(40)])
    end = 1 + max(sent.offset for sent in missed if sent.partition == partition)
    admin = AdminClient({"bootstrap.servers": place.bootstrap})
    (deleted,) = admin.delete_records([TopicPartition(place.requests, partition, end)]).values()
    deleted.result(30)

    second = place.start().ready()

    gone = sum(sent.partition == partition for sent in missed)
    assert second.metric("lost_records_total", topic=place.requests) == gone > 0
    assert "records were deleted before they were read" in second.log
    until(lambda: second.metric("lag_records") == 0, "all that is left to be read")
    assert second.stop() == 0, second.log


def committed(group, offsets):
    """Whether a group without members took them; it may still see the one that has just left."""
    try:
        group.commit(offsets=offsets, asynchronous=False)
    except KafkaException:
        return False
    return True


def test_markers_of_transactions_are_no_work_that_waits(place):
    """A gateway may send in transactions: the last offset of a partition is then a marker and never a record."""
    worker = place.start().ready()
    producer = place.transactional()
    now = time.time_ns() // 1_000_000
    for turn in range(5):
        producer.begin_transaction()
        for number in range(40):
            event = {"event_id": f"e{turn}", "account_id": f"t-{number}", "occurred_at": now + turn}
            producer.produce(place.requests, orjson.dumps(event), f"t-{number}".encode())
        producer.commit_transaction()
        until(lambda turn=turn: worker.alive() and len(place.read(place.requests)) == 40 * (turn + 1), "the records")
    until(lambda: len(decided(place)) == 40, "all decisions")
    until(lambda: worker.metric("lag_records") == 0, "no lag", 10.0)
    assert worker.stop() == 0, worker.log


def test_a_stop_before_anything_was_begun_is_clean():
    """The broker takes the connection and says nothing."""
    with socket.create_server(("localhost", 0)) as silent:
        address = f"localhost:{silent.getsockname()[1]}"
        program = [sys.executable, "-m", "streamdetect", "worker", "--bootstrap-servers", address]
        with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: catches(process, signal.SIGTERM), "the program to have begun")
            process.terminate()
            _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "Traceback" not in told


def catches(process, number):
    """Whether a process has a handler for a signal, by what the kernel knows of it."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)
