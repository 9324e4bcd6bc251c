"""Rules over feature rows: which rows hit, and what is the hardest that the policy then asks for.

Rules are evaluated on whole columns; only rows that hit, and whose subject is not already treated that hard, become
``Hit`` objects. A row has a hit on two tracks at the most: what is meant to be enforced, and what is only simulated
(shadow rules, or every rule when the policy is in shadow mode).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.messages.policy import ACTIONS
from streamdetect.pipeline.decisions.features import KEY_FAMILIES
from streamdetect.pipeline.decisions.policy import CompiledPolicy, CompiledRule

LIVE, SIMULATED = 0, 1
_EVIDENCE = {f"{family}_{who}_1d" for family in KEY_FAMILIES for who in ("young", "trusted", "accounts")}
LEVEL_OF_ACTION = {action: level for level, action in enumerate(ACTIONS, 1)}  # observe 1 ... suspend 4


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that a rule holds for. ``index`` is the row, ``rules`` those of the hardest action, in policy order."""

    index: int
    track: int
    level: int
    rules: tuple[CompiledRule, ...]


class Judge:
    """The rules of one policy for one scope."""

    __slots__ = ("_levels", "_tracks", "rules")

    def __init__(self, policy: CompiledPolicy, scope: str, mode: str) -> None:
        self.rules = [rule for rule in policy.rules_of(scope) if rule.rule.status != "off"]
        shadow = mode != "live"
        self._tracks = np.array([SIMULATED if shadow or r.rule.status == "shadow" else LIVE for r in self.rules], int)
        self._levels = np.array([LEVEL_OF_ACTION[rule.rule.action] for rule in self.rules], np.int64)

    def hits(
        self,
        features: NDArray[np.int64],
        at: NDArray[np.int64],
        subject: NDArray[np.int64],
        quiet_level: NDArray[np.uint8],
        quiet_until_s: NDArray[np.uint32],
    ) -> list[Hit]:
        """The hits among n rows, in row order, the enforced track first.

        Args:
            features: ``int64[n, features]`` in catalogue order.
            at: ``int64[n]``, event time of each row.
            subject: ``int64[n]``, a number for the subject of each row.
            quiet_level: ``uint8[n, 2]``, level by track up to which a hit of the row's subject changes nothing ...
            quiet_until_s: ``uint32[n, 2]``, ... before this event time, in seconds.
        """
        if not self.rules or not len(features):
            return []
        holds = np.stack([rule.expression.evaluate(features) for rule in self.rules])
        if not holds.any():
            return []
        quiet = (at[:, None] < quiet_until_s * np.int64(1000))[:, self._tracks].T & (
            self._levels[:, None] <= quiet_level[:, self._tracks].T
        )
        loud = holds & ~quiet
        # A harder action may end before the weaker one it takes the place of: then its subject is not quiet any more.
        loud |= holds & np.isin(subject, subject[loud.any(axis=0)])
        hits = []
        for index in np.flatnonzero(loud.any(axis=0)).tolist():
            for track in (LIVE, SIMULATED):
                chosen = np.flatnonzero(loud[:, index] & (self._tracks == track))
                if len(chosen):
                    level = int(self._levels[chosen].max())
                    rules = tuple(self.rules[rule] for rule in chosen[self._levels[chosen] == level].tolist())
                    hits.append(Hit(index, track, level, rules))
        return hits

    def again(self, hit: Hit, row: NDArray[np.int64], left: NDArray[np.int64]) -> Hit | None:
        """What remains of a hit of ``row`` if only ``left`` of it counts: the hardest rules that hold for both."""
        rows = np.stack([row, left])
        holding = [
            (level, rule)
            for level, track, rule in zip(self._levels.tolist(), self._tracks.tolist(), self.rules, strict=True)
            if track == hit.track and rule.expression.evaluate(rows).all()
        ]
        hardest = max((level for level, _ in holding), default=0)
        rules = tuple(rule for level, rule in holding if level == hardest)
        return replace(hit, level=hardest, rules=rules) if rules else None

    def still_holds(self, rule_id: str, row: NDArray[np.int64]) -> bool:
        """Whether the rule of that name holds for one row of features; false if the policy no longer has it."""
        return any(
            rule.rule.id == rule_id and bool(rule.expression.evaluate(row.reshape(1, -1))[0]) for rule in self.rules
        )

    def rests_on_evidence(self, rule_id: str) -> bool:
        """Whether the rule of that name reads what accounts share, so that trust in a shared thing can void it.

        A rule that the policy has no longer might have: nothing speaks for what rests on it any more.
        """
        named = [rule for rule in self.rules if rule.rule.id == rule_id]
        return not named or any(_EVIDENCE & set(rule.expression.features_used) for rule in named)

    def families_trust_voids(self, rule_id: str) -> frozenset[int]:
        """The families of evidence, by number, in which the rule of that name heeds trust; all if the rule is gone."""
        named = [set(rule.expression.features_used) for rule in self.rules if rule.rule.id == rule_id]
        used: set[str] = set().union(*named)
        return frozenset(n for n, family in enumerate(KEY_FAMILIES) if not named or f"{family}_trusted_1d" in used)
