"""A group of detectors on logs in memory, with every fault drawn from one seed.

Real are the detector, its work loop, saver, recovery, ownership, publisher, brake, fold of what is in force, lease and
the ledger of acks. In memory are the broker (``simulated_broker``) and the consumer. A crash is a process gone between
two steps of its loop: what it had handed over lands or does not, in order; nothing of it runs afterwards.
"""

import asyncio
import random
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipeline_reference import START
from simulated_broker import INPUTS, PARTITIONS, REQUESTS, SETTINGS, Broker, Reader, Sender

from streamdetect.errors import UnreachableError
from streamdetect.kafka.fold import Record
from streamdetect.kafka.plan import CHANGELOG, DECISIONS, ENFORCEMENT, full_name
from streamdetect.kernels.chunk import Chunk, chunk_of
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.ports import Stored
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.brake import Brake
from streamdetect.worker.detector import Detector
from streamdetect.worker.engine import MEMBER_BEAT_S, SESSION_S
from streamdetect.worker.in_force import InForce
from streamdetect.worker.lease import Lease
from streamdetect.worker.offsets import Delivery, Ledger
from streamdetect.worker.ownership import Ownership
from streamdetect.worker.publisher import Publisher
from streamdetect.worker.recovery import Recovery
from streamdetect.worker.saver import Saver
from streamdetect.worker.work import Work, input_topics

EARLY_S = START / 1000 - 3 * 3600  # a clock that is hours before the events, so that one set ahead ends nothing


@dataclass
class Message:
    partition: int
    generation_id: int
    value: Chunk | None
    delivery: Delivery


