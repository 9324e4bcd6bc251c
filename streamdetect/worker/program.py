"""The live detector as one process: load the kernels, join the group, run until told to stop."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import faust
from faust.types import TP

from streamdetect.kafka.follower import read_all
from streamdetect.kafka.outbox import Outbox
from streamdetect.kafka.plan import ENFORCEMENT
from streamdetect.kafka.security import ssl_context
from streamdetect.messages.decision import Decision, Heartbeat
from streamdetect.messages.reading import read
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.warm import warm
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.telemetry.logs import log
from streamdetect.telemetry.server import TelemetryServer
from streamdetect.worker.agents import Agents
from streamdetect.worker.brake import Brake
from streamdetect.worker.chunks import ChunkLimits
from streamdetect.worker.detector import Detector
from streamdetect.worker.engine import declare_app, serve
from streamdetect.worker.publisher import Publisher
from streamdetect.worker.store import declare_table

HEARTBEAT_S = 5.0
GAUGES_S = 1.0
STOP_TIMEOUT_S = 20.0


def run_worker(settings: Settings, policy: CompiledPolicy, mode: Literal["shadow", "live"], partitions: int) -> None:
    """Run until SIGTERM or SIGINT, on topics that were checked; ``partitions`` is the number they have in common."""
    started = time.perf_counter()
    warm()
    # What lives for ever need not be looked at again, and a chunk makes thousands of short-lived objects: with the
    # stock thresholds the collector costs more than the windows.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    log(__name__).info("kernels ready", seconds=round(time.perf_counter() - started, 2))
    asyncio.run(Worker(settings, policy, mode, partitions).run())


class Worker:
    """Everything a worker process is made of."""

    def __init__(
        self, settings: Settings, policy: CompiledPolicy, mode: Literal["shadow", "live"], partitions: int
    ) -> None:
        self._settings, self._policy, self._mode, self._partitions = settings, policy, mode, partitions
        self._metrics = Metrics()
        self._detector = Detector(policy, mode, settings.request_topics, partitions)
        self._app: faust.App | None = None
        self._agents: Agents | None = None
        self._ready = False
        self._stopping = False
        self._evicted = 0

    async def run(self) -> None:
        """Serve until stopped."""
        settings = self._settings
        server = TelemetryServer(
            self._metrics, ready=lambda: self._ready, host=settings.metrics_host, port=settings.metrics_port
        )
        with server:
            sys.stderr.write(f"metrics on {server.url}/metrics\n")
            # Packed rows are hashes, which do not compress: lz4 took a fifth of the worker's time for nothing.
            async with Outbox(settings, metrics=self._metrics, compression=None) as outbox:
                publisher = Publisher(settings, outbox, self._metrics, self._brake())
                if self._mode == "live":
                    await self._adopt()
                app = self._build(publisher)
                log(__name__).info(
                    "worker starts",
                    mode=self._mode,
                    policy=self._policy.model.id,
                    policy_hash=self._policy.hash,
                    partitions=self._partitions,
                )
                await serve(app, stop_timeout_s=STOP_TIMEOUT_S, before_stop=self._end_intake)
        log(__name__).info("worker stopped")

    async def _adopt(self) -> None:
        """Go on from what is in force, so that revisions rise over restarts and nothing in force is decided twice."""
        records = await read_all(self._settings, self._settings.topic(ENFORCEMENT))
        found = [read(Decision, value) for key, value in records.items() if not key.startswith(b"heartbeat:")]
        decisions = [decision for decision in found if isinstance(decision, Decision)]
        self._detector.adopt(decisions)
        log(__name__).info("adopted", in_force=len(decisions), unreadable=len(found) - len(decisions))

    def _build(self, publisher: Publisher) -> faust.App:
        settings = self._settings
        broker = ";".join(f"kafka://{address.strip()}" for address in settings.bootstrap_servers.split(","))
        app = declare_app(
            settings.group_id,
            broker,
            hot_topics=Agents.topics(settings),
            limits=ChunkLimits(records=settings.chunk_records),
            credentials=_credentials(settings),
            broker_client_id=settings.client_id,
        )
        declare_table(app, "state", partitions=self._partitions)
        self._app = app
        self._agents = Agents(app, settings, self._detector, publisher, self._metrics)
        app.on_partitions_assigned.connect(self._assigned)
        app.on_partitions_revoked.connect(self._revoked)
        self._every(GAUGES_S, self._watch)
        self._every(GAUGES_S, publisher.release_held)
        self._every(HEARTBEAT_S, lambda: self._beat(publisher))
        return app

    def _every(self, interval_s: float, work: Callable[[], Any]) -> None:
        async def tick(*_: Any) -> None:
            await work()

        assert self._app is not None
        self._app.timer(interval=interval_s)(tick)

    def _brake(self) -> Brake | None:
        if self._settings.clock == "event":
            return None
        return Brake(self._settings.restrictions_per_minute, self._settings.lag_max_s, time.time, self._behind_s)

    async def _assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        assert self._app is not None
        self._detector.keep_only({tp.partition for tp in assigned})
        self._app.consumer.set_gate(self._gate)
        self._app.consumer.set_before_revoke(self._before_revoke, timeout_s=5.0)
        self._ready = True

    async def _revoked(self, _app: Any, _revoked: set[TP], **_: Any) -> None:
        self._ready = False

    async def _before_revoke(self, _revoked: frozenset[TP]) -> None:
        await self._finish()

    async def _end_intake(self) -> None:
        # Under load the agents are never idle by themselves.
        self._stopping = True
        await self._finish()

    async def _finish(self) -> None:
        assert self._agents is not None
        await self._agents.finish()

    def _request_partitions(self) -> list[TP]:
        assert self._app is not None
        return [tp for tp in self._app.consumer.assignment() if tp.topic in self._settings.request_topics]

    def _lag_records(self, tp: TP) -> int:
        """Records of a partition not processed yet; 0 while the broker has not told its end."""
        assert self._app is not None
        consumer = self._app.consumer
        end = consumer.highwater(tp) or 0
        done = self._detector.position((tp.topic, tp.partition)) + 1
        if end > done and not consumer.in_flight(tp):
            done = max(done, consumer.reached(tp))
        return max(0, end - done)

    def _behind_ms(self, tp: TP) -> int:
        """How much older than now the newest processed record is, by broker time; 0 when nothing waits."""
        assert self._agents is not None
        if not self._lag_records(tp):
            return 0
        stamp_ms = self._agents.last_stamp_ms.get((tp.topic, tp.partition), -1)
        return max(0, int(time.time() * 1000) - stamp_ms) if stamp_ms >= 0 else 0

    def _behind_s(self) -> float:
        return max((self._behind_ms(tp) for tp in self._request_partitions()), default=0) / 1000

    def _gate(self, tp: TP) -> bool:
        """Hold a request partition back while it is too far ahead, in event time, of the slowest busy one."""
        if self._stopping or tp.topic not in self._settings.request_topics:
            return not self._stopping
        ahead = self._detector.watermark_ms(tp.partition) - self._policy.model.max_skew_ms
        if ahead <= 0:
            return True
        others = (other for other in self._request_partitions() if other.partition != tp.partition)
        return all(self._detector.watermark_ms(o.partition) >= ahead for o in others if self._lag_records(o))

    async def _watch(self) -> None:
        """Gauges, once a second."""
        metrics = self._metrics
        for name in ("lag_records", "watermark_seconds", "lag_seconds"):
            metrics.gauge(name).clear()  # a partition that went to another worker is not ours to report
        for tp in self._request_partitions():
            labels = (tp.topic, str(tp.partition))
            watermark_ms = self._detector.watermark_ms(tp.partition)
            metrics.gauge("lag_records").labels(*labels).set(self._lag_records(tp))
            metrics.gauge("watermark_seconds").labels(*labels).set(watermark_ms / 1000)
            metrics.gauge("lag_seconds").labels(*labels).set(self._behind_ms(tp) / 1000)
        metrics.gauge("tracked_accounts").set(self._detector.tracked_accounts)
        metrics.gauge("tracked_keys").set(self._detector.tracked_keys)
        evicted = self._detector.evicted
        metrics.counter("evictions").labels("state").inc(max(0, evicted - self._evicted))
        self._evicted = evicted

    async def _beat(self, publisher: Publisher) -> None:
        for tp in self._request_partitions():
            beat = Heartbeat(
                partition=tp.partition,
                published_at=int(time.time() * 1000),
                watermark=self._detector.watermark_ms(tp.partition) or None,
                lag_ms=self._behind_ms(tp),
                mode=self._mode,
            )
            await publisher.beat(beat)


def _credentials(settings: Settings) -> Any:
    context = ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        assert settings.sasl_password is not None
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password.get_secret_value(),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return context
