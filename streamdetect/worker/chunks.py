"""Fetched records of one partition, cut into chunks; and the Faust message and schema that carry a chunk.

Cutting copies each record's bytes once into the chunk's buffer. Nothing is decoded here, so no input can raise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faust
import numpy as np
from faust.types import ConsumerMessage

from streamdetect.kernels.chunk import Chunk, chunk_of
from streamdetect.worker.offsets import Delivery


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How large a chunk may be: records, bytes of values and keys (one record may be larger), broker time it spans.

    The last bounds how far a partition with few records runs ahead of others when it is read after an outage.
    """

    records: int = 500
    size_bytes: int = 4 << 20
    span_ms: int = 600_000


@dataclass(slots=True, eq=False)
class Held:
    """Records fetched from one partition and not yet delivered."""

    records: Sequence[Any]
    position: int = 0

    def __len__(self) -> int:
        return len(self.records) - self.position

    @property
    def first(self) -> int:
        """Offset of the first undelivered record."""
        return int(self.records[self.position].offset)

    @property
    def last(self) -> int:
        """Offset of the last fetched record."""
        return int(self.records[-1].offset)

    def cut(self, limits: ChunkLimits) -> Chunk:
        """Take the next chunk: at least one record, at most ``limits``."""
        part = self.records[self.position : self.position + limits.records]
        sizes = np.fromiter((len(r.value or b"") + len(r.key or b"") for r in part), np.int64, len(part))
        fitting = int(np.searchsorted(np.cumsum(sizes), limits.size_bytes, side="right"))
        stamps_ms = np.fromiter((-1 if r.timestamp is None else r.timestamp for r in part), np.int64, len(part))
        beyond = np.flatnonzero(stamps_ms > stamps_ms[0] + limits.span_ms)
        fitting = max(1, min(fitting, int(beyond[0]) if len(beyond) else fitting))
        part, stamps_ms = part[:fitting], stamps_ms[:fitting]
        self.position += fitting
        return chunk_of(
            part[0].topic,
            part[0].partition,
            [r.value for r in part],
            keys=[r.key for r in part],
            offsets=[r.offset for r in part],
            timestamps_ms=stamps_ms,
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
