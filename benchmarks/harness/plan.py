"""What an evaluation runs: rows (traffic), seeds, loops and detectors, as data.

A row is one campaign or one look-alike over its own honest population, so that a detector's failure on one does not
hide behind another, plus a mixture. Scenarios come from the catalogue of ``simulate``; new ones become rows by
themselves. A row is scaled down until its scenario has no more accounts and no more exchanges than the profile allows;
accounts and templates shrink together, so each template keeps its accounts.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from streamdetect.traffic.catalogue.model import Group, Scenario
from streamdetect.traffic.catalogue.names import CATALOGUE
from streamdetect.traffic.split import Side

Loop = Literal["open", "closed"]
LOOPS: Final[tuple[Loop, ...]] = ("open", "closed")
MIXTURE: Final = "C2+C8+L5+L7"
_SCENARIOS: Final = {scenario.name: scenario for scenario in CATALOGUE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A size of evaluation.

    ``accounts`` and ``exchanges`` bound the largest scenario of a row, the latter over the whole run. There are
    ``background`` honest accounts for each of the row's, and at least ``honest``.
    """

    name: str
    accounts: int
    exchanges: int
    days: float
    seeds: tuple[int, ...]
    background: float
    honest: int
    round_ms: int


# What is decided takes effect in the next round. Rounds of minutes instead of seconds cost an account of 26 requests a
# day less than a tenth of an exchange and make replay many times faster; only bursts (C1) look better defended in life.
QUICK: Final = Profile(
    name="quick", accounts=240, exchanges=80_000, days=2, seeds=(1,), background=2, honest=600, round_ms=300_000
)
# Seeds before size: what a row's templates happen to be changes its figures more than the number of accounts does. The
# first seed is that of the quick profile, whose cells it shares.
FULL: Final = replace(QUICK, name="full", seeds=(1, 2, 3))
PROFILES: Final = {profile.name: profile for profile in (QUICK, FULL)}


@dataclass(frozen=True, slots=True)
class Task:
    """One row with one seed: the traffic that every detector is run on. ``side`` is of the texts of ``data``."""

    row: str
    seed: int
    profile: Profile
    data: Path | None
    side: Side = "report"

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """What the row consists of."""
        return tuple(_SCENARIOS[name] for name in self.row.split("+"))

    @property
    def days(self) -> float:
        """Days simulated: the profile's; up to three times as many where accounts begin over a longer time."""
        groups = [group for scenario in self.scenarios for group in scenario.groups]
        ramps = [(stream.life or group.life).ramp_days for group in groups for stream in group.streams]
        return min(max(self.profile.days, *ramps), 3 * self.profile.days)

    @property
    def scale(self) -> float:
        """How much of the scenarios is simulated, at most all of it."""
        profile = self.profile
        accounts = max(scenario.accounts for scenario in self.scenarios)
        exchanges = max(
            scenario.accounts * exchanges_per_account(scenario, profile.days) for scenario in self.scenarios
        )
        return min(1.0, profile.accounts / accounts, profile.exchanges / exchanges)

    @property
    def background(self) -> float:
        """Honest accounts for each account that ``simulate`` counts them by: of campaigns, else of look-alikes."""
        attacks = [scenario for scenario in self.scenarios if scenario.campaign] or list(self.scenarios)
        counted = self.scale * sum(scenario.accounts for scenario in attacks)
        return max(self.profile.background, self.profile.honest / max(1.0, counted))


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of one detector."""

    task: Task
    loop: Loop
    detector: str


def rows() -> list[str]:
    """Every scenario of the catalogue, campaigns first, and the mixture."""
    return [*_SCENARIOS, MIXTURE]


def exchanges_per_account(scenario: Scenario, days: float) -> float:
    """About how many exchanges an account has in a run; the mean of lognormal rates, over the days it lives."""
    shares = sum(group.percent for group in scenario.groups)
    return sum(group.percent / shares * _of_group(group, days) for group in scenario.groups)


def _of_group(group: Group, days: float) -> float:
    total = 0.0
    for stream in group.streams:
        life = (stream.life or group.life).life_days
        lived = min(days, sum(life) / 2) if life[1] else days
        cadence = stream.cadence
        total += lived * min(cadence.rate_limit, cadence.rate_median * math.exp(cadence.rate_sigma**2 / 2))
    return total
