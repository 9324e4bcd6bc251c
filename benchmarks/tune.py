"""Parameters of the baselines, tried out on the fit half: other texts, other seeds, some of the scenarios.

Run as ``python benchmarks/tune.py [--data DIR]``; 20 minutes on two cores. Writes ``benchmarks/results/tuning.md``.
Chosen is what leaks least among the values with at most ``FALSE_MAX`` honest accounts denied per 100,000 account-days;
if none is as careful, the most careful. The choice is entered in ``baselines/thresholds.toml`` by hand, as ``fit``.
"""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from evaluate import DATA
from harness.cells import rounds_of, run_cell, traffic
from harness.plan import Cell, Profile, Task
from harness.summary import FALSE_RUNGS, Line, Rate, summarised
from measure import RESULTS
from rich.progress import track

FALSE_MAX = 200
PROFILE = Profile(
    name="tune", accounts=240, exchanges=40_000, days=2, seeds=(101,), background=2, honest=600, round_ms=300_000
)
ROWS = ("C2", "C4b", "C7", "C8", "C18", "L2", "L5", "L6", "L8", "L9", "L11")
GRID: dict[str, list[dict[str, Any]]] = {
    "velocity-tight": [
        {"limits": [{"scope": "account", "count": count, "window_ms": 86_400_000}]} for count in (20, 50, 100, 200, 400)
    ],
    "shared-address-young": [
        {"per_address": address, "per_subnet": subnet} for address, subnet in ((3, 10), (5, 20), (10, 50), (20, 100))
    ],
    "lsh-0.5": [{"accounts": accounts} for accounts in (5, 10, 20, 40, 80)],
    "lsh-0.7": [{"accounts": accounts} for accounts in (5, 10, 20, 40, 80)],
    "co-share": [
        {"texts": texts, "accounts": accounts} for texts, accounts in ((1, 5), (1, 20), (2, 3), (2, 10), (3, 5))
    ],
    "pooled-mmd": [
        {"prompts": prompts, "margin": margin} for prompts, margin in ((50, 3.0), (100, 3.0), (100, 10.0), (200, 3.0))
    ],
}


def work(task: Task) -> list[tuple[str, int, Line]]:
    """Every value of every baseline on one row."""
    found = []
    with TemporaryDirectory() as made:
        traffic(task, Path(made))
        rounds = rounds_of(Path(made), task.profile.round_ms)
        for name, values in GRID.items():
            for place, changes in enumerate(values):
                result = run_cell(Cell(task, "open", name), Path(made), rounds, **changes)
                (line,) = summarised([{"row": task.row, "detector": name, **result}])
                found.append((name, place, line))
    return found


def page(found: list[tuple[str, int, Line]], texts: str) -> str:
    """What every value came to, and which is chosen."""
    about = (
        f"`python benchmarks/tune.py`: {', '.join(ROWS)}, seed {PROFILE.seeds[0]}, {texts}, open loop. Mean leakage of"
        f" the campaigns, and false actions ({', '.join(FALSE_RUNGS)}) per 100,000 honest account-days. Chosen: what"
        f" leaks least with at most {FALSE_MAX}, else the most careful.\n"
    )
    head = "| baseline | parameters | mean leakage | false actions | chosen |\n| --- | --- | --- | --- | --- |"
    parts = ["# Tuning of the baselines\n", about, head]
    for name, values in GRID.items():
        figures = []
        for place in range(len(values)):
            lines = [line for baseline, index, line in found if (baseline, index) == (name, place)]
            leak = mean(line.leakage for line in lines if line.leakage is not None)
            false = Rate(0, 0)
            for line in lines:
                false += Rate(sum(line.false[rung].count for rung in FALSE_RUNGS), line.false["suspend"].days)
            figures.append((leak, false.value))
        careful = [place for place, (_, false) in enumerate(figures) if false <= FALSE_MAX]
        best = min(careful, key=lambda at: figures[at][0]) if careful else min(
            range(len(values)), key=lambda at: figures[at][1]
        )  # fmt: skip
        for place, (changes, (leak, false)) in enumerate(zip(values, figures, strict=True)):
            told = ", ".join(f"{key} {value}" for key, value in changes.items() if key != "limits")
            told = told or f"{changes['limits'][0]['count']} a day"
            parts.append(f"| {name} | {told} | {100 * leak:.1f} % | {false:.0f} | {'yes' if place == best else ''} |")
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    data = chosen.data if chosen.data.is_dir() else None
    tasks = [Task(row, seed, PROFILE, data, "fit") for row in ROWS for seed in PROFILE.seeds]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.jobs, mp_context=context) as pool:
        shown = track(pool.map(work, tasks), "rows", total=len(tasks), disable=not sys.stderr.isatty())
        found = [line for lines in shown for line in lines]
    text = page(found, "fit half of the texts in `../shared/data`" if data else "built-in texts")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tuning.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
