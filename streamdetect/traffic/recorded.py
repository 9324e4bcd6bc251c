"""Laws taken from recorded traffic: lengths of replies, pauses of agents, hours of applications.

Each is a table of quantiles or weights in whole numbers, so that runs stay the same everywhere. A folder may hold any
of the traces; of what it lacks, the simulator's own laws are used.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from streamdetect.errors import BadDataError
from streamdetect.traffic.draws import Integers

_STEPS: Final = 4096
_PAUSE_MAX_MS: Final = 3_600_000
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """Laws of recorded traffic, where there are any."""

    chat_replies: Integers | None = None  # tokens
    agent_replies: Integers | None = None
    agent_pauses_ms: Integers | None = None
    program_hours: Integers | None = None  # weights of the hours of a day


def read_traces(folder: Path) -> Recorded:
    """Return the laws of a folder of traces. Raises ``BadDataError`` for a file that cannot be read."""
    return Recorded(
        chat_replies=_quantiles(folder / "azure_conv.csv.gz", lambda row: int(row["generated_tokens"])),
        agent_replies=_quantiles(folder / "azure_code.csv.gz", lambda row: int(row["generated_tokens"])),
        agent_pauses_ms=_quantiles(folder / "agent_runs_0001-0400.csv.gz", _pause_ms),
        program_hours=_hours(folder / "servegen_m-small.csv.gz"),
    )


def _pause_ms(row: dict[str, str]) -> int:
    if row["type"] not in ("n", "s"):
        return 0
    return min(_PAUSE_MAX_MS, round(1000 * (float(row["api_time_s"] or 0) + float(row["think_time_s"] or 0))))


def _quantiles(path: Path, value: Callable[[dict[str, str]], int]) -> Integers | None:
    """Return evenly spaced quantiles of the positive values of a file, if there is one."""
    if not path.exists():
        return None
    values = np.sort(np.array([number for row in _rows(path) if (number := value(row)) > 0], np.int64))
    if not len(values):
        raise BadDataError(f"{path}: holds no values")
    return values[(2 * np.arange(_STEPS) + 1) * len(values) // (2 * _STEPS)]


def _hours(path: Path) -> Integers | None:
    """Return the requests of each hour of a day, in thousandths of the day's, at least 1."""
    if not path.exists():
        return None
    requests = [0] * 24
    for row in _rows(path):
        requests[int(float(row["window_start_s"])) // 3600 % 24] += round(float(row["rate_rps"]) * _NANO)
    total = max(1, sum(requests))
    return np.array([max(1, 1000 * count // total) for count in requests], np.int64)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        raise BadDataError(f"{path}: cannot be read as a gzipped table ({type(error).__name__})") from error
