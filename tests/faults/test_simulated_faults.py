"""Whatever fails and whenever: the same state, the same strongest actions, no decision lost, doubled or contradicted.

Each seed is one history of crashes, stops, rebalances, slow and failing sends, repeated deliveries, holes and wall
clocks set back or ahead; the oracle is the same input without any of it. A failing seed is in the test's name and runs
alone: ``pytest "tests/faults/test_simulated_faults.py::test_a_history_of_faults[17]"``. ``FAULT_SEEDS`` sets how many;
the default run has a few hundred.
"""

import asyncio
import os
import random
from collections import defaultdict

import orjson
import pytest
from pipeline_reference import ASK, START, account_signals, event, key_signals, low_policy
from simulated_broker import PARTITIONS, REQUESTS, SETTINGS, Broker, newest_by_subject, run_virtually
from simulated_group import Group

from streamdetect.kafka.plan import CHANGELOG, DECISIONS, ENFORCEMENT, full_name
from streamdetect.messages.decision import Decision
from streamdetect.pipeline.enforcement.rulings import RELEASED
from streamdetect.worker.publisher import is_enforced

SEEDS = int(os.environ.get("FAULT_SEEDS", "240"))
DAY_MS = 86_400_000
FAULTS_MAX = 12
LEVELS = {"observe": 1, "rate_limit": 2, "verify": 3, "suspend": 4}


def traffic():
    """Events in order of sending, with their partition: rings that share text, card and network; hammering ones."""
    found = []
    for number in range(160):
        ring = number % 3
        account = f"ring{ring}-{number % 24 // 3}"
        fields = {
            "account_created_at": START - DAY_MS,
            "prompt": f"{ASK} {ring} " + "very " * ring + "carefully please",
        }
        fields |= {"payment_id": f"card{ring}", "org_id": f"org{ring}", "client_ip": f"192.0.{ring}.{number % 8}"}
        if number % 7 == 5:
            account, fields = f"hammer{number % 2}", {"account_created_at": START - DAY_MS}
        if number % 11 == 3:
            account = f"old-{number}"
            # Of their own in everything: trust would clear a shared thing sooner or later, as the order of rows has it.
            fields = {"account_created_at": START - 400 * DAY_MS, "account_tier": "verified", "org_id": f"o{number}"}
        key = f"key{ring}" if account.startswith("ring") else f"key-{account}"
        value = event(number, account, START + number * 700, api_key_id=key, **fields)
        found.append((sum(account.encode()) % PARTITIONS, account.encode(), orjson.dumps(value)))
    return found


