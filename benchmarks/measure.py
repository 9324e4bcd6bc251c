"""What measures and reports: CPU of process trees from ``/proc``, the machine and its load, results as tables.

A result is two files under ``results``: ``<what>.md`` for people and ``<what>.json`` with every run. They are written
anew each time; older ones are in the history of the repository.
"""

import argparse
import datetime as dt
import faulthandler
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

faulthandler.enable()  # a crash in a compiled kernel or a client library should say where
HERE = Path(__file__).parent
RESULTS = HERE / "results"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PACKAGES = ("streamdetect", "faust-streaming", "aiokafka", "datasketch", "numpy", "numba", "msgspec", "orjson")


def tree_of(pid: int) -> list[int]:
    """``pid`` and all its descendants that live now."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def cpu_s(pid: int) -> float:
    """User and system seconds of a process tree, children that ended and were waited for included."""
    total = 0
    for one in tree_of(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total * _TICK_S


def memory_mb(pid: int | str = "self", field: str = "VmHWM") -> float:
    """Peak (``VmHWM``) or present (``VmRSS``) memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def machine() -> dict[str, Any]:
    """Where and under what load a measurement runs, and with which versions."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "load_1m": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
    }


def _commit() -> str:
    """The commit measured; ``+`` when files differ from it."""
    asked = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def middle(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over several runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a result. The first column names what its row is about."""

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    note: str = ""

    def text(self) -> str:
        """As Markdown, padded so that it reads as plain text too."""
        cells = [self.columns, *(tuple(_shown(value) for value in row) for row in self.rows)]
        widths = [max(len(row[place]) for row in cells) for place in range(len(self.columns))]
        lines = ["| " + " | ".join(_padded(row, widths)) + " |" for row in cells]
        rule = "|" + "|".join("-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)) + "|"
        return "\n".join([lines[0], rule, *lines[1:], *(["", self.note] if self.note else [])])


def _padded(row: Sequence[str], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks have in common; told to end, they end what they have started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/<what>.md and .json")
    return parser


def report(what: str, doc: str | None, found: dict[str, Any], tables: Sequence[Table], *, save: bool) -> None:
    """Print the tables and, if asked, keep them and everything in ``found``.

    ``found["machine"]`` is ``machine()`` as it was at the start.
    """
    found = {"benchmark": what, "command": _command(), **found, "load_1m_after": round(os.getloadavg()[0], 2)}
    body = "\n\n".join(table.text() for table in tables)
    print(body)
    if not save:
        return
    RESULTS.mkdir(exist_ok=True)
    title, _, rest = (doc or "").strip().partition("\n\n")
    text = f"# {what}\n\n{' '.join(title.split())}\n\n{_where(found)}\n\n{body}\n\n{rest.strip()}".rstrip() + "\n"
    (RESULTS / f"{what}.md").write_text(text)
    (RESULTS / f"{what}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {(RESULTS / what).relative_to(HERE.parent)}.md and .json")


def _command() -> str:
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def _where(found: dict[str, Any]) -> str:
    at = found["machine"]
    names = ", ".join(f"{name} {version}" for name, version in at["versions"].items())
    kafka = f" Kafka: {found['kafka']}." if "kafka" in found else ""
    return (
        f"Measured {at['at']} at commit {at['commit']} by `{found['command']}`: {at['cpu']}, {at['cores']} cores, "
        f"{at['memory_gb']} GB, {at['system']}, load before and after {at['load_1m']} and {found['load_1m_after']}. "
        f"Python {at['python']}, {names}.{kafka}"
    )
