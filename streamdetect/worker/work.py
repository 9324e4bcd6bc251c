"""What is done with each chunk: hand it to the detector, send what it led to, leave the ack to the saver.

While the outputs of a chunk are on their way the next chunk is worked on, up to ``IN_FLIGHT`` of them. The saver acks a
chunk with the image that contains it. Any error ends the process with its chunks unacked. Who delivers the chunks is
not known here: Faust's streams do in the worker (``worker.agents``).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Protocol

from streamdetect.kafka.plan import ACCOUNTS, EVIDENCE, LINKS
from streamdetect.kernels.chunk import Chunk
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.detector import Detector, Outcome
from streamdetect.worker.publisher import Publisher, Sent
from streamdetect.worker.saver import Saver

IN_FLIGHT = 4


class Message(Protocol):
    """One delivered chunk. Its bytes are let go once they are processed; until the ack it is a place in a partition."""

    partition: int
    generation_id: int
    value: Chunk | None


def input_topics(settings: Settings) -> frozenset[str]:
    """The topics whose chunks a shard takes in."""
    return frozenset({*settings.request_topics, *map(settings.topic, (LINKS, EVIDENCE, ACCOUNTS))})


class Work:
    """``owns`` says whether a partition is ours in a generation; ``ack`` tells the consumer that a message is done.

    ``processed`` is called after each chunk.
    """

    def __init__(
        self,
        settings: Settings,
        detector: Detector,
        publisher: Publisher,
        saver: Saver,
        metrics: Metrics,
        *,
        owns: Callable[[int, int], bool],
        ack: Callable[[Any], object],
        processed: Callable[[], object] = lambda: None,
    ) -> None:
        self._publisher, self._saver, self._metrics = publisher, saver, metrics
        self._owns, self._ack, self._processed = owns, ack, processed
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._steps: dict[str, Callable[[Chunk], Outcome]] = dict.fromkeys(settings.request_topics, detector.requests)
        self._steps |= {
            settings.topic(LINKS): detector.links,
            settings.topic(EVIDENCE): detector.evidence,
            settings.topic(ACCOUNTS): detector.account_records,
        }

    def stage(self, topic: str) -> str:
        """Name of what is done with the chunks of a topic."""
        return self._steps[topic].__name__

    async def finish(self) -> None:
        """Wait until the outputs of everything processed are delivered."""
        await self._idle.wait()

    async def run(self, topic: str, messages: AsyncIterator[Message]) -> None:
        """Work through the chunks of one topic, in order."""
        step, room = self._steps[topic], asyncio.Semaphore(IN_FLIGHT)
        async with asyncio.TaskGroup() as running:
            async for message in messages:
                await room.acquire()
                if message.value is None or not self._owns(message.partition, message.generation_id):
                    # Handed out before a rebalance: whoever owns the partition now begins where it was last saved.
                    room.release()
                    continue
                self._enter()
                stamp_ms = int(message.value.timestamps_ms[-1])
                outcome = self._process(message.value, step)
                message.value = None
                self._processed()
                # Before anything is awaited: an image taken meanwhile holds this chunk, and waits for its outputs.
                done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._saver.hold(message.partition, partial(self._ack, message), done)
                delivered = await self._publisher.send(outcome, message.partition)
                running.create_task(self._settle(step.__name__, outcome, delivered, stamp_ms, done, room))
                # A chunk is a slice of 5 to 10 ms; heartbeats and other partitions get their turn in between.
                await asyncio.sleep(0)

    def _process(self, chunk: Chunk, step: Callable[[Chunk], Outcome]) -> Outcome:
        started = time.perf_counter()
        outcome = step(chunk)
        self._count(chunk, step.__name__, outcome, time.perf_counter() - started)
        return outcome

    async def _settle(
        self,
        stage: str,
        outcome: Outcome,
        delivered: Sent,
        stamp_ms: int,
        done: "asyncio.Future[None]",
        room: asyncio.Semaphore,
    ) -> None:
        if delivered:
            await asyncio.gather(*delivered)
        done.set_result(None)
        if outcome.decisions and stamp_ms >= 0:
            self._metrics.histogram("decision_seconds").labels(stage).observe(max(0.0, time.time() - stamp_ms / 1000))
        room.release()
        self._leave()

    def _enter(self) -> None:
        self._under_way += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def _count(self, chunk: Chunk, stage: str, outcome: Outcome, seconds: float) -> None:
        metrics, counters = self._metrics, outcome.counters
        metrics.histogram("chunk_seconds").labels(stage).observe(seconds)
        metrics.counter("events").labels(chunk.topic).inc(len(chunk))
        metrics.counter("bytes").labels(chunk.topic).inc(len(chunk.buffer))
        for name, count in (
            ("late", counters.late + counters.late_rows),
            ("duplicates", counters.duplicates + outcome.repeated_records),
            ("refused", counters.refused),
            ("links_rows", counters.link_rows),
            ("evidence_rows", counters.findings),
        ):
            if count:
                metrics.counter(name).inc(count)
        for what, count in (
            ("content", counters.without_content),
            ("address", counters.without_address),
            ("age", counters.without_age),
            ("known_value", outcome.unknown_values),
        ):
            if count:
                metrics.counter("events_without").labels(what).inc(count)
        for kind, count in (("null", outcome.null_keys), ("foreign", outcome.foreign_keys)):
            if count:
                metrics.counter("misplaced_keys").labels(kind).inc(count)
        capped = sum(1 for decision in outcome.decisions if decision.status == "held")
        if capped:
            metrics.counter("held").labels("cap").inc(capped)
