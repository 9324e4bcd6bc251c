"""Counters as figures: the same set for all traffic, for each campaign and for each cohort.

Leakage, exchanges per account, time to first action and recall are about campaigns; false actions about honest
accounts; precision about both. What cannot be said is ``None``, never zero.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.messages.decision import ACTIONS
from streamdetect.replay.evaluate import HOUR_MS, Evaluation
from streamdetect.replay.gateway import RATE_LIMIT
from streamdetect.replay.intervals import bootstrap_interval, poisson_interval, poisson_upper, weighted_quantile
from streamdetect.replay.truth import CAMPAIGN, LEGIT

Rows = NDArray[np.void]
Flags = NDArray[np.bool_]

HORIZONS_MS = {"6h": 6 * 3_600_000, "24h": 24 * 3_600_000, "7d": 7 * 24 * 3_600_000}
SHARES = (0.5, 0.95)
_NEVER_MS = np.iinfo(np.int64).max
_PER_DAYS = 100_000
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of ``ACCOUNT``: campaign accounts, honest ones that precision is measured against, honest ones of its own.

    ``start`` has an entry for each campaign of the labels: its first exchange (ms), ``_NEVER_MS`` if it had none.
    """

    attack: Rows
    against: Rows
    honest: Rows
    start: NDArray[np.int64]


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """What a run amounts to.

    Figures about all labelled accounts, ``per_campaign`` and ``per_cohort`` with the same names by name, and under
    ``evaluation`` what explains them.
    """
    truth = evaluation.truth
    rows = truth.accounts.live
    attack, honest = rows[rows["label"] == CAMPAIGN], rows[rows["label"] == LEGIT]
    start = _starts(attack, len(truth.campaigns))
    found = _figures(_Group(attack, honest, honest, start))
    found["evaluation"] |= {
        "blast_radius": _blast_radius(evaluation),
        "horizons_from": "first exchange of the campaign",
    }
    found["per_campaign"] = {
        name: _figures(_Group(attack[attack["campaign"] == number], honest, honest[:0], start))
        for number, name in enumerate(truth.campaigns)
    }
    found["per_cohort"] = {
        name: _figures(_Group(attack[attack["cohort"] == number], honest, honest[honest["cohort"] == number], start))
        for number, name in enumerate(truth.cohorts)
    }
    return found


def _starts(attack: Rows, campaigns: int) -> NDArray[np.int64]:
    start = np.full(max(1, campaigns), _NEVER_MS, np.int64)
    active = attack[attack["first_at"] > 0]
    np.minimum.at(start, active["campaign"], active["first_at"])
    return start


def _figures(group: _Group) -> dict[str, Any]:
    attack, honest = group.attack, group.honest
    used = attack[attack["first_at"] > 0]
    planned, leaked = int(attack["planned"].sum()), int(attack["leaked"].sum())
    gained = np.sort(used["gained"])
    days = int(honest["days"].sum())
    return {
        "leakage": _ratio(leaked, planned),
        "exchanges_per_account": {"median": _quantile(gained, 0.5), "p95": _quantile(gained, 0.95)},
        "time_to_first_s": {action: _time_to_first(group, rung) for rung, action in enumerate(ACTIONS)},
        "precision": {action: _precision(group, rung, None) for rung, action in enumerate(ACTIONS)},
        "recall": {action: _recall(group, rung, None) for rung, action in enumerate(ACTIONS)},
        "false_per_100k_account_days": {
            action: _false_rate(int(honest["episodes"][:, rung].sum()), days) for rung, action in enumerate(ACTIONS)
        },
        "evaluation": {
            "planned": planned,
            "served": leaked,
            "sent": int(attack["sent"].sum()),
            "denied": int(attack["denied"].sum()),
            "campaign_accounts": len(used),
            "honest_accounts": int(np.count_nonzero(honest["days"])),
            "honest_account_days": days,
            "honest_requests": int(honest["sent"].sum()),
            "honest_requests_denied": int(honest["denied"].sum()),
            "time_to_restricted_s": {f"{share:.0%}": _time_to_share(group, share) for share in SHARES},
            "leakage_by_output_tokens": _ratio(int(attack["leaked_tokens"].sum()), int(attack["planned_tokens"].sum())),
            "budget": budget(attack),
            "at": {
                horizon: {
                    "precision": {action: _precision(group, rung, ms) for rung, action in enumerate(ACTIONS)},
                    "recall": {action: _recall(group, rung, ms) for rung, action in enumerate(ACTIONS)},
                }
                for horizon, ms in {**HORIZONS_MS, "end": None}.items()
            },
            "intervals_over_campaigns": _intervals(used, attack),
        },
    }


