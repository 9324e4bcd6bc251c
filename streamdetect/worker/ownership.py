"""Which partitions are ours, and from when on they may be read.

A rebalance revokes everything and assigns anew, also what stays. What stays keeps its memory if this process was in
every generation since (else somebody may have owned the partition in between) and if no image of it was lost on the
way. Everything else is forgotten, and restored before its first chunk.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from streamdetect.messages.decision import Decision
from streamdetect.telemetry.logs import log
from streamdetect.worker.brake import Brake
from streamdetect.worker.detector import Detector
from streamdetect.worker.publisher import Sent
from streamdetect.worker.recovery import Recovery
from streamdetect.worker.saver import Saver

_log = log(__name__)


class Ownership:
    """``enforce`` puts in force again what the log of decisions has.

    ``failed`` is awaited with what went wrong while restoring; the process must not go on after that. ``lifted`` is
    called with what overrides lift in a shard that was restored, before an image of it is written. ``go_back`` has the
    inputs of a partition begin where its shard, which is with the detector by then, needs them; it returns what was
    committed of each topic.
    """

    def __init__(
        self,
        detector: Detector,
        saver: Saver,
        recovery: Recovery,
        brake: Brake | None,
        enforce: Callable[[Iterable[Decision]], Awaitable[Sent]],
        failed: Callable[[Exception], Awaitable[None]],
        go_back: Callable[[int], Awaitable[Mapping[str, int]]],
        lifted: Callable[[int, Sequence[Decision]], None] = lambda _partition, _decisions: None,
    ) -> None:
        self._detector, self._saver, self._recovery, self._brake = detector, saver, recovery, brake
        self._enforce, self._failed, self._go_back, self._lifted = enforce, failed, go_back, lifted
        self._generation = -1
        self._ours: set[int] = set()
        self._here: set[int] = set()
        self._assigned = False
        self._task: asyncio.Task[None] | None = None

    def has(self, partition: int) -> bool:
        """Whether a partition's shard is here."""
        return partition in self._here

    @property
    def ready(self) -> bool:
        """Whether this process has its place in the group and all its shards."""
        return self._assigned and self._here == self._ours

    async def assigned(self, partitions: set[int], generation: int) -> None:
        """Take over partitions; returns at once, restoring goes on in the background."""
        await self._stop_restoring()
        stayed = self._here & self._saver.partitions & partitions if generation == self._generation + 1 else set()
        for partition in self._ours - stayed:  # also those whose restoring was cut short
            self._forget_held(partition)
        self._detector.keep_only(stayed)
        self._saver.keep_only(stayed)
        self._generation, self._ours, self._here, self._assigned = generation, set(partitions), stayed, True
        if missing := partitions - stayed:
            self._task = asyncio.create_task(self._restore(missing, generation), name="restore")

    async def revoked(self) -> None:
        """Nothing is ours until the next assignment."""
        self._assigned = False
        await self._stop_restoring()

    async def settle(self) -> None:
        """Wait until what is being restored is here."""
        if self._task is not None:
            await self._task

    async def _restore(self, partitions: set[int], generation: int) -> None:
        try:
            for restored in await self._recovery.restore(partitions, generation):
                lifted = self._detector.add(restored.partition, restored.shard)
                committed = await self._go_back(restored.partition)
                restored.shard.begin_at(committed, restored.ends)
                self._saver.begin(restored.partition, restored.lineage)
                if restored.lineage.next_sequence == 0:
                    if any(committed.values()):
                        _log.warning("no image of state: it begins empty", partition=restored.partition, at=committed)
                    # A first image of nothing: from here on a successor knows where the log of decisions began.
                    await self._saver.save(restored.partition, anyway=True)
                if self._brake is not None:
                    self._brake.go_on(restored.held, restored.partition)
                self._lifted(restored.partition, lifted)
                await asyncio.gather(*await self._enforce(restored.shard.followed()))
                self._here.add(restored.partition)
        except Exception as error:  # noqa: BLE001  nobody awaits this task: unheard, it would wait for ever
            await self._failed(error)

    async def _stop_restoring(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _forget_held(self, partition: int) -> None:
        if self._brake is not None:
            self._brake.forget(partition)
