"""Spans of the fields of flat JSON objects: many records in one pass over their bytes, no object per record or field.

A strict fast path and no parser: an object with string, integer, null and boolean values, written as RFC 8259 has it,
is scanned; whatever else comes (nesting, fractions, exponents, negative numbers, a value of another type or out of its
field's bounds, invalid UTF-8) makes the record *refused*, and whoever called asks something slower that knows why.
Of repeated names the last counts. About 1 us for 900 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Bytes, Ints
from streamdetect.kernels.json_strings import end_of_string, unescape

ABSENT: Final = -1


class FieldKind(IntEnum):
    """What may stand in a field, and what is kept of it. Null is absent everywhere."""

    NEVER = 0  # present and not null: refused
    TEXT = 1  # any string, kept, cut to ``most`` bytes at the end of a character
    NAME = 2  # a string without escapes of ``least`` to ``most`` bytes, kept; empty is absent where ``least`` is 0
    STRING = 3  # a string of at most ``most`` bytes as written, not kept
    NUMBER = 4  # an integer from ``least`` to ``most``, kept
    INTEGER = 5  # an integer from ``least`` to ``most``, not kept


@dataclass(frozen=True, slots=True)
class Field:
    """One known field. ``slot`` is its row among the kept strings or numbers."""

    name: str
    kind: FieldKind
    least: int = 0
    most: int = 2**62
    slot: int = -1


class FieldTable:
    """Known fields in the form the kernel reads: names by hash, and a column of each property."""

    __slots__ = ("kinds", "least", "most", "name_end", "name_start", "names", "numbers", "places", "slots", "strings")

    def __init__(self, fields: Sequence[Field]) -> None:
        raw = [field.name.encode("ascii") for field in fields]
        ends = np.cumsum([len(name) for name in raw])
        self.names = np.frombuffer(b"".join(raw), np.uint8)
        self.name_start, self.name_end = ends - [len(name) for name in raw], ends
        self.kinds = np.array([field.kind for field in fields], np.uint8)
        self.slots = np.array([field.slot for field in fields], np.int64)
        self.least = np.array([field.least for field in fields], np.int64)
        self.most = np.array([field.most for field in fields], np.int64)
        self.strings = 1 + max((f.slot for f in fields if f.kind in (FieldKind.TEXT, FieldKind.NAME)), default=-1)
        self.numbers = 1 + max((f.slot for f in fields if f.kind == FieldKind.NUMBER), default=-1)
        self.places = np.full(1 << (4 * len(fields)).bit_length(), -1, np.int16)
        for index, (start, end) in enumerate(zip(self.name_start, self.name_end, strict=True)):
            place = int(_name_hash(self.names, start, end)) & (len(self.places) - 1)
            while self.places[place] >= 0:
                place = (place + 1) & (len(self.places) - 1)
            self.places[place] = index


@dataclass(frozen=True, slots=True)
class Scanned:
    """What was found in n records.

    ``taken`` bool[n]: not refused. ``start``, ``end`` int64[strings, n]: spans into ``buffer``, -1 absent. ``numbers``
    int64[numbers, n], -1 absent. Of refused records they say nothing.
    """

    taken: NDArray[np.bool_]
    buffer: Bytes
    start: Ints
    end: Ints
    numbers: Ints


_NEVER, _TEXT, _NAME, _STRING, _NUMBER = (int(kind) for kind in list(FieldKind)[:5])
_DIGITS_MAX = 18  # of an int64, whatever they are
_SPACE, _TAB, _LINE, _RETURN = 0x20, 0x09, 0x0A, 0x0D
_OPEN, _CLOSE, _COMMA, _COLON, _MARK, _BACKSLASH = (ord(mark) for mark in '{},:"\\')
_ZERO, _NINE, _LETTER_N, _LETTER_T, _LETTER_F = (ord(mark) for mark in "09ntf")
_NULL, _TRUE, _FALSE = (int.from_bytes(word, "big") for word in (b"null", b"true", b"false"))
_FNV_OFFSET, _FNV_PRIME = np.uint32(0x811C9DC5), np.uint32(0x01000193)


@njit(cache=True, nogil=True)
def _name_hash(data: Bytes, start: int, end: int) -> np.uint32:
    state = _FNV_OFFSET
    for position in range(start, end):
        state = np.uint32(np.uint32(state ^ np.uint32(data[position])) * _FNV_PRIME)
    return np.uint32(state ^ (state >> np.uint32(15)))


@njit(cache=True, nogil=True)
def _is_space(byte: int) -> bool:
    return byte in (_SPACE, _LINE, _RETURN, _TAB)


@njit(cache=True, nogil=True)
def _skip_space(data: Bytes, position: int, end: int) -> int:
    while position < end and _is_space(data[position]):
        position += 1
    return position


@njit(cache=True, nogil=True)
def _integer(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """A number without sign, fraction and exponent, and where it ends; -1 where it is something else."""
    first, value = position, np.int64(0)
    while position < end and _ZERO <= data[position] <= _NINE:
        value = value * 10 + np.int64(data[position]) - _ZERO
        position += 1
        if position - first > _DIGITS_MAX:
            return 0, -1
    if position == first or (data[first] == _ZERO and position - first > 1) or position >= end:
        return 0, -1
    behind = data[position]
    if behind in (_COMMA, _CLOSE) or _is_space(behind):
        return int(value), position
    return 0, -1


@njit(cache=True, nogil=True)
def _word_end(data: Bytes, position: int, end: int) -> int:
    """Where ``null``, ``true`` or ``false`` ends; -1 where it is something else."""
    width = 5 if data[position] == _LETTER_F else 4
    if position + width > end:
        return -1
    word = np.int64(0)
    for offset in range(width):
        word = word << 8 | np.int64(data[position + offset])
    return position + width if word in (_NULL, _TRUE, _FALSE) else -1


@njit(cache=True, nogil=True)
def _same(data: Bytes, start: int, end: int, names: Bytes, name: int) -> bool:
    """Whether ``data[start:end]`` is what stands in ``names`` from ``name`` on."""
    offset, length = 0, end - start
    while offset < length and data[start + offset] == names[name + offset]:
        offset += 1
    return bool(offset == length)


@njit(cache=True, nogil=True)
def _known(
    data: Bytes, start: int, end: int, names: Bytes, name_start: Ints, name_end: Ints, places: NDArray[np.int16]
) -> int:
    """The number of the field with this name, -1 if it is not known."""
    mask = len(places) - 1
    place = np.int64(_name_hash(data, start, end)) & mask
    while places[place] >= 0:
        field = np.int64(places[place])
        if name_end[field] - name_start[field] == end - start and _same(data, start, end, names, name_start[field]):
            return int(field)
        place = (place + 1) & mask
    return -1


@njit(cache=True, nogil=True)
def _name_close(data: Bytes, position: int, end: int) -> int:
    """Where a name of plain ASCII without escapes ends, -1 if it is another."""
    while position < end and data[position] != _MARK:
        if data[position] >= 0x80 or data[position] == _BACKSLASH or data[position] < _SPACE:
            return -1
        position += 1
    return position if position < end else -1


@njit(cache=True, nogil=True)
def scan_rows(
    data: Bytes, start: Ints, end: Ints,
    names: Bytes, name_start: Ints, name_end: Ints, places: NDArray[np.int16],
    kinds: Bytes, slots: Ints, least: Ints, most: Ints,
    side: Bytes, string_start: Ints, string_end: Ints, numbers: Ints, taken: NDArray[np.bool_],
) -> int:  # fmt: skip
    """Fill the rows of the outputs, which come in as absent. Spans beyond ``data`` lie in ``side``; gives its fill."""
    used = 0
    # Whoever writes events writes their fields in one order: the field that came last time is the first guess.
    after = np.full(len(kinds) + 1, ABSENT, np.int64)
    for row in range(len(start)):
        before = len(kinds)
        stop = end[row]
        position = start[row]
        if position < 0:
            continue
        position = _skip_space(data, position, stop)
        if position >= stop or data[position] != _OPEN:
            continue
        good = True
        while good:
            good = False  # until the end of this pair is reached
            position = _skip_space(data, position + 1, stop)
            if position >= stop or data[position] != _MARK:
                break
            field = after[before]
            close = position + 1 + name_end[field] - name_start[field] if field >= 0 else stop
            if close >= stop or data[close] != _MARK or not _same(data, position + 1, close, names, name_start[field]):
                close = _name_close(data, position + 1, stop)
                if close < 0:
                    break
                field = np.int64(_known(data, position + 1, close, names, name_start, name_end, places))
                if field >= 0:
                    after[before] = field
            if field >= 0:
                before = field
            position = _skip_space(data, close + 1, stop)
            if position >= stop or data[position] != _COLON:
                break
            position = _skip_space(data, position + 1, stop)
            if position >= stop:
                break
            kind = np.int64(kinds[field]) if field >= 0 else -1
            slot = slots[field] if field >= 0 else -1
            first = data[position]
            if first == _MARK:
                opened = position + 1
                closed, escaped = end_of_string(data, opened, stop)
                if closed < 0:
                    break
                length = closed - opened
                if kind == _TEXT:
                    if escaped:
                        string_start[slot, row] = len(data) + used
                        used = unescape(data, opened, closed, most[field], side, used)
                        string_end[slot, row] = len(data) + used
                    else:
                        string_start[slot, row], string_end[slot, row] = opened, closed
                        if length > most[field]:
                            cut = opened + most[field]
                            while data[cut] & 0xC0 == 0x80:
                                cut -= 1
                            string_end[slot, row] = cut
                elif kind == _NAME:
                    if escaped or length < least[field] or length > most[field]:
                        break
                    string_start[slot, row], string_end[slot, row] = (opened, closed) if length else (-1, -1)
                elif kind == _STRING:
                    if length > most[field]:
                        break
                elif kind >= 0:
                    break
                position = closed + 1
            elif _ZERO <= first <= _NINE:
                value, behind = _integer(data, position, stop)
                if behind < 0:
                    break
                if kind >= 0:
                    if kind < _NUMBER or value < least[field] or value > most[field]:
                        break
                    if kind == _NUMBER:
                        numbers[slot, row] = value
                position = behind
            elif first in (_LETTER_N, _LETTER_T, _LETTER_F):
                behind = _word_end(data, position, stop)
                if behind < 0 or (kind >= 0 and first != _LETTER_N):
                    break
                if kind in (_TEXT, _NAME):
                    string_start[slot, row] = string_end[slot, row] = -1
                elif kind == _NUMBER:
                    numbers[slot, row] = -1
                position = behind
            else:
                break
            position = _skip_space(data, position, stop)
            if position >= stop:
                break
            good = data[position] == _COMMA
            if data[position] == _CLOSE:
                taken[row] = _skip_space(data, position + 1, stop) == stop
    return used


def scan(data: Bytes, start: Ints, end: Ints, table: FieldTable) -> Scanned:
    """Scan n records: spans of ``data``, -1 where there is none (refused)."""
    count = len(start)
    taken = np.zeros(count, np.bool_)
    string_start = np.full((table.strings, count), ABSENT, np.int64)
    string_end = np.full((table.strings, count), ABSENT, np.int64)
    numbers = np.full((table.numbers, count), ABSENT, np.int64)
    side = np.empty(len(data), np.uint8)  # an escape is never shorter than what it stands for
    used = scan_rows(
        data, start, end, table.names, table.name_start, table.name_end, table.places,
        table.kinds, table.slots, table.least, table.most, side, string_start, string_end, numbers, taken,
    )  # fmt: skip
    buffer = data
    if used:
        buffer = np.concatenate([data, side[:used]])
        buffer.flags.writeable = False  # as the data are: compiled code knows one kind of buffer
    return Scanned(taken, buffer, string_start, string_end, numbers)
