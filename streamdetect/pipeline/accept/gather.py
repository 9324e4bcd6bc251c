"""From decoded event structs to columns: one comprehension per field, one join for identifiers and one for texts.

``Held`` is what may still turn out to be wrong once it is looked at as bytes: written times, addresses, the byte
lengths of identifiers. Its ``doubtful`` rows must be judged by the model before ``columns_of`` is called.
"""

from dataclasses import dataclass
from socket import AF_INET, inet_pton
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Bytes, Ints, Spans, spans_of
from streamdetect.messages.base import EVENT_ID_BYTES_MAX, IDENTIFIER_BYTES_MAX, parse_address, parse_instant
from streamdetect.messages.request import KINDS, OUTCOMES, TIERS
from streamdetect.pipeline.accept.columns import ABSENT, AccountTier, Kind, Outcome, RequestColumns

# Text beyond this is not read; the sketch caps it further.
TEXT_BYTES_MAX: Final = 64 * 1024

_UNKNOWN = 255
_ENUM_CODES: Final[dict[str, dict[str | None, int]]] = {
    "kind": {name: int(Kind[name.upper()]) for name in KINDS},
    "outcome": {name: int(Outcome[name.upper()]) for name in OUTCOMES},
    "account_tier": {name: int(AccountTier[name.upper()]) for name in TIERS},
}
for _codes_of_enum in _ENUM_CODES.values():
    _codes_of_enum |= {None: 0, "": 0}  # the default of each is 0: request, served, unknown


@dataclass(frozen=True, slots=True)
class JoinedTexts:
    """Strings of several columns in one buffer, a ``Spans`` for each column; absent columns share one."""

    buffer: Bytes
    spans: list[Spans]
    is_ascii: bool


@dataclass(frozen=True, slots=True)
class Held:
    """Times in milliseconds and packed addresses (empty where absent), ``None`` where the text is neither."""

    times: list[int | None]
    addresses: list[bytes | None]
    identifiers: JoinedTexts

    def doubtful(self) -> set[int]:
        """Rows with something no column can hold."""
        rows: set[int] = set()
        if None in self.times:
            rows.update(row for row, time in enumerate(self.times) if time is None)
        if None in self.addresses:
            rows.update(row for row, address in enumerate(self.addresses) if address is None)
        if self.identifiers.is_ascii:  # the decoder has bounded the characters
            return rows
        for place, spans in enumerate(self.identifiers.spans):
            limit_bytes = IDENTIFIER_BYTES_MAX if place else EVENT_ID_BYTES_MAX
            rows.update(np.flatnonzero(spans.end - spans.start > limit_bytes).tolist())
        return rows


def held_of(events: list[Any]) -> Held:
    """Read times, addresses and identifiers of event structs."""
    identifiers: list[list[str | None]] = [
        [event.event_id for event in events],
        [event.account_id for event in events],
        [event.org_id or None for event in events],
        [event.api_key_id or None for event in events],
        [event.payment_id or None for event in events],
    ]
    return Held(_times(events), _addresses(events), join_texts(identifiers))


def columns_of(records: list[int], events: list[Any], held: Held) -> RequestColumns:
    """Columns of event structs, none of them doubtful; ``records`` are their indexes in the chunk."""
    texts = join_texts(
        [[event.prompt for event in events], [event.system_prompt for event in events]], limit_bytes=TEXT_BYTES_MAX
    )
    family, high, low = _address_columns(held.addresses)
    event_id, account_id, org_id, api_key_id, payment_id = held.identifiers.spans
    prompt, system_prompt = texts.spans
    unknown: dict[str, int] = {}
    return RequestColumns(
        record=np.array(records, np.int64),
        occurred_at=np.array(held.times, np.int64),
        kind=_codes([event.kind for event in events], "kind", unknown),
        outcome=_codes([event.outcome for event in events], "outcome", unknown),
        account_created_at=_integers([event.account_created_at for event in events]),
        account_tier=_codes([event.account_tier for event in events], "account_tier", unknown),
        input_tokens=_integers([event.input_tokens for event in events]),
        output_tokens=_integers([event.output_tokens for event in events]),
        cached_input_tokens=_integers([event.cached_input_tokens for event in events]),
        turn=_integers([event.turn for event in events]),
        address_family=family,
        address_high=high,
        address_low=low,
        identifiers=held.identifiers.buffer,
        event_id=event_id,
        account_id=account_id,
        org_id=org_id,
        api_key_id=api_key_id,
        payment_id=payment_id,
        texts=texts.buffer,
        prompt=prompt,
        system_prompt=system_prompt,
        unknown_values=unknown,
    )


