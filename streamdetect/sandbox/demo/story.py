"""The demo's words: plain lines, coloured on a terminal.

Numbers come from the run; nothing is counted or judged here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from streamdetect.messages.decision import Decision
from streamdetect.sandbox.cluster import Cluster, Tier
from streamdetect.sandbox.demo.ledger import PROPAGATION_S
from streamdetect.sandbox.demo.scene import BACKGROUND, Scene
from streamdetect.sandbox.demo.verdict import CAUGHT_SHARE, REQUESTS_MIN, CampaignFigures, Figures, HonestFigures

_HOUR_S: Final = 3600
_INDENT: Final = " " * 14
_DOES: Final = {
    "rate_limit": "is slowed down",
    "verify": "must prove to be genuine",
    "suspend": "is suspended",
}
_REFUSED: Final = {
    "blocked": "it is suspended",
    "challenged": "it must prove to be genuine first",
    "rate_limited": "it has used up its limit",
}
_BROKERS: Final = {
    Tier.MOCK: "a Kafka-protocol cluster in a process of its own ({}); no Docker, no Java",
    Tier.JARS: "{}, one node, in a process of its own; no Docker",
}


class Story:
    """Writes to one stream. ``start_ms``: event time of the first moment, from which times of day are told."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self.start_ms = 0

    def say(self, line: str = "", style: str = "") -> None:
        """Write one line."""
        self._console.print(Text(line, style), soft_wrap=True)

    def at(self, event_ms: int, line: str, style: str = "") -> None:
        """Write one line with its event time in front."""
        day, rest_s = divmod((event_ms - self.start_ms) // 1000, 24 * _HOUR_S)
        stamp = f"day {day + 1} {rest_s // _HOUR_S:02}:{rest_s % _HOUR_S // 60:02}"
        self._console.print(Text.assemble((f"{stamp:<{len(_INDENT)}}", "dim"), (line, style)), soft_wrap=True)

    def rows(self, **rows: str) -> None:
        """Write rows of a name and what there is to say of it."""
        for name, text in rows.items():
            self._console.print(Text.assemble("  ", (f"{name:<11}", "cyan"), text), soft_wrap=True)

    def opening(self, scene: Scene, cluster: Cluster, *, hours: float, speed: float, policy: Path | None) -> None:
        """Say what is about to be seen, and what of it is real."""
        self.say(
            "streamdetect demo: a distillation campaign hides in ordinary traffic, is found and is stopped", "bold"
        )
        self.say()
        self.rows(
            broker=_BROKERS.get(cluster.tier, "{}").format(cluster.version),
            detector="the real one: `streamdetect worker --mode live` on that broker, with "
            + ("the policy it ships with" if policy is None else f"the policy {policy}"),
            campaign=f"simulated: {len(scene.campaign)} accounts send {scene.requests_a_day} requests a day each, "
            f"{scene.templates} task templates filled with ever new words",
            honest="simulated: people, offices and applications, "
            f"{BACKGROUND * len(scene.campaign):.0f} accounts on the first day; {len(scene.look_alikes)} more use one "
            "popular coding agent and so share its long prompt",
            gateway="simulated: before each request it looks up what the detector has put in force",
            speed=f"{speed:,g} times life: {hours:g} hours pass in {hours * _HOUR_S / speed:.0f} s, and each second of "
            f"delay costs {speed / 60:.0f} minutes of traffic",
        )
        self.say()
        self.say(
            "  The detector is not told who is who; only the figures below know. `Stopped` means suspended or made"
        )
        self.say("  to prove being genuine, which nobody here does.")
        self.say()
        self.say("  starting the detector (the first start on a machine compiles its kernels) ...", "dim")

    def first_finding(self, decision: Decision) -> None:
        """Tell the first decision, and why it was taken."""
        ttl_h = (decision.expires_at - decision.issued_at) / 1000 / _HOUR_S
        who = f"{decision.subject.scope} {decision.subject.value}"
        simulated = " (only simulated: nothing is put in force)" if decision.simulated else ""
        action = _DOES.get(decision.action, decision.action)
        self.at(decision.issued_at, f"first finding: {who} {action} for {ttl_h:.0f} hours{simulated}", "bold")
        for reason in decision.reasons:
            self.say(f"{_INDENT}because: {reason.text or reason.signal}")

    def first_refusal(self, at_ms: int, account: str, outcome: str) -> None:
        """Tell the first request that was not served."""
        self.at(at_ms, f"first refusal: the gateway turns account {account} away, {_REFUSED[outcome]}", "bold")

    def progress(self, at_ms: int, figures: Figures) -> None:
        """Tell where things stand."""
        campaign, delay = figures.campaign, figures.decision_delay_median_s
        self.at(
            at_ms,
            f"campaign: {campaign.stopped} of {campaign.accounts} accounts stopped, {campaign.served:,} of its "
            f"{campaign.planned:,} requests served ({campaign.leakage:.1%})",
        )
        self.say(
            f"{_INDENT}honest: {_touched(figures.honest)}; {figures.events:,} requests in all"
            + (f"; a decision can be read {delay:.2f} s after its request" if delay is not None else "")
        )

    def since_verdict(self, at_ms: int, then: CampaignFigures, now: CampaignFigures) -> None:
        """Tell what has become of the campaign since the verdict."""
        refused, served = now.refused - then.refused, now.served - then.served
        self.at(at_ms, f"since the verdict: {refused:,} campaign requests refused, {served:,} served")

    def goes_on(self) -> None:
        """Tell that the verdict is not the end."""
        self.say()
        self.say("The traffic goes on, and so does the gateway. Ctrl-C ends it.", "bold")
        self.say("Decisions run out: an account that comes back then is served until the next one reaches the gateway.")

    def sum(self, figures: Figures, *, hours: float, wall_s: float) -> None:
        """Tell what it came to."""
        campaign, honest = figures.campaign, figures.honest
        self.say()
        self.say(f"After {hours:g} hours of traffic", "bold")
        self.rows(
            campaign=f"{campaign.stopped} of {campaign.accounts} accounts stopped; of those that went on sending after "
            f"the first finding, {campaign.due_stopped} of {campaign.due}",
            leakage=f"{campaign.leakage:.1%}: {campaign.served:,} of the {campaign.planned:,} requests the campaign "
            f"wanted were served; per account {campaign.served_per_account_median} (median), "
            f"{campaign.served_per_account_p95} (95 % have no more)",
            honest=f"{_touched(honest)}; {honest.refused:,} of {honest.requests:,} requests refused",
            found=_found(figures),
            delay=_delay(figures),
            gateway=f"{sum(figures.refused.values()):,} requests refused; {figures.served_after_stop:,} requests of "
            f"stopped accounts served more than {PROPAGATION_S:g} s after the decision",
            speed=f"{figures.events:,} requests in {wall_s:.0f} s, {figures.events / wall_s:.0f} a second",
        )
        self.say()

    def passed(self) -> None:
        """Tell that every gate held, and what the gates are."""
        self.say(
            f"PASSED (exit code 0): of the campaign's accounts that sent {REQUESTS_MIN} or more requests after the "
            f"first finding, at least {CAUGHT_SHARE:.0%} were stopped;",
            "bold green",
        )
        self.say("the gateway obeyed; no honest account was suspended.", "bold green")

    def failed(self, reasons: Iterable[str]) -> None:
        """Tell which gates did not hold."""
        self.say(f"FAILED (exit code 1): {'; '.join(reasons)}", "bold red")


def _touched(honest: HonestFigures) -> str:
    if not honest.suspended + honest.verified + honest.limited:
        return f"none of {honest.heard} accounts touched"
    return (
        f"of {honest.heard} accounts {honest.suspended} suspended, {honest.verified} made to prove being genuine, "
        f"{honest.limited} slowed down"
    )


def _found(figures: Figures) -> str:
    if figures.time_to_first_action_s is None:
        return "nothing was put in force"
    minutes = figures.time_to_first_action_s / 60
    return f"first action {minutes:.0f} minutes of event time after the campaign's first request"


def _delay(figures: Figures) -> str:
    median, most = figures.decision_delay_median_s, figures.decision_delay_p95_s
    if median is None or most is None:
        return "no decision was taken"
    return f"a decision can be read {median:.2f} s after its request was sent (median), {most:.2f} s (95 %)"
