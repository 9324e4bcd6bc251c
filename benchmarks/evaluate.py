"""Product and baselines on the same simulated traffic, graded by one grader, as a table.

Run as ``python benchmarks/evaluate.py [--profile quick|full] [--rows C2 L5] [--detectors shipped lsh-0.5]``, or ``make
eval`` and ``make eval-full``. Writes ``benchmarks/results/evaluation.md`` and ``.json``. Cells are kept in
``.cache/evaluation``, keyed by the code they depend on, so a run that was stopped goes on.

Real prompt texts, if the folder of ``--data`` is there, are the report half of the split; what was chosen by looking at
texts was chosen on the other half. Without it the built-in texts are used, and the page says so.
"""

import argparse
import json
import multiprocessing
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from baselines import catalogue
from harness.cache import Cache
from harness.cells import run_task
from harness.plan import LOOPS, PROFILES, Cell, Task, rows
from harness.summary import of_loop, summarised
from harness.table import document
from measure import RESULTS, machine
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

Result = dict[str, Any]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--rows", nargs="+", default=rows(), help="scenarios, such as C2 or C2+L5")
    parser.add_argument("--detectors", nargs="+", choices=catalogue.names(), default=catalogue.names())
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the profile's")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=list(LOOPS))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real texts; skipped when it is not there")
    parser.add_argument("--built-in", action="store_true", help="use the built-in texts even if --data is there")
    parser.add_argument("--known", action="store_true", help="run nothing: the page of a run that was stopped")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "evaluation", help="path without suffix")
    return parser


def work(task: Task, wanted: list[Cell]) -> list[tuple[Cell, Result]]:
    """One task, in a process of its own."""
    return list(run_task(task, wanted))


def run(tasks: dict[Task, list[Cell]], cache: Cache, jobs: int) -> list[Result]:
    """The results of all cells, from the cache where it has them; without ``jobs`` those alone."""
    found: dict[Cell, Result] = {}
    missing: dict[Task, list[Cell]] = defaultdict(list)
    for task, cells in tasks.items():
        for cell in cells:
            kept = cache.get(cell)
            if kept is None:
                missing[task].append(cell)
            else:
                found[cell] = kept
    if not jobs:
        missing.clear()
    total = sum(map(len, tasks.values()))
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar,
        ProcessPoolExecutor(max(1, jobs), mp_context=context) as pool,
    ):
        shown = bar.add_task("cells", total=total, completed=len(found))
        running = {pool.submit(work, task, cells): task for task, cells in missing.items()}
        for done in as_completed(running):
            for cell, result in done.result():
                found[cell] = result
                cache.put(cell, result)
            task = running[done]
            bar.advance(shown, len(missing[task]))
            if not sys.stderr.isatty():
                print(f"{len(found)}/{total} cells: {task.row}, seed {task.seed}", file=sys.stderr, flush=True)
    named = [(cell, found[cell]) for cells in tasks.values() for cell in cells if cell in found]
    return [
        {"row": cell.task.row, "seed": cell.task.seed, "loop": cell.loop, "detector": cell.detector, **result}
        for cell, result in named
    ]


def costs_of(results: list[Result]) -> dict[str, float]:
    """CPU microseconds an event of each detector, over all its cells."""
    spent: dict[str, float] = defaultdict(float)
    events: dict[str, int] = defaultdict(int)
    for result in results:
        spent[result["detector"]] += result["cpu_s"]
        events[result["detector"]] += result["events"]
    return {name: 1e6 * spent[name] / max(1, events[name]) for name in spent}


def not_run(tasks: dict[Task, list[Cell]], results: list[Result]) -> list[str]:
    """What a run that was stopped does not have: rows by loop and detector."""
    known = {(one["row"], one["seed"], one["loop"], one["detector"]) for one in results}
    seeds = {task.seed for task in tasks}
    left: dict[tuple[str, str], list[str]] = defaultdict(list)
    for task, cells in tasks.items():
        for cell in cells:
            if (task.row, task.seed, cell.loop, cell.detector) not in known:
                left[cell.loop, cell.detector].append(f"{task.row} (seed {task.seed})" if len(seeds) > 1 else task.row)
    by_rows: dict[str, list[str]] = defaultdict(list)
    for (loop, detector), names in left.items():
        by_rows[f"{loop} loop of {', '.join(names)}"].append(detector)
    return [f"Not run: {', '.join(detectors)} in the {rows}." for rows, detectors in by_rows.items()]


