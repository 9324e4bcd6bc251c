"""Texts as columns: one byte string a row, as spans into a shared buffer, put together by compiled code.

A Python object per piece of an event would cost ten times what everything else does. Rows are bytes that stand in a
JSON string as they are (escaped once, when they are read), so putting a request line together is copying.
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

_DIGITS: Final = 20
_NOTHING: Final = np.zeros(1, np.uint8)


@dataclass(frozen=True, slots=True)
class Texts:
    """One byte string per row: ``buffer[starts[i]:starts[i] + lengths[i]]``. Rows may overlap or repeat."""

    buffer: Bytes
    starts: Integers
    lengths: Integers

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_] | slice) -> "Texts":
        """Return the rows that an index array, mask or slice names."""
        return Texts(self.buffer, np.ascontiguousarray(self.starts[rows]), np.ascontiguousarray(self.lengths[rows]))

    def where(self, mask: NDArray[np.bool_]) -> "Texts":
        """Return the same rows, those outside the mask emptied."""
        return Texts(self.buffer, self.starts, np.where(mask, self.lengths, 0))

    def packed(self) -> bytes:
        """Return the rows end to end."""
        return (self if self._is_packed() else joined(self)).buffer.tobytes()

    def _is_packed(self) -> bool:
        ends = self.starts + self.lengths
        return len(self.buffer) == int(self.lengths.sum()) and bool((ends[:-1] == self.starts[1:]).all())

    def tolist(self) -> list[bytes]:
        """Return one object per row."""
        raw = self.buffer.tobytes()
        return [
            raw[start : start + length]
            for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        ]


def texts_of(strings: Sequence[bytes]) -> Texts:
    """Return the column of some byte strings.

    >>> joined(b"<", texts_of([b"a", b"", b"bc"]), b">").tolist()
    [b'<a>', b'<>', b'<bc>']
    """
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    buffer = np.frombuffer(b"".join(strings) + b"\0", np.uint8).copy()
    return Texts(buffer, np.cumsum(lengths) - lengths, lengths)


def empty(count: int) -> Texts:
    """Return ``count`` empty rows."""
    return Texts(_NOTHING, np.zeros(count, np.int64), np.zeros(count, np.int64))


def joined(*parts: Texts | bytes) -> Texts:
    """Put columns together row by row; bytes stand in every row. At least one part must be a column."""
    columns = [part for part in parts if isinstance(part, Texts)]
    lengths = np.full(len(columns[0]), sum(len(part) for part in parts if isinstance(part, bytes)), np.int64)
    for column in columns:
        lengths += column.lengths
    at = np.empty(len(lengths), np.int64)
    out = np.empty(_positions(lengths, at), np.uint8)
    starts, prefix = at.copy(), b""
    for part in parts:
        if isinstance(part, bytes):
            prefix += part
        else:
            _append(_constant(prefix), part.buffer, part.starts, part.lengths, out, at)
            prefix = b""
    if prefix:
        _append(_constant(prefix), _NOTHING, *_nothing(len(lengths)), out, at)
    return Texts(out, starts, lengths)


def sequences(pieces: Texts, tokens: Integers, lengths: Integers, total: int) -> Texts:
    """Return rows of ``lengths[i]`` bytes (``total`` in all) made of the pieces that ``tokens`` names, end to end."""
    out = np.empty(total, np.uint8)
    _lay_out(pieces.buffer, pieces.starts, pieces.lengths, tokens, out)
    starts = np.empty(len(lengths), np.int64)
    _positions(lengths, starts)
    return Texts(out, starts, lengths)


def scattered(count: int, parts: Sequence[tuple[NDArray[np.integer], Texts]]) -> Texts:
    """Return ``count`` rows, of which each part gives those at its places; the others are empty."""
    lengths = np.zeros(count, np.int64)
    for rows, texts in parts:
        lengths[rows] = texts.lengths
    starts = np.empty(count, np.int64)
    out = np.empty(_positions(lengths, starts), np.uint8)
    for rows, texts in parts:
        _append(_NOTHING[:0], texts.buffer, texts.starts, texts.lengths, out, starts[rows])
    return Texts(out, starts, lengths)


def decimals(values: Integers) -> Texts:
    """Write whole numbers from 0 on.

    >>> decimals(np.array([0, 1234567890123])).tolist()
    [b'0', b'1234567890123']
    """
    out = np.empty(len(values) * _DIGITS, np.uint8)
    starts, lengths = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    _write_decimals(np.ascontiguousarray(values, np.int64), out, starts, lengths)
    return Texts(out, starts, lengths)


def hexadecimals(keys: Keys, digits: int = 16) -> Texts:
    """Write the lowest ``digits`` hexadecimal digits of each key, zeros in front.

    >>> hexadecimals(np.array([255], np.uint64), 4).tolist()
    [b'00ff']
    """
    out = np.empty(len(keys) * digits, np.uint8)
    _write_hexadecimals(np.ascontiguousarray(keys, np.uint64), digits, out)
    return Texts(out, np.arange(len(keys)) * digits, np.full(len(keys), digits, np.int64))


@cache
def _constant(text: bytes) -> Bytes:
    return np.frombuffer(text + b"\0", np.uint8).copy()[: len(text)]


def _nothing(count: int) -> tuple[Integers, Integers]:
    return np.zeros(count, np.int64), np.zeros(count, np.int64)


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
def _append(prefix: Bytes, buffer: Bytes, starts: Integers, lengths: Integers, out: Bytes, at: Integers) -> None:
    for row in range(len(starts)):
        position = copied(prefix, 0, len(prefix), out, at[row])
        at[row] = copied(buffer, starts[row], lengths[row], out, position)


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
