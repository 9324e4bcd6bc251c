"""What an agent on a hot topic gets, noted, on a Kafka in this process."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

from fake_transport import FakeBroker
from faust.types import TP

from streamdetect.worker.engine import DetectorApp, hot_topic

A, B = TP("hot", 0), TP("hot", 1)
PATIENCE_S = 5.0


class Recorder:
    """An agent that notes what it gets and does with it what the test says."""

    def __init__(self, app: DetectorApp, *, ack: bool = True, noack: bool = True) -> None:
        self.app, self.ack = app, ack
        self.seen: dict[TP, list[int]] = defaultdict(list)
        self.events = []
        self.room = asyncio.Event()
        self.room.set()
        self.poison: bytes | None = None

        @app.agent(hot_topic(app, "hot"), name="record")
        async def record(stream):
            async for event in (stream.noack() if noack else stream).events():
                await self.room.wait()
                self.take(event)

    def take(self, event) -> None:
        chunk = event.value
        if self.poison is not None and self.poison in chunk.buffer:
            raise RuntimeError("poison")
        self.seen[TP(chunk.topic, chunk.partition)].extend(chunk.offsets.tolist())
        self.events.append(event)
        if self.ack:
            event.ack()

    @property
    def thread(self):
        return self.app.consumer._thread


@contextlib.asynccontextmanager
async def running(app: DetectorApp) -> AsyncIterator[None]:
    await app.start()
    try:
        yield
    finally:
        await app.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # conditions on the engine's own state, which signals nobody
            await asyncio.sleep(0.001)


async def settle(turns: int = 60) -> None:
    """Let everything that can happen happen: several commit intervals and rounds of the drain loop."""
    for _ in range(turns):
        await asyncio.sleep(0.001)


def broker_with(count: int, *partitions: TP) -> FakeBroker:
    broker = FakeBroker()
    for tp in partitions or (A,):
        broker.fill(tp, count)
    return broker
