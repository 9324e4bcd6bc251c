"""Decisions and heartbeats: what the detector tells gateways. Topics ``decisions.v1`` and ``enforcement.v1``.

The same object on both: the first is the log of every decision ever made, the second holds one record per subject, what
is in force. No field holds text of a prompt. Times are event time in integer milliseconds, except ``published_at``.
"""

import ipaddress
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from streamdetect.messages.base import COUNT_MAX, INCOMING, AsTuple, Count, EventId, Identifier, Instant, Message, Text

SCHEMA_VERSION: Final = 1
ACTIONS: Final = ("observe", "rate_limit", "verify", "suspend")  # ascending
# Above every revision that is read there is room for those a worker gives next.
REVISION_READ_MAX: Final = COUNT_MAX - 2**20
SUBNET_PREFIXES: Final = {4: (24,), 6: (64, 56, 48)}

Scope = Literal["account", "org", "api_key", "subnet", "asn"]
Action = Literal["observe", "rate_limit", "verify", "suspend", "release"]
Rung = Literal["observe", "rate_limit", "verify", "suspend"]
Tier = Literal["unpaid", "paid", "verified", "enterprise"]
Mode = Literal["shadow", "live"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _is_canonical_subnet(value: str) -> bool:
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        return False
    return str(network) == value and network.prefixlen in SUBNET_PREFIXES[network.version]


class Subject(Message):
    """Whom a decision is about."""

    scope: Scope = Field(description="Kind of subject.")
    value: Identifier = Field(description="Its id; a subnet as canonical CIDR (/24; /64, /56, /48), an AS as number.")

    @model_validator(mode="after")
    def _is_canonical(self) -> Self:
        if self.scope == "subnet" and not _is_canonical_subnet(self.value):
            raise PydanticCustomError("invalid_value", "not a canonical subnet of /24, /64, /56 or /48")
        if self.scope == "asn" and not (
            self.value.isascii() and self.value.isdigit() and str(int(self.value)) == self.value
        ):
            raise PydanticCustomError("invalid_value", "not the number of an AS")
        return self

    @property
    def key(self) -> str:
        """The record key on every topic about subjects, ``scope:value``."""
        return f"{self.scope}:{self.value}"

    @classmethod
    def from_key(cls, key: str) -> Self:
        """Read ``scope:value``. Raises ``pydantic.ValidationError`` when it is no subject.

        >>> Subject.from_key("subnet:2001:db8::/48").value
        '2001:db8::/48'
        """
        scope, _, value = key.partition(":")
        return cls.model_validate({"scope": scope, "value": value})


class RateLimit(Message):
    """Let ``limit`` of ``unit`` through per ``period``.

    Periods are fixed and start with the unbroken stretch; a renewal does not refill.
    """

    unit: Literal["requests", "input_tokens", "output_tokens"] = Field(description="What is counted.")
    limit: Count = Field(description="How much of it passes in a period, over the fleet where the gateway can.")
    period: Literal["second", "minute", "hour", "day"] = Field(description="Length of a period.")


class Verify(Message):
    """How the account's owner can prove to be genuine. Absent means no opinion."""

    method: Text | None = Field(default=None, description="Such as captcha, email, phone, payment.")
    url: Text | None = Field(default=None, description="Where to send the owner.")


def _params_kind(value: Any) -> str:
    if isinstance(value, dict):
        return "rate_limit" if value.keys() & {"unit", "limit", "period"} else "verify"
    return "rate_limit" if isinstance(value, RateLimit) else "verify"


Params = Annotated[
    Annotated[RateLimit, Tag("rate_limit")] | Annotated[Verify, Tag("verify")], Discriminator(_params_kind)
]


class Match(Message):
    """Which requests of the subject are meant. A decision without it means all of them."""

    templates: Annotated[tuple[Identifier, ...], AsTuple] = Field(min_length=1, description="Template ids.")
    fallback: Params | None = Field(default=None, description="For an enforcer that cannot match content.")


class AppliesTo(Message):
    """Which accounts a decision about a shared subject reaches, so that neighbours of long standing are not hit."""

    account_tiers: Annotated[tuple[Tier, ...], AsTuple] | None = Field(
        default=None, description="Tiers reached; absent: all."
    )
    created_after: Instant | None = Field(default=None, description="Only accounts made later than this.")


class PolicyRef(Message):
    """The policy that was in effect."""

    id: Identifier = Field(description="Policy id.")
    version: Count = Field(description="Its version.")
    hash: Identifier = Field(description="Hash of its canonical text.")


class Reason(Message):
    """One piece of evidence, with its numbers."""

    family: Identifier = Field(description="Evidence family, such as content, population, behaviour, network.")
    signal: Identifier = Field(description="Signal or rule within the family.")
    value: Finite | None = Field(default=None, description="What was measured.")
    threshold: Finite | None = Field(default=None, description="What it was compared with.")
    window_ms: Count | None = Field(default=None, description="Length of the window it was measured over.")
    text: Text | None = Field(default=None, description="For people. Never text of a prompt.")


class Decision(Message):
    """One decision. Consumers ignore a revision lower than one they have seen for the subject.

    After ``expires_at`` it is void for everyone. Simulated, held, lapsed and observe decisions are never in force.
    """

    schema_version: Count = Field(default=SCHEMA_VERSION, description="Version of this format.")
    decision_id: EventId = Field(description="Hash of policy version, subject, action and triggering event.")
    revision: Count = Field(description="Counts per subject over all its decisions; a renewal raises it.")
    subject: Subject = Field(description="Whom it is about.")
    action: Action = Field(description="observe < rate_limit < verify < suspend; release ends what is in force.")
    params: Params | None = Field(default=None, description="Parameters of the action; absent means no opinion.")
    match: Match | None = Field(default=None, description="Absent: every request of the subject.")
    applies_to: AppliesTo | None = Field(default=None, description="On shared subjects: the accounts it reaches.")
    status: Literal["issued", "renewed", "released", "held", "lapsed"] = Field(
        description="held: a cap or a brake stopped it; lapsed: it expired before it could be published."
    )
    simulated: bool = Field(default=False, description="True in shadow mode.")
    mode: Mode = Field(description="Mode of the worker or replay that decided.")
    origin: Literal["rule", "score", "campaign", "human"] = Field(description="What decided.")
    issued_at: Instant = Field(description="Event time of the newest fact that completed the decision.")
    expires_at: Instant = Field(description="End, event time. Half-open: void from this millisecond on.")
    published_at: Instant | None = Field(default=None, description="Wall clock of sending; live only.")
    policy: PolicyRef = Field(description="The policy in effect.")
    score: Finite | None = Field(default=None, description="Fused score: log odds in nats, higher is more suspect.")
    reasons: Annotated[tuple[Reason, ...], AsTuple] = Field(default=(), description="Why, strongest first.")
    reason_code: Identifier = Field(description="From a published open list; safe to show to the account's owner.")
    subject_text: Text | None = Field(default=None, description="For the account's owner; tells nothing of the method.")
    appeal_ref: Text | None = Field(default=None, description="What the owner quotes when objecting.")
    campaign_id: Identifier | None = Field(default=None, description="The campaign it belongs to.")
    supersedes: EventId | None = Field(default=None, description="The decision this one replaces.")
    event_id: EventId | None = Field(default=None, description="The subject's own newest event by then.")
    event_at: Instant | None = Field(default=None, description="When that event occurred.")

    @field_validator("revision")
    @classmethod
    def _leaves_room(cls, value: int, info: ValidationInfo) -> int:
        if info.context is INCOMING and value > REVISION_READ_MAX:
            raise PydanticKnownError("less_than_equal", {"le": REVISION_READ_MAX})
        return value

    @model_validator(mode="after")
    def _params_fit_the_action(self) -> Self:
        fits = {"rate_limit": RateLimit, "verify": Verify}.get(self.action)
        if self.params is not None and (fits is None or not isinstance(self.params, fits)):
            raise PydanticCustomError("invalid_value", "params do not fit the action")
        return self


class Heartbeat(Message):
    """Written to ``enforcement.v1`` under ``heartbeat:<partition>`` so that silence can be told from health."""

    schema_version: Count = Field(default=SCHEMA_VERSION, description="Version of this format.")
    partition: Count = Field(description="The partition it speaks for.")
    published_at: Instant = Field(description="Wall clock of sending.")
    watermark: Instant | None = Field(default=None, description="Newest event time seen; absent before the first.")
    lag_ms: Count | None = Field(default=None, description="How far the worker is behind the newest record.")
    mode: Mode = Field(description="Mode of the worker.")

    @property
    def key(self) -> str:
        """The reserved record key."""
        return f"heartbeat:{self.partition}"
