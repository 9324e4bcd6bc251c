"""``streamdetect simulate``: labelled traffic as files, or as request lines on standard output."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import orjson
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from streamdetect.errors import UsageError
from streamdetect.traffic.catalogue.background import BACKGROUND
from streamdetect.traffic.catalogue.model import as_data
from streamdetect.traffic.catalogue.names import CATALOGUE, named
from streamdetect.traffic.output import write_folder, write_stream
from streamdetect.traffic.simulation import DEFAULT_START_MS, Simulation, Spec
from streamdetect.traffic.split import Side

_STREAM: Final = "-"


def simulate(
    scenario: Annotated[str | None, Parameter(help="Names joined with +, such as C2+L5; --list shows them.")] = None,
    *,
    output: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help="Folder to write; - sends the requests to standard output."),
    ] = None,
    seed: Annotated[int | None, Parameter(help="Equal seeds give equal uncompressed bytes.")] = None,
    scale: Annotated[float, Parameter(help="Multiplies accounts and templates of each scenario.")] = 1.0,
    days: Annotated[float, Parameter(help="How long, in days.")] = 2.0,
    background: Annotated[
        float | None,
        Parameter(
            help="Honest accounts per campaign account, 2 unless told; per look-alike without a campaign, then 1."
        ),
    ] = None,
    start: Annotated[
        str | None, Parameter(help="RFC 3339 time or ms since 1970; 2026-01-05T00:00:00Z unless told.")
    ] = None,
    data: Annotated[
        Path | None,
        Parameter(help="Folder with real prompt texts, traces and routing tables, used instead of made-up ones."),
    ] = None,
    split: Annotated[
        Side | None, Parameter(help="Use one half of the families of --data: to fit on, or to report on.")
    ] = None,
    list_: Annotated[
        bool,
        Parameter(
            name="--list",
            negative="",
            help="Show the scenarios and stop; with names, or with --json, all their parameters.",
        ),
    ] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the figures as JSON.")] = False,
) -> None:
    """Write labelled traffic: campaigns and honest look-alikes among honest accounts.

    Leaves requests.jsonl.gz, labels.jsonl, manifest.json (parameters, counts, how attackers react) and the attackers'
    books in the output folder: attack.jsonl.gz (every exchange of a campaign), cover.jsonl.gz (those that are cover
    traffic) and spares.jsonl.gz (prompts of templates that a campaign keeps back).
    """
    if list_:
        _print_catalogue(scenario, json=json)
        return
    if scenario is None or output is None or seed is None:
        raise UsageError("simulate needs a scenario, --output and --seed; --list shows the scenarios")
    start_ms = DEFAULT_START_MS if start is None else _time_ms(start)
    began = time.perf_counter()
    spec = Spec(
        scenarios=scenario, seed=seed, scale=scale, days=days, background=background, start_ms=start_ms, data=data,
        split=split,
    )  # fmt: skip
    simulation = Simulation(spec)
    with _progress(start_ms, days) as on_batch:
        if output == _STREAM:
            _to_standard_output(simulation, on_batch)
            return
        manifest = _to_folder(simulation, Path(output), on_batch)
    _print_summary(manifest | {"wall_seconds": round(time.perf_counter() - began, 3)}, output, json=json)


def _to_folder(simulation: Simulation, folder: Path, on_batch: Callable[[int, int], None]) -> dict[str, object]:
    try:
        return write_folder(simulation, folder, on_batch=on_batch)
    except OSError as error:
        raise UsageError(f"--output {folder}: {error.strerror}") from error


def _to_standard_output(simulation: Simulation, on_batch: Callable[[int, int], None]) -> None:
    try:
        write_stream(simulation, sys.stdout.buffer, on_batch=on_batch)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The reader has seen enough. Python would complain again when it flushes at exit, so give it somewhere to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _progress(start_ms: int, days: float) -> Iterator[Callable[[int, int], None]]:
    """Show how far the simulated time has come, on standard error and only to a person."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _events, _time_ms: None
        return
    columns = TextColumn("simulated"), BarColumn(), TextColumn("{task.fields[events]:,} events"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("simulated", total=days * 86_400_000, events=0)
        yield lambda events, time_ms: progress.update(task, completed=time_ms - start_ms, events=events)


def _print_catalogue(names: str | None, *, json: bool) -> None:
    if names is None and not json:
        for scenario in CATALOGUE:
            print(f"{scenario.name:4} {scenario.accounts:>9,} accounts  {scenario.summary}")
        print("All parameters of some: streamdetect simulate C2+L5 --list")
        return
    shown = (*CATALOGUE, BACKGROUND) if names is None else named(names)
    rows = [as_data(scenario) | {"campaign": scenario.campaign} for scenario in shown]
    print(orjson.dumps(rows, option=0 if json else orjson.OPT_INDENT_2).decode())


def _print_summary(manifest: dict[str, object], output: str, *, json: bool) -> None:
    if json:
        print(orjson.dumps(manifest).decode())
        return
    print(f"{manifest['events']:,} events of {manifest['accounts']:,} accounts in {output}")
    cohorts = manifest["cohorts"]
    assert isinstance(cohorts, dict)
    for name, counts in cohorts.items():
        planned = f", {counts['planned_exchanges']:,} planned" if "planned_exchanges" in counts else ""
        print(
            f"  {name:11} {counts['label']:9} {counts['accounts']:>9,} accounts {counts['events']:>12,} events{planned}"
        )


def _time_ms(text: str) -> int:
    """Read an RFC 3339 time, or a whole number of ms since 1970."""
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--start {text!r} is neither RFC 3339 nor ms since 1970") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000
