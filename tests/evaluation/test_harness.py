"""The evaluation harness: cells run, are kept, add up over seeds, and a page shows where the product is worse."""

import dataclasses

import pytest
from harness.cache import Cache
from harness.cells import run_task
from harness.plan import LOOPS, QUICK, Cell, Profile, Task, rows
from harness.summary import Rate, summarised
from harness.table import document

TINY = Profile(
    name="tiny", accounts=60, exchanges=10_000, days=1, seeds=(1,), background=1, honest=60, round_ms=600_000
)


@pytest.fixture(scope="module")
def results():
    task = Task("C2", 1, TINY, None)
    cells = [Cell(task, loop, name) for loop in LOOPS for name in ("shipped", "lsh-0.5", "velocity")]
    again = Cell(task, "open", "shipped")
    every = [
        {"row": "C2", "seed": 1, "loop": cell.loop, "detector": cell.detector, **result}
        for cell, result in run_task(task, [*cells, again])
    ]
    found = {(result["loop"], result["detector"]): result for result in every[:-1]}
    assert every[-1]["figures"] == found["open", "shipped"]["figures"], "a run changed what later ones saw"
    return found


def test_detectors_see_the_same_traffic_and_differ_in_what_they_find(results):
    opened = {name: result for (loop, name), result in results.items() if loop == "open"}
    assert len({result["events"] for result in opened.values()}) == 1
    leakage = {name: result["figures"]["leakage"] for name, result in opened.items()}
    assert leakage["velocity"] == 1.0
    assert leakage["lsh-0.5"] < 0.5
    assert leakage["shipped"] < 0.5


def test_what_is_denied_does_not_reach_a_detector_in_the_closed_loop(results):
    assert results["closed", "lsh-0.5"]["events"] < results["open", "lsh-0.5"]["events"]
    assert results["closed", "velocity"]["events"] == results["open", "velocity"]["events"]


def test_lines_add_up_over_seeds(results):
    one = results["open", "lsh-0.5"]
    other = {**one, "seed": 2}

    (line,) = summarised([one])
    (both,) = summarised([one, other])

    assert both.leakage == pytest.approx(line.leakage)
    assert both.false["suspend"] == line.false["suspend"] + line.false["suspend"]
    assert both.per_account == line.per_account


def test_a_page_names_what_is_worse(results):
    lines = summarised([results["open", "shipped"], results["open", "lsh-0.5"]])
    shipped, other = (dataclasses.replace(line, leakage=leak) for line, leak in zip(lines, (0.4, 0.1), strict=True))

    text = document("Title", [], [shipped, other], [], {"shipped": 1.0, "lsh-0.5": 2.0}, ["nothing"])
    equal = document(
        "Title", [], [shipped, dataclasses.replace(other, leakage=0.4)], [], {"shipped": 1, "lsh-0.5": 2}, []
    )

    assert "| C2 | leakage | 40 % | lsh-0.5 10 % |" in text
    assert "- nothing" in text
    assert "Nowhere." in equal


def test_rates_have_their_intervals():
    assert Rate(0, 300_000).bounds == (0.0, pytest.approx(1.23, abs=0.01))
    assert Rate(3, 300_000).value == pytest.approx(1.0)
    assert Rate(0, 0).value == 0.0


def test_results_are_kept_by_cell(tmp_path, results):
    cache, task = Cache(None, tmp_path), Task("C2", 1, TINY, None)
    cell = Cell(task, "open", "lsh-0.5")

    assert cache.get(cell) is None
    cache.put(cell, results["open", "lsh-0.5"])

    assert cache.get(cell) == results["open", "lsh-0.5"]
    assert cache.get(dataclasses.replace(cell, loop="closed")) is None
    assert cache.get(Cell(dataclasses.replace(task, seed=2), "open", "lsh-0.5")) is None
    assert (
        cache.get(Cell(dataclasses.replace(task, profile=dataclasses.replace(TINY, days=2)), "open", "lsh-0.5")) is None
    )


def test_every_scenario_is_a_row_small_enough_to_run():
    quick = [Task(row, 1, QUICK, None) for row in rows()]
    assert {"C2", "C4d", "C22", "L1", "L14"} <= {task.row for task in quick}
    for task in quick:
        accounts = [task.scale * scenario.accounts for scenario in task.scenarios]
        assert 0 < task.scale <= 1
        assert max(accounts) <= QUICK.accounts
        assert task.background * max(accounts) >= min(QUICK.honest, QUICK.background * max(accounts))