def budget(attack: Rows) -> dict[str, Any]:
    """Where the served exchanges of campaign accounts went: ``served = v0 + accounts_linked * k_join + v_miss``.

    ``v0``: before the campaign was first restricted. ``k_join``: mean of what an account that was itself restricted
    at some time was served since then; ``k_join_after`` is the part that came after its own first restriction (limits
    let some through, restrictions end, verifications are passed). ``v_miss``: to accounts never restricted.
    """
    linked = attack["first_action_at"][:, RATE_LIMIT - 1] > 0
    after = attack["gained_after"]
    accounts, joined = int(np.count_nonzero(linked)), int(after[linked].sum())
    return {
        "v_plan": int(attack["planned"].sum()),
        "v_served": int(attack["gained"].sum()),
        "v0": int((attack["gained"] - after).sum()),
        "accounts_linked": accounts,
        "k_join": _ratio(joined, accounts),
        "k_join_after": _ratio(int(attack["gained_hit"][linked].sum()), accounts),
        "v_join": joined,
        "v_miss": int(after[~linked].sum()),
    }


def _time_to_first(group: _Group, rung: int) -> float | None:
    """Seconds from a campaign's first exchange to the first action on an account of it; the median over campaigns.

    A campaign that was never acted on counts as later than every other.
    """
    first = np.full(len(group.start), _NEVER_MS, np.int64)
    acted = group.attack[(group.attack["first_action_at"][:, rung] > 0) & (group.attack["first_at"] > 0)]
    np.minimum.at(first, acted["campaign"], acted_at(acted, rung))
    present = np.unique(group.attack["campaign"][group.attack["first_at"] > 0])
    return _median_wait(
        [
            float("inf") if first[number] == _NEVER_MS else (int(first[number]) - int(group.start[number])) / 1000
            for number in present.tolist()
        ]
    )


def _time_to_share(group: _Group, share: float) -> float | None:
    """Seconds from a campaign's first exchange until that share of its accounts in use by then is restricted.

    The first time, the median over campaigns as in ``_time_to_first``.
    """
    waits = []
    for number in np.unique(group.attack["campaign"][group.attack["first_at"] > 0]).tolist():
        mine = group.attack[(group.attack["campaign"] == number) & (group.attack["first_at"] > 0)]
        hit = np.sort(acted_at(mine[mine["first_action_at"][:, RATE_LIMIT - 1] > 0], RATE_LIMIT - 1))
        heard = np.searchsorted(np.sort(mine["first_at"]), hit, "right")
        enough = np.flatnonzero(np.arange(1, len(hit) + 1) >= share * heard)
        waits.append((int(hit[enough[0]]) - int(group.start[number])) / 1000 if len(enough) else float("inf"))
    return _median_wait(waits)


