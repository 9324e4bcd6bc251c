"""A run: cohorts planned hour by hour, merged by time, and put into words as request events.

Texts are made batch by batch, so memory follows the accounts and one hour's plan, not the run. Equal specifications
give equal bytes; a longer run begins with the events of a shorter one. Labels and cohort names never enter an event.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from streamdetect.errors import UsageError
from streamdetect.traffic import addresses, recorded
from streamdetect.traffic.cadence import Plan, plan_hour
from streamdetect.traffic.catalogue.background import BACKGROUND
from streamdetect.traffic.catalogue.model import Scenario, as_data
from streamdetect.traffic.catalogue.names import named
from streamdetect.traffic.draws import Keys, generator, mix, salted
from streamdetect.traffic.events import lines_of
from streamdetect.traffic.material.pack import Pack
from streamdetect.traffic.material.source import Material
from streamdetect.traffic.material.written import Written
from streamdetect.traffic.population import DAY_MS, HOUR_MS, arrivals
from streamdetect.traffic.speech.campaign import TemplatesVoice
from streamdetect.traffic.split import Side
from streamdetect.traffic.strands import Cohort, Strand, World, cohort_of, strands_of
from streamdetect.traffic.texts import Texts, decimals, hexadecimals, joined, written

DEFAULT_START_MS: Final = 1_767_571_200_000  # 2026-01-05T00:00:00Z, a Monday
DEFAULT_BACKGROUND: Final = 2.0
_LOOK_ALIKE_BACKGROUND: Final = 1.0  # per account of the look-alikes, when nothing is attacked
_ACCOUNTS_MAX: Final = 20_000_000
_BATCH: Final = 16_384
_SPARE_PROMPTS: Final = 40  # of each spare template
_SPARE_TEMPLATES_MIN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What to simulate. ``background`` is honest accounts per campaign account (per look-alike if there is none).

    ``population`` is who they are.
    """

    scenarios: str
    seed: int
    scale: float = 1.0
    days: float = 2.0
    background: float | None = None
    start_ms: int = DEFAULT_START_MS
    data: Path | None = None
    split: Side | None = None
    population: Scenario = BACKGROUND


