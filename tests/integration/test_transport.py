"""The chunked transport on a real broker, in processes of its own: rebalances, codecs, signals, a failing agent."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS = 4
PATIENCE_S = 40.0
STOP_S = 10.0
PROGRAM = Path(__file__).with_name("chunk_worker.py")
pytestmark = pytest.mark.needs("admin")


class Workers:
    """Worker processes of one group on one topic, and what they noted."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        self.group = self.topic = f"chunks-{uuid.uuid4().hex[:8]}"
        self.running: list[subprocess.Popen] = []

    async def create_topics(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            names = (self.topic, f"{self.group}-state-changelog")
            await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        finally:
            await admin.close()

    def start(self, *arguments: str) -> subprocess.Popen:
        notes = self.folder / f"notes-{len(self.running)}"
        notes.touch()
        log = (self.folder / f"log-{len(self.running)}").open("wb")
        command = [sys.executable, PROGRAM, self.bootstrap, self.group, self.topic, notes, *arguments]
        root = PROGRAM.parents[2]
        process = subprocess.Popen(command, stderr=log, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(root)})
        log.close()
        self.running.append(process)
        return process

    def notes(self, index: int | None = None) -> dict[int, list[int]]:
        """Offsets by partition, in the order noted, of one worker or all."""
        seen = defaultdict(list)
        chosen = range(len(self.running)) if index is None else [index]
        for number in chosen:
            text = (self.folder / f"notes-{number}").read_text()
            for line in text[: text.rfind("\n") + 1].splitlines():
                partition, offsets = json.loads(line)
                seen[partition].extend(offsets)
        return seen

    def count(self, index: int | None = None) -> int:
        """Distinct records noted."""
        return sum(len(set(offsets)) for offsets in self.notes(index).values())

    async def until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{self.logs()}: {self.count()} records noted"
            await asyncio.sleep(0.05)

    def logs(self) -> str:
        return "".join((self.folder / f"log-{number}").read_text()[-2000:] for number in range(len(self.running)))

    def stop(self, process: subprocess.Popen) -> int:
        """Send SIGTERM; the exit code, within the bound."""
        process.send_signal(signal.SIGTERM)
        return process.wait(STOP_S)

    def check_complete(self, total: int) -> None:
        seen = self.notes()
        assert {
            partition: set(range(total // PARTITIONS)) - set(seen[partition]) for partition in range(PARTITIONS)
        } == {partition: set() for partition in range(PARTITIONS)}


@pytest.fixture
def workers(broker, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(broker.bootstrap_servers, tmp_path)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
            process.wait()


async def produce(workers: Workers, first: int, count: int, *, codec: str | None = None) -> None:
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=workers.bootstrap, compression_type=codec, linger_ms=5, max_batch_size=1 << 17
    )
    await producer.start()
    try:
        sent = [
            await producer.send(workers.topic, b"%09d" % number * 20, partition=number % PARTITIONS)
            for number in range(first, first + count)
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def load(workers: Workers, ended: asyncio.Event) -> int:
    """Produce without a pause until ``ended``; the number of records."""
    total = 0
    while not ended.is_set():
        await produce(workers, total, 400)
        total += 400
    return total


async def test_workers_that_join_and_leave_under_load_lose_nothing(workers: Workers) -> None:
    await workers.create_topics()
    ended = asyncio.Event()
    loading = asyncio.create_task(load(workers, ended))
    staying = workers.start("--slow-ms", "2")
    await workers.until(lambda: workers.count(0) > 0)
    for number in (1, 2):
        joining = workers.start("--slow-ms", "2")
        await workers.until(lambda number=number: workers.count(number) > 2_000)
        assert await asyncio.to_thread(workers.stop, joining) == 0, workers.logs()
    ended.set()
    total = await loading
    await workers.until(lambda: workers.count() >= total)
    workers.check_complete(total)
    assert workers.stop(staying) == 0, workers.logs()


async def test_every_codec_is_read(workers: Workers) -> None:
    await workers.create_topics()
    codecs = ("gzip", "snappy", "lz4", "zstd", None)
    for position, codec in enumerate(codecs):
        await produce(workers, position * 400, 400, codec=codec)
    workers.start()
    await workers.until(lambda: workers.count() == 400 * len(codecs))
    workers.check_complete(400 * len(codecs))


async def test_a_worker_ended_by_a_signal_is_resumed_without_loss_or_repeat(workers: Workers) -> None:
    total = 20_000
    await workers.create_topics()
    await produce(workers, 0, total)
    first = workers.start("--slow-ms", "20")
    await workers.until(lambda: workers.count() > 2_000)
    began = time.monotonic()
    assert workers.stop(first) == 0, workers.logs()
    assert time.monotonic() - began < STOP_S
    assert workers.count() < total
    workers.start()
    await workers.until(lambda: workers.count() == total)
    workers.check_complete(total)
    assert sum(map(len, workers.notes().values())) == total


async def test_an_agent_that_raises_fails_the_process_and_its_chunk_comes_again(workers: Workers) -> None:
    total = 8_000
    await workers.create_topics()
    await produce(workers, 0, total)
    failing = workers.start("--fail-at", "1200")
    assert await asyncio.to_thread(failing.wait, PATIENCE_S) != 0
    assert "asked to fail" in workers.logs()
    assert all(1200 not in offsets for offsets in workers.notes().values())
    workers.start()
    await workers.until(lambda: workers.count() == total)
    workers.check_complete(total)
