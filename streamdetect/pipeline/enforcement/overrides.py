"""What people decided, as far as a stage must heed it: allows of its subjects, and the kill switch.

An override holds from the moment a stage reads it, whatever the event time of the rows that follow, until a row whose
event time is at or after ``expires_at``, or until its tombstone. Denies are put into practice by gateways alone.
"""

from dataclasses import dataclass, field

from streamdetect.messages.decision import Subject
from streamdetect.messages.override import Override
from streamdetect.pipeline.enforcement.rulings import SubjectKey

KILL_KEY = "global:enforcement"


@dataclass(slots=True)
class Overrides:
    """Allows by subject, of the ``scopes`` of one stage, and the kill switch."""

    scopes: frozenset[str]
    _allows: dict[SubjectKey, Override] = field(default_factory=dict)
    _kill: Override | None = None

    def take(self, key: str, override: Override | None) -> tuple[SubjectKey, Override | None] | None:
        """Take in one record, ``None`` for a tombstone.

        Returns the subject whose allow it begins, changes or ends, with the allow before.
        """
        if key == KILL_KEY:
            self._kill = override
            return None
        scope, _, value = key.partition(":")
        if scope not in self.scopes:
            return None
        subject: SubjectKey = (scope, value)  # type: ignore[assignment]  # one of the scopes
        before = self._allows.pop(subject, None)
        if override is not None and isinstance(override.subject, Subject) and override.effect == "allow":
            self._allows[subject] = override
        return (subject, before) if before is not None or subject in self._allows else None

    def allow(self, subject: SubjectKey, at: int) -> Override | None:
        """The allow of a subject at an event time in ms."""
        return unless_over(self._allows.get(subject), at)

    def stopping(self, subject: SubjectKey, at: int) -> Override | None:
        """What keeps decisions on a subject from being enforced at an event time in ms: an allow, the kill switch."""
        return self.allow(subject, at) or unless_over(self._kill, at)

    @property
    def allowed(self) -> list[SubjectKey]:
        """Subjects with an allow, over or not."""
        return list(self._allows)


def unless_over(override: Override | None, at: int) -> Override | None:
    """An override, if there is one and it holds at an event time in ms."""
    if override is None or (override.expires_at is not None and at >= override.expires_at):
        return None
    return override
