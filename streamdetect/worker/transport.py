"""Faust's Kafka transport, delivering hot topics as chunks instead of one message per record.

Faust spends about 60 us on every message; one message per chunk of 500 records makes that vanish. Three rules keep it
from losing records, each broken by the stock consumer: records fetched and not delivered are given back by seeking;
hot partitions are silent between an assignment and the seek to their committed offsets; and commits follow the acks of
chunks, not runs of offsets. Delivery is at least once. It does not decode, order partitions, or keep state.

Agents on hot topics ack by hand (``stream.noack()``): Faust's automatic ack also fires when an agent raises.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ack_lock
from mode.utils.futures import notify
from structlog import get_logger

from streamdetect.errors import UnreachableError
from streamdetect.worker.chunks import ChunkLimits, ChunkMessage, Held
from streamdetect.worker.fetched import give_whole
from streamdetect.worker.heartbeats import hear
from streamdetect.worker.offsets import Ledger
from streamdetect.worker.positions import positions_of, rewind
from streamdetect.worker.versions import check_versions

check_versions()

# How long one fetch may wait for data, and how soon a held partition is looked at again.
FETCH_WAIT_S = 0.1
RECHECK_S = 0.01
# While a partition has so many chunks to deliver nothing more is asked for.
BACKLOG_CHUNKS = 4
# How long less than a chunk may wait for partitions that have a full one.
PATIENCE_S = 0.1
# How long a broker may keep a fetch of partitions that have nothing new. There is one fetch a broker at a time, so what
# arrives meanwhile on the partitions it leaves out waits as long; Faust's own 1500 ms held decisions up by a second.
BROKER_WAIT_MS = 100

log = get_logger(__name__)

Gate = Callable[[TP], bool]
Needed = Callable[[TP], int | None]
RevokeHook = Callable[[frozenset[TP]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A fetch under way, and when it was asked: its answer is void if the consumer was repositioned since."""

    epoch: int
    wanted: frozenset[TP]
    answer: "asyncio.Task[Mapping[TP, list[Any]]]"


class _ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is untyped here
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = BROKER_WAIT_MS  # noqa: SLF001  # Faust has no setting for it
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        hear(self._ensure_consumer()._coordinator, self.transport.heard)  # noqa: SLF001

    async def _fetch_records(self, consumer: Any, *args: Any, **options: Any) -> Any:
        give_whole(consumer._fetcher, self.transport.hot_topics)  # noqa: SLF001  # made when the consumer starts
        return await super()._fetch_records(consumer, *args, **options)


