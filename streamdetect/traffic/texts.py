"""Texts as columns: one byte string a row, put together by compiled code when they are written, and not before.

A Python object per piece of an event would cost ten times what everything else does, and so would copying each piece
from one intermediate text to the next. So joining, hiding and picking rows only notes where the bytes are; each byte is
copied once more, into the line it stands in. Rows are bytes that stand in a JSON string as they are (escaped once, when
they are read).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.traffic.draws import Integers, Keys

Bytes = NDArray[np.uint8]
Rows = NDArray[np.integer] | NDArray[np.bool_] | slice

_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of each row: ``buffer[starts[i]:starts[i] + lengths[i]]``. Pieces may overlap or repeat."""

    buffer: Bytes
    starts: Integers
    lengths: Integers


@dataclass(frozen=True, slots=True)
class Texts:
    """One byte string per row: the pieces of all parts end to end."""

    parts: tuple[Part, ...]
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def lengths(self) -> Integers:
        """Return the length of each row."""
        total = np.zeros(self.count, np.int64)
        for part in self.parts:
            total += part.lengths
        return total

    def take(self, rows: Rows) -> "Texts":
        """Return the rows that an index array, mask or slice names."""
        parts = tuple(
            Part(part.buffer, np.ascontiguousarray(part.starts[rows]), np.ascontiguousarray(part.lengths[rows]))
            for part in self.parts
        )
        return Texts(parts, len(parts[0].starts))

    def where(self, mask: NDArray[np.bool_]) -> "Texts":
        """Return the same rows, those outside the mask emptied."""
        parts = tuple(Part(part.buffer, part.starts, part.lengths * mask) for part in self.parts)
        return Texts(parts, self.count)

    def flat(self) -> Part:
        """Return the rows as one part, copied together if they are not."""
        if len(self.parts) == 1:
            return self.parts[0]
        lengths = self.lengths
        starts = np.empty(self.count, np.int64)
        out = np.empty(_positions(lengths, starts), np.uint8)
        _write(self, out, starts.copy())
        return Part(out, starts, lengths)

    def settled(self) -> "Texts":
        """Return the same rows copied together, for columns that are taken from again and again."""
        return Texts((self.flat(),), self.count)

    def packed(self) -> bytes:
        """Return the rows end to end."""
        return bytes(written(self.count, [(np.arange(self.count), self)]))

    def tolist(self) -> list[bytes]:
        """Return one object per row."""
        part = self.flat()
        raw = part.buffer.tobytes()
        spans = zip(part.starts.tolist(), part.lengths.tolist(), strict=True)
        return [raw[start : start + length] for start, length in spans]


def text_column(buffer: Bytes, starts: Integers, lengths: Integers) -> Texts:
    """Return the column of spans of one buffer."""
    return Texts((Part(buffer, starts, lengths),), len(starts))


def texts_of(strings: Sequence[bytes]) -> Texts:
    """Return the column of some byte strings.

    >>> joined(b"<", texts_of([b"a", b"", b"bc"]), b">").tolist()
    [b'<a>', b'<>', b'<bc>']
    """
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    return text_column(_constant(b"".join(strings)), np.cumsum(lengths) - lengths, lengths)


def empty(count: int) -> Texts:
    """Return ``count`` empty rows."""
    return _everywhere(b"", count)


def joined(*parts: Texts | bytes) -> Texts:
    """Put columns together row by row; bytes stand in every row. At least one part must be a column."""
    count = next(len(part) for part in parts if isinstance(part, Texts))
    columns = (part if isinstance(part, Texts) else _everywhere(part, count) for part in parts)
    return Texts(tuple(part for column in columns for part in column.parts), count)


def sequences(pieces: Texts, tokens: Integers, lengths: Integers, total: int) -> Texts:
    """Return rows of ``lengths[i]`` bytes (``total`` in all) made of the pieces that ``tokens`` names, end to end."""
    out = np.empty(total, np.uint8)
    whole = pieces.flat()
    _lay_out(whole.buffer, whole.starts, whole.lengths, tokens, out)
    starts = np.empty(len(lengths), np.int64)
    _positions(lengths, starts)
    return text_column(out, starts, lengths)


def scattered(count: int, columns: Sequence[tuple[NDArray[np.integer], Texts]]) -> Texts:
    """Return ``count`` rows, of which each column gives those at its places; the others are empty."""
    parts = []
    for rows, texts in columns:
        for part in texts.parts:
            starts, lengths = np.zeros(count, np.int64), np.zeros(count, np.int64)
            starts[rows], lengths[rows] = part.starts, part.lengths
            parts.append(Part(part.buffer, starts, lengths))
    return Texts(tuple(parts), count) if parts else empty(count)


def written(count: int, columns: Sequence[tuple[NDArray[np.integer], Texts]]) -> memoryview:
    """Write ``count`` rows end to end, of which each column gives those at its places; the others are empty."""
    lengths = np.zeros(count, np.int64)
    for rows, texts in columns:
        lengths[rows] = texts.lengths
    starts = np.empty(count, np.int64)
    out = np.empty(_positions(lengths, starts), np.uint8)
    for rows, texts in columns:
        _write(texts, out, starts[rows])
    return out.data


