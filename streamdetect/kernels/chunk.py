"""The unit that travels from a source to the pipeline: many records in one byte buffer.

A Python object per record costs more than everything the detector does with it (about 1 us against 0.1 us for a span),
so a chunk is one buffer and columns of spans into it. The chunk does not know what its bytes mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spans:
    """Half-open byte ranges into a buffer. ``start`` is -1 where there is no value (null or absent)."""

    start: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.start)

    def moved(self, by: int) -> "Spans":
        """The same ranges ``by`` bytes further on in a buffer; what is absent stays so."""
        return Spans(*(np.where(self.start < 0, -1, side + by) for side in (self.start, self.end)))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition, in offset order, as one buffer and columns.

    ``values`` and ``keys`` are spans into ``buffer``; ``offsets`` need not be contiguous; ``timestamps_ms`` are the
    record timestamps of the broker (-1 unknown), which decide nothing.
    """

    topic: str
    partition: int
    buffer: bytes
    values: Spans
    keys: Spans
    offsets: Ints
    timestamps_ms: Ints

    def __len__(self) -> int:
        return len(self.offsets)

    def value(self, index: int) -> bytes | None:
        """The bytes of one record, ``None`` for a null value."""
        start = int(self.values.start[index])
        return None if start < 0 else self.buffer[start : int(self.values.end[index])]

    def key(self, index: int) -> bytes | None:
        """The bytes of one record's key, ``None`` for a null key."""
        start = int(self.keys.start[index])
        return None if start < 0 else self.buffer[start : int(self.keys.end[index])]


def spans_of(parts: Sequence[bytes | None], base: int = 0) -> tuple[bytes, Spans]:
    """Join byte strings into one buffer; ``None`` becomes a span of -1.

    >>> buffer, spans = spans_of([b"ab", None, b"", b"c"])
    >>> buffer, spans.start.tolist(), spans.end.tolist()
    (b'abc', [0, -1, 2, 2], [2, -1, 2, 3])
    """
    lengths = np.fromiter((-1 if part is None else len(part) for part in parts), np.int64, len(parts))
    end = np.cumsum(np.maximum(lengths, 0)) + base
    start = np.where(lengths < 0, -1, end - lengths)
    return b"".join(part for part in parts if part), Spans(start, np.where(lengths < 0, -1, end))


def chunk_of(
    topic: str,
    partition: int,
    values: Sequence[bytes | None],
    *,
    keys: Sequence[bytes | None] | None = None,
    offsets: Sequence[int] | Ints | None = None,
    timestamps_ms: Sequence[int] | Ints | None = None,
) -> Chunk:
    """Build a chunk from separate byte strings, as sources and tests have them."""
    count = len(values)
    value_bytes, value_spans = spans_of(values)
    key_bytes, key_spans = spans_of(keys if keys is not None else [None] * count, base=len(value_bytes))
    return Chunk(
        topic=topic,
        partition=partition,
        buffer=value_bytes + key_bytes,
        values=value_spans,
        keys=key_spans,
        offsets=np.arange(count, dtype=np.int64) if offsets is None else np.asarray(offsets, np.int64),
        timestamps_ms=np.full(count, -1, np.int64) if timestamps_ms is None else np.asarray(timestamps_ms, np.int64),
    )


def joined_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """The records of consecutive chunks of one partition as one chunk.

    >>> joined_chunks([chunk_of("t", 0, [b"a", None]), chunk_of("t", 0, [b"bc"], offsets=[2])]).value(2)
    b'bc'
    """
    bases = np.cumsum([0, *(len(chunk.buffer) for chunk in chunks[:-1])]).tolist()
    values, keys = (
        _joined_spans([spans.moved(base) for spans, base in zip(columns, bases, strict=True)])
        for columns in ([chunk.values for chunk in chunks], [chunk.keys for chunk in chunks])
    )
    return Chunk(
        topic=chunks[0].topic,
        partition=chunks[0].partition,
        buffer=b"".join(chunk.buffer for chunk in chunks),
        values=values,
        keys=keys,
        offsets=np.concatenate([chunk.offsets for chunk in chunks]),
        timestamps_ms=np.concatenate([chunk.timestamps_ms for chunk in chunks]),
    )


def _joined_spans(parts: Sequence[Spans]) -> Spans:
    return Spans(np.concatenate([part.start for part in parts]), np.concatenate([part.end for part in parts]))
