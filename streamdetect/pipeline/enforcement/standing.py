"""What is in force per subject, and what a hit does to it: issue, escalate, renew, hold, release.

The ladder observe < rate_limit < verify < suspend only goes up while a standing lasts; it goes down by expiry or by a
release, never by a weaker hit. A standing is renewed when less than half of its time is left, keeps its id then,
never ends sooner for it, and ends by itself. After that the next hit decides anew. Two tracks do not touch each other:
enforced and simulated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from streamdetect.messages.decision import Decision
from streamdetect.messages.policy import ACTIONS, Scope
from streamdetect.pipeline.decisions.caps import Caps
from streamdetect.pipeline.decisions.judge import LEVEL_OF_ACTION, LIVE, SIMULATED, Hit
from streamdetect.pipeline.decisions.policy import CompiledPolicy, CompiledRule

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
    """A subject's count of decisions, and by track its standing and what a cap holds back (level, until when)."""

    revision: int = 0
    tracks: list[Standing | None] = field(default_factory=lambda: [None, None])
    held: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0), (0, 0)])


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


@dataclass(slots=True)
class Standings:
    """The subjects of one partition. Bounded: those whose standings ended longest ago are forgotten first.

    ``adopted`` is what was in force when the process began, by subject; a subject takes its part up when it is first
    touched, so that revisions go on and nothing in force is decided twice.
    """

    policy: CompiledPolicy
    partitions: int = 1
    subjects_max: int = 1_000_000
    adopted: Mapping[SubjectKey, SubjectRecord] = field(default_factory=dict)
    _subjects: dict[SubjectKey, SubjectRecord] = field(default_factory=dict)
    _caps: list[Caps] = field(init=False)
    evicted: int = 0

    def __post_init__(self) -> None:
        self._caps = [Caps(self.policy.model.caps, self.partitions) for _ in (LIVE, SIMULATED)]

    def __len__(self) -> int:
        return len(self._subjects)

    def quiet(self, subject: SubjectKey, track: int) -> tuple[int, int]:
        """(level, event time before which hits up to that level change nothing) of a subject; (0, 0) if none."""
        record = self._subjects.get(subject)
        standing = record.tracks[track] if record else None
        if standing is None:
            return 0, 0
        return standing.level, standing.expires_at - self._renewal_ms(standing)

    def in_force(self, subject: SubjectKey, track: int, at: int) -> Standing | None:
        """The standing of a subject at an event time."""
        record = self._known(subject)
        standing = record.tracks[track] if record else None
        return standing if standing and at < standing.expires_at else None

    def hit(self, subject: SubjectKey, hit: Hit, *, at: int, trigger: int, level_max: int) -> Ruling | None:
        """Decide on a hit.

        ``trigger`` is the hash of the event that completed it; ``level_max`` is what the tier bears.
        """
        record = self._known(subject) or self._put(subject, SubjectRecord())
        level = min(hit.level, level_max)
        standing = record.tracks[hit.track]
        if standing is not None and at >= standing.expires_at:
            standing = None
        if standing is not None and level <= standing.level:
            if level < standing.level or at < standing.expires_at - self._renewal_ms(standing):
                return None
            return self._renew(subject, record, standing, hit, at)
        held_level, held_until = record.held[hit.track]
        if level <= held_level and at < held_until:
            return None
        return self._issue(subject, record, standing, hit, level, at, trigger)

    def release(self, subject: SubjectKey, track: int, at: int) -> Ruling | None:
        """End what is in force before its time, because what it rested on is gone."""
        standing = self.in_force(subject, track, at)
        if standing is None:
            return None
        record = self._subjects[subject]
        record.revision += 1
        record.tracks[track] = None
        return Ruling(
            subject, 0, RELEASED, track, standing.decision_id, record.revision, at, at, (), False, standing.decision_id
        )

    def _issue(
        self,
        subject: SubjectKey,
        record: SubjectRecord,
        standing: Standing | None,
        hit: Hit,
        level: int,
        at: int,
        trigger: int,
    ) -> Ruling:
        rule = hit.rules[0]
        decision_id = self._decision_id(subject, level, trigger)
        held = not self._caps[hit.track].take(level, at)
        lasts_ms = self.policy.held_log_interval_ms if held else rule.ttl_ms
        expires_at = at + lasts_ms + (0 if held else self._jitter_ms(subject, lasts_ms))
        record.revision += 1
        if held:
            record.held[hit.track] = (level, expires_at)
        else:
            record.tracks[hit.track] = Standing(level, rule.rule.id, decision_id, rule.ttl_ms, expires_at)
        return Ruling(
            subject, level, HELD if held else ISSUED, hit.track, decision_id, record.revision,
            at, expires_at, hit.rules, level < hit.level, standing.decision_id if standing else None,
        )  # fmt: skip

    def _renew(
        self, subject: SubjectKey, record: SubjectRecord, standing: Standing, hit: Hit, at: int
    ) -> Ruling | None:
        rule = hit.rules[0]
        expires_at = at + rule.ttl_ms + self._jitter_ms(subject, rule.ttl_ms)
        if expires_at <= standing.expires_at:  # another rule with a shorter ttl must not end a standing sooner
            return None
        record.revision += 1
        standing.expires_at, standing.rule_id, standing.ttl_ms = expires_at, rule.rule.id, rule.ttl_ms
        return Ruling(
            subject, standing.level, RENEWED, hit.track, standing.decision_id, record.revision,
            at, standing.expires_at, hit.rules, standing.level < hit.level, None,
        )  # fmt: skip

    def _renewal_ms(self, standing: Standing) -> int:
        return int(standing.ttl_ms * self.policy.model.ladder.renew_fraction)

    def _jitter_ms(self, subject: SubjectKey, ttl_ms: int) -> int:
        """Spread expiries, so that a campaign's restrictions do not all end in one second; the same for a subject."""
        draw = int.from_bytes(blake2b("\0".join(subject).encode(), digest_size=4).digest(), "big") / 2**32
        return int(ttl_ms * self.policy.model.ladder.jitter_fraction * draw)

    def _decision_id(self, subject: SubjectKey, level: int, trigger: int) -> str:
        parts = (self.policy.model.id, str(self.policy.model.version), self.policy.hash, *subject, ACTIONS[level - 1])
        return blake2b("\0".join((*parts, f"{trigger:016x}")).encode(), digest_size=16).hexdigest()

    def _known(self, subject: SubjectKey) -> SubjectRecord | None:
        record = self._subjects.get(subject)
        if record is None and (adopted := self.adopted.get(subject)) is not None:
            record = self._put(subject, SubjectRecord(adopted.revision, list(adopted.tracks)))
        return record

    def _put(self, subject: SubjectKey, record: SubjectRecord) -> SubjectRecord:
        if len(self._subjects) >= self.subjects_max:
            self._forget_ended()
        self._subjects[subject] = record
        return record

    def _forget_ended(self) -> None:
        """Drop the tenth whose standings ended first; a subject in force is dropped only if all are."""
        ends = sorted(
            (max((s.expires_at for s in record.tracks if s), default=0), subject)
            for subject, record in self._subjects.items()
        )
        for _, subject in ends[: max(1, self.subjects_max // 10)]:
            del self._subjects[subject]
        self.evicted += max(1, self.subjects_max // 10)


def adopted_from(decisions: Iterable[Decision]) -> dict[SubjectKey, SubjectRecord]:
    """Records of what ``enforcement.v1`` holds, for ``Standings.adopted``."""
    adopted: dict[SubjectKey, SubjectRecord] = {}
    for decision in decisions:
        scope, action = decision.subject.scope, decision.action
        if scope == "asn" or action == "release":  # no rule decides on an AS, and a release is a tombstone here
            continue
        rule_id = decision.reasons[0].signal.partition(".")[0] if decision.reasons else ""
        ttl_ms = decision.expires_at - decision.issued_at
        standing = Standing(LEVEL_OF_ACTION[action], rule_id, decision.decision_id, ttl_ms, decision.expires_at)
        adopted[scope, decision.subject.value] = SubjectRecord(decision.revision, [standing, None])
    return adopted


def level_max_of(tier_unknown: bool, policy: CompiledPolicy) -> int:
    """The hardest level an account may be treated with: little where nothing is known of it."""
    return LEVEL_OF_ACTION[policy.model.ladder.unknown_tier_max] if tier_unknown else len(ACTIONS)