def page(chosen: argparse.Namespace, results: list[Result], data: Path | None, tasks: dict[Task, list[Cell]]) -> str:
    """The committed page."""
    profile, at = PROFILES[chosen.profile], machine()
    texts = "report half of the texts in `../shared/data`" if data else "built-in texts"
    judged, spent_s = (sum(result[name] for result in results) for name in ("events", "all_cpu_s"))
    seeds = ", ".join(map(str, chosen.seeds or profile.seeds))
    size = (
        f"{len(chosen.rows)} scenarios, seeds {seeds}, {profile.days:g} days, scaled to"
        f" {profile.accounts} accounts each with {profile.background:g} honest ones for each; {texts}; rounds of"
        f" {profile.round_ms // 1000} s; {judged:,} events judged."
    )
    versions = ", ".join(f"{name} {version}" for name, version in at["versions"].items())
    where = (
        f"{at['cpu']}, {at['cores']} cores, {at['system']}, load {at['load_1m']}, Python {at['python']}; {versions}."
    )
    took = f"{spent_s / 60:,.0f} minutes of one core, {1e6 * spent_s / judged:.0f} us an event and detector"
    facts = [f"`{command(chosen)}` takes {took}: making the traffic, detecting, grading.", "", size, "", where]
    notes = [] if data else ["Real prompt texts: no folder of them. Rows about real texts say nothing here."]
    if set(LOOPS) - set(chosen.loops):
        notes.append(f"Loops: {', '.join(sorted(set(LOOPS) - set(chosen.loops)))}.")
    notes += not_run(tasks, results)
    closed, opened = (summarised(of_loop(results, loop)) for loop in ("closed", "open"))
    return document("Evaluation", facts, closed, opened, costs_of(results), notes)


def figures_of(chosen: argparse.Namespace, results: list[Result]) -> str:
    """What the page was made from, a line for each loop, row and detector."""
    lines = [
        json.dumps({"loop": loop, **asdict(line)}) for loop in LOOPS for line in summarised(of_loop(results, loop))
    ]
    head = json.dumps({"command": command(chosen), "machine": machine()})
    return f'{{"about": {head}, "lines": [\n' + ",\n".join(lines) + "\n]}\n"


def command(chosen: argparse.Namespace) -> str:
    """How to run this again."""
    parts = [f"python benchmarks/evaluate.py --profile {chosen.profile}"]
    if chosen.rows != rows():
        parts.append(f"--rows {' '.join(chosen.rows)}")
    if chosen.detectors != catalogue.names():
        parts.append(f"--detectors {' '.join(chosen.detectors)}")
    if chosen.seeds:
        parts.append(f"--seeds {' '.join(map(str, chosen.seeds))}")
    if chosen.loops != list(LOOPS):
        parts.append(f"--loops {' '.join(chosen.loops)}")
    if chosen.built_in:
        parts.append("--built-in")
    return " ".join(parts)


def main() -> None:
    chosen = arguments().parse_args()
    data = chosen.data if chosen.data.is_dir() and not chosen.built_in else None
    if data is None:
        why = "as told" if chosen.built_in else f"no folder {chosen.data.name} beside the checkout"
        print(f"built-in texts only ({why}): everything about real texts is skipped", file=sys.stderr)
    profile = PROFILES[chosen.profile]
    tasks = {
        task: [Cell(task, loop, name) for loop in chosen.loops for name in chosen.detectors]
        for seed in chosen.seeds or profile.seeds
        for row in chosen.rows
        for task in [Task(row, seed, profile, data)]
    }
    results = run(tasks, Cache(data), 0 if chosen.known else chosen.jobs)
    if not results:
        raise SystemExit("nothing is known yet")
    text = page(chosen, results, data, tasks)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.with_suffix(".md").write_text(text)
    chosen.output.with_suffix(".json").write_text(figures_of(chosen, results))
    print(f"written: {chosen.output.with_suffix('.md')}, {chosen.output.with_suffix('.json')}")


if __name__ == "__main__":
    main()
