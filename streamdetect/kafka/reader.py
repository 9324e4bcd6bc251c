"""Reads stretches of partitions from where one says to their ends as of now, outside any consumer group.

What recovery needs: images of a changelog, and the decisions taken since. Holes (compaction, transaction markers) and
an offset older than the oldest record are no trouble.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamdetect.errors import UnreachableError
from streamdetect.kafka.security import aiokafka_options
from streamdetect.ports import Stored
from streamdetect.settings import Settings

REQUEST_TIMEOUT_MS: Final = 15_000
FETCH_WAIT_MS: Final = 100
POLL_MS: Final = 500
FETCH_BYTES: Final = 2 << 20  # larger answers cost more a byte: the client copies each several times

_Bounds = Callable[[list[TopicPartition]], Awaitable[dict[TopicPartition, int]]]


class TopicReader:
    """``async with TopicReader(settings) as reader``. Raises ``UnreachableError`` when the broker fails."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        consumer = AIOKafkaConsumer(
            **aiokafka_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        try:
            await consumer.start()
        except (KafkaError, OSError) as error:
            await consumer.stop()
            raise self._failed(error) from None
        self._consumer = consumer
        return self

    async def __aexit__(self, *_: object) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def starts(self, topic: str) -> dict[int, int]:
        """The offset of the oldest record kept of each partition, as of now."""
        return await self._bounds(topic, lambda consumer: consumer.beginning_offsets)

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record of each partition, as of now."""
        return await self._bounds(topic, lambda consumer: consumer.end_offsets)

    async def _bounds(self, topic: str, of: Callable[[AIOKafkaConsumer], _Bounds]) -> dict[int, int]:
        consumer = self._open()
        try:
            first = TopicPartition(topic, 0)
            consumer.assign([first])
            await consumer.end_offsets([first])  # makes the client learn the partitions of the topic
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            bounds = await of(consumer)(partitions)
        except (KafkaError, OSError) as error:
            raise self._failed(error) from None
        return {partition.partition: offset for partition, offset in bounds.items()}

    async def first(self, topic: str, starts: Mapping[int, int]) -> dict[int, Stored]:
        """The first record of each given partition at or after an offset; nothing of those that have none as of now."""
        found: dict[int, Stored] = {}
        async for records in self.read(topic, starts, found.keys()):
            for record in records:
                found.setdefault(record.partition, record)
        return found

    async def read(
        self, topic: str, starts: Mapping[int, int], enough: Collection[int] = frozenset()
    ) -> AsyncGenerator[Sequence[Stored], None]:
        """All records of the given partitions from an offset on (or the oldest kept) to their ends as of now.

        Partitions that are in ``enough`` by then are read no further.
        """
        consumer = self._open()
        partitions = [TopicPartition(topic, number) for number in starts]
        try:
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            for partition, oldest in (await consumer.beginning_offsets(partitions)).items():
                consumer.seek(partition, min(max(oldest, starts[partition.partition]), ends[partition]))
            unread = set(partitions)
            while unread := {p for p in unread if p.partition not in enough and await consumer.position(p) < ends[p]}:
                batches = await consumer.getmany(*unread, timeout_ms=POLL_MS)
                for partition, records in batches.items():
                    yield [
                        Stored(partition.partition, record.offset, record.key, record.value, record.timestamp)
                        for record in records
                        if record.offset < ends[partition]
                    ]
        except (KafkaError, OSError) as error:
            raise self._failed(error) from None

    def _open(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "async with it first"
        return self._consumer

    def _failed(self, error: BaseException) -> UnreachableError:
        where = self._settings.bootstrap_servers
        return UnreachableError(f"broker {where} did not let us read what is needed ({type(error).__name__}: {error})")
