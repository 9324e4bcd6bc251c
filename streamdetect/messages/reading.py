"""From bytes to a message or a fault: the one strict reading of JSON that every model is judged by.

Stricter than most parsers, so that all of ours agree: UTF-8 without a byte order mark, no NaN, no lone surrogate,
nesting of at most 64, a repeated name counts by its last value. Numbers too big for any field are read as one big
number, so that their length costs nothing. A fault is built from error type and place only; it never shows content.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NoReturn, TypeVar

from pydantic import ValidationError

from streamdetect.messages.base import INCOMING, Message
from streamdetect.messages.dead_letter import CODES

DEPTH_MAX: Final = 64

_INTEGER_DIGITS_MAX = 24
_HUGE: int = 10**_INTEGER_DIGITS_MAX
# The closing quote is optional: without that, a string that never ends would be scanned again from every quote in it.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {code: 1 if code in b"[{" else -1 for code in b"[]{}"}
_CODE_OF_TYPE = {
    "missing": "missing_field",
    "too_long": "too_long",
    "string_too_long": "too_long",
    "string_too_short": "empty_value",
    "too_short": "empty_value",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
}

MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why bytes are no message. ``code`` is one of ``dead_letter.CODES``; ``field`` is empty for the whole record."""

    code: str
    field: str = ""

    @property
    def message(self) -> str:
        """For people; made of code and field alone."""
        return f"{self.field or 'record'}: {CODES[self.code]}"


def depth_of(value: bytes) -> int:
    """How deep arrays and objects nest. Exact for JSON, a number of no meaning otherwise.

    >>> depth_of(b'{"a": [1, "[[["]}')
    2
    """
    brackets = _STRING.sub(b"", value).translate(None, _NOT_BRACKETS)
    return max(accumulate(_STEP[bracket] for bracket in brackets), default=0)


def is_too_deep(value: bytes) -> bool:
    """Whether it nests deeper than ``DEPTH_MAX``; cheap where there are few brackets."""
    if value.find(b"{", 1) < 0 and b"[" not in value:
        return False
    return value.count(b"{") + value.count(b"[") > DEPTH_MAX and depth_of(value) > DEPTH_MAX


def parse_object(value: bytes | None) -> dict[str, Any] | Fault:
    """The JSON object in ``value``, or what is wrong with it."""
    if not value:
        return Fault("empty_value")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Fault("invalid_utf8")
    if is_too_deep(value):
        return Fault("too_deep")
    try:
        data = json.loads(text, parse_int=_bounded_int, parse_constant=_refuse_constant)
    except RecursionError:  # brackets that are not JSON can hide their depth from the count above
        return Fault("too_deep")
    except ValueError:
        return Fault("invalid_json")
    if not isinstance(data, dict):
        return Fault("not_an_object")
    return Fault("invalid_utf8") if "\\u" in text and _has_lone_surrogate(data) else data


def validate(model: type[MessageT], data: Mapping[str, Any]) -> MessageT | Fault:
    """A message of ``model`` made from a parsed object, or the first fault in the order of its fields."""
    try:
        return model.model_validate(data, context=INCOMING)
    except ValidationError as error:
        return _fault_of(error)


def read(model: type[MessageT], value: bytes | None) -> MessageT | Fault:
    """A message of ``model``, or what is wrong with the bytes. Never raises for bad input."""
    data = parse_object(value)
    return data if isinstance(data, Fault) else validate(model, data)


def _fault_of(error: ValidationError) -> Fault:
    first = error.errors(include_url=False, include_context=False)[0]
    kind = first["type"]
    code = _CODE_OF_TYPE.get(kind, "wrong_type" if kind.endswith("_type") else "invalid_value")
    if kind == "literal_error" and not isinstance(first["input"], str):
        code = "wrong_type"
    return Fault(code, ".".join(str(part) for part in first["loc"])[:80])


def _bounded_int(digits: str) -> int:
    if len(digits) <= _INTEGER_DIGITS_MAX:
        return int(digits)
    return -_HUGE if digits.startswith("-") else _HUGE


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _has_lone_surrogate(data: object) -> bool:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
