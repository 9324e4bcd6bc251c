"""What outlives simulated processes, and the clock they share: a virtual loop, logs in memory, who sends and who reads.

Time is virtual: the loop jumps to the next timer, so a run depends on its seed alone.
"""

import asyncio
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamdetect.errors import UnreachableError
from streamdetect.kafka.plan import ACCOUNTS, CHANGELOG, EVIDENCE, LINKS, full_name
from streamdetect.ports import Stored
from streamdetect.settings import Settings

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

    def lose(self, topic: str, partition: int, count: int) -> None:
        """The newest records are gone although they were acknowledged, as after an unclean election."""
        log = self.logs[topic, partition]
        del log[max(1, len(log) - count) :]

    def compacted(self, topic: str, partition: int) -> list[Stored]:
        newest = {record.key: record for record in self.logs[topic, partition]}
        return sorted(newest.values(), key=lambda record: record.offset)


class Sender:
    """A client of one process: records land some time later, in order within a partition; whoever sends may wait.

    That is what an idempotent producer gives: within a partition no record lands after one that did not. Between
    partitions there is no order. After a failure nothing lands any more.
    """

    def __init__(self, broker: Broker, chance: random.Random) -> None:
        self.broker, self.chance = broker, chance
        self.failing = False
        self._queues: dict[tuple[str, int], tuple[deque, asyncio.Event]] = {}
        self._tasks: list[asyncio.Task] = []

    async def send(self, topic, value, *, key=None, partition=None):
        drawn = self.chance.random()
        if drawn < 0.05:
            await asyncio.sleep(self.chance.random() * 0.3)
        elif drawn < 0.3:
            await asyncio.sleep(0)
        if self.failing:
            raise UnreachableError("the broker acknowledged nothing")
        place = topic, sum(key) % PARTITIONS if partition is None else partition
        if place not in self._queues:
            self._queues[place] = deque(), asyncio.Event()
            self._tasks.append(asyncio.create_task(self._land(place, *self._queues[place])))
        queue, arrived = self._queues[place]
        landed = asyncio.get_running_loop().create_future()
        queue.append((key, value, landed))
        arrived.set()
        return landed

    @property
    def waiting(self) -> int:
        """Records handed over that have not landed yet."""
        return sum(len(queue) for queue, _ in self._queues.values())

    def crash(self) -> None:
        """The process is gone: of each partition, what was handed over lands up to some point, and nothing after it."""
        if not self.failing:
            for place, (queue, _) in self._queues.items():
                for _ in range(self.chance.randint(0, len(queue))):
                    self.broker.append(*place, *queue.popleft()[:2])
        self.failing = True
        for task in self._tasks:
            task.cancel()

    async def _land(self, place: tuple[str, int], queue: deque, arrived: asyncio.Event) -> None:
        while True:
            while not queue:
                arrived.clear()
                await arrived.wait()
            if self.chance.random() < 0.2 or self.broker.slow_s:
                await asyncio.sleep(self.chance.random() * 0.05 + self.broker.slow_s)
            key, value, landed = queue.popleft()  # it lands in this step of the loop or never
            if self.failing:
                if not landed.done():
                    landed.set_exception(UnreachableError("a record was not delivered"))
                continue
            stored = self.broker.append(*place, key, value)
            if not landed.done():
                landed.set_result(stored)


class Reader:
    """Reads logs with pauses, so that anything may happen meanwhile. Changelogs are seen compacted."""

    def __init__(self, broker: Broker, chance: random.Random) -> None:
        self._broker, self._chance = broker, chance

    async def starts(self, _topic):
        return dict.fromkeys(range(PARTITIONS), 0)

    async def ends(self, topic):
        await asyncio.sleep(self._chance.random() * 0.02)
        return {partition: self._broker.ends[topic, partition] for partition in range(PARTITIONS)}

    async def first(self, topic: str, starts: Mapping[int, int]):
        await asyncio.sleep(self._chance.random() * 0.02)
        logs = {partition: self._broker.logs[topic, partition] for partition in starts}
        there = {partition: [r for r in log if r.offset >= starts[partition]] for partition, log in logs.items()}
        return {partition: records[0] for partition, records in there.items() if records}

    async def read(self, topic: str, starts: Mapping[int, int]):
        for partition, start in starts.items():
            records = [r for r in self._broker.logs[topic, partition] if r.offset >= start]
            if topic == full_name(CHANGELOG, SETTINGS) and self._chance.random() < 0.7:
                records = self._broker.compacted(topic, partition)
            for first in range(0, len(records), 7):
                await asyncio.sleep(self._chance.random() * 0.02)
                yield records[first : first + 7]


def newest_by_subject(records: Sequence[Stored]) -> dict[bytes, bytes | None]:
    """The fold of a compacted topic."""
    return {record.key: record.value for record in records}
