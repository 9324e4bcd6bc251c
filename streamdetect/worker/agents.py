"""The Faust agents: one for each topic, each a loop that hands a chunk to the detector and sends what it led to.

While the outputs of a chunk are on their way the next chunk is worked on, up to ``IN_FLIGHT`` of them. The saver acks a
chunk, with the image that contains it. Any error ends the process with its chunks unacked.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import faust

from streamdetect.kafka.plan import ACCOUNTS, EVIDENCE, LINKS
from streamdetect.kernels.chunk import Chunk
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.detector import Detector, Outcome
from streamdetect.worker.engine import hot_topic
from streamdetect.worker.publisher import Publisher, Sent
from streamdetect.worker.saver import Saver

IN_FLIGHT = 4


class Agents:
    """Declares the agents of an app, and keeps count of what they do."""

    def __init__(
        self,
        app: faust.App,
        settings: Settings,
        detector: Detector,
        publisher: Publisher,
        saver: Saver,
        metrics: Metrics,
    ) -> None:
        self._app, self._publisher, self._saver, self._metrics = app, publisher, saver, metrics
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.last_stamp_ms: dict[tuple[str, int], int] = {}
        steps: dict[str, Callable[[Chunk], Outcome]] = dict.fromkeys(settings.request_topics, detector.requests)
        steps |= {
            settings.topic(LINKS): detector.links,
            settings.topic(EVIDENCE): detector.evidence,
            settings.topic(ACCOUNTS): detector.account_records,
        }
        for topic, step in steps.items():
            self._declare(topic, step)

    @staticmethod
    def topics(settings: Settings) -> frozenset[str]:
        """All topics that are delivered as chunks."""
        return frozenset({*settings.request_topics, *map(settings.topic, (LINKS, EVIDENCE, ACCOUNTS))})

    async def finish(self) -> None:
        """Wait until no chunk is under way."""
        await self._idle.wait()

    def _declare(self, topic: str, step: Callable[[Chunk], Outcome]) -> None:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def agent(stream: Any) -> None:
            async with asyncio.TaskGroup() as running:
                async for event in stream.noack().events():
                    await room.acquire()
                    self._enter()
                    outcome = self._process(event.value, step)
                    message, partition = event.message, event.message.partition
                    stamp_ms = int(event.value.timestamps_ms[-1])
                    del event
                    message.value = None  # until the ack it is only a place in the partition, not its bytes
                    # Before anything is awaited: an image taken meanwhile holds this chunk, and waits for its outputs.
                    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._saver.hold(partition, partial(self._app.consumer.ack, message), done)
                    delivered = await self._publisher.send(outcome, partition)
                    running.create_task(self._settle(step.__name__, outcome, delivered, stamp_ms, done, room))
                    # A chunk is a slice of 5 to 10 ms; heartbeats and other partitions get their turn in between.
                    await asyncio.sleep(0)

        self._app.agent(hot_topic(self._app, topic), name=f"streamdetect.{step.__name__}.{topic}", concurrency=1)(agent)

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
        self.last_stamp_ms[chunk.topic, chunk.partition] = int(chunk.timestamps_ms[-1])
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
