"""A group of detectors on logs in memory, with every fault drawn from one seed.

Real are the detector, its work loop, saver, recovery, ownership, publisher, brake, fold of what is in force, lease and
the ledger of acks. In memory are the broker and the consumer. Time is virtual: the loop jumps to the next timer, and a
run depends on its seed alone. A crash is a process gone between two steps of its loop: what it had handed over lands or
does not, in order; nothing of it runs afterwards.
"""

import asyncio
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streamdetect.errors import UnreachableError
from streamdetect.kafka.fold import Record
from streamdetect.kafka.plan import ACCOUNTS, CHANGELOG, DECISIONS, ENFORCEMENT, EVIDENCE, LINKS, full_name
from streamdetect.kernels.chunk import Chunk, chunk_of
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.ports import Stored
from streamdetect.settings import Settings
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

PARTITIONS = 2
SETTINGS = Settings(topic_prefix="sim.", group_id="sim")
REQUESTS = SETTINGS.request_topics[0]
INPUTS = [REQUESTS, *map(SETTINGS.topic, (LINKS, EVIDENCE, ACCOUNTS))]


class _NoSelector(selectors.SelectSelector):
    """Never waits: nothing outside this process is heard of."""

    def select(self, _timeout=None):
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is work, and jumps to the next timer when there is none."""

    def __init__(self) -> None:
        super().__init__(_NoSelector())
        self._virtual_s = 1_000.0

    def time(self) -> float:
        return self._virtual_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._virtual_s = max(self._virtual_s, self._scheduled[0].when())
        super()._run_once()

    def run_in_executor(self, _executor, work, *arguments):
        """In place: threads would make runs differ."""
        future = self.create_future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001  told to whoever waits
            future.set_exception(error)
        return future


def run_virtually(coroutine):
    """Run on a virtual loop; leftovers of crashed processes are thrown away with it."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)
    try:
        return loop.run_until_complete(_to_the_end(coroutine))
    finally:
        loop.close()


async def _to_the_end(coroutine):
    try:
        return await coroutine
    finally:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


