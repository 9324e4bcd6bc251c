"""The demo's gateway: asks before each request what is in force, refuses or serves, and reports what it did.

It knows what any gateway knows: the request, ``enforcement.v1`` and ``overrides.v1``. It keeps to the pace of the
scene; when this process falls behind, event time waits instead of rushing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import orjson

from streamdetect.enforcer.client import GatewayClient, Verdict
from streamdetect.kafka.outbox import Outbox
from streamdetect.sandbox.demo.ledger import Ledger
from streamdetect.sandbox.demo.scene import Exchange

OUTCOMES: Final = {"suspend": "blocked", "verify": "challenged", "rate_limit": "rate_limited"}
STATUSES: Final = {"blocked": 403, "challenged": 403, "rate_limited": 429}
# What only a served exchange has.
_SERVED_ONLY: Final = ("output_tokens", "duration_ms", "finish_reason")
# Requests go in steps of this length: the mock broker hands out one batch of a partition a fetch, however small.
_STEP_S: Final = 0.1
_BEHIND_MAX_S: Final = 0.5
_TURN_EVERY: Final = 50  # events between turns of the event loop when there is nothing to wait for


@dataclass(slots=True)
class Pace:
    """When an exchange is due: ``speed`` times life from ``start_ms``, which was at ``began_s``."""

    speed: float
    start_ms: int
    began_s: float

    async def wait(self, at_ms: int) -> None:
        """Wait until event time ``at_ms`` is due, at most a step longer; shifts the schedule when that is long over."""
        ahead_s = self.began_s + (at_ms - self.start_ms) / 1000 / self.speed - time.monotonic()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s + _STEP_S)
        elif ahead_s < -_BEHIND_MAX_S:
            self.began_s -= ahead_s


class Gateway:
    """Passes requests one after another. ``on_request`` hears of each: exchange, verdict, outcome."""

    def __init__(
        self,
        client: GatewayClient,
        outbox: Outbox,
        topic: str,
        ledger: Ledger,
        on_request: Callable[[Exchange, Verdict, str], None],
    ) -> None:
        self._client, self._outbox, self._topic, self._ledger = client, outbox, topic, ledger
        self._on_request = on_request

    async def play(self, exchanges: Iterable[Exchange], pace: Pace) -> None:
        """Pass all exchanges, each when it is due; returns when the broker has the events."""
        for number, exchange in enumerate(exchanges):
            await pace.wait(exchange.at_ms)
            await self._pass(exchange)
            if number % _TURN_EVERY == 0:
                await asyncio.sleep(0)
        await self._outbox.drain()

    async def _pass(self, exchange: Exchange) -> None:
        verdict = self._client.admit(exchange.request(), exchange.at_ms)
        outcome = OUTCOMES[verdict.action] if verdict.denied else "served"
        self._ledger.note_request(exchange, outcome, verdict.action, time.monotonic())
        self._on_request(exchange, verdict, outcome)
        await self._outbox.send(self._topic, _line(exchange, verdict, outcome), key=exchange.account.encode())


def _line(exchange: Exchange, verdict: Verdict, outcome: str) -> bytes:
    """The event as this gateway reports it."""
    if outcome == "served":
        return orjson.dumps(exchange.event)
    event = {name: value for name, value in exchange.event.items() if name not in _SERVED_ONLY}
    event |= {"outcome": outcome, "decision_id": verdict.decision_id, "http_status": STATUSES[outcome]}
    return orjson.dumps(event)
