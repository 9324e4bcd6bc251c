"""What every message shares: the model base, the bounded field types, and how an instant or an address is read.

Models are frozen, unknown fields are ignored, and an explicit null is the same as an absent field. Types are strict: a
number in quotes is not a number. Limits of strings count bytes of UTF-8. No error of a model shows what it was given.
"""

import re
import socket
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

COUNT_MAX = 2**40  # far above any real count of tokens, and far from where sums of int64 overflow
INSTANT_MAX_MS = 253_402_300_799_999  # the last millisecond of year 9999
EVENT_ID_BYTES_MAX = 128
IDENTIFIER_BYTES_MAX = 256
TEXT_BYTES_MAX = 4096  # descriptive strings such as a user agent

# Context of validation for records that others may have written; what we write ourselves is judged without it.
INCOMING: Final = {"incoming": True}

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MAPPED_PREFIX = bytes(10) + b"\xff\xff"  # an IPv4 address written as IPv6


class Message(BaseModel):
    """Base of every record and of its parts."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}

    def to_bytes(self) -> bytes:
        """Canonical JSON: fields in the order of declaration, absent ones left out. Equal messages give equal bytes."""
        return self.model_dump_json(exclude_none=True).encode()


def parse_instant(text: str) -> int | None:
    """Milliseconds since the epoch of an RFC 3339 time with a zone; ``None`` when it is not one or is out of range.

    Digits below the millisecond are cut off; a leap second counts as the second after it.

    >>> parse_instant("1970-01-01T01:00:00.0019+01:00"), parse_instant("1970-01-01 00:00:00")
    (1, None)
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    offset_minutes = 0
    if match[8]:
        offset_hours, offset_rest = int(match[9]), int(match[10])
        if offset_hours > 23 or offset_rest > 59:
            return None
        offset_minutes = (offset_hours * 60 + offset_rest) * (-1 if match[8] == "-" else 1)
    leap = second == 60
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError:
        return None
    fraction_ms = 1000 if leap else int(((match[7] or "") + "000")[:3])
    instant = (moment - _EPOCH) // _MILLISECOND + fraction_ms - offset_minutes * 60_000
    return instant if 1 <= instant <= INSTANT_MAX_MS else None


def parse_address(text: str) -> bytes | None:
    """The address as 4 or 16 bytes in network order, ``None`` when it is none. IPv4 mapped into IPv6 gives IPv4.

    >>> parse_address("::ffff:192.0.2.1") == parse_address("192.0.2.1") == bytes([192, 0, 2, 1])
    True
    """
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):  # ValueError: a zero byte or half a surrogate inside
        return None
    return packed[12:] if packed.startswith(_MAPPED_PREFIX) else packed


def _bounded(limit_bytes: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) * 4 > limit_bytes and len(text.encode()) > limit_bytes:
            raise PydanticCustomError("too_long", "longer than {limit} bytes", {"limit": limit_bytes})
        return text

    return AfterValidator(check)


EventId = Annotated[str, Field(min_length=1, max_length=EVENT_ID_BYTES_MAX), _bounded(EVENT_ID_BYTES_MAX)]
Identifier = Annotated[str, Field(min_length=1, max_length=IDENTIFIER_BYTES_MAX), _bounded(IDENTIFIER_BYTES_MAX)]
Text = Annotated[str, Field(max_length=TEXT_BYTES_MAX), _bounded(TEXT_BYTES_MAX)]
Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
Instant = Annotated[int, Field(ge=0, le=INSTANT_MAX_MS)]
# JSON knows arrays only; strictness would ask for a tuple.
AsTuple = Strict(strict=False)