@dataclass(slots=True)
class Tally:
    """What has been written so far of one cohort."""

    events: int = 0
    cover: int = 0
    conversations: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Request lines in order of time, and what the attackers know of them: cover traffic, and every exchange."""

    requests: memoryview
    covers: bytes
    attack: bytes
    events: int
    last_ms: int

    @property
    def lines(self) -> list[bytes]:
        """Return the requests one by one."""
        return bytes(self.requests).splitlines(keepends=True)

    @property
    def cover(self) -> list[bytes]:
        """Return the lines that name cover traffic one by one."""
        return self.covers.splitlines(keepends=True)


class Simulation:
    """One run. ``batches`` may be read once; ``labels`` and ``manifest`` at any time.

    Raises ``UsageError`` for values out of range and ``BadDataError`` for a data folder that cannot be read.
    """

    def __init__(self, spec: Spec) -> None:
        _check(spec)
        self.spec = spec
        random = generator(spec.seed)
        account_key, self._event_key, text_key = (int(key) for key in random.integers(1 << 62, size=3))
        sized = _sized(spec)
        self._world = _world(spec, account_key, text_key)
        self.scenarios = [scenario for scenario, _ in sized]
        self.cohorts: list[Cohort] = []
        self._strands: dict[int, Strand] = {}
        for scenario, count in sized:
            first = 0
            for index, base in enumerate(_shares(scenario, count)):
                if base:
                    cohort = cohort_of(scenario, index, base, self._world)
                    self.cohorts.append(cohort)
                    self._strands |= {strand.number: strand for strand in strands_of(cohort, first, self._world)}
                first += len(scenario.groups[index].streams)
        self.tallies = {name: Tally() for name in self._names()}

    def batches(self) -> Iterator[Batch]:
        """Yield the run's events, at most 16,384 at a time."""
        end_ms = round(self.spec.days * DAY_MS)
        pending: list[Plan] = []
        for hour in range(-(-end_ms // HOUR_MS)):
            due = Plan.merged([*pending, *(plan_hour(strand.stream, hour) for strand in self._strands.values())])
            cut = int(np.searchsorted(due.times_ms, min((hour + 1) * HOUR_MS, end_ms)))
            pending = [due.take(slice(cut, None))]
            for first in range(0, cut, _BATCH):
                yield self._worded(due.take(slice(first, min(first + _BATCH, cut))))

    def labels(self) -> Iterator[bytes]:
        """Yield one label line per account, whether or not it was heard of."""
        for cohort in self.cohorts:
            label = cohort.group.label
            named_campaign = {"campaign_id": cohort.scenario.name} if label == "campaign" else {}
            tail = orjson.dumps({"label": label, **named_campaign, "cohort": cohort.name})[1:]
            lines = joined(b'{"account_id":"', cohort.account_ids(), b'",', tail, b"\n").packed()
            yield from lines.splitlines(keepends=True)

    def spares(self) -> Iterator[bytes]:
        """Yield prompts of templates that a campaign keeps back until others are lost, for those that do so."""
        for strand in self._strands.values():
            reaction = strand.cohort.scenario.reaction
            if reaction is None or not reaction.template_losses or not isinstance(strand.voice, TemplatesVoice):
                continue
            # Those of the last days of a rotation, which no run comes to.
            count = min(strand.voice.templates, max(_SPARE_TEMPLATES_MIN, strand.voice.count))
            numbers = np.repeat(strand.voice.templates - 1 - np.arange(count), _SPARE_PROMPTS)
            keys = mix(np.arange(len(numbers), dtype=np.uint64) + np.full(len(numbers), self._event_key, np.uint64))
            prompts = strand.voice.worded(numbers, salted(keys, 795))
            name = strand.cohort.scenario.name.encode()
            yield joined(
                b'{"campaign_id":"', name, b'","template":', decimals(numbers), b',"prompt":"', prompts, b'"}\n'
            ).packed()

    def manifest(self) -> dict[str, object]:
        """Return parameters and counts so far; planned exchanges are a campaign's without its cover traffic."""
        spec = self.spec
        return {
            "scenarios": [scenario.name for scenario in self.scenarios if scenario is not spec.population],
            "seed": spec.seed,
            "scale": spec.scale,
            "days": spec.days,
            "start_ms": spec.start_ms,
            "material": self._world.material.name,
            "split": spec.split,
            "accounts": sum(len(cohort.accounts) for cohort in self.cohorts),
            "events": sum(tally.events for tally in self.tallies.values()),
            "cohorts": {name: self._counts(name) for name in self.tallies},
            "reactions": {
                scenario.name: as_data(scenario.reaction) for scenario in self.scenarios if scenario.reaction
            },
            "parameters": [as_data(scenario) for scenario in self.scenarios],
        }

    def _names(self) -> list[str]:
        return list(dict.fromkeys(cohort.name for cohort in self.cohorts))

    def _counts(self, name: str) -> dict[str, object]:
        tally = self.tallies[name]
        cohorts = [cohort for cohort in self.cohorts if cohort.name == name]
        label = cohorts[0].group.label
        counts: dict[str, object] = {
            "label": label,
            "accounts": sum(len(cohort.accounts) for cohort in cohorts),
            "events": tally.events,
            "conversations": tally.conversations,
        }
        if label == "campaign":
            counts |= {"planned_exchanges": tally.events - tally.cover, "cover_exchanges": tally.cover}
        return counts

    def _worded(self, plan: Plan) -> Batch:
        keys = mix(plan.numbers.astype(np.uint64) + np.full(len(plan), self._event_key, np.uint64))
        requests: list[tuple[np.ndarray, Texts]] = []
        attack: list[tuple[np.ndarray, Texts]] = []
        hidden = np.zeros(len(plan), np.bool_)
        for number in np.unique(plan.streams).tolist():
            strand, rows = self._strands[number], np.flatnonzero(plan.streams == number)
            mine = plan.take(rows)
            lines = lines_of(strand, mine, keys[rows], self.spec.start_ms, self._world.space)
            requests.append((rows, lines.requests))
            attack.append((rows, lines.attack))
            covers = strand.exchanges.cover
            hidden[rows] = covers
            tally = self.tallies[strand.cohort.name]
            tally.events += len(mine)
            tally.cover += len(mine) if covers else 0
            tally.conversations += int(np.count_nonzero(mine.turns == 0))
        return Batch(
            requests=written(len(plan), requests),
            covers=self._cover_lines(plan, keys, hidden).packed(),
            attack=bytes(written(len(plan), attack)),
            events=len(plan),
            last_ms=self.spec.start_ms + int(plan.times_ms[-1]),
        )

    def _cover_lines(self, plan: Plan, keys: Keys, hidden: np.ndarray) -> Texts:
        rows = np.flatnonzero(hidden)
        accounts = np.zeros(len(rows), np.uint64)
        for number in np.unique(plan.streams[rows]).tolist():
            mine = plan.streams[rows] == number
            accounts[mine] = self._strands[number].cohort.accounts.keys[plan.accounts[rows[mine]]]
        return joined(
            b'{"event_id":"', hexadecimals(keys[rows]), b'","account_id":"acct_', hexadecimals(accounts), b'"}\n'
        )


def generate(spec: Spec) -> Iterator[list[bytes]]:
    """Yield a run's request events as JSON lines in order of time, at most 16,384 at a time."""
    for batch in Simulation(spec).batches():
        yield batch.lines


def _world(spec: Spec, account_key: int, text_key: int) -> World:
    material, space, laws = _built_in() if spec.data is None else _read(spec.data, spec.split, _state_of(spec.data))
    return World(
        seed=spec.seed,
        start_ms=spec.start_ms,
        scale=spec.scale,
        days=spec.days,
        account_key=account_key,
        text_key=text_key,
        material=material,
        space=space,
        recorded=laws,
    )


def _built_in() -> tuple[Material, addresses.Space, recorded.Recorded]:
    return Written(), addresses.made_up(), recorded.Recorded()


@lru_cache(maxsize=2)
def _read(
    folder: Path, side: Side | None, state: tuple[tuple[str, int, int], ...]
) -> tuple[Material, addresses.Space, recorded.Recorded]:
    """Read a folder of real material. Kept, for reading takes longer than a small run; ``state`` tells old from new."""
    del state
    has_tables = addresses.has_tables(folder / "ip")
    space = addresses.read_tables(folder / "ip") if has_tables else addresses.made_up()
    return Pack(folder, side), space, recorded.read_traces(folder / "traces")


def _state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, size and time of every file of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _sized(spec: Spec) -> list[tuple[Scenario, int]]:
    """Return the scenarios with their number of accounts at the beginning, the background last."""
    scenarios = named(spec.scenarios)
    sized = [(scenario, max(1, round(scenario.accounts * spec.scale))) for scenario in scenarios]
    attackers = sum(count for scenario, count in sized if scenario.campaign)
    share = spec.background
    if share is None:
        share = DEFAULT_BACKGROUND if attackers else _LOOK_ALIKE_BACKGROUND
    honest = round((attackers or sum(count for _, count in sized)) * share)
    if honest:
        sized.append((spec.population, honest))
    accounts = sum(_accounts(scenario, count, spec) for scenario, count in sized)
    if accounts > _ACCOUNTS_MAX:
        raise UsageError(f"{accounts} accounts are more than {_ACCOUNTS_MAX}; lower --scale, --days or --background")
    return sized


def _accounts(scenario: Scenario, count: int, spec: Spec) -> int:
    """Return how many accounts a scenario has in a run, those that come later too."""
    shares = zip(scenario.groups, _shares(scenario, count), strict=True)
    return sum(base + arrivals(group.life, base, spec.scale, spec.days) for group, base in shares)


def _shares(scenario: Scenario, count: int) -> list[int]:
    """Divide accounts among the groups of a scenario; other abuse comes on top."""
    shares, percent, given = [], 0, 0
    for group in scenario.groups:
        if group.label == "other_abuse":
            shares.append(round(count * group.percent / 100))
            continue
        percent += group.percent
        shares.append(round(count * percent / 100) - given)
        given += shares[-1]
    return shares


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
    if spec.split is not None and spec.data is None:
        raise UsageError("--split needs --data: made-up texts have no families")
