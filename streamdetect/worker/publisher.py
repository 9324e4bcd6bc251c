"""Outcomes onto topics: packed rows, evidence, dead letters, decisions and what is in force, through one outbox.

Decisions about a subject reach both topics in the order in which they were made, whatever their senders wait for, and
what is put in force stands in the log before: whatever ends this process, the log knows all that gateways obey.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from streamdetect.errors import UnreachableError
from streamdetect.kafka.plan import DEAD_LETTERS, DECISIONS, ENFORCEMENT, EVIDENCE, LINKS
from streamdetect.messages.decision import Decision, Heartbeat
from streamdetect.ports import Sender, Stored
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.brake import Brake
from streamdetect.worker.detector import Outcome
from streamdetect.worker.turns import Turn, Turns

Wrote = Callable[[bytes, int, bytes | None, "asyncio.Future[Stored]"], None]
Sent = list["asyncio.Future[Any]"]


class Publisher:
    """Sends what chunks led to. ``urgent`` takes decisions and what is in force, ``outbox`` the rest.

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
        urgent: Sender | None = None,
        guard: Callable[[], None] = lambda: None,
        wrote: Wrote = lambda *_: None,
    ) -> None:
        self._outbox, self._urgent, self._metrics, self._brake = outbox, urgent or outbox, metrics, brake
        self._guard, self._wrote = guard, wrote
        self._log_ends: dict[int, int] = {}
        self._deciding, self._enforcing = Turns(), Turns()
        self._topics = {name: settings.topic(name) for name in (LINKS, EVIDENCE, DEAD_LETTERS, DECISIONS, ENFORCEMENT)}
        self._wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def log_ends(self) -> dict[int, int]:
        """By partition of the decision log, an offset before which every decision of ours was made before now."""
        return self._log_ends

    def log_reached(self, ends: Mapping[int, int]) -> None:
        """The decision log ends there, so whatever is decided from now on lies behind.

        For one who decides little: its successor need not read all that others have decided since its own last.
        """
        self._log_ends |= {number: max(end, self._log_ends.get(number, 0)) for number, end in ends.items()}

    async def send(self, outcome: Outcome, partition: int = 0) -> Sent:
        """Hand over what a chunk of a partition led to; the futures resolve on delivery.

        Waits while the outbox is full. Decisions go first: their place is taken before anything is waited for.
        """
        self._guard()
        sent: Sent = []
        if outcome.followed or outcome.decisions:
            sent += await self._decided(self._deciding.take(), outcome.decisions, partition, outcome.followed)
        for owner, value in outcome.links:
            sent.append(await self._outbox.send(self._topics[LINKS], value, partition=owner))
        for owner, value in outcome.evidence:
            sent.append(await self._outbox.send(self._topics[EVIDENCE], value, partition=owner))
        for key, letter in outcome.dead_letters:
            self._metrics.counter("dead_letters").labels(letter.code).inc()
            sent.append(await self._outbox.send(self._topics[DEAD_LETTERS], letter.to_bytes(), key=key))
        return sent

    def say(self, decisions: Iterable[Decision], partition: int) -> "asyncio.Future[None]":
        """Publish decisions that no chunk led to, in this moment's turn; done on delivery."""
        self._guard()
        turn = self._deciding.take()
        return _begun(turn, self._decided(turn, list(decisions), partition))

    async def enforce_again(self, decisions: Iterable[Decision]) -> Sent:
        """Put in force what stands in the log already: its writer may have ended in between."""
        self._guard()
        return await self._decided(self._deciding.take(), (), 0, decisions)

    async def release_held(self) -> None:
        """Publish what the brake lets pass by now; delivery is awaited. Until then images hold it as held."""
        if self._brake is None:
            return
        self._guard()
        async with self._deciding.take():
            sent = await self._write(self._brake.due())
        self._metrics.gauge("queue_records").labels("brake").set(self._brake.held)
        dropped, self._brake.dropped = self._brake.dropped, 0
        self._metrics.counter("evictions").labels("held").inc(dropped)
        await asyncio.gather(*sent)
        self._brake.delivered()

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Tell gateways that a partition is looked after."""
        self._guard()
        topic = self._topics[ENFORCEMENT]
        await (await self._urgent.send(topic, heartbeat.to_bytes(), key=heartbeat.key.encode()))

    async def _decided(
        self, turn: Turn, decisions: Sequence[Decision], partition: int, followed: Iterable[Decision] = ()
    ) -> Sent:
        """Put in force what was followed in the log, then publish decisions; the brake may hold some."""
        async with turn:
            again = [(decision, decision.to_bytes()) for decision in followed if is_enforced(decision)]
            sent: Sent = [self._in_force((), again)] if again else []
            return sent + await self._write([passed for one in decisions for passed in self._judged(one, partition)])

    def _judged(self, decision: Decision, partition: int) -> list[Decision]:
        """What the brake makes of a decision."""
        if self._brake is None:
            return [decision]
        passed = self._brake.judge(decision, partition)
        if decision.status != "held":
            self._metrics.counter("held").labels("brake").inc(sum(one.status == "held" for one in passed))
        return passed

    async def _write(self, decisions: Iterable[Decision]) -> Sent:
        """Log decisions, and put in force those that are enforced."""
        sent: Sent = []
        enforced = []
        for decision in decisions:
            stamped = decision.model_copy(update={"published_at": self._wall_ms()})
            value = stamped.to_bytes()
            labels = (decision.action, decision.status, str(decision.simulated).lower())
            self._metrics.counter("decisions").labels(*labels).inc()
            logged = await self._urgent.send(self._topics[DECISIONS], value, key=decision.subject.key.encode())
            logged.add_done_callback(self._note_log_end)
            sent.append(logged)
            if is_enforced(decision):
                enforced.append((decision, value))
        return [*sent, self._in_force(list(sent), enforced)] if enforced else sent

    def _in_force(
        self, logged: Sequence["asyncio.Future[Any]"], decisions: Sequence[tuple[Decision, bytes]]
    ) -> "asyncio.Future[None]":
        """Put decisions in force once they are ``logged``, after those of earlier calls."""
        turn = self._enforcing.take()
        return _begun(turn, self._enforced(turn, logged, decisions))

    async def _enforced(
        self, turn: Turn, logged: Sequence["asyncio.Future[Any]"], decisions: Sequence[tuple[Decision, bytes]]
    ) -> Sent:
        async with turn:
            await asyncio.gather(*map(asyncio.shield, logged))
            self._guard()
            return [await self._enforce(decision, value) for decision, value in decisions]

    async def _enforce(self, decision: Decision, value: bytes) -> "asyncio.Future[Stored]":
        key, in_force = decision.subject.key.encode(), None if decision.status == "released" else value
        landed = await self._urgent.send(self._topics[ENFORCEMENT], in_force, key=key)
        self._wrote(key, decision.revision, in_force, landed)
        return landed

    def _note_log_end(self, logged: "asyncio.Future[Stored]") -> None:
        with contextlib.suppress(UnreachableError, asyncio.CancelledError):  # told to whoever waits for it
            landed = logged.result()
            self.log_reached({landed.partition: landed.offset + 1})


def _begun(turn: Turn, handing_over: Coroutine[Any, Any, Sent]) -> "asyncio.Future[None]":
    """Begin what has taken a turn; done when everything it hands over is delivered."""

    async def deliver() -> None:
        await asyncio.gather(*await handing_over)

    delivered = asyncio.ensure_future(deliver())
    delivered.add_done_callback(lambda _: turn.give_up())  # it may be cancelled before it begins
    return delivered


def is_enforced(decision: Decision) -> bool:
    """Whether a decision changes what is in force."""
    restricts = decision.status in ("issued", "renewed") and decision.action != "observe"
    return not decision.simulated and (restricts or decision.status == "released")
