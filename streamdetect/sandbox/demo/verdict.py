"""The sum of a run and whether it passed. Pure.

Three gates. The campaign was caught: at least 80 % of its accounts that sent three or more requests after the first
finding had reached the gateway were put under verify or suspend. The gateway obeyed: it refused requests, and served
none of an account under verify or suspend later than 2 s after the decision could be read. No honest account was
suspended.
"""

import math
from dataclasses import dataclass
from typing import Final

from streamdetect.sandbox.demo.ledger import PROPAGATION_S, Ledger

CAUGHT_SHARE: Final = 0.8
REQUESTS_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class CampaignFigures:
    """``planned`` and ``served`` leave cover traffic out. ``due``: accounts that had to be stopped by now."""

    accounts: int
    heard: int
    stopped: int
    due: int
    due_stopped: int
    planned: int
    served: int
    refused: int
    leakage: float
    served_per_account_median: int
    served_per_account_p95: int


@dataclass(frozen=True, slots=True)
class HonestFigures:
    """Accounts by the strongest action they met, directly or through something they share."""

    heard: int
    suspended: int
    verified: int
    limited: int
    requests: int
    refused: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run came to. Times to the first action in event time, decision delays in seconds of wall clock."""

    campaign: CampaignFigures
    honest: HonestFigures
    events: int
    refused: dict[str, int]
    decisions: dict[str, int]
    time_to_first_action_s: float | None
    decision_delay_median_s: float | None
    decision_delay_p95_s: float | None
    served_after_stop: int


def figures_of(ledger: Ledger) -> Figures:
    """Add up a run."""
    delays = sorted(ledger.delays_s)
    return Figures(
        campaign=_campaign(ledger),
        honest=_honest(ledger),
        events=ledger.events,
        refused=dict(sorted(ledger.refused.items())),
        decisions=dict(sorted(ledger.decisions.items())),
        time_to_first_action_s=_first_action_s(ledger),
        decision_delay_median_s=round(_quantile(delays, 0.5), 3) if delays else None,
        decision_delay_p95_s=round(_quantile(delays, 0.95), 3) if delays else None,
        served_after_stop=ledger.overruns,
    )


def failures_of(figures: Figures) -> list[str]:
    """Why the run did not pass, in words; empty when it did."""
    found = []
    campaign, honest = figures.campaign, figures.honest
    if figures.time_to_first_action_s is None:
        found.append("the campaign was not found: the detector put nothing in force")
    elif not campaign.due:
        found.append(f"no campaign account sent {REQUESTS_MIN} requests after the first finding: too short to judge")
    elif campaign.due_stopped < CAUGHT_SHARE * campaign.due:
        found.append(
            f"the campaign was not caught: {campaign.due_stopped} of {campaign.due} accounts that were still sending "
            f"after the first finding were stopped, {CAUGHT_SHARE:.0%} are asked for"
        )
    if figures.time_to_first_action_s is not None and not figures.refused:
        found.append("the gateway refused nothing")
    if figures.served_after_stop:
        found.append(
            f"the gateway served {figures.served_after_stop} requests of stopped accounts "
            f"more than {PROPAGATION_S:g} s after the decision"
        )
    if honest.suspended:
        found.append(f"{honest.suspended} honest accounts were suspended")
    return found


def _campaign(ledger: Ledger) -> CampaignFigures:
    heard, due = ledger.heard(ledger.campaign), ledger.due(requests_min=REQUESTS_MIN)
    planned, served = sum(account.planned for account in heard), sorted(account.served for account in heard)
    return CampaignFigures(
        accounts=len(ledger.campaign),
        heard=len(heard),
        stopped=ledger.stopped(ledger.campaign),
        due=len(due),
        due_stopped=ledger.stopped(due),
        planned=planned,
        served=sum(served),
        refused=sum(account.refused for account in heard),
        leakage=round(sum(served) / planned, 4) if planned else 0.0,
        served_per_account_median=int(_quantile(served, 0.5)),
        served_per_account_p95=int(_quantile(served, 0.95)),
    )


def _honest(ledger: Ledger) -> HonestFigures:
    heard, touched = ledger.heard(ledger.honest), ledger.touched(ledger.honest)
    return HonestFigures(
        heard=len(heard),
        suspended=touched["suspend"],
        verified=touched["verify"],
        limited=touched["rate_limit"],
        requests=sum(account.requests for account in heard),
        refused=sum(account.refused for account in heard),
    )


def _first_action_s(ledger: Ledger) -> float | None:
    if ledger.first_action is None:
        return None
    began_ms = ledger.first_campaign_at_ms
    return max(0, ledger.first_action.issued_at - (began_ms or ledger.first_action.issued_at)) / 1000


def _quantile(ordered: list[int] | list[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed; 0 of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0
