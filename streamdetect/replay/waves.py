"""What is sent in one round, with what the attacker knows of each event; and what is to be sent again later."""

import heapq
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.replay.reorder import gather, order_of


@dataclass(frozen=True, slots=True)
class Wave:
    """Events in order, as they were planned: under whose name and in whose words they go out is decided when sent.

    ``request`` is the hash of the exchange, ``planner`` the row of the account that was to have it, ``sender`` of the
    one that sends it (-1 without a label). ``sibling``: another account than ``sender`` is to be found. ``fate`` and
    ``counts`` as in ``Exchanges``. ``template`` is a row of the attacker's templates, -1 for none. ``tries`` counts
    sendings, 0 for the first; ``moves`` those by siblings.
    """

    columns: RequestColumns
    request: NDArray[np.uint64]
    planner: NDArray[np.int64]
    sender: NDArray[np.int64]
    sibling: NDArray[np.bool_]
    fate: NDArray[np.uint8]
    counts: NDArray[np.bool_]
    template: NDArray[np.int32]
    tries: NDArray[np.int64]
    moves: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.columns)

    def copied(self, rows: NDArray[np.int64]) -> "Wave":
        """Some events, in that order, in buffers of their own."""
        return replace(self._picked(rows), columns=gather([self.columns], [rows]))

    def ordered(self) -> "Wave":
        """The same events by time and id."""
        order = order_of(self.columns, self.columns.occurred_at)
        return replace(self._picked(order), columns=self.columns.take(order))

    def _picked(self, rows: NDArray[np.int64]) -> "Wave":
        chosen = {one.name: getattr(self, one.name)[rows] for one in fields(self) if one.name != "columns"}
        return Wave(columns=self.columns, **chosen)


def joined(waves: list[Wave]) -> Wave:
    """Several waves as one, by time and id."""
    columns = gather([wave.columns for wave in waves], [np.arange(len(wave)) for wave in waves])
    names = [one.name for one in fields(Wave) if one.name != "columns"]
    merged = {name: np.concatenate([getattr(wave, name) for wave in waves]) for name in names}
    return Wave(columns=columns, **merged).ordered()


@dataclass(slots=True)
class Later:
    """Events that will be sent again, by the round they fall into. Memory is theirs, prompts included."""

    round_ms: int
    _waves: dict[int, list[Wave]] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(wave) for waves in self._waves.values() for wave in waves)

    def put(self, wave: Wave, rows: NDArray[np.int64], due: NDArray[np.int64]) -> None:
        """Send ``rows`` of a wave again at ``due`` (ms)."""
        starts = due // self.round_ms * self.round_ms
        for start in np.unique(starts).tolist():
            chosen = np.flatnonzero(starts == start)
            again = wave.copied(rows[chosen])
            again = replace(again, columns=replace(again.columns, occurred_at=due[chosen]))
            if start not in self._waves:
                heapq.heappush(self._starts, start)
            self._waves.setdefault(start, []).append(again)

    def before(self, start_ms: int) -> tuple[int, Wave] | None:
        """Take the oldest round that begins before ``start_ms``."""
        if not self._starts or self._starts[0] >= start_ms:
            return None
        start = heapq.heappop(self._starts)
        return start, joined(self._waves.pop(start))
