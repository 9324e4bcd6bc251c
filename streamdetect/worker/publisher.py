"""Outcomes onto topics: packed rows, evidence, dead letters, decisions and what is in force, through one outbox."""

import asyncio
import time
from collections.abc import Callable

from streamdetect.kafka.outbox import Outbox
from streamdetect.kafka.plan import DEAD_LETTERS, DECISIONS, ENFORCEMENT, EVIDENCE, LINKS
from streamdetect.messages.decision import Decision, Heartbeat
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.brake import Brake
from streamdetect.worker.detector import Outcome

Sent = list["asyncio.Future[None]"]


class Publisher:
    """Sends what chunks led to. ``brake`` is ``None`` on the event clock."""

    def __init__(self, settings: Settings, outbox: Outbox, metrics: Metrics, brake: Brake | None) -> None:
        self._outbox, self._metrics, self._brake = outbox, metrics, brake
        self._topics = {name: settings.topic(name) for name in (LINKS, EVIDENCE, DEAD_LETTERS, DECISIONS, ENFORCEMENT)}
        self._wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    async def send(self, outcome: Outcome) -> Sent:
        """Hand everything over; the futures resolve on delivery. Waits while the outbox is full."""
        sent: Sent = []
        for partition, value in outcome.links:
            sent.append(await self._outbox.send(self._topics[LINKS], value, partition=partition))
        for partition, value in outcome.evidence:
            sent.append(await self._outbox.send(self._topics[EVIDENCE], value, partition=partition))
        for key, letter in outcome.dead_letters:
            self._metrics.counter("dead_letters").labels(letter.code).inc()
            sent.append(await self._outbox.send(self._topics[DEAD_LETTERS], letter.to_bytes(), key=key))
        for decision in outcome.decisions:
            sent += await self.publish(decision)
        return sent

    async def publish(self, decision: Decision) -> Sent:
        """Log a decision, and put it in force if it is one that is enforced; the brake may hold it."""
        sent: Sent = []
        for passed in [decision] if self._brake is None else self._brake.judge(decision):
            sent += await self._write(passed)
        return sent

    async def release_held(self) -> None:
        """Publish what the brake lets pass by now; delivery is awaited."""
        if self._brake is None:
            return
        sent: Sent = []
        for decision in self._brake.due():
            sent += await self._write(decision)
        self._metrics.gauge("queue_records").labels("brake").set(self._brake.held)
        await asyncio.gather(*sent)

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Tell gateways that a partition is looked after."""
        topic = self._topics[ENFORCEMENT]
        await (await self._outbox.send(topic, heartbeat.to_bytes(), key=heartbeat.key.encode()))

    async def _write(self, decision: Decision) -> Sent:
        stamped = decision.model_copy(update={"published_at": self._wall_ms()})
        key, value = decision.subject.key.encode(), stamped.to_bytes()
        labels = (decision.action, decision.status, str(decision.simulated).lower())
        self._metrics.counter("decisions").labels(*labels).inc()
        if decision.status == "held":
            self._metrics.counter("held").labels("brake").inc()
        sent = [await self._outbox.send(self._topics[DECISIONS], value, key=key)]
        if is_enforced(decision):
            in_force = None if decision.status == "released" else value
            sent.append(await self._outbox.send(self._topics[ENFORCEMENT], in_force, key=key))
        return sent


def is_enforced(decision: Decision) -> bool:
    """Whether a decision changes what is in force."""
    restricts = decision.status in ("issued", "renewed") and decision.action != "observe"
    return not decision.simulated and (restricts or decision.status == "released")
