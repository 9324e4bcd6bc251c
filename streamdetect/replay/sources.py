"""History as chunks: JSON lines (plain, gzip, standard input) and Parquet, in pieces of a few megabytes.

A line is a span of the block it was read in; nothing is decoded here. Memory is one block, whatever the file's size.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
import orjson
from isal import igzip, isal_zlib

from streamdetect.errors import BadDataError
from streamdetect.kernels.chunk import Chunk, Spans, chunk_of

BLOCK_BYTES = 4 << 20
LINE_BYTES_MAX = 16 << 20
_NEWLINE = 10
_PARQUET_ROWS = 10_000
# What is typed as an instance in the stubs of isal is a class.
_UNREADABLE: Final = (OSError, EOFError, cast("type[Exception]", isal_zlib.IsalError))

Progress = Callable[[int], None]  # called with the number of input bytes read since the last call


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def size_of(inputs: list[str]) -> int | None:
    """Bytes on disk of all inputs, ``None`` when standard input is among them."""
    return None if "-" in inputs else sum(Path(name).stat().st_size for name in inputs)


def read_chunks(inputs: list[str], progress: Progress = lambda _count: None) -> Iterator[Chunk]:
    """Chunks of each input in turn. Raises ``BadDataError`` for a file that is missing, torn or of another kind."""
    for partition, name in enumerate(inputs):
        try:
            if name == "-":
                yield from _lines("standard input", partition, sys.stdin.buffer, progress, lambda: None)
            elif name.endswith(".parquet"):
                yield from _parquet(name, partition, progress)
            elif name.endswith((".jsonl", ".jsonl.gz", ".json", ".ndjson", ".gz")):
                yield from _file(name, partition, progress)
            else:
                raise BadDataError(f"{name}: expected .jsonl, .jsonl.gz or .parquet, or - for standard input")
        except _UNREADABLE as error:
            raise BadDataError(f"{name}: {error}") from error


def _file(name: str, partition: int, progress: Progress) -> Iterator[Chunk]:
    with ExitStack() as open_files:
        raw = open_files.enter_context(Path(name).open("rb"))
        packed = name.endswith(".gz")
        stream: _Readable = open_files.enter_context(igzip.IGzipFile(fileobj=raw)) if packed else raw
        yield from _lines(name, partition, stream, progress, raw.tell)


def _lines(
    name: str, partition: int, stream: _Readable, progress: Progress, tell: Callable[[], int | None]
) -> Iterator[Chunk]:
    """Blocks of whole lines; a last line without an end counts, empty lines do not."""
    rest, offset, told = b"", 0, 0
    while True:
        block = stream.read(BLOCK_BYTES)
        position = tell()
        if position is not None:
            progress(position - told)
            told = position
        data = rest + block
        cut = data.rfind(b"\n") + 1 if block else len(data)
        rest = data[cut:]
        if len(rest) > LINE_BYTES_MAX:
            raise BadDataError(f"{name}: a line is longer than {LINE_BYTES_MAX} bytes")
        if cut:
            chunk = _chunk_of_lines(name, partition, data[:cut], offset)
            offset += len(chunk)
            if len(chunk):
                yield chunk
        if not block:
            return


def _chunk_of_lines(name: str, partition: int, data: bytes, first_offset: int) -> Chunk:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    full = ends > starts
    starts, ends = starts[full], ends[full]
    absent = np.full(len(starts), -1, np.int64)
    offsets = np.arange(first_offset, first_offset + len(starts))
    return Chunk(name, partition, data, Spans(starts, ends), Spans(absent, absent), offsets, absent)


def _parquet(name: str, partition: int, progress: Progress) -> Iterator[Chunk]:
    """Rows as JSON, so that they pass the same gate as every other input; nulls are absent fields."""
    from pyarrow import parquet  # noqa: PLC0415  # an extra, and slow to import
    from pyarrow.lib import ArrowException  # noqa: PLC0415

    try:
        with parquet.ParquetFile(name) as table:
            offset = 0
            for batch in table.iter_batches(_PARQUET_ROWS):
                rows = [orjson.dumps(row) for row in batch.to_pylist()]
                yield chunk_of(name, partition, rows, offsets=np.arange(offset, offset + len(rows)))
                offset += len(rows)
            progress(Path(name).stat().st_size)
    except ArrowException as error:
        raise BadDataError(f"{name}: {error}") from error
