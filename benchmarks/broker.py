"""A Kafka for a benchmark: one KRaft node with the topics of one run, production of a corpus, committed offsets."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from corpus import PARTITIONS, Corpus

from streamdetect.kafka.plan import EVIDENCE, LINKS
from streamdetect.kafka.topics import create_and_check
from streamdetect.pipeline.decisions.policy import default_text
from streamdetect.sandbox.cluster import Cluster, start_cluster
from streamdetect.settings import Settings


def broker() -> Cluster:
    """One node of Apache Kafka; a benchmark on the mock would measure the mock."""
    return start_cluster(tier="jars")


def produce(bootstrap: str, topic: str, events: Corpus) -> None:
    """Send the corpus in order, lz4, record time = event time; returns when all of it is acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
            "acks": "all",
        }
    )
    for value, key, partition, at in zip(events.values, events.keys, events.partition, events.at_ms, strict=True):
        producer.produce(topic, value, key, partition, timestamp=at)
    left = producer.flush(120)
    if left:
        raise SystemExit(f"{left} events were not delivered")


def read_all(bootstrap: str, topic: str) -> list[bytes]:
    """Every value of a topic, up to its present end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    values: list[bytes] = []
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    for partition in partitions:
        place = TopicPartition(topic, partition, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([place])
        while consumer.position([place])[0].offset < end and end:
            fetched = consumer.consume(1000, timeout=0.5)
            values += [m.value() for m in fetched if m.error() is None and m.value() is not None]
    consumer.close()
    return values


class Lag:
    """How far a consumer group has committed, asked of the broker, at no cost to the group."""

    def __init__(self, bootstrap: str, group: str, topics: list[str]) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "lag", "log_level": 0})
        self._group = group
        self._places = [TopicPartition(topic, partition) for topic in topics for partition in range(PARTITIONS)]

    def left(self) -> int:
        """Records not committed yet, over all topics."""
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self._group, self._places)])
        try:
            found = asked[self._group].result(10).topic_partitions
        except Exception:  # noqa: BLE001  the coordinator is not known yet, or the group does not exist yet
            return sys.maxsize
        committed = {(place.topic, place.partition): max(0, place.offset) for place in found}
        ends = (self._reader.get_watermark_offsets(place, timeout=10)[1] for place in self._places)
        return sum(end - committed[place.topic, place.partition] for place, end in zip(self._places, ends, strict=True))

    def wait(self, alive: Any, limit_s: float, pause_s: float = 0.1) -> None:
        """Wait until nothing is left; twice, since rows lead to evidence."""
        until, calm = time.monotonic() + limit_s, 0
        while calm < 2:
            if time.monotonic() > until or alive() is not None:
                raise SystemExit(f"group {self._group}: not done in {limit_s:g} s, or ended; {self.left()} left")
            calm = calm + 1 if self.left() == 0 else 0
            time.sleep(pause_s)


def worker_policy(folder: Path, *, account_limit: int, subnet_limit: int | None = None) -> Path:
    """The shipped policy with another limit for one account and, if asked, a rule of the same kind for subnets.

    The latter is harder than the shipped rule about young subnets, so that it is issued on top of it.
    """
    text = default_text()
    assert "requests_1m > 600" in text
    text = text.replace("requests_1m > 600", f"requests_1m > {account_limit}")
    if subnet_limit is not None:
        rule = (
            f'[[rules]]\nid = "busy-subnet"\nscope = "subnet"\nwhen = "requests_1m > {subnet_limit}"\n'
            'action = "verify"\nttl = "1h"\nreason_code = "rate_exceeded"\n\n[ladder]\n'
        )
        text = text.replace("[ladder]\n", rule, 1)
    path = folder / "policy.toml"
    path.write_text(text)
    return path


class WorkerPlace:
    """The topics of one worker under a prefix of their own, and the process that serves them."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.settings = Settings(bootstrap_servers=bootstrap, topic_prefix=f"{name}.", group_id=name, clock="event")
        self.requests = self.settings.request_topics[0]
        asyncio.run(create_and_check(self.settings))
        self.lag = Lag(bootstrap, name, [self.requests, self.settings.topic(LINKS), self.settings.topic(EVIDENCE)])

    @contextmanager
    def process(self, policy: Path, *, clock: str = "event", **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """``streamdetect worker`` as it ships, in mode live."""
        given = {
            **os.environ,
            "STREAMDETECT_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "STREAMDETECT_TOPIC_PREFIX": self.settings.topic_prefix,
            "STREAMDETECT_GROUP_ID": self.settings.group_id,
            "STREAMDETECT_CLOCK": clock,
            "STREAMDETECT_METRICS_PORT": "0",
            **environment,
        }
        command = [sys.executable, "-m", "streamdetect", "worker", "--mode", "live", "--policy", str(policy)]
        with tempfile.TemporaryFile() as log:
            started = subprocess.Popen([*command, "--log-level", "warning"], env=given, stdout=log, stderr=log)
            try:
                yield started
                if started.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"the worker ended by itself:\n{log.read()[-3000:].decode()}")
            finally:
                started.terminate()
                started.wait(30)