class Process:
    """One worker. ``members`` of the group get partitions by ``Group``."""

    def __init__(self, name: str, broker: Broker, policy: CompiledPolicy, chance: random.Random, brake: bool) -> None:
        self.name, self.broker, self.chance = name, broker, chance
        self.loop = asyncio.get_running_loop()
        self.ended: str | None = None
        self.runs = asyncio.Event()  # cleared: stopped by a signal
        self.runs.set()
        self.given_up = False  # stopped, or cut off, for longer than the session
        self.cut = False  # it runs, and its group does not hear of it nor answer
        self.generation, self.assignment = -1, set()
        self.flowing = False
        self.tasks: list[asyncio.Task] = []
        self.positions: dict[tuple[str, int], int] = {}
        self.ledgers: dict[tuple[str, int], Ledger] = defaultdict(Ledger)
        self.metrics = Metrics()
        self.urgent, self.rows, self.images = self.senders = tuple(Sender(broker, chance) for _ in range(3))
        self.lease = Lease(SESSION_S - MEMBER_BEAT_S, SESSION_S, self.loop.time)
        self.detector = Detector(policy, "live", (REQUESTS,), PARTITIONS)
        self.in_force = InForce(
            SETTINGS.topic(ENFORCEMENT), self.urgent, self.detector.hear, ours=self.detector.decides_on,
            guard=self.lease.check,
        )  # fmt: skip
        self.clock_wrong_s = 0.0
        wall_s = lambda: EARLY_S + self.loop.time() + self.clock_wrong_s  # noqa: E731
        self.brake = (
            Brake(6, 1e9, wall_s, lambda: 0.0, now_s=self.loop.time, stands=self.in_force.stands) if brake else None
        )
        self.publisher = Publisher(
            SETTINGS, self.rows, self.metrics, self.brake, urgent=self.urgent, guard=self.lease.check,
            wrote=self.in_force.wrote,
        )  # fmt: skip
        changelog = full_name(CHANGELOG, SETTINGS)
        self.saver = Saver(
            self.detector, self.images, changelog, interval_s=1.0, bytes_per_s=1e9, metrics=self.metrics,
            held=self.brake.held_of if self.brake else lambda _partition: (), log_ends=self.publisher.log_ends,
            guard=self.lease.check, now_s=self.loop.time,
        )  # fmt: skip
        recovery = Recovery(
            self.detector, self._reader, changelog=changelog, decisions=SETTINGS.topic(DECISIONS),
            inputs=sorted(input_topics(SETTINGS)), metrics=self.metrics,
        )  # fmt: skip
        self.ownership = Ownership(
            self.detector, self.saver, recovery, self.brake, self.publisher.enforce_again, self._fail, self._go_back
        )
        self.work = Work(
            SETTINGS, self.detector, self.publisher, self.saver, self.metrics, owns=self._owns, ack=self._acked
        )

    @asynccontextmanager
    async def _reader(self):
        yield Reader(self.broker, self.chance)

    def start(self) -> None:
        topic = SETTINGS.topic(ENFORCEMENT)
        for partition in range(PARTITIONS):
            for record in self.broker.compacted(topic, partition):
                self.in_force.seen(Record(record.key, record.value, partition, record.offset))
        self.detector.adopt(self.in_force.records)
        self.broker.watchers.append(self._watch)
        loops = [self.work.run(topic, self._messages(topic)) for topic in INPUTS]
        loops += [self._every(0.25, self._save), self._every(0.4, self._commit), self._every(0.25, self._beat)]
        loops += [self._every(1.0, self._release), self._every(2.0, self._show_itself)]
        loops += [self._every(1.5, self._note_log_end)]
        self.tasks += [asyncio.create_task(self._guarded(loop)) for loop in loops]

    async def _guarded(self, work) -> None:
        try:
            await work
        except* Exception as failed:  # noqa: BLE001  whatever ends a part of a process ends the process
            await self._fail(failed.exceptions[0])

    async def _fail(self, error) -> None:
        self.end(f"{type(error).__name__}: {error}")

    def end(self, why: str) -> None:
        """Gone, here and now. Only what the real process reports as well may end one."""
        if self.ended is not None:
            return
        self.ended = why
        self.flowing = False
        self.broker.watchers[:] = [watcher for watcher in self.broker.watchers if watcher != self._watch]
        for sender in self.senders:
            sender.crash()
        for task in self.tasks:
            task.cancel()
        task = self.ownership._task
        if task is not None:
            task.cancel()

    # What a consumer does

    async def leave(self) -> bool:
        """Partitions are about to go: stop intake, save what can be saved in time, commit. False if time ran out."""
        self.flowing = False
        try:
            async with asyncio.timeout(self.chance.choice((0.01, 0.2, 5.0))):
                await self.work.finish()
                await self.saver.save_all()
            in_time = True
        except TimeoutError:
            in_time = False
        except UnreachableError as error:
            await self._fail(error)
            return False
        await self._commit()
        await self.ownership.revoked()
        return in_time

    async def join(self, partitions: set[int], generation: int) -> None:
        self.generation, self.assignment = generation, partitions
        self.positions = {
            (topic, partition): self._start((topic, partition)) for topic in INPUTS for partition in partitions
        }
        self.ledgers.clear()
        self.lease.begin()
        self.given_up = False
        await self.ownership.assigned(partitions, generation)
        self.flowing = True

    def _start(self, place: tuple[str, int]) -> int:
        committed = self.broker.committed.get(place, 0)
        needed = self.detector.needed(place)
        return committed if needed is None else min(committed, needed)

    async def _go_back(self, partition: int) -> dict[str, int]:
        await asyncio.sleep(0)
        places = [(topic, partition) for topic in INPUTS]
        self.positions |= {place: self._start(place) for place in places}
        return {place[0]: self.broker.committed.get(place, 0) for place in places}

    def _owns(self, partition: int, generation: int) -> bool:
        return generation == self.generation and self.ownership.has(partition)

    def _acked(self, message: Message) -> None:
        message.delivery.acked = True

    async def _messages(self, topic: str):
        while True:
            await self.runs.wait()
            found = False
            for partition in sorted(self.assignment):
                here = self.flowing and self.ownership.has(partition) and self.lease.sure
                if here and (message := self._next(topic, partition)):
                    found = True
                    yield message
                    await self.runs.wait()
            if not found:
                await asyncio.sleep(0.05)

    def _next(self, topic: str, partition: int) -> Message | None:
        place = topic, partition
        start = self.positions[place]
        if self.chance.random() < 0.03:  # delivered again, as after a rebalance that changes nothing
            start = self._start(place)
            self.ledgers[place] = Ledger()
        records = [record for record in self.broker.logs[place] if record.offset >= start]
        records = records[: self.chance.randint(1, 9)]
        if not records:
            return None
        self.positions[place] = records[-1].offset + 1
        chunk = chunk_of(
            topic, partition, [r.value for r in records], keys=[r.key for r in records],
            offsets=[r.offset for r in records], timestamps_ms=[1_000] * len(records),
        )  # fmt: skip
        return Message(partition, self.generation, chunk, self.ledgers[place].deliver(records[-1].offset))

    async def _commit(self) -> None:
        if self.cut or self.generation != self.broker.generation:
            return  # the coordinator refuses members of an older generation
        for place, ledger in self.ledgers.items():
            if (offset := ledger.committable()) is not None:
                self.broker.committed[place] = offset

    async def _save(self) -> None:
        if self.lease.sure:
            await self.saver.save_due()

    async def _release(self) -> None:
        if self.lease.sure:
            await self.publisher.release_held()

    async def _note_log_end(self) -> None:
        self.publisher.log_reached(await Reader(self.broker, self.chance).ends(SETTINGS.topic(DECISIONS)))

    async def _show_itself(self) -> None:
        if not self.cut and self.generation == self.broker.generation:
            self.lease.heard(self.loop.time())

    async def _beat(self) -> None:
        self.lease.check()
        self.in_force.check()

    def _watch(self, topic: str, record: Stored) -> None:
        if topic == SETTINGS.topic(ENFORCEMENT):
            self.loop.call_soon(self._see, record)

    def _see(self, record: Stored) -> None:
        if self.ended is None and record.key is not None:
            self.in_force.seen(Record(record.key, record.value, record.partition, record.offset))

    async def _every(self, interval_s: float, work) -> None:
        while True:
            await asyncio.sleep(interval_s * (0.5 + self.chance.random()))
            await self.runs.wait()
            await work()


