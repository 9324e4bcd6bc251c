"""Any detector graded like ours: run over the same rounds, or by the decisions it has written.

    truth = read_truth(Path("labels.jsonl"), Path("cover.jsonl.gz"))
    figures = grade(read_chunks(["requests.jsonl.gz"]), OpenLoop(MyDetector(), truth))
    figures = grade(read_chunks(["requests.jsonl.gz"]), OpenLoop(Recorded(read_decisions("decisions.jsonl")), truth))

``MyDetector`` has two methods (``Detector``) and answers with ``Decision`` messages. ``ClosedLoop`` instead of
``OpenLoop`` keeps from it what it denies.
"""

from collections.abc import Iterable
from typing import Any

from streamdetect.kernels.chunk import Chunk
from streamdetect.replay.attack import Attack, read_attack
from streamdetect.replay.detectors import Detector, Recorded, read_decisions
from streamdetect.replay.feed import Feed, FeedOptions
from streamdetect.replay.figures import figures
from streamdetect.replay.loop import ClosedLoop, OpenLoop, Passing
from streamdetect.replay.sources import read_chunks
from streamdetect.replay.truth import Truth, read_truth

__all__ = [
    "Attack",
    "ClosedLoop",
    "Detector",
    "FeedOptions",
    "OpenLoop",
    "Passing",
    "Recorded",
    "Truth",
    "grade",
    "read_attack",
    "read_chunks",
    "read_decisions",
    "read_truth",
]


def grade(chunks: Iterable[Chunk], loop: OpenLoop | ClosedLoop, options: FeedOptions | None = None) -> dict[str, Any]:
    """Run the detector of a loop over request events and grade it; the figures of ``summary.json``.

    A loop and its truth are used up: their counters belong to this run.
    """
    feed = Feed(options or FeedOptions())
    for chunk in chunks:
        for columns, start_ms in feed.push(chunk):
            loop.round(columns, start_ms)
    for columns, start_ms in feed.finish():
        loop.round(columns, start_ms)
    loop.finish()
    graded = figures(loop.evaluation)
    return graded | {"evaluation": loop.told() | graded["evaluation"]}
