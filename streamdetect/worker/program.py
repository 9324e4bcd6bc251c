"""The live detector as one process: load the kernels, join the group, run until told to stop."""

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal

import faust
from faust.types import TP

from streamdetect.errors import StreamdetectError, UnreachableError
from streamdetect.kafka.follower import Follower
from streamdetect.kafka.outbox import Outbox
from streamdetect.kafka.plan import CHANGELOG, DECISIONS, ENFORCEMENT, full_name
from streamdetect.kafka.reader import TopicReader
from streamdetect.kafka.security import ssl_context
from streamdetect.messages.decision import Decision, Heartbeat
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.warm import warm
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.telemetry.logs import log
from streamdetect.telemetry.server import TelemetryServer
from streamdetect.worker.agents import Queued, declare_agents
from streamdetect.worker.brake import Brake
from streamdetect.worker.chunks import ChunkLimits
from streamdetect.worker.controls import Controls
from streamdetect.worker.detector import Detector
from streamdetect.worker.engine import MEMBER_BEAT_S, SESSION_S, declare_app, serve
from streamdetect.worker.gauges import Gauges
from streamdetect.worker.heap import give_large_blocks_back
from streamdetect.worker.in_force import InForce
from streamdetect.worker.lease import Lease
from streamdetect.worker.ownership import Ownership
from streamdetect.worker.pace import Pace
from streamdetect.worker.publisher import Publisher
from streamdetect.worker.recovery import Recovery
from streamdetect.worker.saver import Saver
from streamdetect.worker.store import declare_table
from streamdetect.worker.work import Work, input_topics

HEARTBEAT_S = 5.0
GAUGES_S = 1.0
LEASE_S = 0.25
SAVE_S = 0.25
LOG_END_S = 60.0
STOP_TIMEOUT_S = 15.0
LEAVE_S = 5.0


def run_worker(settings: Settings, policy: CompiledPolicy, mode: Literal["shadow", "live"], partitions: int) -> None:
    """Run until SIGTERM or SIGINT, on topics that were checked; ``partitions`` is the number they have in common."""
    started = time.perf_counter()
    give_large_blocks_back()
    log(__name__).info("loading kernels", hint="the first start on a machine compiles them, which takes about 20 s")
    warm()
    # What lives for ever need not be looked at again, and a chunk makes thousands of short-lived objects: with the
    # stock thresholds the collector costs more than the windows.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    log(__name__).info("kernels ready", seconds=round(time.perf_counter() - started, 2))
    asyncio.run(_ended_for_sure(Worker(settings, policy, mode, partitions)))


async def _ended_for_sure(worker: "Worker") -> None:
    """Run a worker; once it has failed the process ends, whatever of the engine still waits for something."""
    try:
        await worker.run()
    except Exception as error:
        code = error.exit_code if isinstance(error, StreamdetectError) else 1
        message = f"streamdetect: {error or type(error).__name__}: ended by force\n"

        def end() -> None:
            sys.stderr.write(message)
            os._exit(code)

        timer = threading.Timer(LEAVE_S, end)
        timer.daemon = True
        timer.start()
        raise


