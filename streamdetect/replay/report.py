"""A replay as one page for people: what was decided when, and, with labels, what it did to whom.

Plain HTML with inline SVG, a function of the summary and of counters by hour. It names campaigns and cohorts of the
labels and no account; nothing is loaded from elsewhere, and the same replay gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

import numpy as np

from streamdetect.messages.decision import ACTIONS
from streamdetect.replay.charts import Series, binned, lines, moment, whiskers
from streamdetect.replay.evaluate import HOUR_MS, Evaluation
from streamdetect.replay.figures import acted_at
from streamdetect.replay.truth import CAMPAIGN

_COLOURS: Final = {
    "observe": "#9aa5b1",
    "rate_limit": "#4b6584",
    "verify": "#d35400",
    "suspend": "#8e1b3a",
    "release": "#0f7b6c",
}
_CAMPAIGNS_TOLD: Final = (
    "Exchanges planned and served; what an account got (median, 95th percentile). V0: served before the campaign was"
    " first restricted. k_join: served since then to each account that was restricted at some time. V_miss: served"
    " since then to accounts that never were. Verified, suspended: share of accounts put there or on a stronger rung."
)
_PLANNED: Final = "#4b6584"
_SERVED: Final = "#d35400"
_STYLE: Final = """
:root{color-scheme:light;--ink:#1d2733;--soft:#5b6876;--line:#dfe4ea;--paper:#fff;--back:#f5f7f9}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:940px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 4px}
p{margin:4px 0 12px;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin:20px 0}
.tile,.card{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:14px 16px}
.tile b{display:block;font-size:24px;line-height:1.3}.tile span{color:var(--soft);font-size:13px}
svg{width:100%;height:auto;display:block}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg .grid{stroke:var(--line)}svg polyline{fill:none;stroke-width:2}
svg .reach{stroke:#4b6584;stroke-width:2}svg circle{fill:#d35400}
.legend{display:flex;flex-wrap:wrap;gap:16px;margin:6px 0 10px;font-size:13px}
.legend i{display:inline-block;width:14px;height:3px;margin-right:6px;vertical-align:middle}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:6px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
"""


@dataclass(slots=True)
class DecisionLog:
    """Decisions by hour and action, as they are issued."""

    hours: dict[int, dict[str, int]] = field(default_factory=dict)

    def add(self, action: str, issued_at: int) -> None:
        """Count one decision."""
        hour = self.hours.setdefault(issued_at // HOUR_MS, {})
        hour[action] = hour.get(action, 0) + 1


def what_was_read(summary: Mapping[str, Any]) -> str:
    """Events, and their accounts where they were counted, in words."""
    accounts = "" if summary["accounts"] is None else f" of {summary['accounts']:,} accounts"
    return f"{summary['events']:,} events{accounts}"


def page(summary: Mapping[str, Any], log: DecisionLog, evaluation: Evaluation | None) -> str:
    """The report of a replay as HTML."""
    policy = summary["policy"]
    traffic = what_was_read(summary)
    by = f"policy {escape(policy['id'])} version {policy['version']} ({escape(policy['hash'][:8])})"
    days, mode = summary["event_seconds"] / 86_400, f"mode {summary['mode']}, streamdetect {summary['version']}"
    parts = ["<h1>Replay</h1>", f"<p>{traffic}, {days:.2f} days; {by}, {mode}. Times are UTC.</p>"]
    if evaluation is not None:
        parts += _graded(summary, evaluation)
    parts += _decided(summary, log)
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>streamdetect replay</title><style>{_STYLE}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )


def _graded(summary: Mapping[str, Any], evaluation: Evaluation) -> list[str]:
    told = summary["evaluation"]
    loop = {
        "open": "Open loop: nothing was denied. Served is what no decision in force would have denied.",
        "closed": "Closed loop: what was denied never reached the detector, and attackers answered.",
    }[told["loop"]]
    parts = [f"<p>{loop}</p>", _tiles(summary)]
    if summary["leakage"] is not None:
        parts += _attack_charts(evaluation)
        parts += _card("Campaigns", _CAMPAIGNS_TOLD, _campaigns(summary))
    parts += _card(
        "False actions on honest accounts",
        "Times an honest account was put on a rung, per 100,000 account-days, with 95 % intervals; look-alikes apart.",
        whiskers(_false_rows(summary)) + _cohorts(summary),
    )
    return parts


def _attack_charts(evaluation: Evaluation) -> list[str]:
    hours = evaluation.hours
    times = [(evaluation.first_hour + hour) * HOUR_MS for hour in range(len(hours))]
    at, (planned, leaked) = binned(times, [hours["planned"].tolist(), hours["leaked"].tolist()])
    unit = f"{(at[1] - at[0]) // HOUR_MS} h" if len(at) > 1 and at[1] - at[0] > HOUR_MS else "hour"
    exchanges = lines(at, [Series("planned", planned, _PLANNED), Series("served", leaked, _SERVED)])
    return [
        *_card("Leakage over time", f"The campaigns' exchanges an {unit}: planned, and served.", exchanges),
        *_card(
            "Reach over time",
            "Share of the campaign accounts in use so far that were put on a rung or a stronger one.",
            lines(at, _reach(evaluation, at), percent=True),
        ),
    ]


def _reach(evaluation: Evaluation, times_ms: Sequence[int]) -> list[Series]:
    rows = evaluation.truth.accounts.live
    attack = rows[(rows["label"] == CAMPAIGN) & (rows["first_at"] > 0)]
    ends = np.array([*times_ms[1:], times_ms[-1] + HOUR_MS] if times_ms else [], np.int64)
    heard = np.searchsorted(np.sort(attack["first_at"]), ends)
    series = []
    for rung, action in enumerate(ACTIONS):
        acted = attack[attack["first_action_at"][:, rung] > 0]
        reached = np.searchsorted(np.sort(acted_at(acted, rung)), ends)
        shares = zip(reached.tolist(), heard.tolist(), strict=True)
        values = [part / whole if whole else None for part, whole in shares]
        series.append(Series(f"{action} or stronger", values, _COLOURS[action]))
    return series


def _decided(summary: Mapping[str, Any], log: DecisionLog) -> list[str]:
    actions = [action for action, count in summary["decisions"].items() if count]
    if not log.hours:
        return ["<h2>Decisions</h2><p>Nothing was decided.</p>"]
    span = range(min(log.hours), max(log.hours) + 1)
    columns = [[log.hours.get(hour, {}).get(action, 0) for hour in span] for action in actions]
    at, counts = binned([hour * HOUR_MS for hour in span], columns)
    chart = lines(
        at, [Series(action, column, _COLOURS[action]) for action, column in zip(actions, counts, strict=True)]
    )
    rows = [(action, f"{count:,}") for action, count in summary["decisions"].items()]
    return _card(
        "Decisions over time", "Issued, renewed, released and held ones.", chart + _table(("action", "all"), rows)
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    told = summary["evaluation"]
    tiles = []
    if summary["leakage"] is not None:
        each = summary["exchanges_per_account"]
        tiles += [
            (_share(summary["leakage"]), f"leakage: served of {told['planned']:,} planned exchanges"),
            (
                f"{_number(each['median'])} / {_number(each['p95'])}",
                "exchanges an account got: median / 95th percentile",
            ),
        ]
    rate = summary["false_per_100k_account_days"]["suspend"]
    if rate["value"] is not None:
        bounds = f"95 %: {_number(rate['low'])} to {_number(rate['high'])}"
        tiles.append((_number(rate["value"]), f"false suspensions per 100,000 account-days ({bounds})"))
        worst = told["blast_radius"]["accounts"]
        tiles.append(
            (_share(worst["share"]), f"honest accounts restricted in the worst hour, {moment(worst['hour_ms'])}")
        )
    made = "".join(f'<div class="tile"><b>{value}</b><span>{escape(name)}</span></div>' for value, name in tiles)
    return f'<div class="tiles">{made}</div>'


def _campaigns(summary: Mapping[str, Any]) -> str:
    head = ("campaign", "accounts", "planned", "served", "leakage", "median", "p95", "V0", "k_join", "V_miss",
            "first verify", "verified", "suspended")  # fmt: skip
    rows = []
    for name, one in summary["per_campaign"].items():
        told, budget = one["evaluation"], one["evaluation"]["budget"]
        rows.append(
            (
                name, f"{told['campaign_accounts']:,}", f"{told['planned']:,}", f"{told['served']:,}",
                _share(one["leakage"]), _number(one["exchanges_per_account"]["median"]),
                _number(one["exchanges_per_account"]["p95"]), f"{budget['v0']:,}", _number(budget["k_join"]),
                f"{budget['v_miss']:,}", _wait(one["time_to_first_s"]["verify"]), _share(one["recall"]["verify"]),
                _share(one["recall"]["suspend"]),
            )
        )  # fmt: skip
    return _table(head, rows)


def _false_rows(summary: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    rows = []
    for name, one in [("all honest accounts", summary), *summary["per_cohort"].items()]:
        for action in ACTIONS[1:]:
            rate = one["false_per_100k_account_days"][action]
            if rate["value"] is not None and (rate["count"] or one is summary):
                rows.append((f"{name}: {action}", rate["value"], rate["low"], rate["high"]))
    return rows


def _cohorts(summary: Mapping[str, Any]) -> str:
    rows = []
    for name, one in [("all", summary), *summary["per_cohort"].items()]:
        days = one["false_per_100k_account_days"]["suspend"]["account_days"]
        if days:
            counts = [f"{one['false_per_100k_account_days'][action]['count']:,}" for action in ACTIONS]
            rows.append((name, f"{days:,}", *counts))
    return _table(("cohort", "account-days", *ACTIONS), rows)


def _card(title: str, told: str, content: str) -> list[str]:
    return [f"<h2>{escape(title)}</h2><p>{escape(told)}</p>", f'<div class="card">{content}</div>']


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(one)}</th>" for one in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _wait(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 3600:.2f} h"
