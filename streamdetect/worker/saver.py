"""Images of shards to the changelog, and the acks that wait for them.

A chunk is acked when an image that contains it has been delivered, and everything the chunk led to before that: so
whatever is not acked is processed again by a successor, on a state that does not know it yet. The order is what makes
a crash lose nothing: capture (between two chunks), outputs delivered, image delivered, acks, commit.

How often is a trade: the longer the interval, the more is processed again after a crash; the shorter, the more bytes.
``interval_s`` bounds the first, ``bytes_per_s`` stretches it, up to ``STRETCH_MAX`` times, where images are large.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamdetect.kernels.image_records import Link, Place, Term, keys_outside, records_of
from streamdetect.kernels.images import STRIPES, encode
from streamdetect.messages.decision import Decision
from streamdetect.ports import Sender
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.detector import Detector

STRETCH_MAX: Final = 6.0

Ack = Callable[[], object]
_Waiting = tuple[Ack, "asyncio.Future[None]"]


@dataclass(slots=True)
class Lineage:
    """Where one partition's chain of images stands.

    ``first_sequence`` is the oldest image the chain may need, ``own_sequence`` the first of this term. ``foreign`` are
    keys of earlier terms, in the topic until nothing needs them.
    """

    term: Term
    parent: Term
    next_sequence: int
    first_sequence: int
    own_sequence: int
    foreign: set[bytes] = field(default_factory=set)

    def link(self) -> Link:
        """The place of the next image."""
        first = max(self.first_sequence, self.next_sequence - STRIPES + 1)
        return Link(Place(self.term, self.next_sequence), self.parent, first)


@dataclass(slots=True)
class _Partition:
    lineage: Lineage
    due_at: float
    waiting: list[_Waiting] = field(default_factory=list)
    saving: bool = False
    in_image: int = 0  # chunks whose image is on its way
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Saver:
    """Saves the shards of one process. ``held`` tells which decisions of a partition wait at the brake."""

    def __init__(
        self,
        detector: Detector,
        sender: Sender,
        topic: str,
        *,
        interval_s: float,
        bytes_per_s: float,
        metrics: Metrics,
        held: Callable[[int], Sequence[Decision]] = lambda _partition: (),
        log_ends: Callable[[], dict[int, int]] = dict,
        guard: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._detector, self._sender, self._topic, self._metrics = detector, sender, topic, metrics
        self._interval_s, self._bytes_per_s = interval_s, bytes_per_s
        self._held, self._log_ends, self._guard, self._now_s = held, log_ends, guard, now_s
        self._partitions: dict[int, _Partition] = {}

    def begin(self, partition: int, lineage: Lineage) -> None:
        """Save a partition from now on; its shard is in the detector. First times are spread over an interval."""
        spread = (partition % 16 + 1) / 16
        self._partitions[partition] = _Partition(lineage, self._now_s() + self._interval_s * spread)

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Forget the partitions that are not ours any more, and the acks that wait for their images."""
        kept = set(partitions)
        self._partitions = {number: state for number, state in self._partitions.items() if number in kept}

    @property
    def partitions(self) -> set[int]:
        """The partitions of which nothing is lost: what their images do not hold is in memory, marked."""
        return {number for number, state in self._partitions.items() if not state.saving}

    @property
    def waiting(self) -> int:
        """Chunks processed whose image is not delivered yet."""
        return sum(len(state.waiting) + state.in_image for state in self._partitions.values())

    def hold(self, partition: int, ack: Ack, delivered: "asyncio.Future[None]") -> None:
        """Ack a processed chunk with the next image, once what it led to is ``delivered``."""
        state = self._partitions.get(partition)
        if state is not None:
            state.waiting.append((ack, delivered))

    async def save_due(self) -> None:
        """Save what has been waiting for an interval."""
        now = self._now_s()
        for partition, state in list(self._partitions.items()):
            if state.waiting and now >= state.due_at:
                await self.save(partition)

    async def save_all(self, partitions: Iterable[int] | None = None) -> None:
        """Save now whatever has anything to say."""
        chosen = self._partitions.keys() if partitions is None else self._partitions.keys() & set(partitions)
        await asyncio.gather(*(self.save(partition) for partition in sorted(chosen)))

    async def save(self, partition: int, *, anyway: bool = False) -> None:
        """Write one image, if a chunk waits for one, and ack what it contains.

        Raises what the sender raises; then nothing is acked.
        """
        state = self._partitions.get(partition)
        if state is None:  # it went while another was being saved
            return
        async with state.lock:
            if not (state.waiting or anyway) or self._partitions.get(partition) is not state:
                return
            started, waiting, link = time.perf_counter(), state.waiting, state.lineage.link()
            # Until it is delivered what is captured is nowhere else: a partition that fails here must be restored.
            state.waiting, state.saving, state.in_image = [], True, len(waiting)
            size = await self._write(partition, state, link, waiting)
            if size is None:
                return
            self._advance(state, size)
            self._metrics.histogram("image_seconds").observe(time.perf_counter() - started)
            await self._remove_foreign(partition, state.lineage)

    async def _write(self, partition: int, state: _Partition, link: Link, waiting: Sequence[_Waiting]) -> int | None:
        """Bytes written; ``None`` if the partition went meanwhile, and with it what the image would need."""
        shard = self._detector.shard(partition)
        shard.log_from |= {number: max(end, shard.log_from.get(number, 0)) for number, end in self._log_ends().items()}
        image = shard.capture(link.place.sequence)
        # Shielded: a save that is given up for want of time must not take back what is on its way.
        await asyncio.gather(*(asyncio.shield(delivered) for _, delivered in waiting))
        if self._partitions.get(partition) is not state:  # what waited at the brake is forgotten
            return None
        shard.add_held(image, self._held(partition))
        payload = await asyncio.to_thread(encode, image)
        self._guard()
        records = records_of(link, payload)
        sent = [await self._sender.send(self._topic, value, key=key, partition=partition) for key, value in records]
        await asyncio.gather(*sent)
        for ack, _ in waiting:
            ack()
        size = sum(len(key) + len(value) for key, value in records)
        self._metrics.counter("images").inc()
        self._metrics.counter("image_bytes").inc(size)
        return size

    def _advance(self, state: _Partition, size: int) -> None:
        lineage = state.lineage
        lineage.parent, lineage.next_sequence = lineage.term, lineage.next_sequence + 1
        state.saving, state.in_image = False, 0
        share = self._bytes_per_s / max(1, len(self._partitions))
        wait_s = min(max(self._interval_s, size / share), STRETCH_MAX * self._interval_s)
        state.due_at = self._now_s() + wait_s

    async def _remove_foreign(self, partition: int, lineage: Lineage) -> None:
        """Throw away images of earlier terms, once the chain needs none of them."""
        if not lineage.foreign or lineage.next_sequence - lineage.own_sequence < STRIPES:
            return
        lineage.foreign, doomed = set(), sorted(lineage.foreign)
        sent = [await self._sender.send(self._topic, None, key=key, partition=partition) for key in doomed]
        await asyncio.gather(*sent)


def lineage_after(newest: Link | None, generation: int, keys: Iterable[bytes]) -> Lineage:
    """The chain of a new owner: a term above the one it recovered, one image further on."""
    if newest is None:
        term = Term(1, generation)
        return Lineage(term, term, 0, 0, 0, set(keys_outside(term, keys)))
    before = newest.place
    term = Term(before.term.epoch + 1, generation)
    sequence = before.sequence + 1
    return Lineage(term, before.term, sequence, newest.first, sequence, set(keys_outside(term, keys)))
