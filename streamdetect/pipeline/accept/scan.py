"""Request events straight from their bytes to columns: the fast path of ``decode``, for events written the plain way.

The table of fields is generated from ``RequestEvent``. What the scan refuses, and what no column can hold as it is
(an address that is none), goes to the decoder and the model behind it; a property test keeps all of them equal.
Nothing is copied: identifiers and texts are spans of the chunk itself, beside texts that have to be rid of escapes.
"""

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Bytes, Chunk, Ints, Spans
from streamdetect.kernels.flat_json import Field, FieldKind, FieldTable, Scanned, scan
from streamdetect.messages.base import parse_address
from streamdetect.messages.request import ALIASES, OPEN_ENUMS, REQUIRED, RequestEvent
from streamdetect.pipeline.accept.columns import TEXTS, AccountTier, Kind, Outcome, RequestColumns
from streamdetect.pipeline.accept.event_struct import IDENTIFIER_COLUMNS, INTEGER_COLUMNS, bounds_of
from streamdetect.pipeline.accept.gather import TEXT_BYTES_MAX

_NAMES: Final = (*IDENTIFIER_COLUMNS, "client_ip", *OPEN_ENUMS)
_STRINGS: Final = (*TEXTS, *_NAMES)
_NUMBERS: Final = ("occurred_at", *INTEGER_COLUMNS)
_ENUMS: Final[dict[str, Any]] = {"kind": Kind, "outcome": Outcome, "account_tier": AccountTier}
_UNKNOWN: Final = 255


def _field(name: str) -> Field:
    """How a field of the model is scanned."""
    bare, least, most = bounds_of(name)
    if name in TEXTS:
        return Field(name, FieldKind.TEXT, most=TEXT_BYTES_MAX, slot=_STRINGS.index(name))
    if name in _NAMES:
        return Field(name, FieldKind.NAME, least=int(name in REQUIRED), most=most, slot=_STRINGS.index(name))
    if name in _NUMBERS:
        return Field(name, FieldKind.NUMBER, least, most, _NUMBERS.index(name))
    return Field(name, FieldKind.INTEGER if bare is int else FieldKind.STRING, least, most)


_TABLE: Final = FieldTable(
    [
        *(_field(name) for name in RequestEvent.model_fields),
        *(Field(alias, FieldKind.NEVER) for names in ALIASES.values() for alias in names),
    ]
)


def scan_events(chunk: Chunk) -> tuple[RequestColumns, NDArray[np.int64]]:
    """Columns of the events that could be taken as they are, and the records that must be decoded, both in order."""
    found = scan(np.frombuffer(chunk.buffer, np.uint8), chunk.values.start, chunk.values.end, _TABLE)
    taken = found.taken & (found.numbers[0] >= 0)
    for name in REQUIRED:
        if name in _STRINGS:
            taken &= found.start[_STRINGS.index(name)] >= 0
    family, high, low = _addresses(found, taken)
    return _columns(found, np.flatnonzero(taken), family, high, low), np.flatnonzero(~taken)


def _columns(
    found: Scanned, rows: Ints, family: NDArray[np.uint8], high: NDArray[np.uint64], low: NDArray[np.uint64]
) -> RequestColumns:
    whole = len(rows) == len(found.taken)

    def part(column: NDArray[Any]) -> NDArray[Any]:
        return column if whole else column[rows]

    def spans(name: str) -> Spans:
        slot = _STRINGS.index(name)
        return Spans(part(found.start[slot]), part(found.end[slot]))

    unknown: dict[str, int] = {}
    columns: dict[str, Any] = {name: spans(name) for name in (*IDENTIFIER_COLUMNS, *TEXTS)}
    columns |= {name: part(found.numbers[slot]) for slot, name in enumerate(_NUMBERS)}
    columns |= {name: _codes(found.buffer, spans(name), name, unknown) for name in OPEN_ENUMS}
    columns |= {"address_family": part(family), "address_high": part(high), "address_low": part(low)}
    return RequestColumns(record=rows, identifiers=found.buffer, texts=found.buffer, unknown_values=unknown, **columns)


