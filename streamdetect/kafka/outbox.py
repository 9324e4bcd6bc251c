"""Where everything we send to Kafka passes: idempotent, acknowledged by all replicas, bounded, never failing silently.

A record counts as sent when the future of ``send`` resolves. The client library retries an idempotent batch for ever,
so the outbox keeps its own deadline. After one failure the outbox is broken for good: what followed the failed record
must not look delivered, so every later ``send`` and ``drain`` raises the same error and the process decides (the worker
stops without acking, and does the work again).
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamdetect.errors import UnreachableError
from streamdetect.kafka.security import aiokafka_options
from streamdetect.kafka.topics import REACH_TIMEOUT_S, why_unreachable
from streamdetect.ports import Stored
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics

REQUEST_BYTES_MAX: Final = 8 * 1024 * 1024
BATCH_BYTES: Final = 512 * 1024
LINGER_MS: Final = 1
REQUEST_TIMEOUT_MS: Final = 30_000
CLOSE_BROKEN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class OutboxBounds:
    """How much may be under way, and for how long. One record over the byte bound passes when it is alone."""

    records_max: int = 20_000
    bytes_max: int = 64 * 1024 * 1024
    delivery_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """One record under way."""

    number: int
    deadline_s: float
    size_bytes: int


class Outbox:
    """Sends records of one process. ``async with Outbox(settings) as outbox``; single event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        bounds: OutboxBounds | None = None,
        metrics: Metrics | None = None,
        name: str = "outbox",
        compression: Literal["lz4", "zstd"] | None = "lz4",
    ) -> None:
        self._settings = settings
        self._compression = compression
        self._bounds = bounds or OutboxBounds()
        self._producer: AIOKafkaProducer | None = None
        # Oldest first: the deadline only ever looks at the first one.
        self._under_way: dict[asyncio.Future[Stored], _Entry] = {}
        self._bytes = 0
        self._handed_over = 0
        self._failure: UnreachableError | None = None
        self._changed = asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None
        self._waits: Callable[[], None] = lambda: None
        if metrics is not None:
            metrics.gauge("queue_records").labels(name).set_function(lambda: len(self._under_way))
            self._waits = metrics.counter("queue_waits").labels(name).inc

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.drain()
        finally:
            await self.stop()

    async def start(self) -> None:
        """Connect. Raises ``UnreachableError`` when no broker answers within 10 s."""
        self._producer = AIOKafkaProducer(
            **aiokafka_options(self._settings),
            acks="all",
            enable_idempotence=True,
            compression_type=self._compression,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            async with asyncio.timeout(REACH_TIMEOUT_S):
                await self._producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            why = await why_unreachable(self._settings, 2.0)
            await self.stop()
            raise UnreachableError(
                f"broker {self._settings.bootstrap_servers} cannot be reached ({type(error).__name__}: {why})"
            ) from None

    async def stop(self) -> None:
        """Close the connections. What has not been drained is given up."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._under_way:
            self._fail(UnreachableError("the outbox was closed before delivery"))
        producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer, broken=self._failure is not None)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> asyncio.Future[Stored]:
        """Hand over one record; waits while too much is under way. The future resolves on delivery.

        Without ``partition`` the key decides (murmur2, as Java clients do). It raises ``UnreachableError``, and so does
        the future, when the record cannot be delivered.
        """
        size = len(value or b"") + len(key or b"")
        await self._wait_for_room(size)
        assert self._producer is not None, "start() first"
        sent: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._enter(sent, size)
        try:
            delivery = await self._producer.send(
                topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)
            )
        except (KafkaError, OSError) as error:
            self._fail(_refused(topic, error))
            raise self._failure or _refused(topic, error) from None
        except BaseException:
            # Cancelled before the library took it: the record is not under way.
            sent.cancel()
            self._leave(sent)
            raise
        delivery.add_done_callback(lambda done: self._settle(sent, topic, done))
        return sent

    async def drain(self) -> None:
        """Wait until everything handed over so far is delivered. Raises ``UnreachableError`` if anything was not."""
        mark = self._handed_over
        while self._failure is None and (oldest := self._oldest()) is not None and oldest.number <= mark:
            await self._change()
        if self._failure is not None:
            raise self._failure

    @property
    def records_under_way(self) -> int:
        """Records handed over and not acknowledged yet."""
        return len(self._under_way)

    async def _wait_for_room(self, size: int) -> None:
        if self._failure is None and not self._fits(size):
            self._waits()
            while self._failure is None and not self._fits(size):
                await self._change()
        if self._failure is not None:
            raise self._failure

    def _fits(self, size: int) -> bool:
        if not self._under_way:
            return True
        return len(self._under_way) < self._bounds.records_max and self._bytes + size <= self._bounds.bytes_max

    def _enter(self, sent: asyncio.Future[Stored], size: int) -> None:
        loop = asyncio.get_running_loop()
        self._handed_over += 1
        self._under_way[sent] = _Entry(self._handed_over, loop.time() + self._bounds.delivery_timeout_s, size)
        self._bytes += size
        if self._deadline is None:
            self._deadline = loop.call_later(self._bounds.delivery_timeout_s, self._check_deadline)

    def _leave(self, sent: asyncio.Future[Stored]) -> None:
        entry = self._under_way.pop(sent, None)
        if entry is not None:
            self._bytes -= entry.size_bytes
            self._changed.set()

    def _settle(self, sent: asyncio.Future[Stored], topic: str, delivery: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if delivery.cancelled() else delivery.exception()
        if error is not None:
            self._fail(_refused(topic, error))
            return
        if not sent.done():
            landed = delivery.result()
            sent.set_result(Stored(landed.partition, landed.offset, None, None))
        self._leave(sent)

    def _check_deadline(self) -> None:
        self._deadline = None
        oldest = self._oldest()
        if oldest is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= oldest.deadline_s:
            limit = self._bounds.delivery_timeout_s
            self._fail(UnreachableError(f"the broker acknowledged nothing for {limit:g} s; is it up?"))
        else:
            self._deadline = loop.call_at(oldest.deadline_s, self._check_deadline)

    def _fail(self, error: UnreachableError) -> None:
        """Break for good: everything under way fails with the first reason."""
        self._failure = self._failure or error
        for sent in list(self._under_way):
            if not sent.done():
                sent.set_exception(self._failure)
                sent.exception()  # Kept in self._failure; a caller that only drains must not see a warning as well.
        self._under_way.clear()
        self._bytes = 0
        self._changed.set()

    def _oldest(self) -> _Entry | None:
        return next(iter(self._under_way.values()), None)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def _close(producer: AIOKafkaProducer, *, broken: bool) -> None:
    """Stop the client, delivering what waits; of a broken one what waits is given up.

    The client never gives an idempotent batch up: its own ``stop`` would wait for ever, and its sender could deliver
    long after we said it did not. So the sender is ended first, for which there is no public way.
    """
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_BROKEN_S if broken else REQUEST_TIMEOUT_MS / 1000):
            if broken:
                producer._closed = True  # noqa: SLF001  # as its own stop() does
                await producer._sender.close()  # noqa: SLF001  # as said above
            else:
                await producer.stop()
    await producer.client.close()


def _refused(topic: str, error: BaseException) -> UnreachableError:
    return UnreachableError(f"a record for {topic} was not delivered: {type(error).__name__}")