def decimals(values: Integers) -> Texts:
    """Write whole numbers from 0 on.

    >>> decimals(np.array([0, 1234567890123])).tolist()
    [b'0', b'1234567890123']
    """
    out = np.empty(len(values) * _DIGITS, np.uint8)
    starts, lengths = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    _write_decimals(np.ascontiguousarray(values, np.int64), out, starts, lengths)
    return text_column(out, starts, lengths)


def hexadecimals(keys: Keys, digits: int = 16) -> Texts:
    """Write the lowest ``digits`` hexadecimal digits of each key, zeros in front.

    >>> hexadecimals(np.array([255], np.uint64), 4).tolist()
    [b'00ff']
    """
    out = np.empty(len(keys) * digits, np.uint8)
    _write_hexadecimals(np.ascontiguousarray(keys, np.uint64), digits, out)
    return text_column(out, np.arange(len(keys)) * digits, np.full(len(keys), digits, np.int64))


def _everywhere(text: bytes, count: int) -> Texts:
    return text_column(_constant(text), np.zeros(count, np.int64), np.full(count, len(text), np.int64))


@cache
def _small_constant(text: bytes) -> Bytes:
    return np.frombuffer(text + b"\0", np.uint8).copy()


def _constant(text: bytes) -> Bytes:
    """Return bytes as an array, with one more, for an empty array has no place to point to."""
    return _small_constant(text) if len(text) < 256 else np.frombuffer(text + b"\0", np.uint8).copy()


def _write(texts: Texts, out: Bytes, at: Integers) -> None:
    """Write the rows where ``at`` says. Eight parts at a time: a row is then in the processor's cache for all eight."""
    missing = -len(texts.parts) % 8
    nothing = empty(texts.count).parts * missing if missing else ()
    parts = (*texts.parts, *nothing)
    for first in range(0, len(parts), 8):
        columns = (column for part in parts[first : first + 8] for column in (part.buffer, part.starts, part.lengths))
        _append(*columns, out, at)


@njit(cache=True, nogil=True)
def copied(source: Bytes, start: int, length: int, target: Bytes, at: int) -> int:
    """Copy some bytes and return where the next ones go. Unsigned positions let the compiler copy in blocks."""
    begin, end, size = np.uint64(start), np.uint64(at), np.uint64(length)
    for byte in range(size):
        target[end + np.uint64(byte)] = source[begin + np.uint64(byte)]
    return at + length


@njit(cache=True, nogil=True)
def _positions(lengths: Integers, starts: Integers) -> int:
    """Lay rows end to end and return the length of all."""
    total = 0
    for row in range(len(lengths)):
        starts[row] = total
        total += lengths[row]
    return total


@njit(cache=True, nogil=True)
def _append(
    buffer0: Bytes, starts0: Integers, lengths0: Integers,
    buffer1: Bytes, starts1: Integers, lengths1: Integers,
    buffer2: Bytes, starts2: Integers, lengths2: Integers,
    buffer3: Bytes, starts3: Integers, lengths3: Integers,
    buffer4: Bytes, starts4: Integers, lengths4: Integers,
    buffer5: Bytes, starts5: Integers, lengths5: Integers,
    buffer6: Bytes, starts6: Integers, lengths6: Integers,
    buffer7: Bytes, starts7: Integers, lengths7: Integers,
    out: Bytes, at: Integers,
) -> None:  # fmt: skip
    for row in range(len(at)):
        position = at[row]
        position = copied(buffer0, starts0[row], lengths0[row], out, position)
        position = copied(buffer1, starts1[row], lengths1[row], out, position)
        position = copied(buffer2, starts2[row], lengths2[row], out, position)
        position = copied(buffer3, starts3[row], lengths3[row], out, position)
        position = copied(buffer4, starts4[row], lengths4[row], out, position)
        position = copied(buffer5, starts5[row], lengths5[row], out, position)
        position = copied(buffer6, starts6[row], lengths6[row], out, position)
        position = copied(buffer7, starts7[row], lengths7[row], out, position)
        at[row] = position


@njit(cache=True, nogil=True)
def _lay_out(buffer: Bytes, starts: Integers, lengths: Integers, tokens: Integers, out: Bytes) -> None:
    at = 0
    for token in tokens:
        at = copied(buffer, starts[token], lengths[token], out, at)


@njit(cache=True, nogil=True)
def _write_decimals(values: Integers, out: Bytes, starts: Integers, lengths: Integers) -> None:
    for row in range(len(values)):
        end = (row + 1) * _DIGITS
        at, rest = end, values[row]
        while True:
            at -= 1
            out[at] = 48 + rest % 10
            rest //= 10
            if rest == 0:
                break
        starts[row], lengths[row] = at, end - at


@njit(cache=True, nogil=True)
def _write_hexadecimals(keys: Keys, digits: int, out: Bytes) -> None:
    for row in range(len(keys)):
        rest = keys[row]
        for digit in range(digits - 1, -1, -1):
            value = rest & np.uint64(15)
            out[row * digits + digit] = value + (np.uint64(48) if value < np.uint64(10) else np.uint64(87))
            rest = rest >> np.uint64(4)
