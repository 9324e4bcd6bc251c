"""What a broker answered for one partition, as one chunk: aiokafka's records without an object for each.

aiokafka makes three objects of every record, which cost more than reading it, decoding and windows included. Here its
``Fetcher`` keeps the bytes of an answer, and what it hands out of a hot topic is one ``Chunk``. A strict fast path:
legacy formats, transactions read as committed, missing codecs, wrong checksums and whatever is damaged go the stock
way, which skips, raises or waits as it always did. One difference: names of headers need not be valid UTF-8, for
nobody reads them; aiokafka would never get past such a record.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from aiokafka import codec
from aiokafka.consumer import fetcher as stock
from aiokafka.record.util import calc_crc32c

from streamdetect.kernels.chunk import Chunk
from streamdetect.kernels.kafka_records import Batches, records_of

# base offset, length of what follows, leader epoch, format, checksum | attributes, last offset, first and newest time,
# producer, its epoch, its sequence, records
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
# How long an answer that nobody takes, of a partition held back, keeps a broker from being asked for its others.
_UNTAKEN_S: Final = 0.02
_BEFORE_LENGTH_ENDS, _CHECKED_FROM, _FORMAT = 12, 21, 2
_CODEC, _BROKER_TIME, _CONTROL = 0x07, 0x08, 0x20
_UNPACKED: Final[dict[int, Callable[[bytes], bytes]]] = {
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}


class _KeptRecords(stock.MemoryRecords):  # type: ignore[misc]  # declared final, but only for type checkers
    """aiokafka's records of one answer, which remember their bytes."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.raw = raw


stock.MemoryRecords = _KeptRecords  # type: ignore[misc]  # no way to tell a Fetcher; all else they do is stock


class _WholeRecords:
    """Stands in for aiokafka's ``PartitionRecords``, but gives what it has as one chunk."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self._given = self._give()

    @property
    def next_fetch_offset(self) -> int:
        """Where the next fetch begins."""
        return int(self._records.next_fetch_offset)

    def __iter__(self) -> Iterator[Any]:
        return self._given

    def __next__(self) -> Any:
        return next(self._given)

    def _give(self) -> Iterator[Any]:
        records = self._records
        read = None
        if records._isolation_level != stock.READ_COMMITTED:  # noqa: SLF001  # no public way to any of them
            tp, kept = records._tp, records._records  # noqa: SLF001
            read = chunk_of_answer(tp.topic, tp.partition, kept.raw, self.next_fetch_offset, records._check_crcs)  # noqa: SLF001
        if read is None:
            yield from records
            return
        chunk, records.next_fetch_offset = read
        if len(chunk):
            yield chunk


class _Answers(OrderedDict[Any, Any]):
    """What a fetcher has and nobody asked for yet; that of hot topics is given whole."""

    def __init__(self, hot: frozenset[str]) -> None:
        super().__init__()
        self._hot = hot

    def __setitem__(self, tp: Any, answer: Any) -> None:
        if tp.topic in self._hot and isinstance(answer, stock.FetchResult):
            answer._partition_records = _WholeRecords(answer._partition_records)  # noqa: SLF001
        super().__setitem__(tp, answer)


def give_whole(fetcher: Any, hot: frozenset[str]) -> None:
    """Make a fetcher hand out hot topics as chunks, from the next answer on."""
    if not isinstance(fetcher._records, _Answers):  # noqa: SLF001
        answers = _Answers(hot)
        answers.update(fetcher._records)  # noqa: SLF001
        fetcher._records = answers  # noqa: SLF001
        fetcher._prefetch_backoff = _UNTAKEN_S  # noqa: SLF001


def chunk_of_answer(
    topic: str, partition: int, raw: bytes, first_offset: int, check_sums: bool
) -> tuple[Chunk, int] | None:
    """The records of an answer from ``first_offset`` on, and the offset behind them; ``None`` if it is not plain."""
    columns: list[tuple[int, int, int, int, int]] = []
    parts: list[bytes] = []
    position, next_offset, filled = 0, first_offset, 0
    while position + _HEADER.size <= len(raw):
        base, length, _, form, checksum, attributes, last, first_ms, newest_ms, _, _, _, records = _HEADER.unpack_from(
            raw, position
        )
        end = position + _BEFORE_LENGTH_ENDS + length
        if end > len(raw):
            break  # the broker cut it off; it comes again
        if form != _FORMAT or end < position + _HEADER.size or records < 0 or base + last < next_offset:
            return None
        if check_sums and calc_crc32c(raw[position + _CHECKED_FROM : end]) != checksum:
            return None
        if not attributes & _CONTROL:
            part = _unpacked(raw[position + _HEADER.size : end], attributes & _CODEC)
            if part is None:
                return None
            base_ms, own = (newest_ms, 0) if attributes & _BROKER_TIME else (first_ms, 1)
            columns.append((len(part), records, base, base_ms, own))
            parts.append(part)
            filled += len(part)
        position, next_offset = end, base + last + 1
    if position + _BEFORE_LENGTH_ENDS <= len(raw) and not _is_cut_off(raw, position):
        return None
    buffer = parts[0] if len(parts) == 1 else b"".join(parts)
    lengths, counts, bases, bases_ms, own_times = np.array(columns, np.int64).reshape(-1, 5).T.copy()
    ends = np.cumsum(lengths)
    found = records_of(
        Batches(np.frombuffer(buffer, np.uint8), ends - lengths, ends, counts, bases, bases_ms, own_times), first_offset
    )
    if found is None:
        return None
    return Chunk(topic, partition, buffer, found.values, found.keys, found.offsets, found.timestamps_ms), next_offset


def _is_cut_off(raw: bytes, position: int) -> bool:
    """Whether the last batch is longer than what came of it."""
    (length,) = struct.unpack_from(">i", raw, position + 8)
    return bool(position + _BEFORE_LENGTH_ENDS + length > len(raw))


def _unpacked(data: bytes, number: int) -> bytes | None:
    """The records of a batch as they were before they were compressed, ``None`` where that is not known here."""
    if not number:
        return data
    unpack = _UNPACKED.get(number)
    if unpack is None:
        return None
    try:
        return unpack(data)
    except Exception:  # noqa: BLE001  # of whichever library unpacks: the stock way meets it again, and tells
        return None
