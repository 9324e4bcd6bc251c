"""Runs the demo: broker, detector, gateway and traffic, until the verdict, and on while a person watches.

Every process started here ends with this one, however it ends: children have a supervisor, which also notices SIGKILL.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamdetect.enforcer.client import GatewayClient, Verdict
from streamdetect.errors import UsageError
from streamdetect.kafka.fold import Record
from streamdetect.kafka.follower import Follower
from streamdetect.kafka.outbox import Outbox
from streamdetect.kafka.plan import DECISIONS
from streamdetect.kafka.topics import create_and_check
from streamdetect.messages.decision import Decision
from streamdetect.sandbox.cluster import Cluster, Tier, start_cluster
from streamdetect.sandbox.demo.detector import DetectorProcess
from streamdetect.sandbox.demo.gateway import Gateway, Pace
from streamdetect.sandbox.demo.ledger import Ledger
from streamdetect.sandbox.demo.scene import Exchange, Scene
from streamdetect.sandbox.demo.story import Story
from streamdetect.sandbox.demo.verdict import Figures, failures_of, figures_of
from streamdetect.sandbox.places import cache_root, claim_run_folder
from streamdetect.settings import Settings

SPEED: Final = 2400.0
HOURS: Final = 24.0
HOURS_MAX: Final = 240.0
SPEED_MAX: Final = 20_000.0
_PROGRESS_PARTS: Final = 8
_HOUR_MS: Final = 3_600_000
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to play. ``stay``: go on after the verdict until interrupted. ``policy``: a file, or the shipped policy."""

    seed: int = 1
    tier: str = Tier.MOCK
    policy: Path | None = None
    speed: float = SPEED
    hours: float = HOURS
    stay: bool = False

    def check(self) -> None:
        """Raise ``UsageError`` for values out of range."""
        if not 1 <= self.speed <= SPEED_MAX:
            raise UsageError(f"--speed must be from 1 to {SPEED_MAX:g}")
        if not 0 < self.hours <= HOURS_MAX:
            raise UsageError(f"--hours must be above 0 and at most {HOURS_MAX:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended. ``failures`` is empty when every gate held."""

    figures: Figures
    failures: list[str]
    broker: str
    start_s: float
    wall_s: float


def run_demo(options: DemoOptions, story: Story) -> Result:
    """Play the demo and return its verdict.

    Raises ``KeyboardInterrupt`` when interrupted before the verdict, ``GateError`` when the detector ends by itself,
    and ``UnreachableError`` when there is no broker to be had.
    """
    options.check()
    with _terminated_like_interrupted():
        began_s = time.monotonic()
        root = cache_root()
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(start_cluster(tier=options.tier))
            run = claim_run_folder(root)
            stack.callback(run.remove)
            stack.callback(_ignore_ends)
            return asyncio.run(_Play(options, story, cluster, run.path, began_s).until_stopped())


class _Play:
    def __init__(self, options: DemoOptions, story: Story, cluster: Cluster, folder: Path, began_s: float) -> None:
        self._options, self._story, self._cluster, self._folder = options, story, cluster, folder
        self._began_s = began_s
        self._settings = Settings(
            bootstrap_servers=cluster.bootstrap_servers, topic_admin="admin" in cluster.abilities, clock="event"
        )
        self._result: Result | None = None
        self._refused = self._found = False

    async def until_stopped(self) -> Result:
        """Play until the end or until a signal."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in _ENDS:
            loop.add_signal_handler(number, stop.set)
        playing, stopping = asyncio.create_task(self._play()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                await playing
        finally:
            stopping.cancel()
            playing.cancel()
            await asyncio.gather(playing, stopping, return_exceptions=True)
        if self._result is None:
            raise KeyboardInterrupt
        if self._options.stay:
            self._story.say("Ended: broker and detector are stopped, nothing is left behind.")
        return self._result

    async def _play(self) -> None:
        options, story = self._options, self._story
        await create_and_check(self._settings)
        detector = DetectorProcess(self._settings, self._folder, policy=options.policy)
        try:
            scene = await asyncio.to_thread(Scene, options.seed)
            story.start_ms = scene.start_ms
            story.opening(scene, self._cluster, hours=options.hours, speed=options.speed, policy=options.policy)
            await detector.until_ready(lambda doing: story.say(f"  ... {doing}", "dim"))
            playing, ended = asyncio.create_task(self._perform(scene)), asyncio.create_task(detector.until_ended())
            try:
                await asyncio.wait({playing, ended}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    story.say("The detector has ended by itself, so the demo ends too.", "bold red")
                    await ended
                await playing
            finally:
                playing.cancel()
                ended.cancel()
                await asyncio.gather(playing, ended, return_exceptions=True)
        finally:
            await asyncio.to_thread(detector.stop)

    async def _perform(self, scene: Scene) -> None:
        """The traffic: the part that is judged, then, while a person watches, what comes after."""
        settings, options, story = self._settings, self._options, self._story
        ledger = Ledger(scene.campaign, scene.honest)
        part_ms = round(options.hours * _HOUR_MS / _PROGRESS_PARTS)
        slot = await asyncio.to_thread(scene.take_until, scene.start_ms + part_ms)
        witness = Follower(settings, settings.topic(DECISIONS), lambda record: self._witness(record, ledger))
        async with Outbox(settings) as outbox, witness, GatewayClient(settings) as client:
            await witness.until_ready()
            await client.until_ready()
            gateway = Gateway(client, outbox, settings.request_topics[0], ledger, self._requested)
            began_s = time.monotonic()
            start_s = began_s - self._began_s
            story.say(f"  ready after {start_s:.0f} s", "dim")
            story.say()
            story.at(scene.start_ms, "traffic begins")
            pace = Pace(options.speed, scene.start_ms, began_s)
            part = 0
            while part < _PROGRESS_PARTS or options.stay:
                part += 1
                end_ms = scene.start_ms + part * part_ms
                making = asyncio.create_task(asyncio.to_thread(scene.take_until, end_ms + part_ms))
                await gateway.play(slot, pace)
                await pace.wait(end_ms)
                self._tell(end_ms, ledger)
                slot = await making
                if part == _PROGRESS_PARTS:
                    self._judge(ledger, start_s, time.monotonic() - began_s)

    def _witness(self, record: Record, ledger: Ledger) -> None:
        if record.value is None:
            return
        try:
            decision = Decision.model_validate_json(record.value)
        except ValueError:
            return  # not for people to see here; gateways count what they cannot read
        ledger.note_decision(decision, time.monotonic())
        if not self._found and decision.status == "issued" and decision.action != "observe":
            self._found = True
            self._story.first_finding(decision)

    def _requested(self, exchange: Exchange, _verdict: Verdict, outcome: str) -> None:
        if outcome != "served" and not self._refused:
            self._refused = True
            self._story.first_refusal(exchange.at_ms, exchange.account, outcome)

    def _tell(self, at_ms: int, ledger: Ledger) -> None:
        figures = figures_of(ledger)
        if self._result is None:
            self._story.progress(at_ms, figures)
        else:
            self._story.since_verdict(at_ms, self._result.figures.campaign, figures.campaign)

    def _judge(self, ledger: Ledger, start_s: float, wall_s: float) -> None:
        figures = figures_of(ledger)
        failures = failures_of(figures)
        self._result = Result(
            figures=figures, failures=failures, broker=self._cluster.describe(), start_s=start_s, wall_s=wall_s
        )
        self._story.sum(figures, hours=self._options.hours, wall_s=wall_s)
        if failures:
            self._story.failed(failures)
        else:
            self._story.passed()
        if self._options.stay:
            self._story.goes_on()


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends everything in order, exactly as Ctrl-C does; afterwards signals are as they were."""
    before = {number: signal.getsignal(number) for number in _ENDS}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_ends() -> None:
    """From here on everything is being ended already; a second Ctrl-C must not leave it half done."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
