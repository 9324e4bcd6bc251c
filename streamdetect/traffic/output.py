"""A run as files: requests, labels, cover traffic and a manifest in one folder, or the requests on a stream.

Compressed files carry no time and no name, and level 1, since writing is bound by compression.
"""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import orjson

from streamdetect.traffic.simulation import Simulation

REQUESTS: Final = "requests.jsonl.gz"
LABELS: Final = "labels.jsonl"
COVER: Final = "cover.jsonl.gz"
MANIFEST: Final = "manifest.json"
_LEVEL: Final = 1


class Sink(Protocol):
    """What requests can be written to."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes."""
        ...


def write_folder(simulation: Simulation, folder: Path, *, on_batch: Callable[[int, int], None]) -> dict[str, object]:
    """Write a run's files and return its manifest.

    ``on_batch(events, time_ms)`` is told how many events have been written and the time of the last. Files of an
    earlier run are replaced; the manifest comes last, so a folder that has one is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    with (
        (folder / REQUESTS).open("wb") as raw,
        (folder / COVER).open("wb") as raw_cover,
        gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as requests,
        gzip.GzipFile("", "wb", _LEVEL, raw_cover, mtime=0) as cover,
    ):
        write_stream(simulation, requests, cover=cover, on_batch=on_batch)
    with (folder / LABELS).open("wb") as labels:
        labels.writelines(simulation.labels())
    manifest = simulation.manifest()
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return manifest


def write_stream(
    simulation: Simulation, requests: Sink, *, cover: Sink | None = None, on_batch: Callable[[int, int], None]
) -> None:
    """Write a run's request lines to a stream, and its cover traffic to another if there is one."""
    events = 0
    for batch in simulation.batches():
        requests.write(b"".join(batch.lines))
        if cover is not None:
            cover.write(b"".join(batch.cover))
        events += len(batch.lines)
        on_batch(events, orjson.loads(batch.lines[-1])["occurred_at"])
