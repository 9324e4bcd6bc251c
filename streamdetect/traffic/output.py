"""A run as files: requests, labels, the attackers' books and a manifest in one folder, or the requests on a stream.

Compressed files carry no time and no name, and level 1. ISA-L compresses them to the size zlib would, in a fifth of the
time, and in a second thread.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self

import orjson
from isal import isal_zlib

from streamdetect.traffic.simulation import Simulation

REQUESTS: Final = "requests.jsonl.gz"
LABELS: Final = "labels.jsonl"
COVER: Final = "cover.jsonl.gz"
ATTACK: Final = "attack.jsonl.gz"
SPARES: Final = "spares.jsonl.gz"
MANIFEST: Final = "manifest.json"
_FILES: Final = {"requests": REQUESTS, "labels": LABELS, "cover": COVER, "attack": ATTACK, "spares": SPARES}
_LEVEL: Final = 1
_GZIP: Final = 31


class Sink(Protocol):
    """What requests can be written to."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take some bytes."""
        ...


class Compressed:
    """A gzip file that another thread compresses, one piece behind. Errors come with the next piece, or at the end."""

    def __init__(self, file: BinaryIO, thread: ThreadPoolExecutor) -> None:
        self._file, self._thread = file, thread
        self._compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
        self._pending: Future[None] | None = None

    def write(self, data: bytes | memoryview, /) -> None:
        """Take some bytes, after those before them are written."""
        self._wait()
        self._pending = self._thread.submit(self._compress, data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait()
        self._file.write(self._compressor.flush())

    def _compress(self, data: bytes | memoryview) -> None:
        self._file.write(self._compressor.compress(data))

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()


def write_folder(simulation: Simulation, folder: Path, *, on_batch: Callable[[int, int], None]) -> dict[str, object]:
    """Write a run's files and return its manifest.

    ``on_batch(events, time_ms)`` is told how many events have been written and the time of the last. Files of an
    earlier run are replaced; the manifest comes last, so a folder that has one is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    with ExitStack() as stack:
        thread = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        requests, cover, attack, spares = (
            stack.enter_context(Compressed(stack.enter_context((folder / name).open("wb")), thread))
            for name in (REQUESTS, COVER, ATTACK, SPARES)
        )
        write_stream(simulation, requests, cover=cover, attack=attack, on_batch=on_batch)
        for lines in simulation.spares():
            spares.write(lines)
    with (folder / LABELS).open("wb") as labels:
        labels.writelines(simulation.labels())
    manifest = simulation.manifest() | {"files": _FILES}
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return manifest


def write_stream(
    simulation: Simulation,
    requests: Sink,
    *,
    cover: Sink | None = None,
    attack: Sink | None = None,
    on_batch: Callable[[int, int], None],
) -> None:
    """Write a run's request lines to a stream, and the attackers' books to others if there are any."""
    events = 0
    for batch in simulation.batches():
        requests.write(batch.requests)
        if cover is not None:
            cover.write(batch.covers)
        if attack is not None:
            attack.write(batch.attack)
        events += batch.events
        on_batch(events, batch.last_ms)