class Worker:
    """Everything a worker process is made of."""

    def __init__(
        self, settings: Settings, policy: CompiledPolicy, mode: Literal["shadow", "live"], partitions: int
    ) -> None:
        self._settings, self._policy, self._mode, self._partitions = settings, policy, mode, partitions
        self._metrics = Metrics()
        self._detector = Detector(
            policy, mode, settings.request_topics, partitions, lambda other: settings.mode or other.model.mode
        )
        self._controls = Controls(settings, policy, self._detector, self._metrics)
        self._lease = Lease(SESSION_S - MEMBER_BEAT_S, SESSION_S)
        self._app: faust.App | None = None
        self._pace = Pace(self._detector, self._consumer, settings.request_topics)
        self._work: Work | None = None
        self._saver: Saver | None = None
        self._in_force: InForce | None = None
        self._enforcement: Follower | None = None
        self._ownership: Ownership | None = None
        self._queued: Queued = {}
        self._stopping = False
        self._sure = False
        self._gauges = Gauges(self._metrics)

    async def run(self) -> None:
        """Serve until stopped."""
        settings = self._settings
        server = TelemetryServer(
            self._metrics,
            ready=lambda: self._ownership is not None and self._ownership.ready,
            host=settings.metrics_host,
            port=settings.metrics_port,
        )
        with server:
            sys.stderr.write(f"metrics on {server.url}/metrics\n")
            async with (
                self._outbox("decisions") as urgent,
                self._outbox("rows") as rows,
                self._outbox("images") as images,
                self._enforced(urgent),
                self._controls,
            ):
                app = self._build(urgent, rows, images)
                log(__name__).info(
                    "worker starts",
                    mode=self._mode,
                    policy=self._policy.model.id,
                    policy_hash=self._policy.hash,
                    partitions=self._partitions,
                )
                await serve(app, stop_timeout_s=STOP_TIMEOUT_S, before_stop=self._end_intake)
        log(__name__).info("worker stopped")

    def _outbox(self, name: str) -> Outbox:
        """A connection of its own for each kind of record, or decisions would wait behind megabytes of images.

        The client library has one request a broker under way. Nothing is compressed: packed rows are hashes, and images
        are by themselves.
        """
        return Outbox(self._settings, metrics=self._metrics, name=name, compression=None)

    @contextlib.asynccontextmanager
    async def _enforced(self, outbox: Outbox) -> AsyncIterator[None]:
        """Follow what is in force: revisions go on from there, and late records of stale owners are put right."""
        topic = self._settings.topic(ENFORCEMENT)
        self._in_force = InForce(
            topic, outbox, self._detector.hear, ours=self._detector.decides_on, guard=self._lease.check
        )
        if self._settings.mode == "shadow":  # whatever the policy says
            yield
            return
        async with Follower(self._settings, topic, self._in_force.seen, metrics=self._metrics) as follower:
            await follower.until_ready()
            self._enforcement = follower
            self._detector.adopt(self._in_force.records)
            log(__name__).info("adopted", in_force=len(self._in_force.records), unreadable=self._in_force.unreadable)
            yield

    def _build(self, urgent: Outbox, rows: Outbox, images: Outbox) -> faust.App:
        assert self._in_force is not None
        settings, brake = self._settings, self._brake(self._in_force)
        publisher = Publisher(
            settings,
            rows,
            self._metrics,
            brake,
            urgent=urgent,
            guard=self._lease.check,
            wrote=self._in_force.wrote,
        )
        changelog = full_name(CHANGELOG, settings)
        saver = self._saver = Saver(
            self._detector,
            images,
            changelog,
            interval_s=settings.image_interval_s,
            bytes_per_s=settings.image_bytes_per_s,
            metrics=self._metrics,
            held=(lambda _partition: ()) if brake is None else brake.held_of,
            log_ends=publisher.log_ends,
            guard=self._lease.check,
        )
        recovery = Recovery(
            self._detector,
            lambda: TopicReader(settings),
            changelog=changelog,
            decisions=settings.topic(DECISIONS),
            inputs=sorted(input_topics(settings)),
            metrics=self._metrics,
        )
        broker = ";".join(f"kafka://{address.strip()}" for address in settings.bootstrap_servers.split(","))
        app = declare_app(
            settings.group_id,
            broker,
            hot_topics=input_topics(settings),
            limits=ChunkLimits(records=settings.chunk_records),
            credentials=_credentials(settings),
            broker_client_id=settings.client_id,
        )
        declare_table(app, "state", partitions=self._partitions)
        self._app = app
        app.transport.heard = self._lease.heard
        lifted = self._controls.lifted = partial(self._say_lifted, publisher)
        self._ownership = Ownership(
            self._detector, saver, recovery, brake, publisher.enforce_again, app.crash, self._go_back, lifted
        )
        self._work = Work(
            settings,
            self._detector,
            publisher,
            saver,
            self._metrics,
            owns=self._owns,
            ack=self._ack,
            processed=self._pace.processed,
        )
        self._queued = declare_agents(app, input_topics(settings), self._work)
        app.on_partitions_assigned.connect(self._assigned)
        app.on_partitions_revoked.connect(self._revoked)
        self._every(LEASE_S, self._beat_lease)
        self._every(GAUGES_S, self._watch)
        self._every(SAVE_S, self._while_sure(saver.save_due))
        self._every(GAUGES_S, self._while_sure(publisher.release_held))
        self._every(LOG_END_S, lambda: self._note_log_end(publisher))
        self._every(HEARTBEAT_S, lambda: self._beat(publisher))
        return app

    def _say_lifted(self, publisher: Publisher, partition: int, decisions: Sequence[Decision]) -> None:
        """Publish what an override led to; no image that knows of it is written before."""
        if decisions:
            assert self._saver is not None
            self._saver.hold(partition, lambda: None, publisher.say(decisions, partition))

    def _every(self, interval_s: float, work: Callable[[], Any]) -> None:
        async def tick(*_: Any) -> None:
            await work()

        assert self._app is not None
        self._app.timer(interval=interval_s)(tick)

    def _while_sure(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
        async def unless_in_doubt() -> None:
            if self._lease.sure:
                await work()

        return unless_in_doubt

    def _brake(self, in_force: InForce) -> Brake | None:
        if self._settings.clock == "event":
            return None
        return Brake(
            self._settings.restrictions_per_minute,
            self._settings.lag_max_s,
            time.time,
            self._pace.behind_s,
            self._controls.killed,
            stands=in_force.stands,
        )

    async def _assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        assert self._app is not None
        assert self._ownership is not None
        self._app.consumer.set_gate(self._gate)
        self._app.consumer.set_needed(self._detector.needed)
        self._app.consumer.set_before_revoke(self._before_revoke, timeout_s=5.0)
        inputs = input_topics(self._settings)
        partitions = {tp.partition for tp in assigned if tp.topic in inputs}
        if torn := {tp for topic in inputs for tp in (TP(topic, partition) for partition in partitions)} - assigned:
            topics = ", ".join(sorted({tp.topic for tp in torn}))
            await self._app.crash(
                UnreachableError(
                    f"{topics}: deleted, or without some partitions, while it was read; start again when it is there"
                )
            )
            return
        self._lease.begin()
        self._pace.assigned(assigned)
        await self._ownership.assigned(partitions, self._app.consumer_generation_id)

    async def _go_back(self, partition: int) -> dict[str, int]:
        inputs = [TP(topic, partition) for topic in input_topics(self._settings)]
        return {tp.topic: committed for tp, committed in (await self._consumer().go_back(inputs)).items()}

    async def _revoked(self, _app: Any, _revoked: set[TP], **_: Any) -> None:
        assert self._ownership is not None
        self._pace.assigned(())
        await self._ownership.revoked()

    async def _before_revoke(self, _revoked: frozenset[TP]) -> None:
        await self._finish()

    async def _end_intake(self) -> None:
        # Under load the agents are never idle by themselves.
        self._stopping = True
        await self._finish()

    async def _finish(self) -> None:
        assert self._work is not None
        assert self._saver is not None
        await self._work.finish()
        await self._saver.save_all()

    def _consumer(self) -> Any:
        assert self._app is not None
        return self._app.consumer

    def _ack(self, message: Any) -> None:
        self._consumer().ack(message)

    def _owns(self, partition: int, generation: int) -> bool:
        assert self._app is not None
        assert self._ownership is not None
        return generation == self._app.consumer_generation_id and self._ownership.has(partition)

    def _gate(self, tp: TP) -> bool:
        """Whether the next chunk of a partition may be handed out."""
        assert self._ownership is not None
        ours = self._ownership.has(tp.partition) and self._lease.sure
        return ours and not self._stopping and self._pace.may_go_on(tp)

    async def _watch(self) -> None:
        """Once a second: whether all that this process hears by is still there, and what there is to see of it."""
        assert self._saver is not None
        assert self._in_force is not None
        self._controls.check()
        self._in_force.check()
        if self._enforcement is not None:
            self._enforcement.check()
        self._detector.pass_holes(self._pace.passed)
        self._gauges.show_partitions(self._pace)
        self._gauges.show_state(self._detector, self._saver.waiting, self._in_force.rewritten)
        self._gauges.show_policies(self._detector, killed=self._controls.killed(self._event_time_ms()))
        for topic, waiting in self._queued.items():
            self._metrics.gauge("queued_chunks").labels(topic).set(waiting())

    def _event_time_ms(self) -> int | None:
        """The time by which decisions end, ``None`` where that is the wall clock's."""
        if self._settings.clock != "event":
            return None
        return max(map(self._detector.watermark_ms, self._detector.shards), default=0)

    async def _beat_lease(self) -> None:
        assert self._app is not None
        if (sure := self._lease.sure) != self._sure:
            self._sure = sure
            told = "the group answers: intake goes on" if sure else "the group does not answer: intake stands still"
            log(__name__).warning(told, session_s=SESSION_S)
        try:
            self._lease.check()
        except UnreachableError as error:
            await self._app.crash(error)

    async def _note_log_end(self, publisher: Publisher) -> None:
        with contextlib.suppress(UnreachableError):  # whoever needs an answer now hears of it
            async with TopicReader(self._settings) as reader:
                publisher.log_reached(await reader.ends(self._settings.topic(DECISIONS)))

    async def _beat(self, publisher: Publisher) -> None:
        for tp in self._pace.partitions:
            beat = Heartbeat(
                partition=tp.partition,
                published_at=int(time.time() * 1000),
                watermark=self._detector.watermark_ms(tp.partition) or None,
                lag_ms=self._pace.behind_ms(tp),
                mode=self._detector.mode_in(tp.partition),
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
