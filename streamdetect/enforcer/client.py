"""What a gateway embeds: follows what is in force and what people decided, and answers per request in process.

``check`` is a look-up in memory of about a microsecond; nothing on the way of a request waits for Kafka. It works with
no detector alive: records end by their own ``expires_at``, by wall clock, or, for old data, by the newest event time
seen. Records that cannot be read are counted and leave the subject as it was. Needs nothing of the detector.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

from streamdetect.enforcer.limits import RateLimiter
from streamdetect.enforcer.requests import PASS_STALE, GatewayRequest, Verdict
from streamdetect.enforcer.table import EnforcementTable
from streamdetect.kafka.fold import VANISHED, Record
from streamdetect.kafka.follower import READY_TIMEOUT_S, Follower, stop_all
from streamdetect.kafka.plan import ENFORCEMENT, OVERRIDES
from streamdetect.messages.base import INCOMING
from streamdetect.messages.decision import Decision, Heartbeat, Subject
from streamdetect.messages.override import Override
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics

__all__ = ["GatewayClient", "GatewayOptions", "GatewayRequest", "Verdict"]

HEARTBEAT: Final = b"heartbeat:"
KILL_KEY: Final = b"global:enforcement"
PARTITIONS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """How one gateway behaves. ``when_stale``: what to do after ``stale_after_s`` without a heartbeat.

    ``enforce`` keeps to what is in force until it ends; ``pass`` lets everything through but what people denied.
    """

    stale_after_s: float = 30.0
    when_stale: Literal["enforce", "pass"] = "enforce"
    metrics: Metrics | None = None
    wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000


class GatewayClient:
    """``async with GatewayClient(settings) as client``, ``await client.until_ready()``, then ``client.check(request)``.

    One event loop; not thread-safe.
    """

    def __init__(self, settings: Settings, options: GatewayOptions | None = None) -> None:
        self._options = options or GatewayOptions()
        self._by_event = settings.clock == "event"
        self._table = EnforcementTable()
        self._limiter = RateLimiter()
        self._newest_event_ms = 0
        self._beats: dict[int, int] = {}
        self.unreadable = 0
        metrics = self._options.metrics
        self._followers = (
            Follower(settings, settings.topic(OVERRIDES), self.take_override, metrics=metrics),
            Follower(settings, settings.topic(ENFORCEMENT), self.take_enforcement, metrics=metrics),
        )

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Begin to follow, in the background."""
        for follower in self._followers:
            follower.start()

    async def stop(self) -> None:
        """Stop following; what is in force stays readable. Raises what ended the following early, if anything did."""
        await stop_all(self._followers)

    def raise_if_ended(self) -> None:
        """Raise what ended the following, if anything did: from then on the answers are of the past."""
        for follower in self._followers:
            follower.check()

    async def until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until all that was in force at the start is known. Raises ``UnreachableError``."""
        for follower in self._followers:
            await follower.until_ready(timeout_s)

    @property
    def ready(self) -> bool:
        """Whether all that was in force at the start is known, and what changes still arrives."""
        return all(follower.ready.is_set() and not follower.ended for follower in self._followers)

    @property
    def stale(self) -> bool:
        """Whether some partition of the detector has been silent for longer than the option says, or all always.

        So is what no longer follows its topics.
        """
        if any(follower.ended for follower in self._followers):
            return True
        oldest = min(self._beats.values(), default=None)
        return oldest is None or self._options.wall_ms() - oldest > self._options.stale_after_s * 1000

    def now_ms(self) -> int:
        """The time records end by: wall clock, or the newest event time seen."""
        return self._newest_event_ms if self._by_event else self._options.wall_ms()

    def check(self, request: GatewayRequest, now_ms: int | None = None) -> Verdict:
        """What is in force for a request; counts nothing. ``now_ms``: time of the request, moves the event clock."""
        if self._by_event and now_ms is not None:
            self._see_event(now_ms)
            now_ms = self._newest_event_ms
        verdict = self._table.check(request, self.now_ms() if now_ms is None else now_ms)
        if verdict.cause == "decision" and self._options.when_stale == "pass" and self.stale:
            return PASS_STALE
        return verdict

    def admit(self, request: GatewayRequest, now_ms: int | None = None) -> Verdict:
        """``check``, with limits counted: ``denied`` says whether to serve, ``retry_after_ms`` when to come again."""
        verdict = self.check(request, now_ms)
        now = self.now_ms() if self._by_event or now_ms is None else now_ms
        if verdict.action == "suspend" and verdict.expires_at is not None:
            return replace(verdict, retry_after_ms=verdict.expires_at - now)
        if not verdict.limits:
            return verdict
        wait_ms = self._limiter.admit(verdict.limits, now, input_tokens=request.input_tokens)
        return verdict if wait_ms is None else replace(verdict, denied=True, retry_after_ms=wait_ms)

    def finish(self, verdict: Verdict, output_tokens: int, now_ms: int | None = None) -> None:
        """Count the output of an admitted exchange against limits on output tokens."""
        if verdict.limits:
            self._limiter.charge_output(verdict.limits, self.now_ms() if now_ms is None else now_ms, output_tokens)

    def take_enforcement(self, record: Record) -> None:
        """Take one record of ``enforcement.v1``; an unreadable one is counted."""
        try:
            if record.key.startswith(HEARTBEAT):
                self._take_heartbeat(record)
            elif record.value is None:
                subject = Subject.from_key(record.key.decode())
                self._table.clear_decision(subject, self.now_ms(), forget=record.offset == VANISHED)
            else:
                decision = Decision.model_validate_json(record.value, context=INCOMING)
                _demand_key(record, decision.subject.key)
                self._see_event(decision.issued_at)
                self._table.apply_decision(decision, self.now_ms())
        except ValueError:  # what pydantic, UTF-8, int() and we raise
            self.unreadable += 1

    def take_override(self, record: Record) -> None:
        """Take one record of ``overrides.v1``; an unreadable one is counted."""
        try:
            if record.value is not None:
                override = Override.model_validate_json(record.value)
                _demand_key(record, override.key)
                self._table.apply_override(override)
            elif record.key == KILL_KEY:
                self._table.clear_override(None)
            else:
                self._table.clear_override(Subject.from_key(record.key.decode()))
        except ValueError:  # what pydantic, UTF-8, int() and we raise
            self.unreadable += 1

    def _take_heartbeat(self, record: Record) -> None:
        if record.value is None:
            self._beats.pop(int(record.key.removeprefix(HEARTBEAT)), None)
            return
        beat = Heartbeat.model_validate_json(record.value)
        _demand_key(record, beat.key)
        if beat.partition in self._beats or len(self._beats) < PARTITIONS_MAX:
            self._beats[beat.partition] = beat.published_at
        if beat.watermark is not None:
            self._see_event(beat.watermark)

    def _see_event(self, at_ms: int) -> None:
        self._newest_event_ms = max(self._newest_event_ms, at_ms)


def _demand_key(record: Record, key: str) -> None:
    """A record under another key than its own would outlive its tombstone, and be written by whom nobody asked."""
    if record.key != key.encode():
        raise ValueError("the key and the content name different subjects")