@dataclass
class Broker:
    """Logs and committed offsets: what outlives processes. ``holes`` makes offsets skip, as markers do."""

    chance: random.Random
    holes: float = 0.0
    logs: dict[tuple[str, int], list[Stored]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    slow_s: float = 0.0
    generation: int = 0  # of the consumer group, as the coordinator knows it
    watchers: list = field(default_factory=list)

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> Stored:
        place = topic, partition
        if self.chance.random() < self.holes:
            self.ends[place] += self.chance.randint(1, 3)
        stored = Stored(partition, self.ends[place], key, value, 1_000)
        self.logs[place].append(stored)
        self.ends[place] += 1
        for watcher in self.watchers:
            watcher(topic, stored)
        return stored

    def compacted(self, topic: str, partition: int) -> list[Stored]:
        newest = {record.key: record for record in self.logs[topic, partition]}
        return sorted(newest.values(), key=lambda record: record.offset)


class Sender:
    """A client of one process: records land in order, some time later; after a failure nothing lands any more.

    That is what an idempotent producer gives: within a partition no record lands after one that did not.
    """

    def __init__(self, broker: Broker, chance: random.Random) -> None:
        self.broker, self.chance = broker, chance
        self.failing = False
        self._queue: deque = deque()
        self._arrived = asyncio.Event()
        self.task = asyncio.create_task(self._land())

    async def send(self, topic, value, *, key=None, partition=None):
        if self.chance.random() < 0.3:
            await asyncio.sleep(0)
        if self.failing:
            raise UnreachableError("the broker acknowledged nothing")
        if partition is None:
            partition = sum(key) % PARTITIONS
        landed = asyncio.get_running_loop().create_future()
        self._queue.append((topic, partition, key, value, landed))
        self._arrived.set()
        return landed

    @property
    def waiting(self) -> int:
        """Records handed over that have not landed yet."""
        return len(self._queue)

    def crash(self) -> None:
        """The process is gone: what was handed over lands up to some point, and nothing after it."""
        if not self.failing:
            for _ in range(self.chance.randint(0, len(self._queue))):
                self.broker.append(*self._queue.popleft()[:4])
        self.task.cancel()

    async def _land(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            if self.chance.random() < 0.2 or self.broker.slow_s:
                await asyncio.sleep(self.chance.random() * 0.05 + self.broker.slow_s)
            *record, landed = self._queue.popleft()  # it lands in this step of the loop or never
            if self.failing:
                if not landed.done():
                    landed.set_exception(UnreachableError("a record was not delivered"))
                continue
            stored = self.broker.append(*record)
            if not landed.done():
                landed.set_result(stored)


class Reader:
    """Reads logs with pauses, so that anything may happen meanwhile. Changelogs are seen compacted."""

    def __init__(self, broker: Broker, chance: random.Random) -> None:
        self._broker, self._chance = broker, chance

    async def ends(self, topic):
        await asyncio.sleep(self._chance.random() * 0.02)
        return {partition: self._broker.ends[topic, partition] for partition in range(PARTITIONS)}

    async def read(self, topic: str, starts: Mapping[int, int]):
        for partition, start in starts.items():
            records = [r for r in self._broker.logs[topic, partition] if r.offset >= start]
            if topic == full_name(CHANGELOG, SETTINGS) and self._chance.random() < 0.7:
                records = self._broker.compacted(topic, partition)
            for first in range(0, len(records), 7):
                await asyncio.sleep(self._chance.random() * 0.02)
                yield records[first : first + 7]


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
        self.given_up = False  # stopped for longer than the session
        self.generation, self.assignment = -1, set()
        self.flowing = False
        self.tasks: list[asyncio.Task] = []
        self.positions: dict[tuple[str, int], int] = {}
        self.ledgers: dict[tuple[str, int], Ledger] = defaultdict(Ledger)
        self.metrics = Metrics()
        self.sender = Sender(broker, chance)
        self.lease = Lease(SESSION_S - MEMBER_BEAT_S, self.loop.time)
        self.detector = Detector(policy, "live", (REQUESTS,), PARTITIONS)
        self.in_force = InForce(
            SETTINGS.topic(ENFORCEMENT), self.sender, self.detector.hear, ours=self.detector.decides_on,
            guard=self.lease.check,
        )  # fmt: skip
        self.brake = Brake(20, 1e9, self.loop.time, lambda: 0.0) if brake else None
        self.publisher = Publisher(
            SETTINGS, self.sender, self.metrics, self.brake, guard=self.lease.check, wrote=self.in_force.wrote
        )
        changelog = full_name(CHANGELOG, SETTINGS)
        self.saver = Saver(
            self.detector, self.sender, changelog, interval_s=1.0, bytes_per_s=1e9, metrics=self.metrics,
            held=self.brake.held_of if self.brake else lambda _partition: (), log_ends=self.publisher.log_ends,
            guard=self.lease.check, now_s=self.loop.time,
        )  # fmt: skip
        recovery = Recovery(
            self.detector, self._reader, changelog=changelog, decisions=SETTINGS.topic(DECISIONS),
            inputs=sorted(input_topics(SETTINGS)), metrics=self.metrics,
        )  # fmt: skip
        self.ownership = Ownership(
            self.detector, self.saver, recovery, self.brake, self.publisher.enforce_again, self._fail
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
        loops += [self._every(1.0, self.publisher.release_held)]
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
        self.sender.crash()
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
            (topic, partition): self.broker.committed.get((topic, partition), 0)
            for topic in INPUTS
            for partition in partitions
        }
        self.ledgers.clear()
        self.lease.begin()
        await self.ownership.assigned(partitions, generation)
        self.flowing = True

    def _owns(self, partition: int, generation: int) -> bool:
        return generation == self.generation and self.ownership.has(partition)

    def _acked(self, message: Message) -> None:
        message.delivery.acked = True

    async def _messages(self, topic: str):
        while True:
            await self.runs.wait()
            found = False
            for partition in sorted(self.assignment):
                if self.flowing and self.ownership.has(partition) and (message := self._next(topic, partition)):
                    found = True
                    yield message
                    await self.runs.wait()
            if not found:
                await asyncio.sleep(0.05)

    def _next(self, topic: str, partition: int) -> Message | None:
        place = topic, partition
        start = self.positions[place]
        if self.chance.random() < 0.03:  # delivered again, as after a rebalance that changes nothing
            start = self.broker.committed.get(place, 0)
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
        if self.generation != self.broker.generation:
            return  # the coordinator refuses members of an older generation
        for place, ledger in self.ledgers.items():
            if (offset := ledger.committable()) is not None:
                self.broker.committed[place] = offset

    async def _save(self) -> None:
        await self.saver.save_due()

    async def _beat(self) -> None:
        self.lease.check()

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
        answering = [one for one in self.members if not (one.given_up and not one.runs.is_set())]
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
        if any(one.runs.is_set() and one.generation != self.generation for one in self.members):
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
            not one.sender.waiting and (one.brake is None or not one.brake.held) for one in self.members
        )


def newest_by_subject(records: Sequence[Stored]) -> dict[bytes, bytes | None]:
    """The fold of a compacted topic."""
    return {record.key: record.value for record in records}