def join_texts(columns: list[list[str | None]], *, limit_bytes: int = 0) -> JoinedTexts:
    """Encode equally long columns of strings into one buffer; ``None`` becomes a span of -1.

    With a limit each string is cut there, at the end of a character.

    >>> texts = join_texts([["ab", None], ["é", "xyz"]], limit_bytes=2)
    >>> bytes(texts.buffer).decode(), texts.spans[0].end.tolist(), texts.spans[1].end.tolist()
    ('abéxy', [2, -1], [4, 6])
    """
    count = len(columns[0])
    present = [column.count(None) < count for column in columns]
    parts = [text for column, some in zip(columns, present, strict=True) if some for text in column]
    characters = [ABSENT if text is None else len(text) for text in parts]
    joined = "".join([text for text in parts if text])
    is_ascii = joined.isascii()
    if is_ascii and (not limit_bytes or max(characters, default=0) <= limit_bytes):
        buffer, spans = joined.encode(), _spans(np.array(characters, np.int64))
    else:
        buffer, spans = spans_of([None if text is None else _encoded(text, limit_bytes) for text in parts])
    return JoinedTexts(np.frombuffer(buffer, np.uint8), _by_column(spans, present, count), is_ascii)


def _by_column(spans: Spans, present: list[bool], count: int) -> list[Spans]:
    nothing = np.full(count, ABSENT, np.int64)
    absent = Spans(nothing, nothing)
    columns, first = [], 0
    for some in present:
        columns.append(Spans(spans.start[first : first + count], spans.end[first : first + count]) if some else absent)
        first += count * some
    return columns


def _spans(lengths: Ints) -> Spans:
    end = np.cumsum(np.maximum(lengths, 0))
    absent = lengths < 0
    return Spans(np.where(absent, ABSENT, end - lengths), np.where(absent, ABSENT, end))


def _encoded(text: str, limit_bytes: int) -> bytes:
    if not limit_bytes:
        return text.encode()
    encoded = text[:limit_bytes].encode()
    if len(encoded) <= limit_bytes:
        return encoded
    end = limit_bytes
    while encoded[end] & 0xC0 == 0x80:  # inside a character
        end -= 1
    return encoded[:end]


def _times(events: list[Any]) -> list[int | None]:
    times: list[Any] = [event.occurred_at for event in events]
    if set(map(type, times)) <= {int}:
        return times
    return [time if type(time) is int else parse_instant(time) for time in times]


def _addresses(events: list[Any]) -> list[bytes | None]:
    texts = [event.client_ip for event in events]
    try:
        return [inet_pton(AF_INET, text) if text else b"" for text in texts]
    except (OSError, ValueError):  # some are not IPv4
        return [parse_address(text) if text else b"" for text in texts]


def _address_columns(
    addresses: list[bytes | None],
) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint64]]:
    """Family, upper and lower half of each address."""
    present = [address or b"" for address in addresses]
    lengths = np.array([len(address) for address in present], np.int64)
    padded = b"".join([address.rjust(16, b"\0") for address in present])
    halves = np.frombuffer(padded, ">u8").astype(np.uint64).reshape(-1, 2)
    family = np.zeros(len(present), np.uint8)
    family[lengths == 4], family[lengths == 16] = 4, 6
    return family, np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])


def _integers(values: list[int | None]) -> Ints:
    if None in values:  # an explicit null; an absent field is -1 already
        values = [ABSENT if value is None else value for value in values]
    return np.array(values, np.int64)


def _codes(values: list[str | None], name: str, unknown: dict[str, int]) -> NDArray[np.uint8]:
    """Codes of an open enum; values nobody knows are counted in ``unknown`` and become the default."""
    table = _ENUM_CODES[name]
    codes = [table.get(value, _UNKNOWN) for value in values]
    if _UNKNOWN in codes:
        unknown[name] = codes.count(_UNKNOWN)
        codes = [0 if code == _UNKNOWN else code for code in codes]
    return np.array(codes, np.uint8)
