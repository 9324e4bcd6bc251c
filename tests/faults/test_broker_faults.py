"""Three brokers under a worker: nodes that die, stand still, all go away; and a topic that takes no more records.

Whoever runs the worker starts it again when it ends with 4, which it may when nothing was acknowledged for a minute.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from crowd import Crowd
from live import until
from load import MEASURED, Kept, Load, faulty_world, records_of
from verdict import Verdict, judged

from streamdetect.sandbox.cluster import Tier, start_cluster
from streamdetect.sandbox.ready import admin_client

pytestmark = pytest.mark.needs("multibroker")
OUTBOX_MAX, GROWTH_MAX_MB = 20_000, 100
PAUSE_S, LONG_PAUSE_S, OUTAGE_S = 8, 40, 60


@dataclass
class Told:
    verdict: Verdict | None = None
    ended: list = field(default_factory=list)
    blocked: dict = field(default_factory=dict)  # what the metrics said while a topic took nothing


class Stage:
    """A cluster of three, a world on it, load and a worker that is kept alive. ``lines`` is all that was sent."""

    def __init__(self, cluster, place, load, kept, lines):
        self.cluster, self.place, self.load, self.kept, self.lines = cluster, place, load, kept, lines

    def partitions(self):
        topics = admin_client(self.cluster.bootstrap_servers).list_topics(timeout=30).topics
        return {
            (name, number): partition
            for name, topic in topics.items()
            for number, partition in topic.partitions.items()
            if name.startswith(self.place.name)
        }

    def leader(self):
        """The node that leads partition 0 of the requests."""
        leader = self.partitions()[self.place.requests, 0].leader
        return next(node for node in self.cluster.nodes if node.node_id == leader)

    def until_whole(self):
        """Wait until every copy of every partition is there again: the next fault may take another node."""
        until(lambda: all(len(p.isrs) == len(self.cluster.nodes) for p in self.partitions().values()), "all copies")

    def until_going_on(self, what):
        """Wait until requests sent from now on are processed, by whichever worker there is."""
        sent = len(self.load.landed)
        began = time.monotonic()
        until(lambda: len(self.load.landed) > sent + 50, "records to be taken")
        self.kept.until_working(what)
        MEASURED.append(f"{time.monotonic() - began:5.1f} s to the next record {what}")

    def set_copies_needed(self, topic, count):
        entry = ConfigEntry("min.insync.replicas", str(count), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.place.topic(topic), incremental_configs=[entry])
        admin = admin_client(self.cluster.bootstrap_servers)
        for changed in admin.incremental_alter_configs([resource]).values():
            changed.result()


@contextmanager
def stage(folder, told, crowd, per_s):
    with (
        start_cluster(tier=Tier.JARS, nodes=3) as cluster,
        faulty_world(cluster.bootstrap_servers, folder) as place,
    ):
        with Load(place, records_of(crowd), per_s) as load, Kept(place) as kept:
            made = Stage(cluster, place, load, kept, crowd.lines)
            made.until_going_on("after the start")
            yield made
            load.finish()
            place.settled(kept)
            kept.stop()
        told.ended, told.verdict = kept.ends, judged(place, made.lines)


def a_bad_hour(_broker, folder):
    """A leader dies; a topic takes nothing without it; all stand still for a while."""
    told = Told()
    with stage(folder, told, Crowd(600, 9), 120) as made:
        leader = made.leader()
        leader.kill()
        made.until_going_on("after the death of a leader")
        told.blocked = blocked(made)
        leader.restart(limit_s=180)
        made.until_going_on("after the topic takes records again")
        made.until_whole()
        made.set_copies_needed("enforcement.v1", 2)
        for node in made.cluster.nodes:
            node.pause()
        time.sleep(PAUSE_S)
        for node in made.cluster.nodes:
            node.resume()
        made.until_going_on(f"after all brokers stood still for {PAUSE_S} s")
    return told


def blocked(made):
    """Nothing can be put in force; what a worker shows of it. Counted from when it has stopped reading."""
    worker = made.kept
    before_mb = resident_mb(worker.worker)
    made.set_copies_needed("enforcement.v1", 3)
    # Much to be put in force, in more chunks than may be on their way: the load alone may have nothing new any more.
    more = Crowd(200, 11, name="b")
    made.lines = made.lines + more.lines
    records = records_of(more)
    for first in range(0, len(records), 50):
        made.place.send(records[first : first + 50])
    read = []

    def stopped():
        read.append(worker.processed)
        return len(read) > 30 and read[-30] == read[-1] and worker.metric("lag_records") > 300

    until(stopped, "intake to stop")
    until(lambda: worker.metric("unsaved_chunks"), "chunks that wait to be saved to be shown")
    until(lambda: worker.metric("queued_chunks", topic=made.place.requests), "chunks that wait for the agent, too")
    return {
        "lag": worker.metric("lag_records"),
        "outbox": worker.metric("queue_records", queue="decisions"),
        "unsaved": worker.metric("unsaved_chunks"),
        "grown_mb": resident_mb(worker.worker) - before_mb,
        "read": read[-1] - read[-30],
    }


def resident_mb(worker):
    with open(f"/proc/{worker.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123  not a file of ours
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def a_bad_day(_broker, folder):
    """Every node dies once, so each leader, the controller and the coordinator; each stands still; all are gone."""
    told = Told()
    with stage(folder, told, Crowd(2000, 10), 60) as made:
        for node in made.cluster.nodes:
            made.until_whole()
            node.kill()
            made.until_going_on(f"after the death of node {node.node_id}")
            node.restart(limit_s=180)
        for node in made.cluster.nodes:
            made.until_whole()
            node.pause()
            time.sleep(LONG_PAUSE_S)
            node.resume()
            made.until_going_on(f"after node {node.node_id} stood still for {LONG_PAUSE_S} s")
        made.until_whole()
        for node in made.cluster.nodes:
            node.kill()
        time.sleep(OUTAGE_S)
        for node in made.cluster.nodes:
            node.start()
        made.until_going_on(f"after all brokers were gone for {OUTAGE_S} s")
        made.until_whole()
    return told


@pytest.mark.parametrize(
    "_case",
    [
        pytest.param("hour", marks=pytest.mark.story("a_bad_hour")),
        pytest.param("day", marks=[pytest.mark.story("a_bad_day"), pytest.mark.long]),
    ],
)
def test_whatever_happens_to_brokers_nothing_is_lost_and_nothing_counts_twice(told, _case):
    told.verdict.check()


@pytest.mark.story("a_bad_hour")
def test_when_nothing_can_be_put_in_force_intake_stops_and_is_seen_to(told):
    assert told.blocked["read"] == 0
    assert told.blocked["lag"] > 300
    assert told.blocked["unsaved"] > 0
    assert 0 < told.blocked["outbox"] <= OUTBOX_MAX


@pytest.mark.story("a_bad_hour")
def test_when_nothing_can_be_put_in_force_memory_does_not_grow(told):
    assert told.blocked["grown_mb"] < GROWTH_MAX_MB
