"""The benchmarks still run: those in process on small sizes, the others as far as their imports."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {
    "bench_sketch.py": ("--prompts", "50"),
    "steps.py": ("--no-broker", "--events", "2000", "--runs", "1"),
    "memory.py": ("--accounts", "2000", "--days", "2", "--accounts-a-day", "2000"),
}

pytest.importorskip("confluent_kafka")


def suite():
    spec = importlib.util.spec_from_file_location("run", BENCHMARKS / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {program for _, program, _ in module.SUITE}


def run(program, *words):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / program), *words], capture_output=True, text=True, check=False, timeout=300
    )


def test_every_benchmark_is_part_of_the_whole_run():
    reporting = {path.name for path in BENCHMARKS.glob("*.py") if "    report(" in path.read_text()}
    assert reporting
    assert suite() == reporting


@pytest.mark.parametrize("program", sorted(SMALL))
def test_a_benchmark_in_process_prints_its_tables(program):
    done = run(program, *SMALL[program])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| ")
    assert "Not found" not in done.stdout  # a step that was renamed would be part of another one


@pytest.mark.parametrize("program", sorted(suite() - SMALL.keys()))
def test_a_benchmark_on_kafka_can_be_started(program):
    done = run(program, "--help")
    assert done.returncode == 0, done.stderr
    assert "--save" in done.stdout
