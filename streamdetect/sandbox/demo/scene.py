"""The traffic of the demo: one campaign and one innocent look-alike among ordinary accounts, from the simulator.

Who is who is known here and in the ledger only; no event says it. Texts are made slot by slot, so memory follows one
slot of event time (about 25 MB for the first day).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from streamdetect.enforcer.client import GatewayRequest
from streamdetect.traffic.catalogue.names import named
from streamdetect.traffic.simulation import Simulation, Spec
from streamdetect.traffic.speech.campaign import Templates

CAMPAIGN: Final = "C2"
LOOK_ALIKE: Final = "L5"
SCALE: Final = 0.01
BACKGROUND: Final = 1.0  # ordinary accounts per campaign account
# The simulator makes no more; at the speed of the demo this is more than a day of watching.
DAYS_MAX: Final = 3650


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as the gateway gets it. ``cover``: sent by a campaign to look ordinary, so nothing is lost by it."""

    event: dict[str, Any]
    at_ms: int
    account: str
    cover: bool

    def request(self) -> GatewayRequest:
        """What the gateway asks about."""
        event = self.event
        return GatewayRequest(
            account_id=self.account,
            org_id=event.get("org_id"),
            api_key_id=event.get("api_key_id"),
            client_ip=event.get("client_ip"),
            client_asn=event.get("client_asn"),
            account_tier=event.get("account_tier"),
            account_created_at=event.get("account_created_at"),
            input_tokens=event.get("input_tokens", 0),
        )


class Scene:
    """Traffic in order of event time, from ``start_ms`` on. Not thread-safe; made and read away from the event loop."""

    def __init__(self, seed: int) -> None:
        (campaign,) = named(CAMPAIGN)
        stream = campaign.first
        assert isinstance(stream.speech, Templates)
        self.templates = round(stream.speech.count * SCALE)
        self.requests_a_day = round(stream.cadence.rate_median)
        spec = Spec(scenarios=f"{CAMPAIGN}+{LOOK_ALIKE}", seed=seed, scale=SCALE, background=BACKGROUND, days=DAYS_MAX)
        simulation = Simulation(spec)
        self.start_ms = spec.start_ms
        cohorts: dict[str, str] = {}
        for line in simulation.labels():
            label = orjson.loads(line)
            if label["label"] != "other_abuse":  # neither the campaign nor honest: the demo is about those two
                cohorts[label["account_id"]] = label["cohort"]
        self.campaign = frozenset(account for account, cohort in cohorts.items() if cohort == CAMPAIGN)
        self.look_alikes = frozenset(account for account, cohort in cohorts.items() if cohort == LOOK_ALIKE)
        self.honest = frozenset(cohorts) - self.campaign
        self._exchanges = _exchanges(simulation)
        self._next: Exchange | None = None

    def take_until(self, end_ms: int) -> list[Exchange]:
        """Return the exchanges not taken yet that occur before ``end_ms``."""
        taken: list[Exchange] = []
        while True:
            exchange = self._next or next(self._exchanges, None)
            self._next = exchange
            if exchange is None or exchange.at_ms >= end_ms:
                return taken
            if exchange.account in self.campaign or exchange.account in self.honest:
                taken.append(exchange)
            self._next = None


def _exchanges(simulation: Simulation) -> Iterator[Exchange]:
    for batch in simulation.batches():
        cover = {orjson.loads(line)["event_id"] for line in batch.cover}
        for line in batch.lines:
            event = orjson.loads(line)
            yield Exchange(event, event["occurred_at"], event["account_id"], event["event_id"] in cover)
