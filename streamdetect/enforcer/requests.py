"""What a gateway asks and what it is told: plain values, no Kafka, no clock."""

from dataclasses import dataclass
from typing import Final, Literal

from streamdetect.messages.decision import Params, RateLimit, Tier

Outcome = Literal["pass", "rate_limit", "verify", "suspend"]
Cause = Literal["nothing", "kill", "allow", "deny", "decision", "stale"]


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """The attributes of one request that subjects are made of. ``None``: the gateway does not know.

    ``client_ip`` is text; ``account_created_at`` in ms. ``input_tokens`` counts against limits of that unit.
    """

    account_id: str
    org_id: str | None = None
    api_key_id: str | None = None
    client_ip: str | None = None
    client_asn: int | None = None
    account_tier: Tier | None = None
    account_created_at: int | None = None
    input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class InForce:
    """One record as the gateway holds it. ``since_ms``: start of the unbroken stretch of limits on the subject."""

    scope: str
    value: str
    decision_id: str
    revision: int
    action: Outcome
    params: Params | None
    expires_at: int
    since_ms: int
    tiers: frozenset[str] | None = None
    created_after: int | None = None
    reason_code: str | None = None
    subject_text: str | None = None
    appeal_ref: str | None = None

    @property
    def limit(self) -> RateLimit | None:
        """The limit to count against, if this record is one."""
        return self.params if self.action == "rate_limit" and isinstance(self.params, RateLimit) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a request. ``limits``: every limit that applies, to be counted by ``RateLimiter``.

    ``denied`` is true when the request must not be served now: verify and suspend always, a rate limit when it is used
    up. ``expires_at`` ends it; ``retry_after_ms`` comes with a limit that is used up, and from ``admit`` with a
    suspension.
    """

    action: Outcome
    cause: Cause
    denied: bool = False
    decision_id: str | None = None
    scope: str | None = None
    params: Params | None = None
    limits: tuple[InForce, ...] = ()
    expires_at: int | None = None
    retry_after_ms: int | None = None
    reason_code: str | None = None
    subject_text: str | None = None
    appeal_ref: str | None = None


PASS: Final = Verdict("pass", "nothing")
PASS_KILLED: Final = Verdict("pass", "kill")
PASS_ALLOWED: Final = Verdict("pass", "allow")
PASS_STALE: Final = Verdict("pass", "stale")
