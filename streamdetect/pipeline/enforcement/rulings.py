"""What stands against a subject, and what is concluded of it, before it is worded as a message."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from streamdetect.messages.decision import Decision
from streamdetect.messages.policy import ACTIONS, Scope
from streamdetect.pipeline.decisions.judge import LEVEL_OF_ACTION
from streamdetect.pipeline.decisions.policy import CompiledPolicy, CompiledRule
from streamdetect.pipeline.enforcement.pardons import Pardon

ISSUED: Final = "issued"
RENEWED: Final = "renewed"
RELEASED: Final = "released"
HELD: Final = "held"

SubjectKey = tuple[Scope, str]  # kind of subject, and its id


@dataclass(slots=True)
class Standing:
    """One restriction of one subject. Times are event time in ms."""

    level: int
    rule_id: str
    decision_id: str
    ttl_ms: int
    expires_at: int


@dataclass(slots=True)
class SubjectRecord:
    """A subject's count of decisions, and by track its standing and what a cap holds back (level, until when).

    ``number`` is its place in images. ``inherited``: its newest decision is of an earlier owner. ``pardon`` is what it
    is not hit for again; ``lifted`` what a predecessor lifted after the state was saved, until that is processed again.
    """

    revision: int = 0
    tracks: list[Standing | None] = field(default_factory=lambda: [None, None])
    held: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0), (0, 0)])
    number: int = -1
    inherited: bool = False
    pardon: Pardon | None = None
    lifted: Standing | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was concluded, before it is worded as a message. ``level`` 0 is a release."""

    subject: SubjectKey
    level: int
    status: Literal["issued", "renewed", "released", "held"]
    track: int
    decision_id: str
    revision: int
    issued_at: int
    expires_at: int
    rules: tuple[CompiledRule, ...]
    capped: bool
    supersedes: str | None


def adopted_from(decisions: Iterable[Decision]) -> dict[SubjectKey, SubjectRecord]:
    """Records of what ``enforcement.v1`` holds, for ``Standings.adopted``."""
    adopted: dict[SubjectKey, SubjectRecord] = {}
    for decision in decisions:
        scope, action = decision.subject.scope, decision.action
        if scope == "asn" or action == "release":  # no rule decides on an AS, and a release is a tombstone here
            continue
        rule_id = rule_of(decision)
        ttl_ms = decision.expires_at - decision.issued_at
        standing = Standing(LEVEL_OF_ACTION[action], rule_id, decision.decision_id, ttl_ms, decision.expires_at)
        adopted[scope, decision.subject.value] = SubjectRecord(decision.revision, [standing, None])
    return adopted


def rule_of(decision: Decision) -> str:
    """The rule that a decision is of, empty if it names none."""
    # The id of a rule may have dots, the name of a feature has none.
    return decision.reasons[0].signal.rpartition(".")[0] if decision.reasons else ""


def level_max_of(tier_unknown: bool, policy: CompiledPolicy) -> int:
    """The hardest level an account may be treated with: little where nothing is known of it."""
    return LEVEL_OF_ACTION[policy.model.ladder.unknown_tier_max] if tier_unknown else len(ACTIONS)
