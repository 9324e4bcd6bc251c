"""``streamdetect replay``: the pipeline over files, without a broker."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamdetect.cli.grading import read_grading, read_passing, words
from streamdetect.cli.policy import read_policy
from streamdetect.cli.times import duration_ms, instant
from streamdetect.errors import BadDataError, UsageError
from streamdetect.replay.detectors import read_decisions
from streamdetect.replay.driver import Options, replay_files
from streamdetect.replay.report import what_was_read
from streamdetect.replay.sources import read_chunks, size_of


def replay(
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True)],
    output: Path,
    policy: Path | None = None,
    accounts: Path | None = None,
    mode: Literal["shadow", "live"] = "live",
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    lateness: str = "1h",
    labels: Path | None = None,
    closed_loop: Annotated[bool, Parameter(negative="")] = False,
    cover: Path | None = None,
    attack: Path | None = None,
    manifest: Path | None = None,
    reaction: Literal["none", "stop", "retry", "fail-over", "respawn", "change-template"] | None = None,
    passes: str | None = None,
    passes_after: str = "5m",
    seed: int = 0,
    decisions: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Run the detector over recorded events, as it would have run live. Nothing is sent anywhere.

    Parameters
    ----------
    inputs
        Files (.jsonl, .jsonl.gz, .parquet), or - for standard input. They are merged by event time.
    output
        Folder for decisions.jsonl, summary.json and report.html.
    policy
        Policy file; the shipped one without it.
    accounts
        Account records, one JSON object a line.
    mode
        What to decide as; replay hurts nobody, so live.
    from_
        First event time taken (RFC 3339 or ms).
    to
        Event time to stop before.
    lateness
        How far out of order events may be and still be sorted in.
    labels
        What is known of the accounts, one label a line: grade the decisions against it. What simulate wrote beside
        (cover traffic, manifest, templates) is read too.
    closed_loop
        With labels: what is denied never reaches the detector, limits thin, some people pass verifications, and
        attackers answer as the manifest says; without a manifest they stop.
    cover
        Exchanges of campaigns that are cover traffic, and so not planned ones.
    attack
        Templates of the campaigns' exchanges.
    manifest
        What simulate says of a run: how its campaigns answer refusals.
    reaction
        How all campaigns answer, instead of what the manifest says.
    passes
        Chances to pass a verification by label, such as legit=0.7,campaign=0.05,other_abuse=0.05,unlabelled=0.7.
    passes_after
        How long passing takes.
    seed
        Draws who can pass.
    decisions
        With labels: grade the decisions of this file, by whatever detector, instead of deciding.
    json
        Print the summary as JSON.
    """
    if not inputs:
        raise UsageError("replay needs at least one input file, or - for standard input")
    chosen = read_policy(policy)
    options = Options(mode=mode, from_ms=_at(from_), to_ms=_at(to), lateness_ms=duration_ms(lateness))
    for name in inputs:
        if name.startswith("--"):
            raise UsageError(f"replay has no option {name}; see streamdetect replay --help")
        if name != "-" and not Path(name).is_file():
            raise BadDataError(f"{name}: no such file")
    if labels is None and (closed_loop or cover or attack or manifest or reaction or passes or decisions):
        raise UsageError("grading and the closed loop need --labels")
    if not closed_loop and (attack or manifest or reaction or passes):
        raise UsageError("--attack, --manifest, --reaction and --passes are about the closed loop; add --closed-loop")
    if not 0 <= seed < 1 << 64:
        raise UsageError("--seed must be from 0 to 2**64 - 1")
    if closed_loop and decisions is not None:
        raise UsageError("--decisions were made already, so there is no loop to close")
    grading = None
    if labels is not None:
        grading = read_grading(
            labels, closed=closed_loop, cover=cover, attack=attack, manifest=manifest, reaction=reaction,
            passing=read_passing(passes, duration_ms(passes_after)), seed=seed,
        )  # fmt: skip
    recorded = None if decisions is None else read_decisions(str(decisions))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}") from None
    with _progress(size_of(list(inputs))) as advance:
        chunks = read_chunks(list(inputs), advance)
        summary = replay_files(
            chunks, output, chosen, options, accounts=accounts, grading=grading, recorded=recorded
        )  # fmt: skip
    _tell(summary, output, json=json)


def _at(text: str | None) -> int | None:
    return None if text is None else instant(text)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    columns = (TextColumn("replay"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda count: bar.advance(task, count)


def _tell(summary: dict[str, Any], output: Path, *, json: bool) -> None:
    if json:
        sys.stdout.write(orjson.dumps(summary).decode() + "\n")
        return
    decided = ", ".join(f"{count} {action}" for action, count in summary["decisions"].items() if count) or "none"
    speed = summary["events"] / max(summary["wall_seconds"], 1e-9)
    print(f"{what_was_read(summary)} in {summary['wall_seconds']:.1f} s ({speed:,.0f}/s)")
    print(f"decisions: {decided}")
    if summary["dead_letters"]:
        codes = ", ".join(f"{code} {count}" for code, count in summary["dead_letters_by_code"].items())
        print(f"dead letters: {codes}")
    if summary["out_of_order"]:
        print(f"{summary['out_of_order']:,} events were further out of order than --lateness; they joined late")
    for family in summary["evidence_families_off"]:
        print(f"no event says anything about {family}: that evidence is off")
    if "leakage" in summary:
        print("\n".join(words(summary)))
    print(f"written to {output}")
