"""Follows one small compacted topic: all partitions, from the start to the ends seen at start, then the tail.

No consumer group: every follower sees everything and commits nothing. Changes are reported on the event loop, in order
within a key, through one callback that must be quick and must not raise for bad records. A lost place (broker replaced,
log truncated, partitions added) means a new reading from the start, reported as differences. The values are not kept.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamdetect.errors import UnreachableError
from streamdetect.kafka.fold import Index, Record, Snapshot, fold_into
from streamdetect.kafka.security import aiokafka_options
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.telemetry.logs import log

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 10.0
POLL_MS: Final = 500
RECORDS_AT_ONCE: Final = 2000
READY_TIMEOUT_S: Final = 10.0
REQUEST_TIMEOUT_MS: Final = 15_000
# A real broker answers as soon as there is a record; the embedded one always waits this long.
FETCH_WAIT_MS: Final = 200

_log = log(__name__)


class Follower:
    """``async with Follower(settings, topic, on_change)``; then ``await follower.until_ready()``."""

    def __init__(
        self,
        settings: Settings,
        topic: str,
        on_change: Callable[[Record], None],
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self.topic = topic
        self.ready = asyncio.Event()
        self._settings = settings
        self._on_change = on_change
        self._index = Index()
        self._task: asyncio.Task[None] | None = None
        self._pause_s = BACKOFF_FIRST_S
        self._trouble = "no broker has answered yet"
        self._count_restart: Callable[[], None] = lambda: None
        if metrics is not None:
            self._count_restart = metrics.counter("restarts").labels(topic).inc

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Begin to follow in the background; an absent broker is waited for."""
        self._task = asyncio.create_task(self.run(), name=f"follow {self.topic}")

    async def stop(self) -> None:
        """Stop following. Raises what ended the following early, if anything did."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def ended(self) -> bool:
        """Whether something ended the following, which ``stop`` did not."""
        return self._task is not None and self._task.done()

    def check(self) -> None:
        """Raise what ended the following, if anything did."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until everything written before the start has been reported.

        Raises ``UnreachableError`` after ``timeout_s``, with the last trouble seen.
        """
        waiting = asyncio.create_task(self.ready.wait())
        tasks: set[asyncio.Task[Any]] = {waiting} if self._task is None else {waiting, self._task}
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task is not None and self._task in done:
            self._task.result()
        if waiting not in done:
            raise UnreachableError(
                f"topic {self.topic} on {self._settings.bootstrap_servers} could not be read within {timeout_s:g} s: "
                f"{self._trouble}"
            )

    async def run(self) -> None:
        """Follow until cancelled; restarts with growing pauses when the broker fails."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError, _PlaceLostError) as error:
                self._trouble = str(error) or type(error).__name__
                self._count_restart()
                _log.warning(
                    "follower starts again", topic=self.topic, trouble=type(error).__name__, pause_s=self._pause_s
                )
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, BACKOFF_MAX_S)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **aiokafka_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            partitions = await self._assign(consumer)
            await self._read_snapshot(consumer, partitions)
            self.ready.set()
            self._pause_s = BACKOFF_FIRST_S
            while True:
                for record in await self._fetch(consumer, partitions):
                    self._index.note(record)
                    self._on_change(record)
        finally:
            await consumer.stop()

    async def _assign(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        # By the list of all topics: asking by name would make some brokers create it, with the wrong settings.
        if self.topic not in await consumer.topics():
            raise _PlaceLostError(f"topic {self.topic} is missing; `streamdetect topics` creates it")
        first = TopicPartition(self.topic, 0)
        consumer.assign([first])
        await consumer.end_offsets([first])  # Makes the client learn the partitions of the topic.
        found = consumer.partitions_for_topic(self.topic)
        if not found:
            raise _PlaceLostError(f"topic {self.topic} has no partitions yet")
        partitions = [TopicPartition(self.topic, partition) for partition in sorted(found)]
        consumer.assign(partitions)
        return partitions

    async def _read_snapshot(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        ends = await consumer.end_offsets(partitions)
        for partition, start in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(partition, start)
        snapshot: Snapshot = {}
        # Positions, not record offsets: compaction and transaction markers leave holes before the end.
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            fold_into(snapshot, await self._fetch(consumer, partitions))
        for record in self._index.replace(snapshot):
            self._on_change(record)

    async def _fetch(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> Iterable[Record]:
        batches = await consumer.getmany(*partitions, timeout_ms=POLL_MS, max_records=RECORDS_AT_ONCE)
        known = consumer.partitions_for_topic(self.topic)
        # A topic that is gone may come back with other records at the same offsets.
        if known is None or len(known) != len(partitions):
            raise _PlaceLostError("the topic is gone, or the number of its partitions has changed")
        return [
            Record(message.key, message.value, message.partition, message.offset, message.timestamp)
            for batch in batches.values()
            for message in batch
            if message.key is not None
        ]


class _PlaceLostError(Exception):
    """What was read so far no longer describes the topic."""


async def stop_all(followers: Iterable[Follower]) -> None:
    """Stop followers, the last first, whatever ended some of them early; raises that afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        for follower in followers:
            stack.push_async_callback(follower.stop)


async def read_all(settings: Settings, topic: str, *, timeout_s: float = READY_TIMEOUT_S) -> dict[bytes, bytes]:
    """One reading of a compacted topic, as of now: the newest value of each key. Raises ``UnreachableError``."""
    values: dict[bytes, bytes] = {}

    def keep(record: Record) -> None:
        if record.value is None:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value

    async with Follower(settings, topic, keep) as follower:
        await follower.until_ready(timeout_s)
    return values
