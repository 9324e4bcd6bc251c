"""A run: cohorts planned day by day, merged by time, and put into words as request events.

Texts are made batch by batch, so memory follows the accounts and one day's plan, not the run. Equal specifications give
equal bytes; a longer run begins with the events of a shorter one. Labels and cohort names never enter an event.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from streamdetect.errors import UsageError
from streamdetect.traffic import material
from streamdetect.traffic.cadence import Plan, plan_day
from streamdetect.traffic.draws import Keys, drawn, generator, lognormal_table, mix, salted
from streamdetect.traffic.population import DAY_MS, Accounts, populate
from streamdetect.traffic.prompts import Turns, Voice
from streamdetect.traffic.scenarios import BACKGROUND, Scenario, named

DEFAULT_START_MS: Final = 1_767_571_200_000  # 2026-01-05T00:00:00Z, a Monday
DEFAULT_BACKGROUND: Final = 2.0
_LOOK_ALIKE_BACKGROUND: Final = 1.0  # per account of the look-alikes, when nothing is attacked
_ACCOUNTS_MAX: Final = 20_000_000
_BATCH: Final = 4096
_OUTPUT_TOKENS: Final = lognormal_table(median=260.0, sigma=1.1, limit=8000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What to simulate. ``background`` is honest accounts per campaign account (per look-alike if there is none)."""

    scenarios: str
    seed: int
    scale: float = 1.0
    days: float = 2.0
    background: float | None = None
    start_ms: int = DEFAULT_START_MS
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Cohort:
    """One scenario's accounts and voice."""

    scenario: Scenario
    accounts: Accounts
    voice: Voice


@dataclass(slots=True)
class Tally:
    """What has been written so far of one cohort."""

    events: int = 0
    cover: int = 0
    first_turns: int = 0


@dataclass(slots=True)
class Batch:
    """Request lines in order of time, and lines naming those among them that are a campaign's cover traffic."""

    lines: list[bytes]
    cover: list[bytes] = field(default_factory=list)


class Simulation:
    """One run. ``batches`` may be read once; ``labels`` and ``manifest`` at any time.

    Raises ``UsageError`` for values out of range and ``BadDataError`` for a data folder that cannot be read.
    """

    def __init__(self, spec: Spec) -> None:
        _check(spec)
        self.spec = spec
        random = generator(spec.seed)
        self._account_key, self._event_key, text_key = (int(key) for key in random.integers(1 << 62, size=3))
        scenarios = _sized(spec)
        source = material.opened(spec.data)
        self.cohorts = {
            scenario.number: self._cohort(scenario, count, source, text_key) for scenario, count in scenarios
        }
        self.tallies = {number: Tally() for number in self.cohorts}

    def batches(self) -> Iterator[Batch]:
        """Yield the run's events, at most 4096 at a time."""
        end_ms = self.spec.start_ms + round(self.spec.days * DAY_MS)
        pending: Plan | None = None
        for day, day_ms in enumerate(range(self.spec.start_ms, end_ms, DAY_MS)):
            plans = [self._planned(number, day, day_ms) for number in self.cohorts]
            due = Plan.merged([*plans, pending] if pending else plans)
            cut = int(np.searchsorted(due.times_ms, min(day_ms + DAY_MS, end_ms)))
            pending = due.take(slice(cut, None))
            for first in range(0, cut, _BATCH):
                yield self._worded(due.take(slice(first, min(first + _BATCH, cut))), day, day_ms)

    def labels(self) -> Iterator[bytes]:
        """Yield one label line per account, whether or not it was heard of."""
        for cohort in self.cohorts.values():
            scenario = cohort.scenario
            label = {"label": "campaign", "campaign_id": scenario.name} if scenario.campaign else {"label": "legit"}
            tail = orjson.dumps({**label, "cohort": scenario.name})[1:]
            for name in cohort.accounts.ids:
                yield b'{"account_id":"%s",%s\n' % (name, tail)

    def manifest(self) -> dict[str, object]:
        """Return parameters and counts so far; planned exchanges are a campaign's without its cover traffic."""
        spec = self.spec
        return {
            "scenarios": [
                cohort.scenario.name for cohort in self.cohorts.values() if cohort.scenario is not BACKGROUND
            ],
            "seed": spec.seed,
            "scale": spec.scale,
            "days": spec.days,
            "start_ms": spec.start_ms,
            "material": "built-in" if spec.data is None else "pack",
            "accounts": sum(len(cohort.accounts) for cohort in self.cohorts.values()),
            "events": sum(tally.events for tally in self.tallies.values()),
            "cohorts": {cohort.scenario.name: self._counts(number, cohort) for number, cohort in self.cohorts.items()},
        }

    def _counts(self, number: int, cohort: Cohort) -> dict[str, object]:
        tally = self.tallies[number]
        counts: dict[str, object] = {
            "label": "campaign" if cohort.scenario.campaign else "legit",
            "accounts": len(cohort.accounts),
            "events": tally.events,
            "conversations": tally.first_turns,
        }
        if cohort.scenario.campaign:
            counts |= {"planned_exchanges": tally.events - tally.cover, "cover_exchanges": tally.cover}
        return counts

    def _cohort(self, scenario: Scenario, count: int, source: material.Material, text_key: int) -> Cohort:
        accounts = populate(
            scenario.profile,
            count=count,
            cohort=scenario.number,
            seed_key=self._account_key,
            start_ms=self.spec.start_ms,
        )
        voice = material.voice_of(
            scenario.speech, accounts, material=source, scale=self.spec.scale, key=text_key + scenario.number
        )
        return Cohort(scenario, accounts, voice)

    def _planned(self, number: int, day: int, day_ms: int) -> Plan:
        cohort = self.cohorts[number]
        return plan_day(
            cohort.accounts, cohort.scenario.cadence, cohort=number, seed=self.spec.seed, day_ms=day_ms, day=day
        )

    def _worded(self, plan: Plan, day: int, day_ms: int) -> Batch:
        keys = mix(plan.numbers.astype(np.uint64) + np.full(len(plan), self._event_key, np.uint64))
        lines = [b""] * len(plan)
        cover: list[tuple[int, bytes]] = []
        for number, cohort in self.cohorts.items():
            rows = np.flatnonzero(plan.cohorts == number)
            if len(rows):
                mine, my_keys = plan.take(rows), keys[rows]
                hidden = cohort.voice.cover(my_keys)
                written = _events(cohort, mine, my_keys, day, day_ms)
                for row, line in zip(rows.tolist(), written, strict=True):
                    lines[row] = line
                cover += _cover_lines(cohort, rows[hidden].tolist(), mine.accounts[hidden].tolist(), my_keys[hidden])
                self._count(number, mine, int(np.count_nonzero(hidden)))
        return Batch(lines, [line for _, line in sorted(cover)])

    def _count(self, number: int, plan: Plan, cover: int) -> None:
        tally = self.tallies[number]
        tally.events += len(plan)
        tally.cover += cover
        tally.first_turns += int(np.count_nonzero(plan.turns == 0))


