"""The policy: rules, ladder, caps, tiers and thresholds, as people write them in TOML (topic ``policy.v1``).

A key nobody knows is an error, because a typo that passes is a rule that does not work. Types are strict: no text for a
number. Whether a ``when`` can be compiled is not checked here; see ``pipeline.decisions.policy``.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from streamdetect.messages.base import INSTANT_MAX_MS

Mode = Literal["shadow", "live"]
Scope = Literal["account", "subnet", "org", "api_key"]
Action = Literal["observe", "rate_limit", "verify", "suspend"]
RuleStatus = Literal["off", "shadow", "live"]
Tier = Literal["unknown", "T0", "T1", "T2", "T3"]
Unit = Literal["requests", "input_tokens", "output_tokens"]
Period = Literal["second", "minute", "hour", "day"]
ReasonCode = Literal[
    "rate_exceeded",
    "shared_network",
    "shared_content",
    "shared_payment",
    "shared_organisation",
    "shared_key",
    "coordinated_use",
    "policy",
]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)  # mildest first

# The published list: what the owner of an account may read. It can grow, so readers must bear a code they do not know.
REASON_TEXTS: Final[dict[ReasonCode, str]] = {
    "rate_exceeded": "More requests in a short time than this account may send.",
    "shared_network": "Many new accounts send requests from the same network.",
    "shared_content": "Many new accounts send requests built from the same text.",
    "shared_payment": "Many new accounts pay with the same instrument.",
    "shared_organisation": "Unusual use by many accounts of the same organisation.",
    "shared_key": "Unusual use of the same API key by many accounts.",
    "coordinated_use": "Use that looks coordinated with other accounts.",
    "policy": "A rule of the provider's usage policy.",
}

_SECOND_MS: Final = 1000
_UNIT_MS: Final = {"s": _SECOND_MS, "m": 60 * _SECOND_MS, "h": 3600 * _SECOND_MS, "d": 86_400 * _SECOND_MS}
DAY_MS: Final = _UNIT_MS["d"]
TTL_MAX_MS: Final = 90 * DAY_MS  # the log of decisions is kept that long
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ms(text: str) -> int:
    """Milliseconds of a duration such as ``90s``, ``15m``, ``6h``, ``7d``."""
    return int(text[:-1]) * _UNIT_MS[text[-1]]


def _epoch_ms(value: Any) -> Any:
    """Milliseconds of a TOML date-time with an offset; anything else is left for the next check."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return (value - _EPOCH) // timedelta(milliseconds=1)
    return value


Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[smhd]$", description="such as 90s, 15m, 6h, 7d")]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Instant = Annotated[int, BeforeValidator(_epoch_ms), Field(ge=0, le=INSTANT_MAX_MS)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RateLimit(_Part):
    """At most ``limit`` of ``unit`` a ``period``. Absent would mean no opinion, so all three are required."""

    unit: Unit
    limit: Positive
    period: Period


class RuleParams(_Part):
    """Parameters of a rule's action: the three of a rate limit, or ``method`` and ``url`` of a verification."""

    unit: Unit | None = None
    limit: Positive | None = None
    period: Period | None = None
    method: str | None = Field(default=None, min_length=1, max_length=64)
    url: str | None = Field(default=None, min_length=1, max_length=2048)


_PARAMS_OF: Final[dict[str, tuple[str, ...]]] = {
    "rate_limit": ("unit", "limit", "period"),
    "verify": ("method", "url"),
}


class Rule(_Part):
    """One threshold: where ``when`` holds for a subject, ``action`` for ``ttl``."""

    id: Identifier
    when: str = Field(min_length=1, max_length=2000)
    scope: Scope = "account"
    status: RuleStatus = "live"
    action: Action
    ttl: Duration
    reason_code: ReasonCode
    # Whom it may hit. Absent: everybody for an account; the young for a shared subject, so that a neighbour of long
    # standing is not hit.
    applies_to_tiers: tuple[Tier, ...] | None = Field(default=None, strict=False, min_length=1)
    params: RuleParams | None = Field(default=None, validate_default=True)

    @property
    def ttl_ms(self) -> int:
        """How long one decision of this rule lasts."""
        return duration_ms(self.ttl)

    @field_validator("action")
    @classmethod
    def _shared_subjects_are_not_suspended(cls, action: Action, info: ValidationInfo) -> Action:
        scope = info.data.get("scope", "account")
        if scope != "account" and action == "suspend":
            raise PydanticCustomError("scope", "scope {scope} goes no higher than verify", {"scope": scope})
        return action

    @field_validator("ttl")
    @classmethod
    def _ttl_is_bounded(cls, ttl: str) -> str:
        if duration_ms(ttl) > TTL_MAX_MS:
            raise PydanticCustomError("ttl", "longer than 90d")
        return ttl

    @field_validator("params")
    @classmethod
    def _params_fit_the_action(cls, params: RuleParams | None, info: ValidationInfo) -> RuleParams | None:
        action = info.data.get("action")
        if action is None:  # wrong itself, and already told
            return params
        given = [] if params is None else [name for name, value in params if value is not None]
        allowed = _PARAMS_OF.get(action, ())
        for name in given:
            if name not in allowed:
                raise PydanticCustomError(
                    "params", "{action} has no parameter {name}", {"action": action, "name": name}
                )
        missing = [name for name in allowed if name not in given]
        if action == "rate_limit" and missing:
            raise PydanticCustomError("params", "rate_limit also needs params {names}", {"names": ", ".join(missing)})
        return params


