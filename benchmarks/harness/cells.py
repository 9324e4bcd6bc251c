"""Runs cells: makes a row's traffic as files, as an outsider would, and grades every detector on them.

A detector gets decoded request events and nothing else; labels and cover are read by the grader alone.
"""

import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from baselines import catalogue

from harness.plan import Cell, Task
from streamdetect.cli.grading import ATTACK, SPARES
from streamdetect.messages.decision import ACTIONS, Decision
from streamdetect.replay.feed import Feed, Round
from streamdetect.replay.figures import figures
from streamdetect.replay.grade import (
    Attack,
    ClosedLoop,
    FeedOptions,
    OpenLoop,
    Truth,
    read_attack,
    read_chunks,
    read_truth,
)
from streamdetect.replay.truth import LEGIT
from streamdetect.traffic.output import COVER, LABELS, MANIFEST, REQUESTS, write_folder
from streamdetect.traffic.simulation import Simulation, Spec

Result = dict[str, Any]


def run_task(task: Task, wanted: list[Cell]) -> Iterator[tuple[Cell, Result]]:
    """Make the traffic of a task once and run the wanted cells on it, one after another."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        began = time.process_time()
        manifest = traffic(task, folder)
        rounds = rounds_of(folder, task.profile.round_ms)
        made_s = (time.process_time() - began) / len(wanted)  # each cell bears its part of the traffic
        for cell in wanted:
            began = time.process_time()
            result = {"traffic": _told(manifest), **run_cell(cell, folder, rounds)}
            yield cell, result | {"all_cpu_s": round(made_s + time.process_time() - began, 3)}


def traffic(task: Task, folder: Path) -> dict[str, Any]:
    """Write the traffic of a task to a folder; returns its manifest."""
    return write_folder(Simulation(spec_of(task)), folder, on_batch=lambda _events, _time_ms: None)


def spec_of(task: Task) -> Spec:
    """What ``simulate`` is told for a task. Each row has people of its own, or an honest account would count often."""
    return Spec(
        scenarios=task.row, seed=task.seed << 32 | zlib.crc32(task.row.encode()), scale=task.scale, days=task.days,
        background=task.background, data=task.data, split=task.side if task.data else None,
    )  # fmt: skip


def rounds_of(folder: Path, round_ms: int) -> list[Round]:
    """The decoded events of a folder. Nobody writes to them, so all detectors can have the same."""
    feed = Feed(FeedOptions(round_ms=round_ms))
    found: list[Round] = []
    for chunk in read_chunks([str(folder / REQUESTS)]):
        found += feed.push(chunk)
    return [*found, *feed.finish()]


def run_cell(cell: Cell, folder: Path, rounds: list[Round], **changes: Any) -> Result:
    """Run one detector over traffic in a folder, and grade it. ``changes`` replace parameters of a baseline."""
    round_ms = cell.task.profile.round_ms
    truth = read_truth(folder / LABELS, folder / COVER)
    detector = _Watched(catalogue.made(cell.detector, round_ms, **changes))
    loop: OpenLoop | ClosedLoop = OpenLoop(detector, truth)
    if cell.loop == "closed":
        loop = ClosedLoop(detector, truth, round_ms, _attack(folder))
    for columns, start_ms in rounds:
        loop.round(columns, start_ms)
    loop.finish()
    found = figures(loop.evaluation)
    return {
        "events": detector.events,
        "cpu_s": round(detector.cpu_s, 3),
        "decisions": {action: detector.decided[action] for action in (*ACTIONS, "release")},
        "figures": {name: value for name, value in found.items() if not name.startswith("per_")},
        "honest": honest_hits(truth),
        "told": loop.told(),
    }


def _attack(folder: Path) -> Attack:
    """How the campaigns of a folder answer refusals."""
    paths = [path if path.is_file() else None for path in (folder / MANIFEST, folder / ATTACK, folder / SPARES)]
    return read_attack(*paths)


def honest_hits(truth: Truth) -> dict[str, dict[str, int]]:
    """By honest cohort: accounts with traffic, and how many of them each rung or a stronger one ever reached."""
    rows = truth.accounts.live
    honest = rows[(rows["label"] == LEGIT) & (rows["days"] > 0)]
    found = {}
    for number, name in enumerate(truth.cohorts):
        mine = honest[honest["cohort"] == number]
        if len(mine):
            hit = np.count_nonzero(mine["first_action_at"] > 0, axis=0).tolist()
            found[name] = {"accounts": len(mine), **dict(zip(ACTIONS, hit, strict=True))}
    return found


class _Watched:
    """A detector with its CPU time and its decisions counted."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector
        self.cpu_s, self.events = 0.0, 0
        self.decided: Counter[str] = Counter()

    def round(self, columns: Any, start_ms: int) -> list[Decision]:
        self.events += len(columns)
        return self._timed(lambda: self._detector.round(columns, start_ms))

    def finish(self) -> list[Decision]:
        return self._timed(self._detector.finish)

    def _timed(self, work: Any) -> list[Decision]:
        started = time.process_time()
        decisions = work()
        self.cpu_s += time.process_time() - started
        self.decided.update(decision.action for decision in decisions)
        return decisions


def _told(manifest: dict[str, Any]) -> dict[str, Any]:
    return {name: manifest.get(name) for name in ("accounts", "events", "scale", "days", "material")}
