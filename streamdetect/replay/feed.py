"""From chunks to rounds: decoded, judged by time, sorted, and cut at the borders of rounds."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from streamdetect.kernels.chunk import Chunk
from streamdetect.kernels.hashing import hash_spans
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accept.watermark import Watermark
from streamdetect.replay.reorder import ReorderBuffer

Round = tuple[RequestColumns, int]  # events in order, and when their round begins (ms)


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How to read a stream. Times are event time in ms; ``from_ms`` and ``to_ms`` bound the events taken, half-open."""

    round_ms: int = 10_000
    max_ahead_ms: int = 604_800_000
    lateness_ms: int = 3_600_000
    hold_events: int = 100_000
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(slots=True)
class Feed:
    """Push chunks, take rounds. Which rounds there are depends on the events alone, never on how they were cut."""

    options: FeedOptions = field(default_factory=FeedOptions)
    events: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    first_at: int | None = None
    last_at: int | None = None
    _watermark: Watermark = field(init=False)
    _buffer: ReorderBuffer = field(init=False)

    def __post_init__(self) -> None:
        self._watermark = Watermark(self.options.max_ahead_ms)
        self._buffer = ReorderBuffer(self.options.lateness_ms, self.options.hold_events)

    @property
    def overtaken(self) -> int:
        """Events that came too far out of order to be sorted in."""
        return self._buffer.overtaken

    def push(self, chunk: Chunk) -> Iterator[Round]:
        """Take in a chunk of lines; yields the rounds it completes."""
        columns, rejects = decode_requests(chunk)
        self.dead_letters.update(reject.code for reject in rejects)
        self._buffer.push(self._accept(columns))
        yield from self._rounds(last=False)

    def finish(self) -> Iterator[Round]:
        """Yield what still waits."""
        yield from self._rounds(last=True)

    def _accept(self, columns: RequestColumns) -> RequestColumns:
        account = hash_spans(columns.identifiers, columns.account_id.start, columns.account_id.end, np.uint64(0))
        future = self._watermark.judge(columns.occurred_at, account)
        if future.any():
            self.dead_letters["future"] += int(np.count_nonzero(future))
        kept = ~future
        if self.options.from_ms is not None:
            kept &= columns.occurred_at >= self.options.from_ms
        if self.options.to_ms is not None:
            kept &= columns.occurred_at < self.options.to_ms
        return columns if kept.all() else columns.take(np.flatnonzero(kept))

    def _rounds(self, *, last: bool) -> Iterator[Round]:
        round_ms = self.options.round_ms
        popped = self._buffer.pop(round_ms, last=last)
        if popped is None:
            return
        columns, order_at = popped
        self.events += len(columns)
        oldest, newest = int(columns.occurred_at.min()), int(columns.occurred_at.max())
        self.first_at = oldest if self.first_at is None else min(self.first_at, oldest)
        self.last_at = newest if self.last_at is None else max(self.last_at, newest)
        slots = order_at // round_ms
        starts = np.concatenate([[0], np.flatnonzero(np.diff(slots)) + 1, [len(slots)]]).tolist()
        for start, end in pairwise(starts):
            yield columns.between(start, end), int(slots[start]) * round_ms
