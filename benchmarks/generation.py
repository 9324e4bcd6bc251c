"""Events a second and core of ``streamdetect simulate``, made-up and real texts; bytes an event and an account-day.

Each run is the command in a process of its own: ``pipe`` writes plain lines to a pipe whose reader keeps nothing,
``folder`` compressed files as ``--output DIR`` leaves them. CPU is user and system time of the process, the thread that
compresses included; a run of a minute of event time says what of it is the start. An account-day is a UTC day on which
an account sent something. Real texts are those of ``--data``, if the folder is there.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from measure import Table, arguments, machine, report

ROOT: Final = Path(__file__).parents[1]
DATA: Final = ROOT.parent / "shared" / "data"
SCENARIO: Final = "C2"
_SEED: Final = 1
_START: Final = ("--scale", "0.001", "--days", "0.001")
_DAY_MS: Final = 86_400_000
_MILLION: Final = 1_000_000
_READ: Final = 1 << 20
_WHO: Final = re.compile(rb'"occurred_at":(\d+),"account_id":"([^"]+)"')


def command(output: str, size: list[str], data: Path | None) -> list[str]:
    """The command as a user would type it."""
    texts = [] if data is None else ["--data", str(data)]
    return [sys.executable, "-m", "streamdetect", "simulate", SCENARIO, "--seed", str(_SEED), *size, *texts,
            "--output", output]  # fmt: skip


def finished(process: subprocess.Popen[bytes], began: float) -> dict[str, float]:
    """Wait for a process: CPU and wall seconds, peak memory."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"simulate ended with {process.returncode}")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - began,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def piped(size: list[str], data: Path | None, *, count: bool = False) -> dict[str, float]:
    """One run into a pipe. ``count`` looks into the lines, which is not the measured process's time."""
    began = time.perf_counter()
    process = subprocess.Popen(command("-", size, data), stdout=subprocess.PIPE, cwd=ROOT)
    total, events, seen = 0, 0, set[tuple[int, bytes]]()
    for piece in _pieces(process):
        total += len(piece)
        if count:
            found = _WHO.findall(piece)
            events += len(found)
            seen.update((int(at) // _DAY_MS, account) for at, account in found)
    done = finished(process, began) | {"bytes": total}
    return done | {"events": events, "account_days": len(seen)} if count else done


def _pieces(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What comes out of a pipe, in pieces of whole lines."""
    assert process.stdout is not None
    rest = b""
    while piece := process.stdout.read(_READ):
        whole, newline, after = piece.rpartition(b"\n")
        if not newline:
            rest += piece
            continue
        yield rest + whole + newline
        rest = after
    process.stdout.close()


def foldered(size: list[str], data: Path | None) -> dict[str, float]:
    """One run into a folder."""
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        asked = command(folder, size, data)
        done = finished(subprocess.Popen(asked, stdout=subprocess.DEVNULL, cwd=ROOT), began)
        sizes = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
        return done | {"bytes": sizes["requests.jsonl.gz"], "all_bytes": sum(sizes.values())}


def measured(size: list[str], data: Path | None, repeats: int) -> dict[str, Any]:
    """All runs with one kind of texts."""
    small = list(_START)
    piped(small, data), foldered(small, data)  # compiles kernels that are not cached yet
    counted = piped(size, data, count=True)
    runs: dict[str, list[dict[str, float]]] = {"start": [], "pipe": [], "folder": []}
    for _ in range(repeats):
        runs["start"].append(piped(small, data))
        runs["pipe"].append(piped(size, data))
        runs["folder"].append(foldered(size, data))
    return {"events": counted["events"], "account_days": counted["account_days"], "runs": runs}


def _median(found: dict[str, Any], where: str, name: str) -> float:
    return statistics.median(run[name] for run in found["runs"][where])


def _speeds(found: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for texts, one in found.items():
        start_s = _median(one, "start", "cpu_s")
        for where in ("pipe", "folder"):
            cpu_s = _median(one, where, "cpu_s")
            rows.append(
                (
                    f"{texts}, {where}", one["events"], cpu_s, start_s, round(one["events"] / cpu_s),
                    round(one["events"] / max(0.01, cpu_s - start_s)), _median(one, where, "wall_s"),
                    _median(one, where, "peak_mb"),
                )
            )  # fmt: skip
    columns = ("texts, output", "events", "CPU s", "of them start", "events/s of one core", "without start", "wall s",
               "peak MB")  # fmt: skip
    return Table(columns, rows)


def _sizes(found: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for texts, one in found.items():
        days = one["account_days"]
        for name, where, what in (("plain", "pipe", "bytes"), ("gzip", "folder", "bytes")):
            size = _median(one, where, what)
            each = size / days
            rows.append((f"{texts}, {name}", size / one["events"], one["events"] / days, each, each * _MILLION / 2**30))
    note = "Labels, cover and the attackers' books, gzipped like the requests, come on top: " + ", ".join(
        f"{_beside(one):.1f} % ({texts})" for texts, one in found.items()
    )
    columns = ("texts, requests", "bytes an event", "events an account-day", "bytes an account-day",
               "GiB of 1 M account-days")  # fmt: skip
    return Table(columns, rows, note + ".")


def _beside(one: dict[str, Any]) -> float:
    requests = _median(one, "folder", "bytes")
    return 100 * (_median(one, "folder", "all_bytes") - requests) / requests


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--scale", type=float, default=0.3, help=f"of {SCENARIO} and of its honest accounts")
    parser.add_argument("--days", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real texts; skipped when it is not there")
    chosen = parser.parse_args()
    size = ["--scale", str(chosen.scale), "--days", str(chosen.days)]
    at = machine()
    found = {"made-up": measured(size, None, chosen.repeats)}
    if chosen.data.is_dir():
        found["real"] = measured(size, chosen.data, chosen.repeats)
    else:
        print(f"no folder {chosen.data.name} beside the checkout: made-up texts only", file=sys.stderr)
    shown = {"machine": at, "scenario": SCENARIO, "scale": chosen.scale, "days": chosen.days, "texts": found}
    report("generation", __doc__, shown, [_speeds(found), _sizes(found)], save=chosen.save)


if __name__ == "__main__":
    main()
