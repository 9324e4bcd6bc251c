"""A detector and a gateway that obeys it, over traffic whose truth is known.

Open loop: everything reaches the detector, and what would have been served is counted. What a round decides is in
force from the next one on.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.seen import SeenHashes, first_seen
from streamdetect.messages.decision import Decision
from streamdetect.pipeline.accept.columns import Kind, Outcome, RequestColumns
from streamdetect.replay.detectors import Detector
from streamdetect.replay.evaluate import IGNORED, REFUSED, SENT, Evaluation, Exchanges
from streamdetect.replay.gateway import ASKS, COMPLETES, NOTHING, Asking, Gateway
from streamdetect.replay.truth import Truth, hashes_of_accounts, hashes_of_requests

_COMPLETION_MARK = np.uint64(0xC0)


@dataclass(slots=True)
class OpenLoop:
    """Runs a detector as if nothing was ever denied, and grades it. Itself a detector."""

    detector: Detector
    truth: Truth
    gateway: Gateway = field(default_factory=Gateway)
    evaluation: Evaluation = field(init=False)
    _seen: SeenHashes = field(default_factory=SeenHashes)

    def __post_init__(self) -> None:
        self.evaluation = Evaluation(self.truth)

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Judge by what is in force, show the detector everything, and put in force what it decides."""
        account = hashes_of_accounts(columns)
        request = hashes_of_requests(columns, account)
        fate = fates(self._seen, columns, request)
        rows = self.truth.rows_of(account)
        verdicts = self.gateway.judge(columns, Asking(account, wants(columns, fate), np.zeros(len(columns))))
        self.evaluation.requests(
            Exchanges(
                rows, rows, columns.occurred_at, columns.output_tokens, fate,
                np.ones(len(columns), np.bool_), ~self.truth.is_cover(request),
            ),
            verdicts,
        )  # fmt: skip
        return self.enforced(self.detector.round(columns, start_ms))

    def finish(self) -> list[Decision]:
        """Take what the detector still has to say; it meets no request any more, but counts as an action."""
        return self.enforced(self.detector.finish())

    def enforced(self, decisions: list[Decision]) -> list[Decision]:
        """Put decisions in force, in order."""
        for decision in decisions:
            self.gateway.take(decision)
        self.evaluation.decisions(decisions)
        return decisions


def fates(seen: SeenHashes, columns: RequestColumns, request: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """What each event is as a request: repeats and completions none, refusals of the recorded gateway apart."""
    completion = columns.kind == Kind.COMPLETION
    marked = np.where(completion, request ^ _COMPLETION_MARK, request)
    repeated = noted(seen, marked)
    refused = (columns.outcome >= Outcome.RATE_LIMITED) & (columns.outcome <= Outcome.BLOCKED)
    fate = np.where(refused, np.uint8(REFUSED), np.uint8(SENT))
    fate[repeated | completion] = IGNORED
    return fate


def wants(columns: RequestColumns, fate: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What each event wants of a gateway; a repeated completion is charged again, which only closes a limit sooner."""
    found = np.where(fate == SENT, np.uint8(ASKS), np.uint8(NOTHING))
    found[(fate == IGNORED) & (columns.kind == Kind.COMPLETION)] = COMPLETES
    return found


def noted(seen: SeenHashes, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Note hashes, in order; which of them were known before: ``bool[n]``."""
    seen.reserve(len(hashes))
    known: NDArray[np.bool_] = _repeated(seen.tables, seen.dirty, seen.state, seen.generation, hashes)
    return known


@njit(cache=True, nogil=True)
def _repeated(
    tables: NDArray[np.uint64],
    dirty: NDArray[np.uint8],
    state: NDArray[np.int64],
    generation: int,
    hashes: NDArray[np.uint64],
) -> NDArray[np.bool_]:
    repeated = np.empty(len(hashes), np.bool_)
    for index in range(len(hashes)):
        repeated[index] = not first_seen(tables, dirty, state, generation, hashes[index])
    return repeated
