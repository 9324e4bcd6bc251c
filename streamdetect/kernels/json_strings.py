"""Strings of JSON as bytes: where one ends, whether it is valid UTF-8 with valid escapes, and its text without escapes.

Works on spans of a larger buffer and makes no object per string. Half a surrogate is not valid, written out or escaped.
"""

from typing import Final

import numpy as np
from numba import njit

from streamdetect.kernels.chunk import Bytes

# Classes of bytes inside a string.
_PLAIN, _QUOTE, _ESCAPE, _WIDE, _BAD = 0, 1, 2, 3, 4
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[:0x20] = _BAD
_CLASSES[ord('"')], _CLASSES[ord("\\")] = _QUOTE, _ESCAPE
_CLASSES[0x80:0xC2] = _BAD
_CLASSES[0xC2:0xF5] = _WIDE
_CLASSES[0xF5:] = _BAD
_BLOCK: Final = 64  # bytes judged in one go where they are all plain
# What a short escape stands for; 0 where there is none.
_ESCAPED = np.zeros(256, np.uint8)
for _mark, _meant in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
    _ESCAPED[_mark] = _meant
_FIRST, _BEYOND, _MARK, _BACKSLASH = np.uint8(0x20), np.uint8(0x80), np.uint8(ord('"')), np.uint8(ord("\\"))
_ZERO, _NINE, _LETTER_U = (ord(mark) for mark in "09u")


@njit(cache=True, nogil=True)
def _wide(data: Bytes, position: int, end: int) -> int:
    """Length of the UTF-8 sequence at a byte from 0xC2 to 0xF4; 0 where it is not valid."""
    lead = np.int64(data[position])
    width = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if position + width > end:
        return 0
    second = np.int64(data[position + 1])
    lowest, highest = 0x80, 0xBF
    if lead == 0xE0:
        lowest = 0xA0
    elif lead == 0xED:
        highest = 0x9F  # no halves of surrogates
    elif lead == 0xF0:
        lowest = 0x90
    elif lead == 0xF4:
        highest = 0x8F
    if second < lowest or second > highest:
        return 0
    for offset in range(2, width):
        if np.int64(data[position + offset]) & 0xC0 != 0x80:
            return 0
    return width


@njit(cache=True, nogil=True)
def _four_digits(data: Bytes, position: int, end: int) -> int:
    """The number in four hexadecimal digits, -1 where there are none."""
    if position + 4 > end:
        return -1
    value = np.int64(0)
    for offset in range(4):
        digit = np.int64(data[position + offset])
        if _ZERO <= digit <= _NINE:
            value = value * 16 + digit - _ZERO
        else:
            letter = digit | 0x20
            if letter < 0x61 or letter > 0x66:
                return -1
            value = value * 16 + letter - 0x57
    return int(value)


@njit(cache=True, nogil=True)
def _escape(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """Code point and length of the escape at a backslash; length 0 where it is none or half a surrogate."""
    if position + 1 >= end:
        return 0, 0
    mark = np.int64(data[position + 1])
    if mark != _LETTER_U:
        return int(_ESCAPED[mark]), 2 if _ESCAPED[mark] != 0 else 0
    code = _four_digits(data, position + 2, end)
    if code < 0 or 0xDC00 <= code <= 0xDFFF:
        return 0, 0
    if code < 0xD800 or code > 0xDFFF:
        return code, 6
    if position + 8 > end or data[position + 6] != _BACKSLASH or data[position + 7] != _LETTER_U:
        return 0, 0
    low = _four_digits(data, position + 8, end)
    if low < 0xDC00 or low > 0xDFFF:
        return 0, 0
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), 12


@njit(cache=True, nogil=True)
def _plain_end(data: Bytes, position: int, end: int) -> int:
    """The first byte from ``position`` on that is not plain ASCII, or ``end``."""
    # Unsigned: compiled code need not look for negative places. Bytes: it judges a block in a few wide instructions.
    place, stop = np.uint64(position), np.uint64(end)
    near = min(place + np.uint64(_BLOCK), stop)
    while place < near and _CLASSES[data[place]] == _PLAIN:
        place += np.uint64(1)
    if place < near:
        return int(np.int64(place))
    while place < stop:
        length, odd = min(np.uint64(_BLOCK), stop - place), np.uint8(0)
        for offset in range(length):
            byte = np.uint8(data[place + np.uint64(offset)])
            unlike = (byte < _FIRST) | (byte >= _BEYOND) | (byte == _MARK) | (byte == _BACKSLASH)
            odd = np.uint8(odd | np.uint8(unlike))
        if odd:
            break
        place += length
    while place < stop and _CLASSES[data[place]] == _PLAIN:
        place += np.uint64(1)
    return int(np.int64(place))


@njit(cache=True, nogil=True)
def end_of_string(data: Bytes, position: int, end: int) -> tuple[int, bool]:
    """Where the string that begins at ``position``, behind its quote, ends (-1: it is none), and if it has escapes."""
    escaped = False
    while True:
        position = _plain_end(data, position, end)
        if position >= end:
            return -1, escaped
        kind = _CLASSES[data[position]]
        if kind == _QUOTE:
            return position, escaped
        width = 0
        if kind == _WIDE:
            width = _wide(data, position, end)
        elif kind == _ESCAPE:
            _, width = _escape(data, position, end)
            escaped = True
        if width == 0:
            return -1, escaped
        position += width


@njit(cache=True, nogil=True)
def _put(code: int, side: Bytes, used: int, limit: int) -> int:
    """Append a code point as UTF-8; the new length, or -1 where it would pass ``limit``."""
    width = 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
    if used + width > limit:
        return -1
    if width == 1:
        side[used] = np.uint8(code)
        return used + 1
    for offset in range(width - 1, 0, -1):
        side[used + offset] = np.uint8(0x80 | (code & 0x3F))
        code >>= 6
    side[used] = np.uint8(code | (0xC0 if width == 2 else 0xE0 if width == 3 else 0xF0))
    return used + width


@njit(cache=True, nogil=True)
def unescape(data: Bytes, start: int, end: int, most: int, side: Bytes, used: int) -> int:
    """Append a valid string without its escapes, as many whole characters as fit ``most`` bytes; the new length."""
    limit, position = used + most, start
    while position < end:
        if data[position] == _BACKSLASH:
            code, width = _escape(data, position, end)
            after = _put(code, side, used, limit)
            if after < 0:
                return used
            used = after
        else:
            width = 1 if data[position] < 0x80 else _wide(data, position, end)
            if used + width > limit:
                return used
            for offset in range(width):
                side[used + offset] = data[position + offset]
            used += width
        position += width
    return used