class History:
    """One run. ``decisions`` is the log by subject, ``enforced`` what is in force, ``signals`` the state at the end."""

    def __init__(self, seed: int, *, faults: bool, brake: bool = False) -> None:
        self.chance = random.Random(seed)
        self.faults, self.brake, self.happened = faults, brake, []
        run_virtually(self._live())

    async def _live(self) -> None:
        holes = 0.1 if self.faults and self.chance.random() < 0.5 else 0.0
        self.broker = Broker(self.chance, holes)
        self.group = Group(self.broker, low_policy(), self.chance, self.brake)
        await self.group.add()
        feeding = asyncio.create_task(self._feed())
        while not feeding.done():
            await asyncio.sleep(self.chance.random() * 2)
            if self.faults and len(self.happened) < FAULTS_MAX:
                await self._fault()
            await self.group.tend()
        await self._calm()
        self.decisions = defaultdict(list)
        for place, records in sorted(self.broker.logs.items()):
            if place[0] == SETTINGS.topic(DECISIONS):
                for record in records:
                    self.decisions[record.key].append(Decision.model_validate_json(record.value))
        self.enforced = {}
        for partition in range(PARTITIONS):
            self.enforced |= newest_by_subject(self.broker.logs[SETTINGS.topic(ENFORCEMENT), partition])
        self.signals = [self._signals(partition) for partition in range(PARTITIONS)]
        for one in self.group.members:
            one.end("over")

    async def _feed(self) -> None:
        for partition, key, value in traffic():
            if self.chance.random() < 0.3:
                await asyncio.sleep(self.chance.random() * 0.6)
            self.broker.append(REQUESTS, partition, key, value)

    async def _fault(self) -> None:
        alive = [one for one in self.group.members if one.ended is None and one.runs.is_set()]
        kinds = ("crash", "crash", "join", "leave", "rebalance", "stop", "slow", "fail", "zombie", "lose", "cut")
        kind = self.chance.choice(
            (*kinds, "clock", "clock", "clock") if self.brake else kinds
        )  # nothing else goes by it
        victim = self.chance.choice(alive) if alive else None
        if victim is None:
            return
        self.happened.append(kind)
        if kind == "crash":
            victim.end("killed")
        elif kind == "lose":
            self._lose_images(victim)
        elif kind == "join" and len(alive) < 3:
            await self.group.add()
        elif kind == "leave" and len(alive) > 1:
            await victim.leave()
            victim.end("stopped")
        elif kind == "rebalance":
            await self.group.rebalance()
        elif kind == "stop":
            victim.runs.clear()
            asyncio.get_running_loop().call_later(2.0, victim.runs.set)
        elif kind == "slow":
            self.broker.slow_s = 0.3
            asyncio.get_running_loop().call_later(5.0, setattr, self.broker, "slow_s", 0.0)
        elif kind == "fail":
            self.chance.choice(victim.senders).failing = True
        elif kind == "clock":
            victim.clock_wrong_s = self.chance.choice((-86_400.0, -600.0, 600.0, 3600.0))
        elif kind == "zombie":
            await self._stand_still(victim)
        elif kind == "cut":
            await self._cut_off(victim)

    def _lose_images(self, victim) -> None:
        """A process is gone, and with it the newest images of what it owned; what they held was committed.

        Nobody else goes on writing to a chain that lost its end: that would be told at the next start.
        """
        if any(one.generation != self.group.generation or not one.runs.is_set() for one in self.group.members):
            return
        owned = victim.assignment
        victim.end("killed")
        for partition in owned:
            # The slots keep eight images more than a chain needs.
            self.broker.lose(full_name(CHANGELOG, SETTINGS), partition, self.chance.randint(1, 4))

    async def _stand_still(self, victim) -> None:
        """Longer than the session: the others take over, and then it wakes."""
        victim.runs.clear()
        await asyncio.sleep(9.0)
        victim.given_up = True
        others = [one for one in self.group.members if one is not victim and one.ended is None]
        await (self.group.rebalance() if others else self.group.add())
        asyncio.get_running_loop().call_later(self.chance.random() * 3, victim.runs.set)

    async def _cut_off(self, victim) -> None:
        """It runs on without its group, which gives its partitions away, until it hears of that."""
        victim.cut = True
        asyncio.get_running_loop().call_later(self.chance.choice((3.0, 7.0, 12.0)), setattr, victim, "cut", False)
        await asyncio.sleep(9.0)  # the group counts from the last sign of life, so never sooner than the victim
        if victim.cut:
            victim.given_up = True
            others = [one for one in self.group.members if one is not victim and one.ended is None]
            await (self.group.rebalance() if others else self.group.add())

    async def _calm(self) -> None:
        """No more faults; until everything is processed and saved."""
        self.broker.slow_s = 0.0
        async with asyncio.timeout(600):
            while True:
                await self.group.tend()
                standing = [one for one in self.group.members if one.cut or not one.runs.is_set()]
                here = all(any(one.ownership.has(p) for one in self.group.members) for p in range(PARTITIONS))
                if not standing and here and self.group.settled():
                    return
                await asyncio.sleep(0.5)

    def _signals(self, partition: int):
        (owner,) = [one for one in self.group.members if one.ended is None and one.ownership.has(partition)]
        shard = owner.detector.shards[partition]
        rows, subnets = account_signals(shard.accounts.state)
        # Which eight facts a full ledger keeps, and the counts in them, depend on how far members were counted when it
        # was told; of which families they are does not.
        facts = [sorted({fact[0] for fact in row[-1]}) for row in rows]
        return [row[:-1] for row in rows], facts, subnets, key_signals(shard.associations.state)

    @property
    def strongest(self):
        return {
            subject: max((LEVELS[d.action] for d in log if d.status in ("issued", "renewed")), default=0)
            for subject, log in self.decisions.items()
        }


EXPECTED_ENDS = ("killed", "stopped", "UnreachableError")


def check_log(history):
    """No process ended for a reason of its own; one content for each revision, one revision for each decision
    taken, and the table is the fold of the log."""
    assert [end for end in history.group.endings if not end.split(": ")[1].startswith(EXPECTED_ENDS)] == []
    for subject, log in history.decisions.items():
        contents, issued, enforced = defaultdict(set), defaultdict(set), {}
        for d in log:
            contents[d.revision].add((d.decision_id, d.action, d.simulated))
            if d.status == "issued":
                issued[d.decision_id].add(d.revision)
            if is_enforced(d):
                enforced[d.revision] = None if d.status == RELEASED else d.decision_id
        assert all(len(same) == 1 for same in contents.values()), (subject, dict(contents))
        # A stale owner's last records can come after its successor has looked at the log; then one decision stands
        # there twice, and the higher revision is the one that counts.
        most = 1 + history.happened.count("zombie") + history.group.unclean
        assert all(len(revisions) <= most for revisions in issued.values()), (subject, dict(issued))
        raw = history.enforced.get(subject)
        in_force = None if raw is None else Decision.model_validate_json(raw).decision_id
        assert in_force == (enforced[max(enforced)] if enforced else None), subject


@pytest.fixture(scope="module")
def calm():
    history = History(0, faults=False)
    assert len(set(history.strongest.values())) > 2
    assert {key.split(b":")[0] for key in history.strongest} >= {b"account", b"api_key", b"subnet"}
    return history


def test_without_faults_nothing_is_in_doubt(calm):
    check_log(calm)
    assert History(1, faults=False).strongest == calm.strongest


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history_of_faults(calm, seed):
    history = History(seed, faults=True)
    assert history.signals == calm.signals, history.happened
    assert history.strongest == calm.strongest, history.happened
    check_log(history)


@pytest.mark.parametrize("seed", range(SEEDS // 4))
def test_a_history_of_faults_with_decisions_held_back(calm, seed):
    """What waits at the brake when its process ends is put in force by the next."""
    history = History(seed, faults=True, brake=True)
    assert history.strongest == calm.strongest, history.happened
    check_log(history)


def test_the_same_seed_is_the_same_history():
    first, second = History(5, faults=True), History(5, faults=True)
    assert first.happened == second.happened
    places = [
        [(place, [(record.offset, record.key) for record in log]) for place, log in sorted(one.broker.logs.items())]
        for one in (first, second)
    ]
    assert places[0] == places[1]
