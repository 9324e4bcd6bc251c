"""Any detector graded like ours: run over the same rounds, or by the decisions it has written.

    truth = read_truth(Path("labels.jsonl"), Path("cover.jsonl.gz"))
    figures = grade(read_chunks(["requests.jsonl.gz"]), MyDetector(), truth)
    figures = grade(read_chunks(["requests.jsonl.gz"]), Recorded(read_decisions("decisions.jsonl")), truth)

``MyDetector`` has two methods (``detectors.Detector``) and answers with ``Decision`` messages.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from streamdetect.errors import BadDataError
from streamdetect.kernels.chunk import Chunk
from streamdetect.messages.decision import Decision
from streamdetect.messages.reading import Fault, read
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.replay.detectors import Detector
from streamdetect.replay.feed import Feed, FeedOptions
from streamdetect.replay.figures import figures
from streamdetect.replay.loop import OpenLoop
from streamdetect.replay.sources import read_chunks
from streamdetect.replay.truth import Truth

__all__ = ["Detector", "Recorded", "grade", "read_decisions"]


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


def grade(
    chunks: Iterable[Chunk], detector: Detector, truth: Truth, options: FeedOptions | None = None
) -> dict[str, Any]:
    """Run a detector over request events and grade it; the figures of ``summary.json``.

    ``truth`` is used up: its counters belong to this run.
    """
    feed, loop = Feed(options or FeedOptions()), OpenLoop(detector, truth)
    for chunk in chunks:
        for columns, start_ms in feed.push(chunk):
            loop.round(columns, start_ms)
    for columns, start_ms in feed.finish():
        loop.round(columns, start_ms)
    loop.finish()
    return figures(loop.evaluation)


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
