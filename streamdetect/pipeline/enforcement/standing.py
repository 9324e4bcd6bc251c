"""What is in force per subject, and what a hit does to it: issue, escalate, renew, hold, release.

The ladder observe < rate_limit < verify < suspend only goes up while a standing lasts; it goes down by expiry or by a
release, never by a weaker hit. A standing is renewed when less than half of its time is left, keeps its id then,
never ends sooner for it, and ends by itself. After that the next hit decides anew. Two tracks do not touch each other:
enforced and simulated.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgspec

from streamdetect.kernels.images import STRIPE_ROWS, STRIPES, BlobSection, StageImage, restore_blobs
from streamdetect.kernels.index import KeyedRows
from streamdetect.messages.decision import Decision
from streamdetect.messages.policy import ACTIONS
from streamdetect.pipeline.decisions.caps import Caps
from streamdetect.pipeline.decisions.judge import LEVEL_OF_ACTION, LIVE, SIMULATED, Hit
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.enforcement.pardons import Pardon
from streamdetect.pipeline.enforcement.rulings import (
    HELD,
    ISSUED,
    RELEASED,
    RENEWED,
    Ruling,
    Standing,
    SubjectKey,
    SubjectRecord,
    rule_of,
)

# How many decisions on one subject an owner can have on the way when another takes over. The first one of a new owner
# leaves room for them, so that whatever appears late is older by its revision; so does that of one owner after another
# on a subject which neither found in the log.
_LATE_MAX: Final = 8
_NEVER_S: Final = 2**32 - 1  # in 2106; whatever is quiet for longer is looked at again from then on

_StoredPardon = tuple[int, tuple[int, ...], tuple[tuple[int, int, int], ...]]


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
    _numbered: list[SubjectKey] = field(default_factory=list)
    _dirty: set[int] = field(default_factory=set)
    _numbers_written: int = 0
    _taken: set[str] = field(default_factory=set)
    _later: dict[SubjectKey, list[Decision]] = field(default_factory=dict)
    followed: list[Decision] = field(default_factory=list)
    _revisions_from: int = 0
    evicted: int = 0

    def __post_init__(self) -> None:
        self._caps = [Caps(self.policy.model.caps, self.partitions) for _ in (LIVE, SIMULATED)]

    def __len__(self) -> int:
        return len(self._subjects)

    def obey(self, policy: CompiledPolicy) -> None:
        """Go by another policy from now on. What is in force, held or counted by caps stays."""
        self.policy = policy
        for caps in self._caps:
            caps.obey(policy.model.caps, self.partitions)

    def quiet(self, subject: SubjectKey, track: int) -> tuple[int, int]:
        """(level, event time before which hits up to that level change nothing) of a subject; (0, 0) if none."""
        record = self._subjects.get(subject)
        standing = record.tracks[track] if record else None
        if standing is None:
            return 0, 0
        return standing.level, standing.expires_at - self._renewal_ms(standing)

    def note_quiet(self, table: KeyedRows, row: int, subject: SubjectKey) -> None:
        """Keep what ``quiet`` says in the subject's row of state, so that most hits need not come here.

        In whole seconds: a hit in the last, broken one comes here although it need not.
        """
        kept = table.rows[row]
        for track in (LIVE, SIMULATED):
            level, until_ms = self.quiet(subject, track)
            kept["quiet_level"][track], kept["quiet_until_s"][track] = level, min(max(0, until_ms // 1000), _NEVER_S)
        table.dirty[row] = 1

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
        self._raise_revision(record)
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
    ) -> Ruling | None:
        rule = hit.rules[0]
        decision_id = self._decision_id(subject, level, trigger)
        if decision_id in self._taken:
            return None
        held = not self._caps[hit.track].take(level, at)
        lasts_ms = self.policy.held_log_interval_ms if held else rule.ttl_ms
        expires_at = at + lasts_ms + (0 if held else self._jitter_ms(subject, lasts_ms))
        self._raise_revision(record)
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
        self._raise_revision(record)
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
        later = self._later.pop(subject, ()) if self._later else ()
        if record is None:
            adopted = self.adopted.get(subject)
            # The log says more than what is in force: what caps have let pass, and how long without jitter.
            if adopted is not None and not (later and later[-1].revision >= adopted.revision):
                record = self._put(subject, SubjectRecord(adopted.revision, list(adopted.tracks), inherited=True))
            elif later:
                record = self._put(subject, SubjectRecord())
        if record is not None:
            for decision in later:
                self._follow(record, decision)
        return record

    def _put(self, subject: SubjectKey, record: SubjectRecord) -> SubjectRecord:
        if len(self._subjects) >= self.subjects_max:
            self._forget_ended()
        self._subjects[subject] = record
        record.number = len(self._numbered)
        self._numbered.append(subject)
        self._dirty.add(record.number)
        return record

    def _raise_revision(self, record: SubjectRecord) -> None:
        newest = record.revision + (_LATE_MAX if record.inherited else 0)
        record.revision = 1 + max(newest, self._revisions_from)
        record.inherited = False
        self._dirty.add(record.number)

    def _forget_ended(self) -> None:
        """Drop the tenth whose standings ended first; a subject in force is dropped only if all are."""
        ends = sorted(
            (max((s.expires_at for s in record.tracks if s), default=0), subject)
            for subject, record in self._subjects.items()
        )
        for _, subject in ends[: max(1, self.subjects_max // 10)]:
            del self._subjects[subject]
        self.evicted += max(1, self.subjects_max // 10)
        self._numbered = list(self._subjects)
        for number, record in enumerate(self._subjects.values()):
            record.number = number
        self._dirty = set(range(max(len(self._numbered), self._numbers_written)))

    # Images, and what was decided after the newest of them

    def capture(self, stripe: int) -> StageImage:
        """What is due for an image; afterwards nothing is dirty."""
        due = self._dirty | {
            number
            for start in range(stripe % STRIPES * STRIPE_ROWS, len(self._numbered), STRIPES * STRIPE_ROWS)
            for number in range(start, min(start + STRIPE_ROWS, len(self._numbered)))
        }
        blobs = {number: self._blob(number) for number in sorted(due)}
        self._dirty, self._numbers_written = set(), len(self._numbered)
        meta = {
            "caps": [caps.capture() for caps in self._caps],
            "taken": sorted(self._taken),
            "later": [decision.to_bytes() for decisions in self._later.values() for decision in decisions],
            "evicted": self.evicted,
        }
        return StageImage(meta, {}, {"subjects": BlobSection(blobs)})

    def restore(self, images: Sequence[StageImage]) -> None:
        """Become what images in order say."""
        for blob in restore_blobs([image.blobs["subjects"] for image in images]).values():
            scope, value, revision, tracks, held, *more = msgspec.msgpack.decode(blob, type=tuple)
            standings = [Standing(*track) if track else None for track in tracks]
            record = self._put((scope, value), SubjectRecord(revision, standings, [(at, until) for at, until in held]))
            pardon, lifted = more or (None, None)
            record.pardon = Pardon(*msgspec.convert(pardon, _StoredPardon)) if pardon else None
            record.lifted = Standing(*lifted) if lifted else None
        meta = images[-1].meta
        for caps, issued in zip(self._caps, meta["caps"], strict=True):
            caps.restore(issued)
        self._taken = set(meta["taken"])
        self._keep_for_later(Decision.model_validate_json(raw) for raw in meta["later"])
        self.evicted = meta["evicted"]
        self._dirty, self._numbers_written = set(), len(self._numbered)

    def begin_term(self, number: int) -> None:
        """What is known by now was decided by an earlier owner, of which late records may still appear.

        ``number`` rises from owner to owner.
        """
        self._revisions_from = number * _LATE_MAX
        for record in self._subjects.values():
            record.inherited = True

    def knows(self, scope: str, value: str) -> bool:
        """Whether anything was decided on a subject here."""
        return (scope, value) in self._subjects

    def stands(self, subject: tuple[str, str], decision_id: str, expires_at: int) -> bool:
        """Whether this decision is what stands, enforced, against a subject."""
        record = self._subjects.get(subject)  # type: ignore[arg-type]
        standing = record.tracks[LIVE] if record else None
        return standing is not None and (standing.decision_id, standing.expires_at) == (decision_id, expires_at)

    def pardon_of(self, subject: SubjectKey) -> Pardon | None:
        """What a subject is not hit for again."""
        record = self._subjects.get(subject)
        return record.pardon if record else None

    def pardon(self, subject: SubjectKey, pardon: Pardon) -> None:
        """Do not hit a subject again for this evidence; takes the place of what was pardoned before."""
        record = self._known(subject) or self._put(subject, SubjectRecord())
        if record.pardon != pardon:
            record.pardon = pardon
            self._dirty.add(record.number)

    def lifted_before(self, subject: SubjectKey) -> Standing | None:
        """What a predecessor lifted, if what led to it may have to be processed again."""
        record = self._subjects.get(subject)
        return record.lifted if record else None

    def pardoned(self) -> list[SubjectKey]:
        """All subjects that are not hit again for something."""
        return [subject for subject, record in self._subjects.items() if record.pardon]

    def follow(self, decisions: Iterable[Decision]) -> list[SubjectKey]:
        """Take over what was published after the state was last saved, in order; returns the subjects known by then.

        What led to it will be processed again: no decision of the log is taken a second time, and its revisions are
        never used for anything else. Subjects that are not known yet follow when they are first touched. What was taken
        over gathers in ``followed``: that it stands in the log does not mean that it was put in force.
        """
        known = []
        for decision in decisions:
            scope, value = decision.subject.scope, decision.subject.value
            if decision.status == "issued":
                self._taken.add(decision.decision_id)
            if scope == "asn":  # no rule decides on an AS
                continue
            record = self._subjects.get((scope, value))
            if record is None:
                self._keep_for_later([decision])
            else:
                self._follow(record, decision)
                known.append((scope, value))
        return known

    def forget_followed(self) -> None:
        """All that was processed again by now: what was followed has no say any more."""
        self._taken.clear()
        self._later.clear()
        for record in self._subjects.values():
            if record.lifted is not None:
                record.lifted = None
                self._dirty.add(record.number)

    def _keep_for_later(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if decision.subject.scope != "asn":
                self._later.setdefault((decision.subject.scope, decision.subject.value), []).append(decision)

    def _follow(self, record: SubjectRecord, decision: Decision) -> None:
        track = SIMULATED if decision.simulated else LIVE
        standing = record.tracks[track]
        known = standing and (standing.decision_id, standing.expires_at) == (decision.decision_id, decision.expires_at)
        if decision.revision < record.revision and not known:
            return
        self.followed.append(decision)
        if known:
            return
        record.revision, record.inherited = decision.revision, True
        self._dirty.add(record.number)
        if decision.status == "released":
            record.lifted, record.tracks[track] = standing or record.lifted, None
        elif decision.action != "release" and decision.status in (ISSUED, RENEWED, "lapsed"):
            level = LEVEL_OF_ACTION[decision.action]
            if decision.status != RENEWED:
                self._caps[track].take(level, decision.issued_at)
            record.tracks[track] = self._standing_of(decision, level)

    def _standing_of(self, decision: Decision, level: int) -> Standing:
        rule_id = rule_of(decision)
        own = [rule.ttl_ms for rule in self.policy.rules if rule.rule.id == rule_id]
        ttl_ms = own[0] if own else decision.expires_at - decision.issued_at
        return Standing(level, rule_id, decision.decision_id, ttl_ms, decision.expires_at)

    def _blob(self, number: int) -> bytes | None:
        if number >= len(self._numbered):
            return None
        subject = self._numbered[number]
        record = self._subjects[subject]
        tracks = [standing and astuple(standing) for standing in record.tracks]
        more = [part and astuple(part) for part in (record.pardon, record.lifted)]
        stored: tuple[Any, ...] = (*subject, record.revision, tracks, record.held, *more)
        return msgspec.msgpack.encode(stored)
