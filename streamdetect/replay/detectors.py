"""What replay asks of a detector, so that any can be run, graded and looped over the same traffic."""

from dataclasses import dataclass, field
from typing import Protocol

from streamdetect.errors import BadDataError
from streamdetect.messages.decision import Decision
from streamdetect.messages.reading import Fault, read
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.replay.sources import read_chunks


class Detector(Protocol):
    """Takes events round by round and says what it decides.

    A round is a slot of event time that has events; what is decided in it is in force from the next one on.
    """

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Take the events of the round that begins at ``start_ms``, in order of event time; decisions in order.

        Repeats, completions and refused events come as they were recorded. An event that came far too late to be
        sorted in may be older than ``start_ms``.
        """
        ...

    def finish(self) -> list[Decision]:
        """Say what is still to be decided when all traffic has been seen."""
        ...


@dataclass(slots=True)
class Recorded:
    """A detector that decided before: says at the end of each round what was issued by then. Open loop only."""

    decisions: list[Decision]
    round_ms: int = 10_000
    _next: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.decisions = sorted(self.decisions, key=lambda decision: decision.issued_at)

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:  # noqa: ARG002  # it has seen them
        """Give the decisions of this round, and of those before it that had no events."""
        first = self._next
        while self._next < len(self.decisions) and self.decisions[self._next].issued_at < start_ms + self.round_ms:
            self._next += 1
        return self.decisions[first : self._next]

    def finish(self) -> list[Decision]:
        """Give the rest."""
        return self.decisions[self._next :]


def read_decisions(path: str) -> list[Decision]:
    """Read a ``decisions.jsonl``. Raises ``BadDataError`` for a line that is no decision."""
    found: list[Decision] = []
    for chunk in read_chunks([path]):
        for record in range(len(chunk)):
            decision = read(Decision, chunk.value(record))
            if isinstance(decision, Fault):
                raise BadDataError(f"{path}:{int(chunk.offsets[record]) + 1}: {decision.message}")
            found.append(decision)
    return found
