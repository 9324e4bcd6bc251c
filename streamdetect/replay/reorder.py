"""Events of all inputs in one order: (event time, event id), whatever order and blocks they were read in.

An event waits until the newest event read is ``lateness_ms`` ahead and ``hold_events`` more have been read, so a file
smaller than that is sorted whole. One that comes later still is not lost: it joins at the frontier, and each window
decides for itself whether it is too late. Frontier and order depend on the sequence of events alone.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Spans
from streamdetect.kernels.spans import copy_spans
from streamdetect.pipeline.accept.columns import RequestColumns

_NEVER = np.iinfo(np.int64).min
_IDENTIFIERS = ("event_id", "account_id", "org_id", "api_key_id", "payment_id")
_TEXTS = ("prompt", "system_prompt")


@dataclass(slots=True)
class _Segment:
    """Events of one block that still wait, with the time each is ordered by."""

    columns: RequestColumns
    order_at: NDArray[np.int64]
    waiting: NDArray[np.int64]


@dataclass(slots=True)
class ReorderBuffer:
    """Holds what may still be overtaken. Bounded by ``hold_events`` and by the traffic of ``lateness_ms``."""

    lateness_ms: int
    hold_events: int
    overtaken: int = 0  # events that joined at the frontier
    _segments: list[_Segment] = field(default_factory=list)
    _newest: int = _NEVER
    _history: NDArray[np.int64] = field(init=False)
    _frontier: int = _NEVER

    def __post_init__(self) -> None:
        self._history = np.full(self.hold_events, _NEVER, np.int64)

    def push(self, columns: RequestColumns) -> None:
        """Add a block of events in the order read."""
        if not len(columns):
            return
        newest = np.maximum(np.maximum.accumulate(columns.occurred_at), self._newest)
        history = np.concatenate([self._history, newest])
        frontier = np.minimum(newest - self.lateness_ms, history[: len(newest)])
        self._history = history[len(newest) :]
        self._newest, self._frontier = int(newest[-1]), int(frontier[-1])
        self.overtaken += int(np.count_nonzero(columns.occurred_at < frontier))
        order_at = np.maximum(columns.occurred_at, frontier)
        self._segments.append(_Segment(columns, order_at, np.arange(len(columns))))

    def pop(self, round_ms: int, *, last: bool = False) -> tuple[RequestColumns, NDArray[np.int64]] | None:
        """The events of all rounds that nothing can join any more, in order, and the time each is ordered by."""
        if not self._segments:
            return None
        limit = np.iinfo(np.int64).max if last else self._frontier // round_ms * round_ms
        picked = [segment.waiting[segment.order_at[segment.waiting] < limit] for segment in self._segments]
        if not sum(map(len, picked)):
            return None
        columns = gather([s.columns for s in self._segments], picked)
        order_at = np.concatenate([s.order_at[rows] for s, rows in zip(self._segments, picked, strict=True)])
        for segment in self._segments:
            segment.waiting = segment.waiting[segment.order_at[segment.waiting] >= limit]
        self._segments = [segment for segment in self._segments if len(segment.waiting)]
        order = order_of(columns, order_at)
        return columns.take(order), order_at[order]


def order_of(columns: RequestColumns, order_at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort by (order time, event time, event id, account id, kind); ids are compared only where times are equal."""
    order = np.lexsort((columns.occurred_at, order_at))
    first, second = order_at[order], columns.occurred_at[order]
    tied = np.flatnonzero((np.diff(first) == 0) & (np.diff(second) == 0))
    if not len(tied):
        return order
    raw = columns.identifiers.tobytes()

    def name(row: int) -> tuple[bytes, bytes, int]:
        event, account = columns.event_id, columns.account_id
        names = raw[event.start[row] : event.end[row]], raw[account.start[row] : account.end[row]]
        return *names, int(columns.kind[row])

    breaks = np.flatnonzero(np.diff(tied) > 1)
    starts = tied[np.concatenate([[0], breaks + 1])]
    ends = tied[np.concatenate([breaks, [len(tied) - 1]])] + 2
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        order[start:end] = sorted(order[start:end].tolist(), key=name)
    return order


def _gather_spans(
    parts: list[RequestColumns], picked: list[NDArray[np.int64]], buffer: str, names: tuple[str, ...]
) -> tuple[NDArray[np.uint8], dict[str, Spans]]:
    """Copy the picked spans of several blocks into one buffer."""
    total = sum(
        int(np.sum(getattr(part, name).end[rows] - getattr(part, name).start[rows]))
        for part, rows in zip(parts, picked, strict=True)
        for name in names
    )
    target, position = np.empty(total, np.uint8), 0
    spans: dict[str, Spans] = {}
    for name in names:
        starts, ends = [], []
        for part, rows in zip(parts, picked, strict=True):
            new_start, new_end = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
            old = getattr(part, name)
            source = getattr(part, buffer)
            position = copy_spans(source, old.start[rows], old.end[rows], target, position, new_start, new_end)
            starts.append(new_start)
            ends.append(new_end)
        spans[name] = Spans(np.concatenate(starts), np.concatenate(ends))
    return target, spans


def gather(parts: list[RequestColumns], picked: list[NDArray[np.int64]]) -> RequestColumns:
    """The picked events of several blocks, with buffers of their own that hold nothing else."""
    identifiers, named = _gather_spans(parts, picked, "identifiers", _IDENTIFIERS)
    texts, written = _gather_spans(parts, picked, "texts", _TEXTS)
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name)[rows] for part, rows in zip(parts, picked, strict=True)])
        for name in RequestColumns.__dataclass_fields__
        if name not in {*_IDENTIFIERS, *_TEXTS, "identifiers", "texts", "unknown_values"}
    }
    columns |= {**named, **written}
    return RequestColumns(identifiers=identifiers, texts=texts, **columns)
