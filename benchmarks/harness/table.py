"""The results as markdown: an overview, where the product is worse than a baseline, and one table a detector."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from baselines.catalogue import SHIPPED, entries

from harness.summary import FALSE_RUNGS, HORIZONS, Line, Rate
from streamdetect.replay.intervals import bootstrap_interval, weighted_quantile

_BETTER_BY: Final = 0.9  # of the product's leakage: less is noise between seeds
_HEADINGS: Final = (
    "scenario", "leakage", "exchanges per account, median / p95", "first action", "recall 6 h / 24 h / end",
    "false limits", "false verifications", "false suspensions", "look-alikes limited / verified / suspended",
    "blast radius",
)  # fmt: skip
LEGEND: Final = """\
**leakage**: share of a campaign's planned exchanges that were served, cover traffic excepted; range over seeds in
brackets. The plan is that of the run: one exchange an account is 2 % of two days and 0.1 % of 45, so look at exchanges,
too. **exchanges per account**: served to one campaign account. **first action**: from the campaign's first exchange to
the first account of it that is limited or worse. **recall**: campaign accounts limited or worse, of those that had sent
by then. **false ...**: unbroken episodes at exactly that rung on honest accounts, per 100,000 account-days, with the
95 % Poisson interval. **look-alikes**: share of accounts of an honest look-alike that were ever hit at that rung or a
stronger one. **blast radius**: in the worst hour, honest accounts hit of those active / honest requests denied.
Medians over campaigns have the 95 % interval of a bootstrap over campaigns.

