"""The decisions a baseline has made: one in force per subject, renewed when less than half of it is left.

The same ladder rules as the product's, so that a difference in the table comes from what is found, not from how it is
worded. A baseline has one action; it never escalates and never releases.
"""

from dataclasses import dataclass, field
from hashlib import blake2b

from baselines.requests import Requests
from streamdetect.messages.decision import Action, Decision, Params, PolicyRef, RateLimit, Reason, Scope, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a baseline does about what it finds. ``limit`` requests an hour, with ``rate_limit`` only."""

    action: Action
    ttl_ms: int
    limit: int | None = None

    @property
    def params(self) -> Params | None:
        """The parameters as a decision carries them."""
        return None if self.limit is None else RateLimit(unit="requests", limit=self.limit, period="hour")


@dataclass(slots=True)
class Docket:
    """Decisions of one baseline, by subject. ``names`` remembers the ids behind account hashes."""

    name: str
    response: Response
    names: dict[int, str] = field(default_factory=dict)
    _standing: dict[tuple[Scope, str], tuple[str, int, int]] = field(default_factory=dict)

    def learn(self, requests: Requests) -> None:
        """Remember the ids of the accounts in a batch."""
        names = self.names
        for row, account in enumerate(requests.account.tolist()):
            if account not in names:
                names[account] = requests.account_id(row)

    def quiet(self, account: int, at: int) -> bool:
        """Whether another hit on an account would change nothing."""
        return self._quiet(("account", self.names[account]), at)

    def account(self, account: int, at: int, reason: Reason) -> list[Decision]:
        """Decide about an account, given by its hash."""
        return self.subject("account", self.names[account], at, reason)

    def subject(self, scope: Scope, value: str, at: int, reason: Reason) -> list[Decision]:
        """Decide about a subject; nothing when what is in force still has more than half of its time."""
        key = scope, value
        if self._quiet(key, at):
            return []
        before = self._standing.get(key)
        renewed = before is not None and at < before[1]
        revision = before[2] + 1 if before else 1
        identity = before[0] if before and renewed else self._identity(scope, value, at)
        ends = at + self.response.ttl_ms
        self._standing[key] = identity, ends, revision
        made = Decision(
            decision_id=identity,
            revision=revision,
            subject=Subject.model_construct(scope=scope, value=value),
            action=self.response.action,
            params=self.response.params,
            status="renewed" if renewed else "issued",
            mode="live",
            origin="rule",
            issued_at=at,
            expires_at=ends,
            policy=PolicyRef(id=self.name, version=1, hash="baseline"),
            reasons=(reason,),
            reason_code="baseline",
        )
        return [made]

    def _quiet(self, key: tuple[Scope, str], at: int) -> bool:
        standing = self._standing.get(key)
        return standing is not None and at < standing[1] - self.response.ttl_ms // 2

    def _identity(self, scope: Scope, value: str, at: int) -> str:
        parts = (self.name, scope, value, self.response.action, str(at))
        return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