class Ladder(_Part):
    """How decisions are renewed, jittered, and how far they may go where little is known."""

    renew_fraction: float = Field(default=0.5, gt=0, lt=1)  # renew when less than this part of the ttl is left
    jitter_fraction: float = Field(
        default=0.05, ge=0, le=0.5
    )  # of the ttl, by subject, so that they do not all end at once
    unknown_tier_max: Literal["observe", "rate_limit"] = "rate_limit"
    shared_scope_max: Literal["observe", "rate_limit", "verify"] = "verify"
    held_log_interval: Duration = "1h"  # a decision held by a cap is logged at most this often for a subject
    capped_rate_limit: RateLimit = RateLimit(unit="requests", limit=60, period="hour")


class Caps(_Part):
    """New decisions an hour, over the whole detector; beyond them a decision is held and logged."""

    rate_limit_per_hour: Count = 50_000
    verify_per_hour: Count = 20_000
    suspend_per_hour: Count = 5_000


class Tiers(_Part):
    """Bounds of the trust tiers, in days of account age."""

    t0_days: Positive = 7
    t1_days: Positive = 30
    t3_days: Positive = 90

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.t0_days <= self.t1_days <= self.t3_days:
            raise PydanticCustomError("order", "t0_days <= t1_days <= t3_days does not hold", {"at": ["t0_days"]})
        return self


class SuspectYoung(_Part):
    """Distinct young accounts in a day from which on a shared key is suspect, by family."""

    subnet: Positive = 20
    org: Positive = 20
    api_key: Positive = 5
    payment: Positive = 5
    template: Positive = 20
    system: Positive = 50


class Associations(_Part):
    """A shared key is suspect from ``suspect_young`` young on, if they are ``young_per_trusted`` times the trusted."""

    suspect_young: SuspectYoung = SuspectYoung()
    young_per_trusted: Positive = 10
    notify_members_max: Positive = 1024


class Content(_Part):
    """What of a prompt counts as evidence."""

    min_shingles: Positive = 8


class Policy(_Part):
    """One policy. ``effective_at`` is event time; absent means from the first event on."""

    id: Identifier
    version: Positive
    mode: Mode = "shadow"
    effective_at: Instant | None = None
    round_ms: int = Field(default=10_000, ge=100, le=3_600_000)
    max_ahead_ms: int = Field(default=7 * DAY_MS, ge=0, le=365 * DAY_MS)
    max_skew_ms: int = Field(default=3_600_000, ge=0, le=7 * DAY_MS)
    rules: tuple[Rule, ...] = Field(default=(), strict=False, max_length=256)
    ladder: Ladder = Ladder()
    caps: Caps = Caps()
    tiers: Tiers = Tiers()
    associations: Associations = Associations()
    content: Content = Content()

    @field_validator("rules")
    @classmethod
    def _rule_ids_are_unique(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        counts = Counter(rule.id for rule in rules)
        for index in reversed(range(len(rules))):
            name = rules[index].id
            if counts[name] > 1:
                raise PydanticCustomError(
                    "duplicate", "rule id {name} is used twice", {"name": name, "at": [index, "id"]}
                )
        return rules

    @model_validator(mode="after")
    def _shared_rules_stay_below_the_ladder(self) -> Self:
        highest = ACTIONS.index(self.ladder.shared_scope_max)
        for index, rule in enumerate(self.rules):
            if rule.scope != "account" and ACTIONS.index(rule.action) > highest:
                raise PydanticCustomError(
                    "scope",
                    "{action} is above ladder.shared_scope_max ({highest})",
                    {"action": rule.action, "highest": ACTIONS[highest], "at": ["rules", index, "action"]},
                )
        return self
