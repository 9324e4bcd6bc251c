"""Decisions graded against labels while a replay runs: counters per labelled account and per hour, nothing per event.

Served is what no record in force denied; simulated, held and lapsed decisions count for nothing. A rung means "or
stronger", except in episodes: those count the times an account was put on exactly that rung, each unbroken stretch
once, whatever renewals it had. Accounts without a label, repeats and completions are left out. About 0.1 us a request.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.index import NO_ROW, find
from streamdetect.messages.decision import Decision
from streamdetect.pipeline.decisions.judge import LEVEL_OF_ACTION
from streamdetect.replay.gateway import OBSERVE, RATE_LIMIT, Verdicts
from streamdetect.replay.subjects import text_hash
from streamdetect.replay.truth import CAMPAIGN, LEGIT, Truth

IGNORED, SENT, REFUSED, UNSENT = 0, 1, 2, 3  # an event as a request: none, asked for, refused as recorded, given up

HOUR = np.dtype(
    [
        ("planned", "i8"),  # campaigns' exchanges, by the time they were planned for
        ("leaked", "i8"),
        ("honest_sent", "i8"),
        ("honest_denied", "i8"),
        ("honest_active", "i8"),  # honest accounts with traffic ...
        ("honest_hit", "i8"),  # ... and those of them that a restriction applied to
    ]
)
_DAY_MS = 86_400_000
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Events of one round as requests, in order, one entry each.

    ``planner`` is the row of the account that was to send it, ``sender`` of the one that does; -1 without a label.
    ``fate`` is IGNORED, SENT, REFUSED or UNSENT. ``first``: not a repetition of an exchange asked for before.
    ``counts``: part of the campaign's plan, not cover.
    """

    planner: NDArray[np.int64]
    sender: NDArray[np.int64]
    occurred_at: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    fate: NDArray[np.uint8]
    first: NDArray[np.bool_]
    counts: NDArray[np.bool_]


