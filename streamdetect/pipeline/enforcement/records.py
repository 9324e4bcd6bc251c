"""A ruling in words: the decision message with its reasons, numbers, policy and what the owner may read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdetect.messages.decision import (
    ACTIONS,
    AppliesTo,
    Decision,
    Mode,
    Params,
    PolicyRef,
    RateLimit,
    Reason,
    Subject,
    Verify,
)
from streamdetect.messages.override import Override
from streamdetect.messages.policy import REASON_TEXTS
from streamdetect.pipeline.decisions.expressions import Finding
from streamdetect.pipeline.decisions.judge import LEVEL_OF_ACTION, SIMULATED
from streamdetect.pipeline.decisions.policy import CompiledPolicy, CompiledRule
from streamdetect.pipeline.enforcement.rulings import RELEASED, Ruling

_REASONS_MAX = 16
_DAY_MS = 86_400_000
_RATE_LIMIT = LEVEL_OF_ACTION["rate_limit"]


@dataclass(frozen=True, slots=True)
class Newest:
    """The subject's own newest event by then."""

    event_id: str | None
    event_at: int | None


def word(
    ruling: Ruling,
    features: NDArray[np.int64] | None,
    newest: Newest,
    policy: CompiledPolicy,
    mode: Mode,
    by: Override | None = None,
) -> Decision:
    """Make the message of a ruling; ``features`` is the row it was decided on.

    ``by`` is the override that lifted what was in force, or kept the decision from being enforced.
    """
    scope, value = ruling.subject
    rule = ruling.rules[0] if ruling.rules else None
    code = rule.rule.reason_code if rule else "policy"
    return Decision(
        decision_id=ruling.decision_id,
        revision=ruling.revision,
        subject=Subject.model_construct(scope=scope, value=value),
        action=ACTIONS[ruling.level - 1] if ruling.level else "release",
        params=_params(ruling, rule, policy),
        applies_to=_applies_to(ruling, rule, policy),
        status=ruling.status,
        simulated=ruling.track == SIMULATED,
        mode=mode,
        origin="human" if by is not None and ruling.status == RELEASED else "rule",
        issued_at=ruling.issued_at,
        expires_at=ruling.expires_at,
        policy=PolicyRef(id=policy.model.id, version=policy.model.version, hash=policy.hash),
        reasons=_reasons(ruling, features, by),
        reason_code=code,
        subject_text=REASON_TEXTS[code] if ruling.status != RELEASED else None,
        supersedes=ruling.supersedes,
        event_id=newest.event_id,
        event_at=newest.event_at,
    )


def _params(ruling: Ruling, rule: CompiledRule | None, policy: CompiledPolicy) -> Params | None:
    if rule is None:
        return None
    if ruling.capped and ruling.level == _RATE_LIMIT:
        return RateLimit(**policy.model.ladder.capped_rate_limit.model_dump())
    given = rule.rule.params
    if ruling.capped or given is None:
        return None
    if ruling.level == _RATE_LIMIT:
        assert given.unit is not None
        assert given.limit is not None
        assert given.period is not None
        return RateLimit(unit=given.unit, limit=given.limit, period=given.period)
    return Verify(method=given.method, url=given.url)


def _applies_to(ruling: Ruling, rule: CompiledRule | None, policy: CompiledPolicy) -> AppliesTo | None:
    """A neighbour of long standing is not hit: a shared subject's decision reaches young accounts only."""
    if ruling.subject[0] == "account" or rule is None:
        return None
    return AppliesTo(created_after=max(0, ruling.issued_at - policy.model.tiers.t1_days * _DAY_MS))


def _reasons(ruling: Ruling, features: NDArray[np.int64] | None, by: Override | None) -> tuple[Reason, ...]:
    if features is None and by is not None:
        return (_by_person(by, "lifted"),)
    if features is None:
        return (Reason(family="content", signal="cleared", text="trusted users share it now; the evidence is void"),)
    reasons = [_reason(rule, finding) for rule in ruling.rules for finding in rule.expression.findings(features)]
    return (*reasons[: _REASONS_MAX - 1], _by_person(by, "not enforced")) if by else tuple(reasons[:_REASONS_MAX])


def _by_person(by: Override, done: str) -> Reason:
    return Reason(family="human", signal=by.effect, text=f"{done}: {by.effect} by {by.actor} ({by.override_id})")


def _reason(rule: CompiledRule, finding: Finding) -> Reason:
    feature = finding.feature
    return Reason(
        family=feature.family,
        signal=f"{rule.rule.id}.{feature.name}",
        value=finding.value,
        threshold=finding.threshold,
        window_ms=feature.window_ms,
        text=f"{feature.meaning}: {finding.value:g} {finding.operator} {finding.threshold:g}",
    )
