"""What ``replay`` needs to grade: options as files and numbers, and figures in plain words."""

from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from streamdetect.errors import UsageError
from streamdetect.replay.attack import read_attack, told_to
from streamdetect.replay.driver import Grading
from streamdetect.replay.loop import Passing
from streamdetect.replay.truth import read_truth

COVER: Final = "cover.jsonl.gz"
ATTACK: Final = "attack.jsonl.gz"
MANIFEST: Final = "manifest.json"
SPARES: Final = "spares.jsonl.gz"


def read_grading(
    labels: Path, *, closed: bool, cover: Path | None, attack: Path | None, manifest: Path | None, reaction: str | None,
    passing: Passing, seed: int,
) -> Grading:  # fmt: skip
    """Read the truth and what is known of the attackers; what is not named is taken from beside the labels."""
    truth = read_truth(labels, _beside(labels, cover, COVER))
    if not closed:
        return Grading(truth)
    known = read_attack(
        _beside(labels, manifest, MANIFEST), _beside(labels, attack, ATTACK), _beside(labels, None, SPARES)
    )
    return Grading(truth, closed, known if reaction is None else told_to(known, reaction), passing, seed)


def read_passing(text: str | None, delay_ms: int) -> Passing:
    """Read ``legit=0.7,campaign=0.05``. Raises ``UsageError`` for another label, or a number not from 0 to 1."""
    chances: dict[str, Any] = {}
    known = {field.name for field in fields(Passing)} - {"delay_ms"}
    for part in text.split(",") if text else ():
        name, _, number = part.partition("=")
        try:
            chance = float(number)
        except ValueError:
            chance = -1.0
        if name not in known or not 0 <= chance <= 1:
            raise UsageError(f"--passes {part!r}: write LABEL=CHANCE, with {', '.join(sorted(known))} and 0 to 1")
        chances[name] = chance
    return Passing(delay_ms=delay_ms, **chances)


def _beside(labels: Path, told: Path | None, name: str) -> Path | None:
    if told is not None:
        return told
    found = labels.with_name(name)
    return found if found.is_file() else None


def words(summary: dict[str, Any]) -> list[str]:
    """The figures of a summary as sentences, campaigns first."""
    said, evaluation = [], summary["evaluation"]
    closed = evaluation["loop"] == "closed"
    said.append(
        "closed loop: what was denied never reached the detector"
        if closed
        else "open loop: nothing was denied; this is what a gateway that obeys would have done"
    )
    if summary["mode"] == "shadow":
        said.append("mode shadow: decisions were simulated, so none of them counts as an action")
    if summary["leakage"] is not None:
        said += _campaign_words(summary, evaluation)
    if closed:
        said += _reaction_words(evaluation)
    return said + _honest_words(summary, evaluation)


def _campaign_words(summary: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    each, budget = summary["exchanges_per_account"], evaluation["budget"]
    bounds = evaluation["intervals_over_campaigns"]["leakage"]
    between = f" (95 % over campaigns: {_percent(bounds[0])} to {_percent(bounds[1])})" if bounds else ""
    said = [
        f"leakage: {_percent(summary['leakage'])} of {evaluation['planned']:,} planned exchanges were served{between}"
    ]
    joined = f"{budget['v_join']:,} to {budget['accounts_linked']:,} accounts restricted at some time"
    said.append(
        f"  {budget['v0']:,} before the campaign was first restricted, {joined} ({_number(budget['k_join'])} each),"
        f" {budget['v_miss']:,} to accounts that never were"
    )
    said.append(
        f"exchanges an account got: median {_number(each['median'])}, 95th percentile {_number(each['p95'])},"
        f" of {evaluation['campaign_accounts']:,} accounts"
    )
    for action, recall in summary["recall"].items():
        first = summary["time_to_first_s"][action]
        if first is None:
            continue
        at = ", ".join(
            f"{_percent(evaluation['at'][horizon]['recall'][action])} after {horizon}" for horizon in ("6h", "24h")
        )
        said.append(
            f"{action} or stronger: first after {_duration(first)}; {_percent(recall)} of accounts in the end ({at});"
            f" {_percent(summary['precision'][action])} of those hit are the campaign's"
        )
    return said


def _reaction_words(evaluation: dict[str, Any]) -> list[str]:
    did = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in evaluation["attackers"].items() if count)
    return [f"attackers: {did or 'nothing was refused'}; {evaluation['exchanges_not_sent']:,} exchanges given up"]


def _honest_words(summary: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    if not evaluation["honest_account_days"]:
        return []
    denied = f"{evaluation['honest_requests_denied']:,} of {evaluation['honest_requests']:,} requests denied"
    days = f"{evaluation['honest_account_days']:,} account-days"
    said = [f"honest: {evaluation['honest_accounts']:,} accounts, {days}, {denied}"]
    for action, rate in summary["false_per_100k_account_days"].items():
        said.append(
            f"  {action}: {rate['count']:,} false, {_number(rate['value'])} per 100,000 account-days"
            f" (95 %: {_number(rate['low'])} to {_number(rate['high'])})"
        )
    worst = evaluation["blast_radius"]["accounts"]
    if worst is not None and worst["hit"]:
        said.append(f"  worst hour: {worst['hit']:,} of {worst['of']:,} active honest accounts restricted")
    return said


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3g} %"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
