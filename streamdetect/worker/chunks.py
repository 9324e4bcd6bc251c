"""Fetched records of one partition, cut into chunks; and the Faust message and schema that carry a chunk.

Cutting copies the bytes of its records once, in one piece. Nothing is decoded here, so no input can raise.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faust
import numpy as np
from faust.types import ConsumerMessage

from streamdetect.kernels.chunk import Chunk, Spans, joined_chunks, spans_of
from streamdetect.worker.offsets import Delivery

_COLUMNS_BYTES = 48  # a record: two spans, its offset, its time


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How large a chunk may be: records, bytes of values and keys (one record may be larger), broker time it spans.

    The span bounds how far a partition with few records runs ahead of others when it is read after an outage. A
    partition that holds ``held_bytes`` is not asked for more: its records wait for their turn, not for the broker.
    """

    records: int = 500
    size_bytes: int = 4 << 20
    span_ms: int = 600_000
    held_bytes: int = 2 << 20


class Held:
    """Records fetched from one partition and not yet delivered: whole answers as chunks, or aiokafka's records."""

    __slots__ = ("_parts", "_position", "since_s")

    def __init__(self, found: Sequence[Any]) -> None:
        self.since_s = time.monotonic()  # when something of it was last taken, or it came
        self._parts = deque([_as_chunk(found)])
        self._position = 0  # in the first part

    def __len__(self) -> int:
        return sum(map(len, self._parts)) - self._position

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, columns and what was delivered of the first answer included."""
        return sum(len(part.buffer) + _COLUMNS_BYTES * len(part) for part in self._parts)

    @property
    def first(self) -> int:
        """Offset of the first undelivered record."""
        return int(self._parts[0].offsets[self._position])

    @property
    def last(self) -> int:
        """Offset of the last fetched record."""
        return int(self._parts[-1].offsets[-1])

    def add(self, found: Sequence[Any]) -> None:
        """Take in what was fetched next."""
        self._parts.append(_as_chunk(found))

    def cut(self, limits: ChunkLimits) -> Chunk:
        """Take the next chunk: at least one record, at most ``limits``; small answers together."""
        self._join_small(limits.records)
        whole, first = self._parts[0], self._position
        end = min(first + limits.records, len(whole))
        sizes = sum(
            spans.end[first:end] - spans.start[first:end] for spans in (whole.values, whole.keys)
        )  # nothing where absent
        fitting = int(np.searchsorted(np.cumsum(sizes), limits.size_bytes, side="right"))
        stamps_ms = whole.timestamps_ms[first:end]
        beyond = np.flatnonzero(stamps_ms > stamps_ms[0] + limits.span_ms)
        fitting = max(1, min(fitting, int(beyond[0]) if len(beyond) else fitting))
        self._position += fitting
        self.since_s = time.monotonic()
        if self._position == len(whole) and len(self._parts) > 1:
            self._parts.popleft()
            self._position = 0
        return _part(whole, first, first + fitting)

    def _join_small(self, records: int) -> None:
        """Make one part of the first ones until it has enough records; never of offsets that do not rise."""
        parts, first = self._parts, self._position
        count, taken = len(parts[0]) - first, 1
        while count < records and taken < len(parts) and parts[taken - 1].offsets[-1] < parts[taken].offsets[0]:
            count += len(parts[taken])
            taken += 1
        if taken > 1:
            small = [parts.popleft() for _ in range(taken)]
            parts.appendleft(joined_chunks([_part(small[0], first, len(small[0])), *small[1:]]))
            self._position = 0


def _as_chunk(found: Sequence[Any]) -> Chunk:
    return found[0] if isinstance(found[0], Chunk) else _joined(found)


def _part(whole: Chunk, first: int, end: int) -> Chunk:
    """The records ``first`` to ``end`` with a buffer of their own, which begins and ends where they do."""
    spans = [Spans(one.start[first:end], one.end[first:end]) for one in (whole.values, whole.keys)]
    bounds = np.concatenate([np.stack([one.start, one.end])[:, one.start >= 0] for one in spans], axis=1)
    begin, stop = (int(bounds.min()), int(bounds.max())) if bounds.size else (0, 0)
    values, keys = (one.moved(-begin) for one in spans)
    return Chunk(
        whole.topic,
        whole.partition,
        whole.buffer[begin:stop],
        values,
        keys,
        whole.offsets[first:end],
        whole.timestamps_ms[first:end],
    )


def _joined(records: Sequence[Any]) -> Chunk:
    """Records as one chunk, each value behind its key, as a broker has them."""
    buffer, spans = spans_of([part for record in records for part in (record.key, record.value)])
    return Chunk(
        records[0].topic,
        records[0].partition,
        buffer,
        values=Spans(spans.start[1::2].copy(), spans.end[1::2].copy()),
        keys=Spans(spans.start[::2].copy(), spans.end[::2].copy()),
        offsets=np.array([record.offset for record in records], np.int64),
        timestamps_ms=np.array([-1 if record.timestamp is None else record.timestamp for record in records], np.int64),
    )


class ChunkMessage(ConsumerMessage):  # type: ignore[misc]  # Faust is untyped here
    """A Faust message whose value is a ``Chunk`` and whose offset is the chunk's last."""

    __slots__ = ("delivery",)

    def __init__(self, chunk: Chunk, delivery: Delivery, *, tp: Any, generation_id: int) -> None:
        stamp_ms = int(chunk.timestamps_ms[-1])
        super().__init__(
            chunk.topic,
            chunk.partition,
            delivery.last,
            stamp_ms / 1000.0,
            0,
            None,
            None,
            chunk,
            None,
            0,
            len(chunk.buffer),
            tp,
            generation_id=generation_id,
        )
        self.delivery = delivery


class ChunkSchema(faust.Schema):  # type: ignore[misc]  # Faust is untyped here
    """Hands the chunk through untouched: no decode error can reach Faust's conductor."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """The message's key as it came."""
        del app
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The message's value as it came: a ``Chunk`` on a hot topic."""
        del app
        return message.value
