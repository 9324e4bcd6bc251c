"""Shards of partitions that have come to us: the newest chain of images, then what was decided after it.

Faust's own recovery is not used for it: it swallows what a store raises, waits for ever on some compacted topics, and
would read every image again at each rebalance. Source partitions stay silent until their shard is here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

from streamdetect.errors import ImageError
from streamdetect.kernels.image_records import ImageRecord, newest_chain
from streamdetect.kernels.images import decode
from streamdetect.messages.decision import Decision
from streamdetect.messages.reading import read
from streamdetect.ports import LogReader, Stored
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.telemetry.logs import log
from streamdetect.worker.detector import Detector
from streamdetect.worker.saver import Lineage, lineage_after
from streamdetect.worker.shard import Shard

# Partitions between the first record read and the shard rebuilt. While one is read, which keeps the event loop busy,
# others are rebuilt in threads that hold no lock of the interpreter; more of them would only take more memory.
AT_ONCE: Final = 3

_log = log(__name__)


@dataclass(frozen=True, slots=True)
class Restored:
    """One partition as it was when its last owner saved it, and what has been published since.

    ``ends`` is where its inputs end, by topic.
    """

    partition: int
    shard: Shard
    lineage: Lineage
    held: list[Decision]  # those that still wait at the brake
    ends: dict[str, int] = field(default_factory=dict)


class Recovery:
    """Reads images from ``changelog`` and decisions from ``decisions``; ``inputs`` are the topics a shard reads."""

    def __init__(
        self,
        detector: Detector,
        reader: Callable[[], AbstractAsyncContextManager[LogReader]],
        *,
        changelog: str,
        decisions: str,
        inputs: Sequence[str],
        metrics: Metrics,
    ) -> None:
        self._detector, self._reader, self._metrics = detector, reader, metrics
        self._changelog, self._decisions, self._inputs = changelog, decisions, inputs

    async def restore(self, partitions: Iterable[int], generation: int) -> list[Restored]:
        """Restore partitions, which nobody else owns by now. Raises ``ImageError`` and ``UnreachableError``."""
        started, size = time.perf_counter(), 0
        room, rebuilding = asyncio.Semaphore(AT_ONCE), []
        async with self._reader() as reader:
            try:
                for partition in sorted(partitions):
                    await room.acquire()
                    records = await self._images(reader, partition)
                    size += sum(len(record.value) for record in records.values())
                    rebuilding.append(asyncio.create_task(self._rebuild(room, partition, records, generation)))
                found = await asyncio.gather(*rebuilding)
            finally:
                for task in rebuilding:
                    task.cancel()
            ends = {topic: await reader.ends(topic) for topic in self._inputs}
            for topic in self._inputs:
                await self._compare(reader, topic, ends[topic], found)
                self._tell_lost(topic, await reader.starts(topic), found)
            await self._follow(reader, ends, found)
        seconds = time.perf_counter() - started
        self._metrics.histogram("restore_seconds").observe(seconds)
        _log.info(
            "restored",
            partitions=[restored.partition for restored in found],
            accounts=sum(restored.shard.accounts.state.table.count for restored in found),
            bytes=size,
            seconds=round(seconds, 2),
        )
        return found

    async def _images(self, reader: LogReader, partition: int) -> dict[bytes, ImageRecord]:
        """The newest record of each key."""
        kept: dict[bytes, ImageRecord] = {}
        async for records in reader.read(self._changelog, {partition: 0}):
            for record in records:
                if record.key is None:
                    raise ImageError(f"{self._where(record)}: a record without a key is no image of state")
                if record.value is None:
                    kept.pop(record.key, None)
                else:
                    kept[record.key] = ImageRecord(record.key, record.value, record.offset)
        return kept

    async def _rebuild(
        self, room: asyncio.Semaphore, partition: int, records: dict[bytes, ImageRecord], generation: int
    ) -> Restored:
        try:
            return await asyncio.to_thread(self._rebuilt, partition, records, generation)
        finally:
            room.release()

    def _rebuilt(self, partition: int, records: dict[bytes, ImageRecord], generation: int) -> Restored:
        """The shard that records tell of; they are taken out of ``records``, for they are large."""
        where = f"{self._changelog}[{partition}]"
        chain = newest_chain(records.values(), where)
        lineage = lineage_after(chain.newest, generation, records)
        records.clear()
        shard = self._detector.new_shard()
        held: list[Decision] = []
        if chain.newest is not None:
            try:
                held = shard.restore([decode(image) for image in chain.images])
            except ImageError as error:
                raise ImageError(f"{where}: {error}") from error
            # The epoch rises where images were written, the generation where an owner had no time for one.
            shard.begin_term(sum(lineage.term))
        return Restored(partition, shard, lineage, held)

    async def _compare(self, reader: LogReader, topic: str, ends: Mapping[int, int], found: Sequence[Restored]) -> None:
        """Find the partitions of a topic that was deleted and made again: what was read of it is no more.

        Such a topic ends before what was read last, or has another record there. A record that is gone (compaction,
        retention) tells nothing, and then nothing of a new topic can be missed by going on after it.
        """
        positions = {one.partition: one.shard.positions.get(topic, -1) for one in found}
        there = {partition: at for partition, at in positions.items() if 0 <= at < ends.get(partition, 0)}
        first = await reader.first(topic, there) if there else {}
        for restored in found:
            partition, shard = restored.partition, restored.shard
            position, end, there_now = positions[partition], ends.get(partition, 0), first.get(partition)
            stamp_ms = shard.stamps.get(topic)  # none: what lies there was not read by the state
            other = there_now is not None and there_now.offset <= position and there_now.timestamp_ms != stamp_ms
            if position >= 0 and (position >= end or (other and stamp_ms is not None)):
                shard.begin_anew(topic)
                self._metrics.counter("recreated").labels(topic).inc()
                _log.warning(
                    "a topic was deleted and made again: it is read from its start",
                    topic=topic,
                    partition=partition,
                    read_before=position,
                    ends_at=end,
                )

    def _tell_lost(self, topic: str, starts: Mapping[int, int], found: Sequence[Restored]) -> None:
        """Records that the broker deleted before they were read: nothing brings them back, but somebody must know."""
        for restored in found:
            needed, oldest = restored.shard.positions.get(topic, -1) + 1, starts.get(restored.partition, 0)
            if 0 < needed < oldest:
                self._metrics.counter("lost_records").labels(topic).inc(oldest - needed)
                _log.error(
                    "records were deleted before they were read: keep them for longer than workers are away",
                    topic=topic,
                    partition=restored.partition,
                    read_before=needed - 1,
                    oldest_kept=oldest,
                )

    async def _follow(
        self, reader: LogReader, reached: Mapping[str, Mapping[int, int]], found: Sequence[Restored]
    ) -> None:
        """Tell each shard what was published after its image; one that has none begins at the end of the log."""
        ends = await reader.ends(self._decisions)
        starts = {number: end for number, end in ends.items() if end}
        for restored in found:
            for number, offset in restored.shard.log_from.items():
                starts[number] = min(starts.get(number, offset), offset)
        published: list[tuple[Stored, Decision]] = []
        if any(restored.shard.log_from for restored in found):
            async for records in reader.read(self._decisions, starts):
                for record in records:
                    decision = read(Decision, record.value)
                    if isinstance(decision, Decision):
                        published.append((record, decision))
        for restored in found:
            shard = restored.shard
            since = [d for r, d in published if r.offset >= shard.log_from.get(r.partition, r.offset + 1)]
            restored.ends.update({topic: ends_of.get(restored.partition, 0) for topic, ends_of in reached.items()})
            shard.follow(since, restored.ends if restored.lineage.next_sequence else {})
            # One that was not saved yet may have been decided again, with a higher revision, and passed as that.
            passed: dict[str, int] = {}
            for d in since:
                if d.status != "held":
                    passed[d.decision_id] = max(d.revision, passed.get(d.decision_id, 0))
            restored.held[:] = [
                d for d in restored.held if passed.get(d.decision_id, 0) < d.revision and shard.stands(d)
            ]
            shard.log_from = dict(ends)

    def _where(self, record: Stored) -> str:
        return f"{self._changelog}[{record.partition}] offset {record.offset}"
