"""Small runs of the simulator: what was sent, by whom, and what the attackers wrote down."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network

import orjson

from streamdetect.traffic.catalogue.names import CATALOGUE
from streamdetect.traffic.simulation import Simulation, Spec

# Small enough to be quick and large enough to see the law: about a hundred accounts and a few thousand events.
SIZES = {
    "C1": (0.1, 0.05),
    "C5": (0.002, 0.5),
    "C8b": (0.002, 0.3),
    "C13": (0.05, 0.15),
    "C14": (0.002, 1.0),
    "C15": (0.04, 1.0),
    "C16": (0.1, 0.5),
    "C16b": (0.1, 0.5),
    "C22": (0.1, 1.0),
    "L1": (1.0, 0.05),
    "L2": (0.02, 0.5),
    "L3": (0.01, 3.0),
    "L4": (0.01, 0.5),
    "L6": (0.01, 2.0),
    "L7": (0.1, 2.0),
    "L8": (0.2, 2.0),
    "L9": (0.02, 0.5),
    "L10": (0.1, 0.5),
    "L11": (0.1, 1.0),
    "L12": (0.05, 0.5),
    "L13": (1.0, 0.5),
    "L14": (0.15, 0.15),
}
SEED = 29
SCENARIOS = {scenario.name: scenario for scenario in CATALOGUE}


@dataclass(frozen=True)
class Run:
    """``mine`` are the events of the scenario's own accounts; ``template`` and ``cover`` go by event id."""

    name: str
    simulation: Simulation
    lines: list[bytes]
    events: list[dict]
    labels: list[dict]
    mine: list[dict]
    template: dict[str, int]
    cover: set[str]
    attack: list[dict]

    def tasks(self):
        """What the campaign is after: its events without cover."""
        return [event for event in self.mine if event["event_id"] not in self.cover]

    def by_account(self, events=None):
        groups = defaultdict(list)
        for event in self.mine if events is None else events:
            groups[event["account_id"]].append(event)
        return groups

    def per_account(self):
        return Counter(event["account_id"] for event in self.tasks())


def sizes_of(name: str) -> tuple[float, float]:
    return SIZES.get(name, (0.004, 1.0))


def spec_of(name: str, **changes) -> Spec:
    scale, days = sizes_of(name)
    return Spec(**{"scenarios": name, "seed": SEED, "scale": scale, "days": days, "background": 0.0} | changes)


@lru_cache(maxsize=6)
def simulated(name: str, **changes) -> Run:
    simulation = Simulation(spec_of(name, **changes))
    lines, attack, cover = [], [], set()
    for batch in simulation.batches():
        lines += batch.lines
        attack += [orjson.loads(line) for line in batch.attack.splitlines()]
        cover |= {orjson.loads(line)["event_id"] for line in batch.cover}
    labels = [orjson.loads(line) for line in simulation.labels()]
    members = {row["account_id"] for row in labels if row["cohort"] == name}
    events = [orjson.loads(line) for line in lines]
    template = {row["event_id"]: row["template"] for row in attack if "template" in row}
    mine = [event for event in events if event["account_id"] in members]
    return Run(name, simulation, lines, events, labels, mine, template, cover, attack)


def digest(spec: Spec) -> str:
    found = hashlib.sha256()
    for batch in Simulation(spec).batches():
        found.update(batch.requests)
        found.update(batch.attack)
    return found.hexdigest()


def subnet(event: dict) -> str:
    """The /24 or /64 of an event's address."""
    address = event["client_ip"]
    return str(ip_network(f"{address}/{64 if ':' in address else 24}", strict=False))


def is_young(event: dict) -> bool:
    created = event.get("account_created_at")
    return created is not None and (
        event["occurred_at"] - created < 30 * 86_400_000 or event["account_tier"] == "unpaid"
    )


def shingles(text: str, size: int) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
