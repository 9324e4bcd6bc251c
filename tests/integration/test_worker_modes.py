"""How a worker enforces (or does not), how it tells that it lives, what it says of a wrong world."""

import contextlib
import socket
import sys
import time
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from live import decisions, until, world

from streamdetect.kafka.plan import plan

pytestmark = pytest.mark.needs("admin")

HEARTBEAT_S = 5.0
REFUSAL_S = 15.0
POLICY = """
id = "modes"
version = 1
mode = "{mode}"
round_ms = 10_000
[[rules]]
id = "three"
when = "requests_1m >= 3"
action = "rate_limit"
params = {{ unit = "requests", limit = 60, period = "minute" }}
ttl = "1h"
reason_code = "rate_exceeded"
"""


def events(count=3):
    """Enough for the rule, as of now."""
    now = time.time_ns() // 1_000_000
    return [
        {"event_id": f"{account}/{number}", "account_id": account, "occurred_at": now}
        for account in ("a", "b", "c", "d", "e")
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def place(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes")
    for mode in ("shadow", "live"):
        (folder / f"{mode}.toml").write_text(POLICY.format(mode=mode))
    with world(broker.bootstrap_servers, folder) as made:
        yield made


@pytest.fixture(scope="module")
def shadow(place):
    """A worker that nobody has told a mode, with a policy that leaves it at its default."""
    text = POLICY.format(mode="shadow").replace('mode = "shadow"\n', "")
    (place.folder / "silent.toml").write_text(text)
    place.events(events())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = place.start(POLICY_FILE=str(place.folder / "silent.toml"), METRICS_PORT=str(port))
        place.settled(worker)
        assert f":{port}" not in worker.url
    yield worker
    assert worker.stop() == 0, worker.log


def test_a_worker_that_nobody_told_to_enforce_decides_and_enforces_nothing(place, shadow):
    found = decisions(place)
    assert {decision["subject"]["value"] for decision in found} == set("abcde")
    assert {(decision["simulated"], decision["mode"]) for decision in found} == {(True, "shadow")}
    assert decisions(place, "enforcement.v1") == []


def test_every_partition_beats_every_five_seconds(place, shadow):
    def beats():
        seen = {}
        for record in place.read("enforcement.v1"):
            assert record.key.startswith(b"heartbeat:")
            seen.setdefault(record.json["partition"], []).append(record.json)
        return seen if len(seen) == 4 and all(len(beats) >= 2 for beats in seen.values()) else None

    for partition, seen in until(beats, "two heartbeats of every partition").items():
        assert {beat["mode"] for beat in seen} == {"shadow"}
        gaps = [(b["published_at"] - a["published_at"]) / 1000 for a, b in pairwise(seen)]
        assert all(HEARTBEAT_S - 1.5 < gap < HEARTBEAT_S + 3 for gap in gaps), (partition, gaps)
        assert seen[-1]["lag_ms"] == 0


def test_a_taken_port_is_replaced_by_a_free_one_that_answers(shadow):
    assert shadow.metric("build_info") == 1
    assert shadow.ready()


def listening(pid):
    """Where a process listens: addresses as the kernel prints them, and ports."""
    ours, found = set(), set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            ours.add(str(link.readlink()))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in ours:
                address, _, port = words[1].partition(":")
                found.add((address, int(port, 16)))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for sockets in /proc")
def test_a_worker_listens_on_loopback_for_metrics_and_nowhere_else(shadow):
    assert listening(shadow.process.pid) == {("0100007F", int(shadow.url.rpartition(":")[2]))}


@pytest.mark.parametrize(
    ("policy", "variable", "flag", "mode"),
    [
        ("live", None, None, "live"),
        ("live", "shadow", None, "shadow"),
        ("shadow", "shadow", "live", "live"),
    ],
)
def test_the_flag_rules_over_the_variable_over_the_policy(place, policy, variable, flag, mode):
    environment = {"POLICY_FILE": str(place.folder / f"{policy}.toml"), "GROUP_ID": place.settings.group_id}
    if variable:
        environment["MODE"] = variable
    worker = place.start(*(("--mode", flag) if flag else ()), **environment)
    try:
        (told,) = until(lambda: worker.alive() and started(worker), "the line that says it starts")
        assert told["mode"] == mode
    finally:
        worker.kill()


def started(worker):
    lines = [orjson.loads(line) for line in worker.log.splitlines() if line.startswith("{") and line.endswith("}")]
    return [line for line in lines if line["event"] == "worker starts"]


def refused(world, **environment):
    """The one line a worker says before it ends with 4, in time."""
    began = time.monotonic()
    ended = world.run("worker", limit_s=3 * REFUSAL_S, **environment)
    took_s = time.monotonic() - began
    assert ended.returncode == 4, ended.stderr
    assert took_s < REFUSAL_S
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith('{"')]
    assert line.startswith("streamdetect: ")
    return line


def test_a_broker_that_refuses_is_named(place):
    assert "127.0.0.1:1" in refused(place, BOOTSTRAP_SERVERS="127.0.0.1:1")


def test_a_broker_that_never_answers_is_named(place):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        assert address in refused(place, BOOTSTRAP_SERVERS=address)


def test_missing_topics_are_named(place):
    line = refused(place, TOPIC_PREFIX="nowhere.")
    assert "nowhere.requests.v1 is missing" in line
    assert "streamdetect topics" in line


def test_another_cluster_than_demanded_is_named(place):
    assert "not elsewhere as STREAMDETECT_CLUSTER_ID demands" in refused(place, CLUSTER_ID="elsewhere")


def test_unequal_partition_counts_are_named(place, broker):
    place.settings.topic("requests.v1")
    broker.create_topics([place.name + "odd"], partitions=3)
    line = refused(place, REQUEST_TOPICS=place.name + "odd")
    assert f"{place.name}odd has 3" in line
    assert "same number of partitions" in line
    assert len(plan(place.settings)) > 3
