"""Spans of the records in Kafka's record batches (format 2): many batches in one pass, no object per record.

Takes batches that are unpacked already and says only where things are. A strict fast path: any record that is not what
the format says, or offsets that do not rise, make it refuse all of them, and whoever called asks something slower that
knows why. Headers are walked over and not read. About 0.1 us a record.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from streamdetect.kernels.chunk import Bytes, Ints, Spans

_LONGEST_VARINT = 10  # bytes
_REFUSED = -1


@dataclass(frozen=True, slots=True)
class Batches:
    """n record batches without their headers, as spans of one buffer and columns ``int64[n]``.

    ``base_ms`` is the broker's time of all records of a batch where ``own_times`` is 0; where it is 1 each record says
    how much later than that it is.
    """

    data: Bytes
    start: Ints
    end: Ints
    records: Ints
    first_offset: Ints
    base_ms: Ints
    own_times: Ints


@dataclass(frozen=True, slots=True)
class Found:
    """Keys and values as spans of the buffer of the batches, offsets and times (ms) of their records, in order."""

    keys: Spans
    values: Spans
    offsets: Ints
    timestamps_ms: Ints


@njit(cache=True, nogil=True)
def _varint(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """The number written from ``position`` on and where it ends; -1 where there is none."""
    value, shift = np.uint64(0), np.uint64(0)
    for _ in range(_LONGEST_VARINT):
        if position >= end:
            return 0, _REFUSED
        byte = np.uint64(data[position])
        position += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            return int(np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1))), position
        shift += np.uint64(7)
    return 0, _REFUSED


@njit(cache=True, nogil=True)
def _part(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """Start and end of the bytes behind their length; start -1 for null, end -1 where they do not fit."""
    length, position = _varint(data, position, end)
    if position < 0 or length > end - position:
        return 0, _REFUSED
    return (-1, position) if length < 0 else (position, position + length)


@njit(cache=True, nogil=True)
def _headers_end(data: Bytes, position: int, end: int) -> int:
    """Where the headers end that begin at ``position``, -1 where they are none."""
    count, position = _varint(data, position, end)
    if position < 0 or count < 0 or count > end - position:
        return _REFUSED
    for _ in range(count):
        name, position = _part(data, position, end)
        if position < 0 or name < 0:
            return _REFUSED
        _, position = _part(data, position, end)
        if position < 0:
            return _REFUSED
    return int(position)


@njit(cache=True, nogil=True)
def find_records(
    data: Bytes, start: Ints, end: Ints, records: Ints, first_offset: Ints, base_ms: Ints, own_times: Ints,
    least_offset: int, key_start: Ints, key_end: Ints, value_start: Ints, value_end: Ints, offsets: Ints, stamps: Ints,
) -> int:  # fmt: skip
    """Fill the columns with the records from ``least_offset`` on; gives their number, or -1 where it refuses."""
    found, newest = 0, _REFUSED
    for batch in range(len(start)):
        position, stop = start[batch], end[batch]
        for _ in range(records[batch]):
            length, position = _varint(data, position, stop)
            if position < 0 or length < 1 or length > stop - position:
                return _REFUSED
            behind = position + length
            if data[position] & 0x80:  # attributes, which mean nothing: a byte here, more to others
                return _REFUSED
            later_ms, position = _varint(data, position + 1, behind)
            if position < 0:
                return _REFUSED
            later, position = _varint(data, position, behind)
            if position < 0:
                return _REFUSED
            key, key_stop = _part(data, position, behind)
            if key_stop < 0:
                return _REFUSED
            value, value_stop = _part(data, key_stop, behind)
            if value_stop < 0 or _headers_end(data, value_stop, behind) != behind:
                return _REFUSED
            position = behind
            if first_offset[batch] + later <= newest:
                return _REFUSED
            newest = first_offset[batch] + later
            if newest < least_offset:
                continue
            key_start[found], key_end[found] = key, key_stop if key >= 0 else -1
            value_start[found], value_end[found] = value, value_stop if value >= 0 else -1
            offsets[found] = newest
            stamps[found] = base_ms[batch] + own_times[batch] * later_ms
            found += 1
        if position != stop:
            return _REFUSED
    return found


def records_of(batches: Batches, least_offset: int) -> Found | None:
    """The records of the batches from ``least_offset`` on; ``None`` where they are not what the format says."""
    most = int(batches.records.sum())
    if most > len(batches.data):  # nobody makes room for what cannot be
        return None
    columns = np.empty((6, most), np.int64)
    found = find_records(
        batches.data, batches.start, batches.end, batches.records, batches.first_offset, batches.base_ms,
        batches.own_times, least_offset, *columns,
    )  # fmt: skip
    if found < 0:
        return None
    key_start, key_end, value_start, value_end, offsets, stamps_ms = columns[:, :found]
    return Found(Spans(key_start, key_end), Spans(value_start, value_end), offsets, stamps_ms)
