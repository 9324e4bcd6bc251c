"""A Kafka in this process, for the real chunk consumer: logs, positions, commits and rebalances, and nothing else.

Everything above the consumer's thread is the real thing (consumer, conductor, streams, agents, recovery). Time passes
only as the loop turns; a fetch answers at once, or when the test lets it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

from faust.tables.manager import TableManager
from faust.transport import base
from faust.types import TP
from mode import Service

from streamdetect.worker.chunks import ChunkLimits
from streamdetect.worker.engine import DetectorApp, faust_settings
from streamdetect.worker.transport import ChunkConsumer, ChunkTransport


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int | None = 1_000
    timestamp_type: int = 0
    headers: tuple = ()
    checksum: None = None
    serialized_key_size: int = 0
    serialized_value_size: int = 0


@dataclass(slots=True)
class Position:
    """What aiokafka knows of one assigned partition."""

    position: int
    has_valid_position: bool = True


@dataclass
class FakeBroker:
    """Logs and committed offsets: what outlives an app."""

    logs: dict[TP, list[Record]] = field(default_factory=dict)
    committed: dict[TP, int] = field(default_factory=dict)
    ends: dict[TP, int] = field(default_factory=dict)  # behind what holds no record
    fetch_records: int = 1_000

    def append(self, tp: TP, values: Mapping[int, bytes | None], *, key: bytes | None = b"k") -> None:
        """Add records at the given offsets; the gaps between them are holes."""
        log = self.logs.setdefault(tp, [])
        log.extend(Record(tp.topic, tp.partition, offset, key, value) for offset, value in sorted(values.items()))

    def fill(self, tp: TP, count: int) -> None:
        """Add ``count`` records without holes."""
        start = self.logs[tp][-1].offset + 1 if self.logs.get(tp) else 0
        self.append(tp, {offset: b"v%d" % offset for offset in range(start, start + count)})

    def offsets(self, tp: TP) -> list[int]:
        return [record.offset for record in self.logs[tp]]


class FakeThread(Service):
    """Stands where aiokafka's thread stands, on the same loop."""

    def __init__(self, consumer: ChunkConsumer, **kwargs) -> None:
        self.consumer, self.app = consumer, consumer.app
        self.broker: FakeBroker = consumer.transport.broker
        self.positions: dict[TP, Position] = {}
        self.generation = 0
        self.fetched = 0
        # While cleared: a fetch waits before it looks into the log (aiokafka does, for an assignment to complete);
        # an answer with records waits, its positions moved and its records in nobody's hands; a seek waits.
        self.reading, self.answering, self.seeking = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for event in (self.reading, self.answering, self.seeking):
            event.set()
        self.asked = 0
        super().__init__(**kwargs)

    async def rebalance(self, assigned: set[TP]) -> None:
        """One eager rebalance, in the order in which aiokafka calls back."""
        self.app.on_rebalance_start()
        await self.consumer.on_partitions_revoked(set(self.positions))
        self.generation += 1
        self.positions = {tp: Position(self.broker.committed.get(tp, 0)) for tp in assigned}
        self.app.consumer_generation_id = self.generation
        await self.consumer.on_partitions_assigned(set(assigned), self.generation)

    async def subscribe(self, topics) -> None:
        wanted = {tp for tp in self.broker.logs if tp.topic in set(topics)}
        self.add_future(self.rebalance(wanted))

    async def getmany(self, active_partitions, timeout):  # noqa: ASYNC109  # Faust's signature
        if not self.consumer.flow_active:
            return {}
        self.asked += 1
        await self.reading.wait()
        found = {}
        for tp in sorted(active_partitions & set(self.positions)):
            state = self.positions[tp]
            records = [r for r in self.broker.logs[tp] if r.offset >= state.position][: self.broker.fetch_records]
            if records:
                found[tp] = records
                state.position = records[-1].offset + 1
            else:
                state.position = max(state.position, self.broker.ends.get(tp, 0))
        if not found:
            await asyncio.sleep(min(timeout, 0.002))
            return {}
        self.fetched += sum(map(len, found.values()))
        await self.answering.wait()
        return found

    async def call_thread(self, function, *args, **kwargs):
        return await function(*args, **kwargs)

    def _ensure_consumer(self):
        assignment = SimpleNamespace(state_value=lambda tp: self.positions.get(TP(*tp)))
        return SimpleNamespace(
            _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)),
            seek=lambda tp, offset: self.seek(TP(*tp), offset),
        )

    def seek(self, tp: TP, offset: int) -> None:
        self.positions[tp].position = offset

    async def seek_to_committed(self) -> dict[TP, int | None]:
        await self.seeking.wait()
        committed = {tp: self.broker.committed.get(tp) for tp in self.positions}
        for tp, offset in committed.items():
            if offset:
                self.seek(tp, offset)
        return committed

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        self.broker.committed.update({tp: offset for tp, offset in offsets.items() if tp in self.positions})
        return True

    def assignment(self) -> set[TP]:
        return set(self.positions)

    def highwater(self, tp: TP) -> int:
        return max(self.broker.logs[tp][-1].offset + 1, self.broker.ends.get(tp, 0))

    def verify_recovery_event_path(self, now, tp) -> None: ...

    def close(self) -> None: ...


class FakeConsumer(ChunkConsumer):
    def _new_consumer_thread(self) -> FakeThread:
        return FakeThread(self, loop=self.loop, beacon=self.beacon)


class FakeProducer(base.Producer):
    async def flush(self) -> None: ...


class FakeTransport(ChunkTransport):
    Consumer = FakeConsumer
    Producer = FakeProducer


class PromptTables(TableManager):
    """Faust gives agents a second to start; here they have."""

    async def sleep(self, _seconds) -> None:
        await asyncio.sleep(0)


def fake_app(broker: FakeBroker, hot: set[str], *, limits: ChunkLimits | None = None, **settings) -> DetectorApp:
    """An app on ``broker``; a second app on the same broker is the restarted worker."""
    wanted = {**faust_settings(), "broker_commit_interval": 0.01, "TableManager": PromptTables, **settings}
    app = DetectorApp("fake", broker="kafka://fake", **wanted)
    transport = FakeTransport(app, frozenset(hot), limits=limits or ChunkLimits(records=10))
    transport.broker = broker
    app.transport = app.producer_transport = transport
    return app