class _Values:
    """The known values of an open enum, in the form the kernel reads."""

    def __init__(self, name: str) -> None:
        raw = [value.encode() for value in OPEN_ENUMS[name]]
        ends = np.cumsum([len(value) for value in raw])
        self.text = np.frombuffer(b"".join(raw), np.uint8)
        self.start, self.end = ends - [len(value) for value in raw], ends
        self.codes = np.array([_ENUMS[name][value.upper()] for value in OPEN_ENUMS[name]], np.uint8)


_VALUES: Final = {name: _Values(name) for name in OPEN_ENUMS}


@njit(cache=True, nogil=True)
def _match(
    data: Bytes, start: Ints, end: Ints, text: Bytes, value_start: Ints, value_end: Ints, codes: Bytes, found: Bytes
) -> int:
    """Write the code of each present value, which comes in as the default; returns how many nobody knows."""
    unknown = 0
    for row in range(len(start)):
        if start[row] < 0:
            continue
        code, length = np.int64(_UNKNOWN), end[row] - start[row]
        for value in range(len(value_start)):
            if value_end[value] - value_start[value] != length:
                continue
            same = True
            for offset in range(length):
                if data[start[row] + offset] != text[value_start[value] + offset]:
                    same = False
                    break
            if same:
                code = np.int64(codes[value])
                break
        if code == _UNKNOWN:
            unknown += 1
        else:
            found[row] = np.uint8(code)
    return unknown


def _codes(data: Bytes, spans: Spans, name: str, unknown: dict[str, int]) -> NDArray[np.uint8]:
    """Codes of an open enum; values nobody knows are counted in ``unknown`` and become the default."""
    values, codes = _VALUES[name], np.zeros(len(spans), np.uint8)
    count = _match(data, spans.start, spans.end, values.text, values.start, values.end, values.codes, codes)
    if count:
        unknown[name] = int(count)
    return codes


@njit(cache=True, nogil=True)
def _dotted(
    data: Bytes, start: Ints, end: Ints, taken: NDArray[np.bool_], family: NDArray[np.uint8], low: NDArray[np.uint64],
    others: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Read addresses of four numbers from 0 to 255 without leading zeros; mark what is written otherwise."""
    for row in range(len(start)):
        if start[row] < 0 or not taken[row]:
            continue
        address, part, digits, parts, good = np.uint64(0), np.int64(0), 0, 0, True
        for position in range(start[row], end[row] + 1):
            byte = np.int64(data[position]) if position < end[row] else np.int64(0x2E)
            if 0x30 <= byte <= 0x39 and not (digits > 0 and part == 0):
                part, digits = part * 10 + byte - 0x30, digits + 1
                good = bool(part <= 255)
            elif byte == 0x2E and digits > 0 and parts < 4:
                address, parts = (address << np.uint64(8)) | np.uint64(part), parts + 1
                part, digits = np.int64(0), 0
            else:
                good = False
            if not good:
                break
        if good and parts == 4:
            family[row], low[row] = np.uint8(4), address
        else:
            others[row] = True


def _addresses(
    found: Scanned, taken: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint64]]:
    """Family and both halves of each address; rows with text that is no address are taken no longer."""
    count, slot = len(taken), _STRINGS.index("client_ip")
    family, others = np.zeros(count, np.uint8), np.zeros(count, np.bool_)
    high, low = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    start, end = found.start[slot], found.end[slot]
    _dotted(found.buffer, start, end, taken, family, low, others)
    for row in np.flatnonzero(others).tolist():
        packed = parse_address(found.buffer[start[row] : end[row]].tobytes().decode())
        if packed is None:
            taken[row] = False
            continue
        family[row] = 4 if len(packed) == 4 else 6
        high[row], low[row] = int.from_bytes(packed[:-8]), int.from_bytes(packed[-8:])
    return family, high, low