def generate(spec: Spec) -> Iterator[list[bytes]]:
    """Yield a run's request events as JSON lines in order of time, at most 4096 at a time."""
    for batch in Simulation(spec).batches():
        yield batch.lines


def _events(cohort: Cohort, plan: Plan, keys: Keys, day: int, day_ms: int) -> list[bytes]:
    """Put one cohort's exchanges into request lines."""
    week = (day_ms // DAY_MS + 3) // 7
    batch = Turns(keys, plan.accounts, plan.turns, week)
    prompts, systems = cohort.voice.prompts(batch), cohort.voice.systems(batch)
    output = drawn(salted(keys, 700), _OUTPUT_TOKENS)
    duration = 250 + output * (6 + (keys & np.uint64(15)).astype(np.int64))
    history = (plan.turns * 320).tolist()
    rows = zip(
        keys.tolist(), plan.times_ms.tolist(), plan.accounts.tolist(), _addresses(cohort.accounts, plan, day),
        plan.conversations.tolist(), plan.turns.tolist(), systems, prompts, history, output.tolist(), duration.tolist(),
        strict=True,
    )  # fmt: skip
    members = cohort.accounts.members
    return [
        b'{"event_id":"%016x","occurred_at":%d,%s,%s,"conversation_id":"%016x","turn":%d,%s"prompt":"%s",'
        b'"input_tokens":%d,"output_tokens":%d,"duration_ms":%d,"http_status":200,"finish_reason":"stop"}\n'
        % (
            key, time_ms, members[account], address, conversation, turn, system, prompt,
            (len(prompt) + len(system)) // 4 + past + 3, tokens, took_ms,
        )
        for key, time_ms, account, address, conversation, turn, system, prompt, past, tokens, took_ms in rows
    ]  # fmt: skip


def _addresses(accounts: Accounts, plan: Plan, day: int) -> list[bytes]:
    """Return each exchange's place: a conversation stays in one of the account's two."""
    second = drawn(salted(plan.conversations, 701), np.arange(100)) < accounts.second_percent[plan.accounts]
    chosen = [b""] * len(plan)
    for place, rows in zip(accounts.places, (np.flatnonzero(~second), np.flatnonzero(second)), strict=True):
        who, back = np.unique(plan.accounts[rows], return_inverse=True)
        texts = place.fragments(who, day)
        for row, index in zip(rows.tolist(), back.tolist(), strict=True):
            chosen[row] = texts[index]
    return chosen


def _cover_lines(cohort: Cohort, rows: list[int], accounts: list[int], keys: Keys) -> list[tuple[int, bytes]]:
    ids = cohort.accounts.ids
    return [
        (row, b'{"event_id":"%016x","account_id":"%s"}\n' % (key, ids[account]))
        for row, account, key in zip(rows, accounts, keys.tolist(), strict=True)
    ]


def _sized(spec: Spec) -> list[tuple[Scenario, int]]:
    """Return the cohorts with their number of accounts, the background last."""
    scenarios = named(spec.scenarios)
    sized = [(scenario, max(1, round(scenario.accounts * spec.scale))) for scenario in scenarios]
    attackers = sum(count for scenario, count in sized if scenario.campaign)
    share = spec.background
    if share is None:
        share = DEFAULT_BACKGROUND if attackers else _LOOK_ALIKE_BACKGROUND
    honest = round((attackers or sum(count for _, count in sized)) * share)
    if honest:
        sized.append((BACKGROUND, honest))
    total = sum(count for _, count in sized)
    if total > _ACCOUNTS_MAX:
        raise UsageError(f"{total} accounts are more than {_ACCOUNTS_MAX}; lower --scale or --background")
    return sized


def _check(spec: Spec) -> None:
    if not 0 <= spec.seed < 1 << 64:
        raise UsageError("--seed must be from 0 to 2**64 - 1")
    if not 0 < spec.scale <= 1000:
        raise UsageError("--scale must be above 0 and at most 1000")
    if not 0 < spec.days <= 3650:
        raise UsageError("--days must be above 0 and at most 3650")
    if spec.background is not None and not 0 <= spec.background <= 1000:
        raise UsageError("--background must be from 0 to 1000")
    if not 0 <= spec.start_ms < 1 << 45:
        raise UsageError("--start must be a time since 1970")
