"""The real worker as a process of its own on the run's broker, and what there is to see of it from outside.

A ``World`` is one prefix of topics and one consumer group. Everything is waited for by its cause: records on topics,
committed offsets, the metrics page, the end of a process; never by a pause that is long enough with luck.
"""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streamdetect.kafka.plan import ACCOUNTS, EVIDENCE, LINKS, full_name, plan
from streamdetect.kafka.topics import create_and_check
from streamdetect.settings import Settings

PATIENCE_S = 180.0  # a bound for a machine with much else to do; nothing waits longer than its cause takes
STOP_S = 20.0
POLL_S = 0.05
ROOT = Path(__file__).parents[2]
# What a broker answers while a new topic or group finds its place.
_MOVING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)


def _passes(refused: KafkaException) -> bool:
    """Whether to ask again: what moves, and what the client library itself reports (connections, time outs)."""
    return refused.args[0].code() in _MOVING or refused.args[0].code() < 0


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a record landed."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record read back."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def json(self) -> dict[str, Any]:
        return orjson.loads(self.value)


def until(condition: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> Any:
    """Poll until ``condition`` gives something true, and give it back."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(POLL_S)
    return found


@dataclass
class Worker:
    """One worker process; ``log`` is everything it wrote."""

    process: subprocess.Popen
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def url(self) -> str:
        """Where its metrics are; waits for the line that says so."""
        told = re.compile(r"^metrics on (\S+)/metrics$", re.MULTILINE)
        return until(lambda: self.alive() and told.search(self.log), "its port")[1]

    def ready(self) -> "Worker":
        """Wait until it has joined the group and owns partitions."""
        until(lambda: self.alive() and self._get("/ready") == 200, "readiness")
        return self

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series of a metric that carry these labels; 0 where there are none."""
        total = 0.0
        for line in self.page().splitlines():
            found = re.fullmatch(r"streamdetect_(\w+?)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                shown = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                total += float(found[3]) if labels.items() <= shown.items() else 0.0
        return total

    def page(self) -> str:
        """The metrics page."""
        return until(lambda: self.alive() and self._ask("/metrics"), "its metrics")[1].decode()

    def stop(self) -> int:
        """Send SIGTERM; the exit code, within the bound."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def alive(self) -> bool:
        """True, or a failure that shows the end of its log."""
        assert self.process.poll() is None, f"the worker ended with {self.process.returncode}:\n{self.log[-4000:]}"
        return True

    def _get(self, path: str) -> int:
        return until(lambda: self.alive() and self._ask(path), f"an answer to {path}")[0]

    def _ask(self, path: str) -> tuple[int, bytes] | None:
        """Status and body; ``None`` where a busy machine did not let it answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, b""
        except (OSError, http.client.HTTPException):
            return None


@dataclass
class World:
    """Topics and a group that no other test has, on a running broker."""

    bootstrap: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"live-{uuid4().hex[:8]}.")
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = Settings(bootstrap_servers=self.bootstrap, topic_prefix=self.name, group_id=self.name + "group")
        self._reader: Consumer | None = None
        self._asking: Consumer | None = None
        self._producers: dict[str, Producer] = {}
        self._read: dict[str, list[Record]] = defaultdict(list)
        self._positions: dict[tuple[str, int], int] = {}

    @property
    def requests(self) -> str:
        return self.settings.request_topics[0]

    def topic(self, name: str) -> str:
        return full_name(name, self.settings)

    def create(self) -> "World":
        """Make the topics."""
        asyncio.run(create_and_check(self.settings, timeout_s=PATIENCE_S))
        return self

    def command(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """What to start for a command line in this world, as arguments of ``subprocess``."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAMDETECT_")}
        ours = {
            "BOOTSTRAP_SERVERS": self.bootstrap,
            "TOPIC_PREFIX": self.name,
            "GROUP_ID": self.settings.group_id,
            "METRICS_PORT": "0",
            "IMAGE_INTERVAL_S": "0.5",
            **self.environment,
            **environment,
        }
        variables = {f"STREAMDETECT_{name}": value for name, value in ours.items()}
        return {
            "args": [sys.executable, "-m", "streamdetect", *arguments],
            "cwd": self.folder,
            "env": {**inherited, "PYTHONPATH": str(ROOT), **variables},
        }

    def run(self, *arguments: str, limit_s: float = PATIENCE_S, **environment: str) -> subprocess.CompletedProcess:
        """Run a command to its end."""
        started = self.command(*arguments, **environment)
        return subprocess.run(**started, capture_output=True, text=True, timeout=limit_s, check=False)

    def start(self, *arguments: str, **environment: str) -> Worker:
        """Start a worker."""
        path = self.folder / f"worker-{len(self.workers)}.log"
        with path.open("wb") as log:
            started = self.command("worker", *arguments, **environment)
            process = subprocess.Popen(**started, stdout=log, stderr=subprocess.STDOUT)
        self.workers.append(Worker(process, path))
        return self.workers[-1]

    def send(
        self,
        records: Iterable[tuple[bytes | None, bytes | None]],
        *,
        topic: str | None = None,
        codec: str = "none",
        partition: int | None = None,
        headers: dict[str, str] | None = None,
        timestamps_ms: Iterable[int] = (),
    ) -> list[Sent]:
        """Send (key, value) pairs in order, keyed as Java clients do; returns where each landed.

        ``timestamps_ms`` are those of the records, in order; where there are none, it is the time of sending.
        """
        if codec not in self._producers:
            self._producers[codec] = Producer(
                {
                    **self._client(),
                    "partitioner": "murmur2_random",
                    "compression.type": codec,
                    "enable.idempotence": True,
                    "linger.ms": 20,
                    "message.max.bytes": 2_000_000,
                }
            )
        producer = self._producers[codec]
        landed: list[Sent | None] = []
        place = {"headers": headers} if partition is None else {"headers": headers, "partition": partition}
        stamps = iter(timestamps_ms)
        for key, value in records:
            number = len(landed)
            landed.append(None)

            def note(error: Any, message: Any, number: int = number) -> None:
                assert error is None, error
                landed[number] = Sent(message.partition(), message.offset())

            stamp = next(stamps, 0)  # the library takes 0 for now
            producer.produce(topic or self.requests, value, key, on_delivery=note, timestamp=stamp, **place)
            producer.poll(0)
        assert producer.flush(PATIENCE_S) == 0
        return landed

    def events(self, events: Iterable[dict[str, Any]], **options: Any) -> list[Sent]:
        """Send events, keyed by account."""
        return self.send([(event["account_id"].encode(), orjson.dumps(event)) for event in events], **options)

    def transactional(self) -> Producer:
        """A producer that sends in transactions."""
        producer = Producer({**self._client(), "partitioner": "murmur2_random", "transactional.id": self.name})
        producer.init_transactions(PATIENCE_S)
        return producer

    def read(self, name: str) -> list[Record]:
        """Every record of a topic up to its end as of now, in order within its partitions."""
        topic = self.topic(name) if not name.startswith(self.name) else name
        self._catch_up()
        return self._read[topic]

    def settled(self, worker: Worker, limit_s: float = PATIENCE_S) -> None:
        """Wait until all that was sent is processed and all it led to is delivered and processed as well.

        Chunks are acked after their outputs are delivered, so a committed end offset says both.
        """
        for topic in (self.topic(ACCOUNTS), self.requests, self.topic(LINKS), self.topic(EVIDENCE)):
            until(lambda topic=topic: worker.alive() and self._committed(topic), f"the end of {topic}", limit_s)

    def forget(self) -> None:
        """Know nothing of what was read and asked so far: a topic was deleted and made again."""
        for consumer in (self._reader, self._asking):
            if consumer is not None:
                consumer.close()
        self._reader = self._asking = None
        self._producers.clear()
        self._read.clear()
        self._positions.clear()

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        for consumer in (self._reader, self._asking):
            if consumer is not None:
                consumer.close()
        self._producers.clear()

    def _committed(self, topic: str) -> bool:
        if self._asking is None:
            # Asks for the group's offsets without joining it.
            self._asking = Consumer({**self._client(), "group.id": self.settings.group_id})
        ends = {place: end for place, end in self._ends().items() if place[0] == topic}
        try:
            answer = self._asking.committed([TopicPartition(*place) for place in ends], timeout=10)
        except KafkaException as refused:
            if not _passes(refused):
                raise
            return False
        return all(max(tp.offset, 0) >= ends[tp.topic, tp.partition] for tp in answer)

    def _ends(self) -> dict[tuple[str, int], int]:
        """The end of every partition now."""
        reader = self._consumer()
        asked = [TopicPartition(tp.topic, tp.partition, OFFSET_END) for tp in reader.assignment()]

        def ask() -> list[TopicPartition] | None:
            try:
                return reader.offsets_for_times(asked, timeout=10)
            except KafkaException as refused:
                if not _passes(refused):
                    raise
                return None

        return {(tp.topic, tp.partition): tp.offset for tp in until(ask, "the ends of the partitions")}

    def _client(self) -> dict[str, Any]:
        # The library would report the end of the broker on standard error.
        return {"bootstrap.servers": self.bootstrap, "log_level": 0}

    def _consumer(self) -> Consumer:
        if self._reader is None:
            self._reader = Consumer(
                {
                    **self._client(),
                    "group.id": f"reader-{uuid4().hex}",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 50,
                    "enable.partition.eof": True,
                }
            )
            known = self._reader.list_topics(timeout=10).topics
            names = [spec.name for spec in plan(self.settings) if spec.name in known]
            self._reader.assign([TopicPartition(name, p, 0) for name in names for p in known[name].partitions])
        return self._reader

    def _catch_up(self) -> None:
        reader = self._consumer()
        missing = {place: end for place, end in self._ends().items() if self._positions.get(place, 0) < end}
        deadline = time.monotonic() + PATIENCE_S
        while missing:
            assert time.monotonic() < deadline, f"not read: {missing}"
            for message in reader.consume(1000, 0.05):
                place = (message.topic(), message.partition())
                if message.error() is None:
                    self._read[message.topic()].append(Record(*place, message.offset(), message.key(), message.value()))
                    self._positions[place] = message.offset() + 1
                else:
                    # The end, beyond markers of transactions that are no messages.
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()  # its name
                    self._positions[place] = message.offset()
                if self._positions[place] >= missing.get(place, 1 << 62):
                    del missing[place]


@contextmanager
def world(bootstrap: str, folder: Path, **environment: str):
    """A world with its topics; its workers end with it."""
    made = World(bootstrap, folder, environment).create()
    try:
        yield made
    finally:
        made.close()


def decisions(world: World, name: str = "decisions.v1") -> list[dict[str, Any]]:
    """All decisions on a topic, without tombstones and heartbeats."""
    return [
        record.json
        for record in world.read(name)
        if record.value is not None and not record.key.startswith(b"heartbeat:")
    ]


def dumps(value: Any) -> bytes:
    """JSON as the standard library writes it, which allows what a strict writer refuses (half a surrogate, NaN)."""
    return json.dumps(value).encode()