@dataclass(slots=True)
class Evaluation:
    """Counts requests and decisions against the truth, round by round: requests first, then what was decided."""

    truth: Truth
    hours: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, HOUR))
    first_hour: int = 0
    restricted: NDArray[np.bool_] = field(init=False)  # by campaign: whether any restriction has reached it

    def __post_init__(self) -> None:
        self.restricted = np.zeros(max(1, len(self.truth.campaigns)), np.bool_)

    def requests(self, exchanges: Exchanges, verdicts: Verdicts) -> None:
        """Count the events of a round; ``verdicts`` has an entry for each."""
        if not len(exchanges.occurred_at):
            return
        self._reach(int(exchanges.occurred_at.min()) // HOUR_MS, int(exchanges.occurred_at.max()) // HOUR_MS)
        _count_exchanges(
            self.truth.accounts.rows, self.restricted, self.hours, self.first_hour,
            exchanges.planner, exchanges.sender, exchanges.occurred_at, exchanges.output_tokens, exchanges.fate,
            exchanges.first, exchanges.counts, verdicts.denied, verdicts.level, verdicts.shared_level,
            verdicts.shared_since, verdicts.shared_until,
        )  # fmt: skip

    def decisions(self, decisions: Iterable[Decision]) -> None:
        """Count what was decided about accounts; shared subjects count by the requests they reach."""
        for decision in decisions:
            if decision.subject.scope == "account" and not decision.simulated:
                self._decision(decision)

    def _reach(self, first: int, last: int) -> None:
        """Make room for the hours ``first`` to ``last``."""
        if not len(self.hours):
            self.first_hour = first
        before = max(0, self.first_hour - first)
        after = max(0, last + 1 - self.first_hour - len(self.hours))
        if before or after:
            self.hours = np.concatenate([np.zeros(before, HOUR), self.hours, np.zeros(after, HOUR)])
            self.first_hour -= before

    def _decision(self, decision: Decision) -> None:
        row = find(self.truth.accounts.slots, self.truth.accounts.rows, text_hash(decision.subject.value))
        if row == NO_ROW:
            return
        record, at = self.truth.accounts.rows[row], decision.issued_at
        if decision.action == "release":
            record["own_level"], record["own_until"] = 0, at
        elif decision.status in ("issued", "renewed"):
            level = LEVEL_OF_ACTION[decision.action]
            on_now = int(record["own_level"]) if int(record["own_until"]) > at else 0
            if level == OBSERVE and on_now > OBSERVE:
                return
            unbroken = int(record["own_level"]) == level and int(record["own_until"]) >= at
            if not unbroken and int(record["shared_until"][level - 1]) < at:
                record["episodes"][level - 1] += 1
            record["own_level"], record["own_until"] = level, decision.expires_at
            firsts = record["first_action_at"][:level]
            firsts[firsts == 0] = at
            if record["label"] == CAMPAIGN and level >= RATE_LIMIT:
                self.restricted[record["campaign"]] = True


@njit(cache=True, nogil=True)
def _count_exchanges(
    rows: NDArray[np.void],
    restricted: NDArray[np.bool_],
    hours: NDArray[np.void],
    first_hour: int,
    planner: NDArray[np.int64],
    sender: NDArray[np.int64],
    occurred: NDArray[np.int64],
    tokens: NDArray[np.int64],
    fate: NDArray[np.uint8],
    first: NDArray[np.bool_],
    counts: NDArray[np.bool_],
    denied: NDArray[np.uint8],
    level: NDArray[np.uint8],
    shared_level: NDArray[np.uint8],
    shared_since: NDArray[np.int64],
    shared_until: NDArray[np.int64],
) -> None:
    for index in range(len(sender)):
        if fate[index] == IGNORED:
            continue
        now = occurred[index]
        hour_number = now // HOUR_MS
        hour = hours[hour_number - first_hour]
        output = max(np.int64(0), tokens[index])
        if planner[index] >= 0:
            plan = rows[planner[index]]
            if counts[index] and first[index] and plan.label == CAMPAIGN:
                plan.planned += 1
                plan.planned_tokens += output
                hour.planned += 1
        if fate[index] == UNSENT or sender[index] < 0:
            continue
        record = rows[sender[index]]
        if record.first_at == 0 and (counts[index] or record.label != CAMPAIGN):
            record.first_at = now
        day = np.int32(now // _DAY_MS)
        if day > record.last_day:
            record.last_day = day
            record.days += 1
        record.sent += 1
        for rung in range(int(level[index])):
            if record.first_action_at[rung] == 0:
                record.first_action_at[rung] = now
        hit = int(shared_level[index])
        # A weaker record than the account's own one changes nothing for it.
        if hit > 0 and not (record.own_level > hit and record.own_until > now):
            rung = hit - 1
            own = record.own_level == hit and record.own_until >= now
            unbroken = record.shared_until[rung] >= now or 0 < shared_since[index] <= record.shared_at[rung]
            if not own and not unbroken:
                record.episodes[rung] += 1
            record.shared_at[rung] = now
            record.shared_until[rung] = max(record.shared_until[rung], shared_until[index])
        if record.label == LEGIT:
            hour.honest_sent += 1
            if hour_number > record.last_hour:
                record.last_hour = np.int32(hour_number)
                hour.honest_active += 1
            if level[index] >= RATE_LIMIT and hour_number > record.last_hit_hour:
                record.last_hit_hour = np.int32(hour_number)
                hour.honest_hit += 1
            if denied[index] > 0:
                hour.honest_denied += 1
        if record.label == CAMPAIGN and level[index] >= RATE_LIMIT:
            restricted[record.campaign] = True
        if denied[index] > 0:
            record.denied += 1
        elif fate[index] == SENT and counts[index] and record.label == CAMPAIGN and planner[index] >= 0:
            rows[planner[index]].leaked += 1
            rows[planner[index]].leaked_tokens += output
            hour.leaked += 1
            record.gained += 1
            if restricted[record.campaign]:
                record.gained_after += 1
                if record.first_action_at[RATE_LIMIT - 1] > 0:
                    record.gained_hit += 1