def _median_wait(waits: list[float]) -> float | None:
    waits = sorted(waits)
    if not waits or np.isinf(waits[len(waits) // 2]):
        return None
    return round((waits[(len(waits) - 1) // 2] + waits[len(waits) // 2]) / 2, 3)


def acted_at(rows: Rows, rung: int) -> NDArray[np.int64]:
    """When accounts that were acted on are so for their campaign: not before they send an exchange of it."""
    found: NDArray[np.int64] = np.maximum(rows["first_action_at"][:, rung], rows["first_at"])
    return found


def _reached(rows: Rows, rung: int, until: NDArray[np.int64] | int) -> Flags:
    at = rows["first_action_at"][:, rung]
    return np.asarray((at > 0) & (at <= until))


def _caught(group: _Group, rung: int, horizon_ms: int | None) -> tuple[int, int]:
    """How many campaign accounts were acted on, of how many that had sent an exchange of it by then."""
    attack = group.attack
    start = group.start[attack["campaign"]]
    until = (
        np.full(len(attack), _NEVER_MS)
        if horizon_ms is None
        else np.minimum(start, _NEVER_MS - horizon_ms) + horizon_ms
    )
    active = (attack["first_at"] > 0) & (attack["first_at"] <= until)
    return int(np.count_nonzero(active & _reached(attack, rung, until))), int(np.count_nonzero(active))


def _recall(group: _Group, rung: int, horizon_ms: int | None) -> float | None:
    return _ratio(*_caught(group, rung, horizon_ms))


def _precision(group: _Group, rung: int, horizon_ms: int | None) -> float | None:
    """Of the accounts acted on, campaign or honest, the share that is campaign; others are left out."""
    if not len(group.attack):
        return None
    begins = int(group.start[group.attack["campaign"]].min())
    until = _NEVER_MS if horizon_ms is None or begins == _NEVER_MS else begins + horizon_ms
    caught, _ = _caught(group, rung, horizon_ms)
    return _ratio(caught, caught + int(np.count_nonzero(_reached(group.against, rung, until))))


def _false_rate(count: int, days: int) -> dict[str, Any]:
    """False actions per 100,000 account-days, with a 95 % interval and a one-sided upper bound."""
    low, high = poisson_interval(count)
    rates = (count, low, high, poisson_upper(count))
    names = ("value", "low", "high", "upper_95")
    scaled = {
        name: _rounded(_PER_DAYS * rate / days) if days else None for name, rate in zip(names, rates, strict=True)
    }
    return {**scaled, "count": count, "account_days": days}


def _blast_radius(evaluation: Evaluation) -> dict[str, Any]:
    """The worst hour: honest accounts restricted of those active, and their requests denied of those sent."""
    hours = evaluation.hours
    worst: dict[str, Any] = {}
    for name, part, whole in (
        ("accounts", "honest_hit", "honest_active"),
        ("requests", "honest_denied", "honest_sent"),
    ):
        share = np.where(hours[whole] > 0, hours[part] / np.maximum(hours[whole], 1), 0.0)
        if not len(share):
            worst[name] = None
            continue
        hour = int(np.argmax(share))
        worst[name] = {
            "share": _rounded(float(share[hour])),
            "hit": int(hours[part][hour]),
            "of": int(hours[whole][hour]),
            "hour_ms": (evaluation.first_hour + hour) * HOUR_MS,
        }
    return worst


def _intervals(used: Rows, attack: Rows) -> dict[str, Any]:
    """Bootstrap over campaigns; ``None`` where there are fewer than two."""
    numbers, place = np.unique(used["campaign"], return_inverse=True)
    count = len(numbers)
    planned, leaked = np.zeros(count, np.int64), np.zeros(count, np.int64)
    where = np.searchsorted(numbers, attack["campaign"])
    known = np.isin(attack["campaign"], numbers)
    np.add.at(planned, where[known], attack["planned"][known])
    np.add.at(leaked, where[known], attack["leaked"][known])
    order = np.argsort(used["gained"], kind="stable")
    gained, owner = used["gained"][order].astype(np.float64), place[order]
    active = np.bincount(place, minlength=count)
    hits = [np.bincount(place[_reached(used, rung, _NEVER_MS)], minlength=count) for rung in range(len(ACTIONS))]

    def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> list[float] | None:
        def of(weights: NDArray[np.int64]) -> float | None:
            total = int((weights * whole).sum())
            return float((weights * part).sum()) / total if total else None

        return _all_rounded(bootstrap_interval(of, count))

    def quantile(share: float) -> list[float] | None:
        return _all_rounded(bootstrap_interval(lambda weights: weighted_quantile(gained, weights[owner], share), count))

    return {
        "campaigns": count,
        "leakage": ratio(leaked, planned),
        "exchanges_per_account": {"median": quantile(0.5), "p95": quantile(0.95)},
        "recall": {action: ratio(hits[rung], active) for rung, action in enumerate(ACTIONS)},
    }


def _quantile(ordered: NDArray[np.int64], share: float) -> float | None:
    return _rounded(float(np.quantile(ordered, share))) if len(ordered) else None


def _ratio(part: int, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float) -> float:
    """Six digits after the point: enough for every figure, and the same on machines whose last bits differ."""
    return round(value, _DIGITS)


def _all_rounded(values: list[float] | None) -> list[float] | None:
    return None if values is None else [_rounded(value) for value in values]