class ChunkConsumer(driver.Consumer):  # type: ignore[misc]  # Faust is untyped here
    """Consumer of a ``ChunkTransport``.

    In memory at most: the agents' queues (``stream_buffer_maxsize`` chunks each), for each partition ``held_bytes`` and
    one fetch held here and one prefetched by aiokafka (``consumer_max_fetch_size`` each).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hot: frozenset[str] = self.transport.hot_topics
        self._limits: ChunkLimits = self.transport.limits
        self._ledgers: dict[TP, Ledger] = {}
        self._held: dict[TP, Held] = {}
        self._fetch: _Fetch | None = None
        self._fetched_to: dict[TP, int] = {}
        self._wake: asyncio.Future[None] | None = None
        # Counts everything that moves positions: a fetch asked in another epoch is given back.
        self._epoch = 0
        self._positioned = asyncio.Event()
        self._positioning = asyncio.Lock()
        self._needed: Needed = lambda _tp: None
        self._gate: Gate = lambda _tp: True
        self._before_revoke: RevokeHook | None = None
        self._before_revoke_s = 0.0

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # What the worker uses

    def set_gate(self, gate: Gate) -> None:
        """Deliver chunks of a hot partition only while ``gate(tp)`` is true. Asked every 10 ms; must not raise."""
        self._gate = gate

    def set_needed(self, needed: Needed) -> None:
        """``needed(tp)`` is the first offset of a hot partition that its state lacks, ``None`` where that is not known.

        No partition begins behind it, whatever was committed: images that were acked may be gone since.
        """
        self._needed = needed

    async def go_back(self, partitions: Collection[TP]) -> dict[TP, int]:
        """Begin hot partitions that nothing was delivered of where their state, known by now, needs it.

        Waits until they have their positions. Returns what was committed of each, 0 where nothing was.
        """
        await self._positioned.wait()
        async with self._positioning:
            await self._go_back(partitions)
        return {tp: self._committed_offset.get(tp) or 0 for tp in partitions}

    def set_before_revoke(self, hook: RevokeHook, *, timeout_s: float) -> None:
        """Await ``hook`` when partitions are about to go and intake has stopped: finished work can still be acked."""
        self._before_revoke, self._before_revoke_s = hook, timeout_s

    def in_flight(self, tp: TP) -> int:
        """Chunks of a hot partition that were delivered and hold back its commit."""
        ledger = self._ledgers.get(tp)
        return 0 if ledger is None else len(ledger)

    def delivered(self, tp: TP) -> int:
        """Offset of the last record of a hot partition that was delivered since it was positioned; -1 before one."""
        ledger = self._ledgers.get(tp)
        return -1 if ledger is None else ledger.newest

    def look_again(self) -> None:
        """What the gate goes by may have changed."""
        notify(self._wake)

    def has_more(self, tp: TP) -> bool:
        """Whether records of a hot partition are here and wait for their turn."""
        return tp in self._held

    def reached(self, tp: TP) -> int:
        """The offset up to which a hot partition was delivered, what holds no record included; 0 before a position.

        Beside what was committed before this process began, it passes markers of transactions and compacted records,
        which nobody is ever handed.
        """
        held = self._held.get(tp)
        return self._fetched_to.get(tp, 0) if held is None else held.first

    # Fetching and delivering

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109  # Faust's signature
        """Yield messages: the next chunk of the hot partition whose turn it is, and every record of others."""
        if not self.flow_active:
            await self._drop_held()
            await self.wait(self.can_resume_flow)
        if self.should_stop:
            return
        for tp, message in self._cold(await self._fetch_more(timeout)):
            yield tp, message
        if self.flow_active and (turn := self._turn()) is not None:
            yield turn, self._next_message(turn)

    def _turn(self) -> TP | None:
        """The hot partition that may speak next: who has waited longest, but full chunks first for a while.

        In a backlog the few rows that a chunk leads to are then taken many at a time.
        """
        patient = time.monotonic() - PATIENCE_S
        due = (tp for tp, held in self._held.items() if len(held) >= self._limits.records or held.since_s < patient)
        return next(filter(self._deliverable, chain(due, self._held)), None)

    def _deliverable(self, tp: TP) -> bool:
        return self._positioned.is_set() and tp in self._active_partitions and self._gate(tp)

    def _next_message(self, tp: TP) -> ChunkMessage:
        held = self._held.pop(tp)
        chunk = held.cut(self._limits)
        if held:
            self._held[tp] = held  # behind the others
        ledger = self._ledgers.setdefault(tp, Ledger())
        if (first := int(chunk.offsets[0])) <= ledger.newest:
            raise UnreachableError(
                f"{tp.topic}[{tp.partition}] went back from offset {ledger.newest} to {first}: it was deleted and made "
                "again, or lost records; start again, and it is read from its start"
            )
        delivery = ledger.deliver(int(chunk.offsets[-1]))
        self._read_offset[tp] = None  # Faust's own filter of offsets must not drop what the ledger lists
        return ChunkMessage(chunk, delivery, tp=tp, generation_id=self.app.consumer_generation_id)

    def _cold(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        generation = self.app.consumer_generation_id
        for tp, record in self.scheduler.iterate(records):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return  # a rebalance is under way and will seek
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            yield tp, self._to_message(tp, record)

    async def _fetch_more(self, timeout: float) -> Mapping[TP, list[Any]]:  # noqa: ASYNC109
        """Fetch; keep what is hot in ``_held`` and return the rest.

        A fetch is under way also while chunks are delivered, but in a backlog: what arrived meanwhile is then here at
        once. Waits only while nothing can be delivered, and not for long.
        """
        if self._fetch is None:
            self._ask(min(timeout, FETCH_WAIT_S))
        fetch = self._fetch
        if (fetch is None or not fetch.answer.done()) and not any(map(self._deliverable, self._held)):
            await self._pause(fetch)
        if fetch is None or not fetch.answer.done():
            return {}
        self._fetch = None
        records = {TP(*tp): found for tp, found in fetch.answer.result().items() if found}
        if fetch.epoch != self._epoch or not self.flow_active:
            await self._give_back({tp: Held(found) for tp, found in records.items()})
            return {}
        for tp, found in records.items():
            if tp in self._held:
                self._held[tp].add(found)
            elif tp.topic in self._hot:
                self._held[tp] = Held(found)
        if self._positioned.is_set():  # and no fetch is under way, which could be ahead of what came of it
            self._fetched_to |= positions_of(self._thread._ensure_consumer(), fetch.wanted)  # noqa: SLF001  # no public way
        self._ask(min(timeout, FETCH_WAIT_S))
        return {tp: found for tp, found in records.items() if tp.topic not in self._hot}

    def _ask(self, wait_s: float) -> None:
        if self._has_backlog():
            return
        active = self._get_active_partitions()
        wanted = frozenset(tp for tp in active if tp.topic not in self._hot or self._has_room(tp))
        if wanted:
            # A task of its own: if the drain loop is cancelled, the answer still finds its way back to the partition.
            answer = asyncio.create_task(self._getmany(active_partitions=set(wanted), timeout=wait_s))
            self._fetch = _Fetch(self._epoch, wanted, answer)

    def _has_backlog(self) -> bool:
        """Whether there are several chunks of one partition to deliver."""
        enough = BACKLOG_CHUNKS * self._limits.records
        return any(len(held) >= enough and self._deliverable(tp) for tp, held in self._held.items())

    def _has_room(self, tp: TP) -> bool:
        """Whether a hot partition may be asked for more. Whether it may speak is asked when it has something to say."""
        return self._positioned.is_set() and (
            tp not in self._held or self._held[tp].size_bytes < self._limits.held_bytes
        )

    async def _pause(self, fetch: _Fetch | None) -> None:
        """Wait for the answer, for an agent's queue to drain, or for the time to look again."""
        if self._wake is None or self._wake.done():
            self._wake = asyncio.get_running_loop().create_future()
        awaited: set[asyncio.Future[Any]] = {self._wake}
        if fetch is not None:
            awaited.add(fetch.answer)
        recheck_s = RECHECK_S if self._held or fetch is None else None
        await asyncio.wait(awaited, timeout=recheck_s, return_when=asyncio.FIRST_COMPLETED)

    def on_buffer_drop(self, tp: TP) -> None:
        """An agent's queue has room again."""
        super().on_buffer_drop(tp)
        notify(self._wake)

    # Giving back what was fetched and cannot be delivered

    async def _drop_held(self) -> None:
        self._epoch += 1
        self._fetched_to.clear()
        held, self._held = self._held, {}
        await self._give_back(held)

    async def _give_back(self, held: Mapping[TP, Held]) -> None:
        if held:
            await self._rewind({tp: (rest.first, rest.last) for tp, rest in held.items()})

    async def _rewind(self, spans: Mapping[TP, tuple[int, int]]) -> None:
        await self._thread.call_thread(rewind, self._thread._ensure_consumer(), spans)  # noqa: SLF001  # no public way

    async def on_stop(self) -> None:
        """Commit what is acked; the answer of a last fetch is nobody's any more."""
        await super().on_stop()
        if self._fetch is not None:
            self._fetch.answer.cancel()

    # Positions and commits

    async def perform_seek(self) -> None:
        """Go to the committed offsets, or before them; only then may hot partitions speak."""
        async with self._positioning:
            self._positioned.clear()
            await self._drop_held()
            await super().perform_seek()
            await self._go_back(self.assignment())
            self._ledgers.clear()
            self._epoch += 1
            self._positioned.set()

    async def _go_back(self, partitions: Collection[TP]) -> None:
        """Seek to what the state needs where that lies before what was committed."""
        back: dict[TP, int] = {}
        for tp in partitions:
            needed, committed = self._needed(tp), self._committed_offset.get(tp)
            if tp.topic in self._hot and needed is not None and committed is not None and needed < committed:
                back[tp] = needed
                told = {"topic": tp.topic, "partition": tp.partition, "read_again_from": needed, "committed": committed}
                log.warning("images_of_state_are_gone", **told)
        if back:
            await self._drop_held()
            await self._rewind({tp: (first, first) for tp, first in back.items()})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop intake, let finished work be acked, commit it, and only then forget it."""
        if revoked and not self.app.should_stop:
            self.stop_flow()
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            await self._drop_held()
            await self._finish(frozenset(revoked))
        self._positioned.clear()
        self._epoch += 1
        for tp in revoked:
            self._ledgers.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def _finish(self, revoked: frozenset[TP]) -> None:
        if self._before_revoke is not None:
            try:
                await asyncio.wait_for(self._before_revoke(revoked), self._before_revoke_s)
            except TimeoutError:
                log.warning("revoke_hook_timed_out", timeout_s=self._before_revoke_s)
            except Exception as error:  # noqa: BLE001  # aiokafka would log and swallow it
                await self.crash(error)
                return
        if not await self.commit():
            await self.commit()  # the first may only have waited for a commit that began before the last acks

    def ack(self, message: Any) -> bool:
        """Mark a message as done. A chunk marks its own delivery, whatever happened to its partition since."""
        if not isinstance(message, ChunkMessage):
            return bool(super().ack(message))
        with ack_lock:
            message.acked = message.delivery.acked = True
            self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes in hot partitions need no books: the ledger knows what was delivered."""
        if tp.topic not in self._hot:
            await super()._add_gap(tp, offset_from, offset_to)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        for tp in self._ledgers:
            if tp not in self._acked and (topics is None or tp in topics or tp.topic in topics):
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self._hot:
            offset: int | None = super()._new_offset(tp)
            return offset
        if self._acked.get(tp):
            raise RuntimeError(f"an agent on {tp.topic} acks automatically: it must use stream.noack()")
        ledger = self._ledgers.get(tp)
        return None if ledger is None else ledger.committable()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock check, except for hot partitions: held or gated ones are idle on purpose."""
        if tp.topic not in self._hot:
            super().verify_event_path(now, tp)


class ChunkTransport(driver.Transport):  # type: ignore[misc]  # Faust is untyped here
    """The transport of an app whose hot topics arrive as chunks; set it as ``app.transport``.

    ``heard`` is called, in the consumer's thread, with the monotonic time (s) of each heartbeat the group answered.
    """

    Consumer = ChunkConsumer

    def __init__(self, app: Any, hot_topics: frozenset[str], *, limits: ChunkLimits | None = None) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.hot_topics = hot_topics
        self.limits = limits or ChunkLimits()
        self.heard: Callable[[float], None] = lambda _sent_s: None
