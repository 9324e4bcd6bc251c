"""Outcomes onto topics: packed rows, evidence, dead letters, decisions and what is in force, through one outbox."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from streamdetect.errors import UnreachableError
from streamdetect.kafka.plan import DEAD_LETTERS, DECISIONS, ENFORCEMENT, EVIDENCE, LINKS
from streamdetect.messages.decision import Decision, Heartbeat
from streamdetect.ports import Sender, Stored
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.brake import Brake
from streamdetect.worker.detector import Outcome

Wrote = Callable[[bytes, int, bytes | None, "asyncio.Future[Stored]"], None]
Sent = list["asyncio.Future[Stored]"]


class Publisher:
    """Sends what chunks led to.

    ``brake`` is ``None`` on the event clock. ``guard`` raises when this process may not write any more; ``wrote`` hears
    of every record of the enforcement topic: key, revision, value, and the future of its delivery.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Sender,
        metrics: Metrics,
        brake: Brake | None,
        *,
        guard: Callable[[], None] = lambda: None,
        wrote: Wrote = lambda *_: None,
    ) -> None:
        self._outbox, self._metrics, self._brake = outbox, metrics, brake
        self._guard, self._wrote = guard, wrote
        self._log_ends: dict[int, int] = {}
        self._topics = {name: settings.topic(name) for name in (LINKS, EVIDENCE, DEAD_LETTERS, DECISIONS, ENFORCEMENT)}
        self._wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def log_ends(self) -> dict[int, int]:
        """By partition of the decision log, the offset after the newest decision of ours that was delivered."""
        return self._log_ends

    async def send(self, outcome: Outcome, partition: int = 0) -> Sent:
        """Hand over what a chunk of a partition led to; the futures resolve on delivery.

        Waits while the outbox is full.
        """
        self._guard()
        sent: Sent = []
        for owner, value in outcome.links:
            sent.append(await self._outbox.send(self._topics[LINKS], value, partition=owner))
        for owner, value in outcome.evidence:
            sent.append(await self._outbox.send(self._topics[EVIDENCE], value, partition=owner))
        for key, letter in outcome.dead_letters:
            self._metrics.counter("dead_letters").labels(letter.code).inc()
            sent.append(await self._outbox.send(self._topics[DEAD_LETTERS], letter.to_bytes(), key=key))
        for decision in outcome.decisions:
            sent += await self.publish(decision, partition)
        return sent

    async def say(self, decisions: Iterable[Decision], partition: int) -> None:
        """Publish decisions that no chunk led to; delivery is awaited."""
        self._guard()
        sent: Sent = []
        for decision in decisions:
            sent += await self.publish(decision, partition)
        await asyncio.gather(*sent)

    async def publish(self, decision: Decision, partition: int = 0) -> Sent:
        """Log a decision, and put it in force if it is one that is enforced; the brake may hold it."""
        sent: Sent = []
        for passed in [decision] if self._brake is None else self._brake.judge(decision, partition):
            if passed.status == "held" != decision.status:
                self._metrics.counter("held").labels("brake").inc()
            sent += await self._write(passed)
        return sent

    async def enforce_again(self, decisions: Iterable[Decision]) -> Sent:
        """Put in force what stands in the log already: its writer may have ended in between."""
        self._guard()
        return [await self._enforce(decision, decision.to_bytes()) for decision in decisions if is_enforced(decision)]

    async def release_held(self) -> None:
        """Publish what the brake lets pass by now; delivery is awaited."""
        if self._brake is None:
            return
        self._guard()
        sent: Sent = []
        for decision in self._brake.due():
            sent += await self._write(decision)
        self._metrics.gauge("queue_records").labels("brake").set(self._brake.held)
        dropped, self._brake.dropped = self._brake.dropped, 0
        self._metrics.counter("evictions").labels("held").inc(dropped)
        await asyncio.gather(*sent)

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Tell gateways that a partition is looked after."""
        self._guard()
        topic = self._topics[ENFORCEMENT]
        await (await self._outbox.send(topic, heartbeat.to_bytes(), key=heartbeat.key.encode()))

    async def _write(self, decision: Decision) -> Sent:
        stamped = decision.model_copy(update={"published_at": self._wall_ms()})
        key, value = decision.subject.key.encode(), stamped.to_bytes()
        labels = (decision.action, decision.status, str(decision.simulated).lower())
        self._metrics.counter("decisions").labels(*labels).inc()
        logged = await self._outbox.send(self._topics[DECISIONS], value, key=key)
        logged.add_done_callback(self._note_log_end)
        sent = [logged]
        if is_enforced(decision):
            sent.append(await self._enforce(decision, value))
        return sent

    async def _enforce(self, decision: Decision, value: bytes) -> "asyncio.Future[Stored]":
        key, in_force = decision.subject.key.encode(), None if decision.status == "released" else value
        landed = await self._outbox.send(self._topics[ENFORCEMENT], in_force, key=key)
        self._wrote(key, decision.revision, in_force, landed)
        return landed

    def _note_log_end(self, logged: "asyncio.Future[Stored]") -> None:
        with contextlib.suppress(UnreachableError, asyncio.CancelledError):  # told to whoever waits for it
            landed = logged.result()
            self._log_ends[landed.partition] = max(landed.offset + 1, self._log_ends.get(landed.partition, 0))


def is_enforced(decision: Decision) -> bool:
    """Whether a decision changes what is in force."""
    restricts = decision.status in ("issued", "renewed") and decision.action != "observe"
    return not decision.simulated and (restricts or decision.status == "released")
