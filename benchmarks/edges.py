"""CPU of the two edges of the worker on a real Kafka: fetching records into chunks, and sending what they led to.

The same client, compression and chunking as the worker's, without Faust around it: one process, no second thread.
"""

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer
from broker import produce
from corpus import PARTITIONS, Corpus

from streamdetect.kafka.outbox import Outbox
from streamdetect.sandbox.cluster import Cluster
from streamdetect.settings import Settings
from streamdetect.worker.chunks import ChunkLimits, Held
from streamdetect.worker.engine import faust_settings
from streamdetect.worker.fetched import give_whole
from streamdetect.worker.work import IN_FLIGHT

LIMIT_S = 120.0


def edges(cluster: Cluster, events: Corpus, outputs: Sequence[Sequence[bytes]], run: int) -> dict[str, float]:
    """Microseconds an event of fetching ``events``, and of sending ``outputs`` (the records of each chunk in turn)."""
    names = [f"edges{run}.requests", f"edges{run}.links"]
    cluster.create_topics(names, settings={"message.timestamp.type": "CreateTime"})
    produce(cluster.bootstrap_servers, names[0], events)
    settings = Settings(bootstrap_servers=cluster.bootstrap_servers)
    return {
        "fetch, cut into chunks": asyncio.run(_fetch(cluster.bootstrap_servers, names[0], len(events))),
        "output of packed rows": asyncio.run(_send(settings, names[1], outputs)) / len(events) * 1e6,
    }


async def _fetch(bootstrap: str, topic: str, count: int) -> float:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=faust_settings()["consumer_max_fetch_size"],
    )
    async with consumer:
        give_whole(consumer._fetcher, frozenset({topic}))  # as the worker's transport does
        await consumer.getmany(timeout_ms=5000, max_records=1)
        await consumer.seek_to_beginning()
        limits, seen, started = ChunkLimits(), 0, time.process_time()
        until = time.monotonic() + LIMIT_S
        while seen < count:
            if time.monotonic() > until:
                raise SystemExit(f"{topic}: {seen} of {count} records after {LIMIT_S:g} s")
            for records in (await consumer.getmany(timeout_ms=200)).values():
                held = Held(records)
                while held:
                    seen += len(held.cut(limits))
        return (time.process_time() - started) / count * 1e6


async def _send(settings: Settings, topic: str, outputs: Sequence[Sequence[bytes]]) -> float:
    async with Outbox(settings, compression=None) as outbox:
        await (await outbox.send(topic, b"warm", partition=0))
        under_way: list[list[asyncio.Future[None]]] = []
        started = time.process_time()
        for records in outputs:
            under_way.append(
                [await outbox.send(topic, value, partition=n % PARTITIONS) for n, value in enumerate(records)]
            )
            if len(under_way) >= IN_FLIGHT:
                await asyncio.gather(*under_way.pop(0))
        await outbox.drain()
        return time.process_time() - started
