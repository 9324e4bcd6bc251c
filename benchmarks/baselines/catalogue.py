"""All detectors by name, made fresh for each run, with their parameters from ``thresholds.toml``."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from baselines.co_share import CoShare
from baselines.docket import Docket, Response
from baselines.pair_lsh import PairLsh
from baselines.pooled_mmd import PooledMmd
from baselines.shared_address import SharedAddress
from baselines.shipped import Shipped
from baselines.velocity import Limit, Velocity
from streamdetect.pipeline.decisions.policy import CompiledPolicy, default_policy
from streamdetect.replay.detectors import Detector

SHIPPED: Final = "shipped"
_THRESHOLDS: Final = Path(__file__).with_name("thresholds.toml")
_SAID: Final = ("name", "kind", "source", "why", "response")


def _velocity(docket: Docket, *, limits: list[dict[str, Any]]) -> Velocity:
    return Velocity(docket, tuple(Limit(**limit) for limit in limits))


_KINDS: Final[dict[str, Callable[..., Detector]]] = {
    "velocity": _velocity,
    "shared-address": SharedAddress,
    "pair-lsh": PairLsh,
    "co-share": CoShare,
    "pooled-mmd": PooledMmd,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One baseline: its parameters, and where they come from."""

    name: str
    kind: str
    source: str
    why: str
    response: Response
    parameters: dict[str, Any]

    def made(self, **changes: Any) -> Detector:
        """A fresh detector; ``changes`` replace parameters."""
        return _KINDS[self.kind](Docket(self.name, self.response), **{**self.parameters, **changes})


@cache
def entries() -> dict[str, Entry]:
    """The baselines of ``thresholds.toml``, in its order."""
    found = {}
    for raw in tomllib.loads(_THRESHOLDS.read_text("utf-8"))["detectors"]:
        parameters = {name: value for name, value in raw.items() if name not in _SAID}
        found[raw["name"]] = Entry(
            raw["name"], raw["kind"], raw["source"], raw["why"], Response(**raw["response"]), parameters
        )
    return found


def names() -> list[str]:
    """Every detector, the product first."""
    return [SHIPPED, *entries()]


def made(name: str, round_ms: int, **changes: Any) -> Detector:
    """A fresh detector; ``changes`` replace parameters of a baseline. ``KeyError`` for an unknown name."""
    return Shipped(_in_rounds_of(round_ms)) if name == SHIPPED else entries()[name].made(**changes)


@cache
def _in_rounds_of(round_ms: int) -> CompiledPolicy:
    """The shipped policy with another length of rounds, so that all detectors learn of a round at its end."""
    policy = default_policy()
    return replace(policy, model=policy.model.model_copy(update={"round_ms": round_ms}))
