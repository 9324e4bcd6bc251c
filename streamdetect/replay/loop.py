"""A detector and a gateway that obeys it, over traffic whose truth is known.

Open loop: everything reaches the detector, and what would have been served is counted. Closed loop: what is denied
never reaches it, people pass verifications or do not, and attackers answer. In both, what a round decides is in force
from the next one on.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.seen import SeenHashes, first_seen, was_seen
from streamdetect.messages.decision import Decision
from streamdetect.pipeline.accept.columns import Kind, Outcome, RequestColumns
from streamdetect.replay.attack import Attack
from streamdetect.replay.attackers import Attackers
from streamdetect.replay.detectors import Detector
from streamdetect.replay.evaluate import IGNORED, REFUSED, SENT, UNSENT, Evaluation, Exchanges
from streamdetect.replay.gateway import ASKS, COMPLETES, NOTHING, Asking, Gateway
from streamdetect.replay.truth import CAMPAIGN, UNLABELLED, Truth, hashes_of_accounts, hashes_of_requests
from streamdetect.replay.waves import Wave, joined

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
        return enforced(self.gateway, self.evaluation, self.detector.round(columns, start_ms))

    def finish(self) -> list[Decision]:
        """Take what the detector still has to say; it meets no request any more, but counts as an action."""
        return enforced(self.gateway, self.evaluation, self.detector.finish())

    def told(self) -> dict[str, Any]:
        """What the figures rest on."""
        return {"loop": "open", "decisions_without_a_subject_here": self.gateway.unmatched}


@dataclass(frozen=True, slots=True)
class Passing:
    """The chance to pass a verification by label; campaigns' is their reaction's unless told here."""

    legit: float = 0.7
    campaign: float | None = None
    other_abuse: float = 0.05
    unlabelled: float = 0.7
    delay_ms: int = 300_000


@dataclass(slots=True)
class ClosedLoop:
    """Runs a detector that sees only what its own decisions let through, against attackers that answer. A detector.

    What was planned for a round and what is sent again then goes through the gateway together. Rounds that only have
    the latter come before the next planned one. What would be sent again after the last planned round is lost.
    """

    detector: Detector
    truth: Truth
    round_ms: int
    attack: Attack = field(default_factory=Attack)
    passing: Passing = field(default_factory=Passing)
    seed: int = 0
    gateway: Gateway = field(init=False)
    evaluation: Evaluation = field(init=False)
    attackers: Attackers = field(init=False)
    reached: int = 0
    unsent: int = 0
    _seen: SeenHashes = field(default_factory=SeenHashes)
    _stopped: SeenHashes = field(default_factory=SeenHashes)  # exchanges that were denied or never sent

    def __post_init__(self) -> None:
        self.gateway = Gateway(self.seed, self.passing.delay_ms)
        self.evaluation = Evaluation(self.truth)
        self.attackers = Attackers(self.truth, self.attack, self.round_ms)

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Let the round's events through the gateway, and the detector see those that pass."""
        decisions = []
        while (due := self.attackers.later.before(start_ms)) is not None:
            decisions += self._sent(due[1], due[0])
        account = hashes_of_accounts(columns)
        request = hashes_of_requests(columns, account)
        planned = self.attackers.planned(
            columns, request, self.truth.rows_of(account), fates(self._seen, columns, request),
            self.truth.is_cover(request),
        )  # fmt: skip
        again = self.attackers.later.before(start_ms + 1)
        return decisions + self._sent(planned if again is None else joined([planned, again[1]]), start_ms)

    def finish(self) -> list[Decision]:
        """Take what the detector still has to say."""
        return enforced(self.gateway, self.evaluation, self.detector.finish())

    def told(self) -> dict[str, Any]:
        """What the figures rest on: what was assumed of people, and what the attackers did."""
        named = {name: self.attack.of(name).model_dump() for name in self.truth.campaigns}
        return {
            "loop": "closed",
            "decisions_without_a_subject_here": self.gateway.unmatched,
            "events_seen_by_the_detector": self.reached,
            "exchanges_not_sent": self.unsent,
            "attackers": dict(sorted(self.attackers.counts.items())),
            "assumed": {
                "seed": self.seed,
                "passes_verification": {
                    "legit": self.passing.legit,
                    "campaign": self.passing.campaign,
                    "other_abuse": self.passing.other_abuse,
                    "unlabelled": self.passing.unlabelled,
                },
                "verification_takes_ms": self.passing.delay_ms,
                "reactions": named,
            },
        }

    def _sent(self, wave: Wave, start_ms: int) -> list[Decision]:
        wave, columns = self.attackers.send(wave, start_ms)
        account = hashes_of_accounts(columns)
        verdicts = self.gateway.judge(columns, Asking(account, wants(columns, wave.fate), self._chances(wave)))
        self.evaluation.requests(
            Exchanges(
                wave.planner, wave.sender, columns.occurred_at, columns.output_tokens, wave.fate,
                wave.tries == 0, wave.counts,
            ),
            verdicts,
        )  # fmt: skip
        self.attackers.learn(wave, verdicts.denied, start_ms)
        passed = np.flatnonzero(self._passed(wave, verdicts.denied))
        self.reached += len(passed)
        if not len(passed):
            return []
        seen = columns if len(passed) == len(columns) else columns.take(passed)
        return enforced(self.gateway, self.evaluation, self.detector.round(seen, start_ms))

    def _passed(self, wave: Wave, denied: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which events reach the detector: neither what was stopped, nor its repeats and completions.

        Those of an exchange that another account sent are left out too.
        """
        asked = wave.fate != IGNORED
        stopped = asked & ((denied > 0) | (wave.fate == UNSENT))
        self.unsent += int(np.count_nonzero(wave.fate == UNSENT))
        noted(self._stopped, wave.request[stopped])
        echo = ~asked & ((wave.sender != wave.planner) | was_seen(self._stopped.tables, wave.request))
        return np.asarray(~(stopped | echo))

    def _chances(self, wave: Wave) -> NDArray[np.float64]:
        """The chance of each event's sender to pass a verification."""
        known = wave.sender >= 0
        label = np.where(known, self.truth.accounts.rows["label"][wave.sender], np.uint8(UNLABELLED))
        by_label = np.array([self.passing.unlabelled, self.passing.legit, 0.0, self.passing.other_abuse])
        told = self.passing.campaign
        theirs = self.attackers.passes(wave.sender) if told is None else np.full(len(wave), told)
        return np.where(label == CAMPAIGN, theirs, by_label[label])


def enforced(gateway: Gateway, evaluation: Evaluation, decisions: list[Decision]) -> list[Decision]:
    """Put decisions in force and count them, in order."""
    for decision in decisions:
        gateway.take(decision)
    evaluation.decisions(decisions)
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
