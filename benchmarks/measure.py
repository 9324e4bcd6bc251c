"""What measures and reports: CPU of process trees from ``/proc``, the machine and its load, results as small JSON."""

import argparse
import datetime as dt
import faulthandler
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

faulthandler.enable()  # a crash in a compiled kernel or a client library should say where
RESULTS = Path(__file__).with_name("results")
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
        "load_1m": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks have in common."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/<date>-<what>.json")
    return parser


def report(what: str, found: dict[str, Any], *, save: bool, before: dict[str, Any]) -> None:
    """Print the result as JSON and, if asked, keep it. ``before`` is ``machine()`` as it was at the start."""
    found = {"benchmark": what, "machine": before, "load_1m_after": round(os.getloadavg()[0], 2), **found}
    text = json.dumps(found, indent=1)
    print(text)
    if save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{time.strftime('%Y-%m-%d', time.gmtime())}-{what}.json"
        path.write_text(text + "\n")
        print(f"written: {path.relative_to(Path(__file__).parent.parent)}")