class Group:
    """The members and who has what; every change of members is a rebalance of all that answer."""

    def __init__(self, broker: Broker, policy: CompiledPolicy, chance: random.Random, brake: bool = False) -> None:
        self.broker, self.policy, self.chance, self.brake = broker, policy, chance, brake
        self.members: list[Process] = []
        self.generation, self.started = 0, 0
        self.unclean = 0  # how often something was still on its way when a partition went
        self.endings: list[str] = []

    async def add(self) -> Process:
        self.started += 1
        process = Process(f"w{self.started}", self.broker, self.policy, self.chance, self.brake)
        process.start()
        self.members.append(process)
        await self.rebalance()
        return process

    async def rebalance(self) -> None:
        # Who stands still for less than the session is waited for.
        answering = [one for one in self.members if not (one.given_up and (one.cut or not one.runs.is_set()))]
        for one in answering:
            await one.runs.wait()
        answering = [one for one in answering if one.ended is None]
        for one in answering:
            self.unclean += not await one.leave()
        answering = [one for one in answering if one.ended is None]
        self.generation += self.chance.choice((1, 1, 1, 2))
        self.broker.generation = self.generation
        share = {one.name: set() for one in answering}
        for partition in range(PARTITIONS):
            if answering:
                share[answering[(partition + self.generation) % len(answering)].name].add(partition)
        for one in answering:
            await one.join(share[one.name], self.generation)

    async def tend(self) -> None:
        """Notice the dead, and have at least one alive."""
        dead = [one for one in self.members if one.ended is not None]
        if dead:
            self.endings += [f"{one.name}: {one.ended}" for one in dead]
            self.members = [one for one in self.members if one.ended is None]
            if self.members:
                await self.rebalance()
        reached = [one for one in self.members if one.runs.is_set() and not one.cut]
        if any(one.generation != self.generation for one in reached):
            await self.rebalance()
        if all(one.given_up for one in self.members):
            await self.add()

    def settled(self) -> bool:
        """Whether every record of every input is in an acked image."""
        places = [(topic, partition) for topic in INPUTS for partition in range(PARTITIONS)]
        done = all(
            not self.broker.logs[place] or self.broker.committed.get(place, 0) > self.broker.logs[place][-1].offset
            for place in places
        )
        return done and all(
            not any(sender.waiting for sender in one.senders)
            and not (one.brake and any(map(one.brake.held_of, range(PARTITIONS))))
            for one in self.members
        )
