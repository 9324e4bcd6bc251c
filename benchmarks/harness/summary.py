"""Cells of several seeds as one line: what the tables show of a row and a detector.

Counts are added over seeds and then divided, shares of a campaign's accounts are means over seeds; a rung means "or
stronger" except in false actions, which count unbroken episodes at exactly that rung. What cannot be said is ``None``.
"""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from harness.plan import Loop
from streamdetect.replay.intervals import poisson_interval

RESTRICTED: Final = "rate_limit"  # the weakest rung that anybody feels
FALSE_RUNGS: Final = ("rate_limit", "verify", "suspend")
HORIZONS: Final = ("6h", "24h", "end")
BACKGROUND: Final = "background"
_PER_DAYS: Final = 100_000

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """Actions per 100,000 honest account-days, with a 95 % interval."""

    count: int
    days: int

    @property
    def value(self) -> float:
        """The rate; 0 without a day."""
        return _PER_DAYS * self.count / self.days if self.days else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval of the rate."""
        low, high = poisson_interval(self.count)
        return (_PER_DAYS * low / self.days, _PER_DAYS * high / self.days) if self.days else (0.0, float("inf"))

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.count + other.count, self.days + other.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row and detector. ``leakage`` has the smallest and the largest seed beside it; times are seconds."""

    row: str
    detector: str
    leakage: float | None
    leakage_range: tuple[float, float] | None
    per_account: tuple[float, float] | None  # median, p95
    first_s: float | None
    recall: dict[str, float | None]
    false: dict[str, Rate]
    look_alikes: dict[str, tuple[float, float, float]]  # shares of accounts at FALSE_RUNGS or stronger
    blast: float | None
    denied_blast: float | None


def summarised(results: list[Result]) -> list[Line]:
    """Lines of the results of one loop, in their order."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result["row"], result["detector"]].append(result)
    return [_line(row, detector, group) for (row, detector), group in groups.items()]


def of_loop(results: list[Result], loop: Loop) -> list[Result]:
    """The results of one loop."""
    return [result for result in results if result["loop"] == loop]


def _line(row: str, detector: str, group: list[Result]) -> Line:
    every = [result["figures"] for result in group]
    planned = sum(found["evaluation"]["planned"] for found in every)
    served = sum(found["evaluation"]["served"] for found in every)
    leaks = [found["leakage"] for found in every if found["leakage"] is not None]
    blasts = [found["evaluation"]["blast_radius"] for found in every]
    return Line(
        row=row,
        detector=detector,
        leakage=served / planned if planned else None,
        leakage_range=(min(leaks), max(leaks)) if leaks else None,
        per_account=_per_account(every) if planned else None,
        first_s=_middle([found["time_to_first_s"][RESTRICTED] for found in every]) if planned else None,
        recall={horizon: _recall(every, horizon) for horizon in HORIZONS},
        false={rung: _false(every, rung) for rung in FALSE_RUNGS},
        look_alikes=_look_alikes(group),
        blast=_worst(blasts, "accounts"),
        denied_blast=_worst(blasts, "requests"),
    )


def _per_account(every: list[Result]) -> tuple[float, float] | None:
    found = [found["exchanges_per_account"] for found in every]
    kept = [each for each in found if each["median"] is not None]
    if not kept:
        return None
    return sum(each["median"] for each in kept) / len(kept), sum(each["p95"] for each in kept) / len(kept)


def _middle(values: list[float | None]) -> float | None:
    """The median, where never is later than everything."""
    found = median(float("inf") if value is None else value for value in values)
    return None if found == float("inf") else found


def _recall(every: list[Result], horizon: str) -> float | None:
    values = [found["evaluation"]["at"][horizon]["recall"][RESTRICTED] for found in every]
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None


def _false(every: list[Result], rung: str) -> Rate:
    rates = [found["false_per_100k_account_days"][rung] for found in every]
    return Rate(sum(rate["count"] for rate in rates), sum(rate["account_days"] for rate in rates))


def _look_alikes(group: list[Result]) -> dict[str, tuple[float, float, float]]:
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for result in group:
        for cohort, found in result["honest"].items():
            if cohort != BACKGROUND:
                for place, name in enumerate(("accounts", *FALSE_RUNGS)):
                    totals[cohort][place] += found[name]
    return {
        cohort: (limited / accounts, verified / accounts, suspended / accounts)
        for cohort, (accounts, limited, verified, suspended) in totals.items()
    }


def _worst(blasts: list[Result], name: str) -> float | None:
    shares = [blast[name]["share"] for blast in blasts if blast[name] is not None]
    return max(shares) if shares else None