**How to read it.** Compare detectors within a row, not rows: accounts and templates are scaled down together, so a
row has two or three templates, drawn anew for each row and seed, and whether words give them away differs more
between templates than between scenarios (C3 is C2 with other exits). In the closed loop pools hand refused exchanges
to accounts that are still served, up to 100 a day each: a detector that misses a tenth of the accounts, or asks for a
verification that one in twenty passes, leaks several times that share. Baselines that hit whoever copies a popular
prompt look better here than among millions, where more people copy the same one."""


def document(
    title: str, facts: list[str], closed: list[Line], opened: list[Line], costs: dict[str, float], notes: list[str]
) -> str:
    """The whole page. ``closed`` may be empty; figures of serving then come from the open loop."""
    served = closed or opened
    names = list(dict.fromkeys(line.detector for line in served))
    parts = [f"# {title}", "\n".join(facts), LEGEND, _origin(closed)]
    parts += ["## At a glance", _glance(names, served, opened, costs)]
    parts += [f"## Leakage, {'closed' if closed else 'open'} loop", _matrix(names, served)]
    if closed and opened:
        parts += ["## Leakage, open loop", _matrix(names, opened)]
    parts += ["## Where the shipped rules are worse than a baseline", *_worse(served)]
    if closed and opened:
        parts += [
            "In the open loop, where no answer of the attacker counts, and a verification stops like a suspension:"
        ]
        parts += _worse(opened)[1:]
    for name in names:
        parts += [f"## {name}", _about(name), _table(name, served, opened or served)]
    if notes:
        parts += ["## Left out", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(closed: list[Line]) -> str:
    if not closed:
        return "Open loop only: nothing is denied to the detector, and what would have been served is counted."
    return (
        "Exchanges, false actions, look-alikes and blast radius are of the closed loop: what is denied never"
        " reaches the detector, and the attacker answers as the scenario says. First action and recall are of the open"
        " loop, where a detector sees everything."
    )


def _about(name: str) -> str:
    if name == SHIPPED:
        return "The product with the policy that it ships."
    entry = entries()[name]
    origin = "chosen on the fit half" if entry.source == "fit" else "usual values"
    return f"{entry.response.action}, {origin}: {entry.why}."


def _leaks(name: str, lines: list[Line]) -> list[float]:
    return sorted(line.leakage for line in lines if line.detector == name and line.leakage is not None)


def _glance(names: list[str], lines: list[Line], opened: list[Line], costs: dict[str, float]) -> str:
    rows = []
    for name in names:
        mine = [line for line in lines if line.detector == name]
        leaks, openly = _leaks(name, lines), _leaks(name, opened)
        false = {rung: sum((line.false[rung] for line in mine), Rate(0, 0)) for rung in FALSE_RUNGS}
        spared = [line for line in mine if line.row.startswith("L")]
        hit = sum(any(shares[1] > 0.05 for shares in line.look_alikes.values()) for line in spared)
        rows.append(
            [
                name,
                *(_middle(found) for found in (leaks, openly)),
                f"{sum(leak <= 0.01 for leak in leaks)} / {sum(leak <= 0.1 for leak in leaks)} / {len(leaks)}",
                *(_rate(false[rung]) for rung in FALSE_RUNGS),
                f"{hit} of {len(spared)}",
                f"{costs[name]:.1f}",
            ]
        )
    headings = [
        "detector", "median leakage, closed loop", "median leakage, open loop",
        "campaigns at most 1 % / at most 10 % / all", "false limits", "false verifications", "false suspensions",
        "look-alikes with over 5 % of accounts verified or worse", "CPU us an event",
    ]  # fmt: skip
    return _markdown(headings, rows)


def _middle(leaks: list[float]) -> str:
    """The median campaign, with the 95 % interval of a bootstrap over campaigns. ``leaks`` ascend."""
    values = np.array(leaks)
    found = weighted_quantile(values, np.ones(len(values), np.int64), 0.5)
    between = bootstrap_interval(lambda weights: weighted_quantile(values, weights, 0.5), len(values))
    if found is None or between is None:
        return _percent(found)
    return f"{_percent(found)} ({_percent(between[0])} - {_percent(between[1])})"


def _matrix(names: list[str], lines: list[Line]) -> str:
    found = {(line.row, line.detector): line for line in lines if line.leakage is not None}
    rows = [
        [row, *(_percent(found[row, name].leakage) if (row, name) in found else "-" for name in names)]
        for row in dict.fromkeys(row for row, _ in found)
    ]
    return _markdown(["leakage", *names], rows)


def _worse(lines: list[Line]) -> list[str]:
    by = {(line.row, line.detector): line for line in lines}
    denials = {
        name: sum(
            (line.false["verify"] + Rate(line.false["suspend"].count, 0) for line in lines if line.detector == name),
            Rate(0, 0),
        )
        for name in dict.fromkeys(line.detector for line in lines)
    }
    if SHIPPED not in denials:
        return ["The product was not run."]
    rows = []
    for row in dict.fromkeys(line.row for line in lines):
        mine = by.get((row, SHIPPED))
        if mine is None:
            continue
        others = [line for line in lines if line.row == row and line.detector != SHIPPED]
        if mine.leakage is not None:
            better = [
                line for line in others
                if line.leakage is not None and line.leakage < _BETTER_BY * mine.leakage
            ]  # fmt: skip
            if better:
                told = (f"{line.detector} {_percent(line.leakage)}" for line in sorted(better, key=_leak))
                rows.append([row, "leakage", _percent(mine.leakage), ", ".join(told)])
        for cohort, shares in mine.look_alikes.items():
            less = [line for line in others if line.look_alikes[cohort][1] < shares[1]]
            if less:
                told = (f"{line.detector} {_percent(line.look_alikes[cohort][1])}" for line in less)
                rows.append([row, f"{cohort} verified or worse", _percent(shares[1]), ", ".join(told)])
    price = ", ".join(f"{name} {rate.value:.0f}" for name, rate in denials.items())
    told = (
        f"Every case, whatever it costs elsewhere: leakage below {_BETTER_BY:g} of the product's, or fewer accounts of"
        " a look-alike verified. What a lower leakage is worth shows beside false verifications and suspensions per"
        f" 100,000 account-days, over all rows: {price}."
    )
    return [told, _markdown(["scenario", "figure", SHIPPED, "better"], rows) if rows else "Nowhere."]


def _leak(line: Line) -> float:
    return line.leakage or 0.0


def _table(name: str, served: list[Line], seen: list[Line]) -> str:
    timing = {line.row: line for line in seen if line.detector == name}
    rows = [_cells(line, timing.get(line.row, line)) for line in served if line.detector == name]
    return _markdown(_HEADINGS, rows)


def _cells(line: Line, seen: Line) -> list[str]:
    attacked = line.leakage is not None
    return [
        line.row,
        f"{_leakage(line)} / {_leakage(seen)}" if attacked else "-",
        f"{line.per_account[0]:.3g} / {line.per_account[1]:.3g}" if line.per_account else "-",
        _duration(seen.first_s) if attacked else "-",
        " / ".join(_percent(seen.recall[horizon]) for horizon in HORIZONS) if attacked else "-",
        *(_rate(line.false[rung]) for rung in FALSE_RUNGS),
        "; ".join(
            f"{cohort} {' / '.join(_percent(share) for share in shares)}" for cohort, shares in line.look_alikes.items()
        ) or "-",
        f"{_percent(line.blast)} / {_percent(line.denied_blast)}",
    ]  # fmt: skip


def _leakage(line: Line) -> str:
    if line.leakage is None or line.leakage_range is None:
        return "-"
    low, high = line.leakage_range
    return _percent(line.leakage) + (f" ({_percent(low)} - {_percent(high)})" if low < high else "")


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    percent = 100 * share
    return f"{percent:.2f} %" if 0 < percent < 1 else f"{percent:.3g} %"


def _rate(rate: Rate) -> str:
    low, high = rate.bounds
    return f"{rate.value:.0f} ({low:.0f} - {high:.0f})"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _markdown(headings: Iterable[str], rows: list[list[Any]]) -> str:
    titles = list(headings)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
