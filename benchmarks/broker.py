"""A Kafka for a benchmark: one KRaft node with the topics of one run, production of a corpus, and a worker on it."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from corpus import PARTITIONS, Corpus
from measure import cpu_s

from streamdetect.kafka.plan import EVIDENCE, LINKS
from streamdetect.kafka.topics import create_and_check
from streamdetect.pipeline.decisions.policy import default_text
from streamdetect.sandbox.cluster import Cluster, start_cluster
from streamdetect.settings import Settings

IDLE_S = 0.2  # looked at so often; idle is less than this share of one core
IDLE_SHARE = 0.2
_ADDRESS = re.compile(rb"metrics on (http\S+)")
_EVENTS = re.compile(r'^streamdetect_events_total\{topic="(.+)"\} (\S+)$', re.MULTILINE)


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


IMAGES_OFF = "1000000"  # seconds between images: longer than any run


class RunningWorker:
    """``streamdetect worker`` as a process, and what it has processed."""

    def __init__(self, process: subprocess.Popen[bytes], log: Any, topics: list[str], bootstrap: str) -> None:
        self.pid, self.poll, self._log, self._topics = process.pid, process.poll, log, topics
        self._reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "ends", "log_level": 0})

    def wait(self, limit_s: float) -> float:
        """Wait until every record of its topics is processed; returns when that was, by ``time.perf_counter``.

        Asking costs the worker time, so it is asked only when it has been idle for a moment.
        """
        until, idle_since, spent = time.monotonic() + limit_s, None, cpu_s(self.pid)
        while True:
            time.sleep(IDLE_S)
            before, spent = spent, cpu_s(self.pid)
            if spent - before > IDLE_SHARE * IDLE_S:
                idle_since = None
            else:
                idle_since = idle_since or time.perf_counter() - IDLE_S
                if self._left() == 0:
                    return idle_since
            if time.monotonic() > until or self.poll() is not None:
                raise SystemExit(f"the worker ended, or had not done after {limit_s:g} s:\n{self.tail()}")

    def tail(self) -> str:
        """The end of what it wrote."""
        self._log.seek(0)
        return str(self._log.read()[-3000:].decode())

    def _left(self) -> int:
        page = self._page()
        if page is None:
            return sys.maxsize
        done = {name: float(count) for name, count in _EVENTS.findall(page)}
        return sum(self._end(topic) - int(done.get(topic, 0)) for topic in self._topics)

    def _end(self, topic: str) -> int:
        places = (TopicPartition(topic, partition) for partition in range(PARTITIONS))
        return sum(self._reader.get_watermark_offsets(place, timeout=10)[1] for place in places)

    def _page(self) -> str | None:
        self._log.seek(0)
        told = _ADDRESS.search(self._log.read())
        if told is None:
            return None
        with urllib.request.urlopen(told[1].decode(), timeout=10) as answer:
            return str(answer.read().decode())


class WorkerPlace:
    """The topics of one worker under a prefix of their own, and the process that serves them."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.settings = Settings(bootstrap_servers=bootstrap, topic_prefix=f"{name}.", group_id=name, clock="event")
        self.requests = self.settings.request_topics[0]
        asyncio.run(create_and_check(self.settings))

    @contextmanager
    def process(self, policy: Path, *, clock: str = "event", **environment: str) -> Iterator[RunningWorker]:
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
        topics = [self.requests, self.settings.topic(LINKS), self.settings.topic(EVIDENCE)]
        with tempfile.TemporaryFile() as log:
            started = subprocess.Popen([*command, "--log-level", "warning"], env=given, stdout=log, stderr=log)
            running = RunningWorker(started, log, topics, self.settings.bootstrap_servers)
            try:
                yield running
                if started.poll() is not None:
                    raise SystemExit(f"the worker ended by itself:\n{running.tail()}")
            finally:
                started.terminate()
                started.wait(60)
