"""The compiled twin of the request model: a flat struct generated from ``RequestEvent`` and its decoder.

It accepts a subset of what the model accepts and never more, except what ``decode`` checks afterwards (byte lengths of
identifiers in columns, addresses, written times). Whatever it refuses goes to the model, which decides.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from pydantic.fields import FieldInfo

from streamdetect.messages.request import ALIASES, OPEN_ENUMS, REQUIRED, RequestEvent
from streamdetect.pipeline.accept.columns import ABSENT

# Strings of these fields become columns; their byte lengths are known there, so characters are bounded here.
IDENTIFIER_COLUMNS: Final = ("event_id", "account_id", "org_id", "api_key_id", "payment_id")
# Integers of these fields become columns as they are, so absent is -1 from the start.
INTEGER_COLUMNS: Final = ("account_created_at", "input_tokens", "output_tokens", "cached_input_tokens", "turn")
_ALIASED_COLUMNS: Final = ("input_tokens", "output_tokens", "cached_input_tokens", "client_ip")
_PLURAL_ALIAS: Final = "finish_reason"  # an array under its other name
_UTF8_BYTES_MAX = 4  # of one character
_UNBOUNDED: Final = 2**62


def _unpacked(annotation: Any) -> tuple[Any, list[Any]]:
    """The bare type of an annotation without ``None``, and all metadata on the way to it."""
    metadata: list[Any] = []
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *extra = get_args(annotation)
            for item in extra:
                metadata.extend(item.metadata if isinstance(item, FieldInfo) else [item])
        elif origin in (Union, UnionType):
            (annotation,) = (part for part in get_args(annotation) if part is not NoneType)
        else:
            return annotation, metadata


def _limits(metadata: list[Any], name: str) -> Any:
    limits = {
        bound: getattr(item, bound)
        for item in metadata
        for bound in ("ge", "le", "max_length")
        if getattr(item, bound, None) is not None
    }
    if "max_length" in limits and name not in IDENTIFIER_COLUMNS:
        limits["max_length"] //= _UTF8_BYTES_MAX
    return msgspec.Meta(**limits)


def bounds_of(name: str) -> tuple[Any, int, int]:
    """The bare type of a field, and what its value, or the UTF-8 of it, is at least and at most."""
    bare, metadata = _unpacked(RequestEvent.model_fields[name].annotation)
    metadata = [*metadata, *RequestEvent.model_fields[name].metadata]
    found = {
        bound: getattr(item, bound)
        for item in metadata
        for bound in ("ge", "le", "max_length")
        if getattr(item, bound, None) is not None
    }
    return bare, int(found.get("ge", 0)), int(found.get("le", found.get("max_length", _UNBOUNDED)))


def _field(name: str, info: FieldInfo) -> tuple[Any, Any]:
    """Compiled type and default of one field."""
    bare, metadata = _unpacked(info.annotation)
    limits = _limits([*metadata, *info.metadata], name)
    if name == "occurred_at":
        return Annotated[int, limits] | str, msgspec.NODEFAULT
    if name in REQUIRED:
        return Annotated[str, limits, msgspec.Meta(min_length=1)], msgspec.NODEFAULT
    if name in OPEN_ENUMS or bare is str:
        return Annotated[str, limits] | None, None
    if bare is int:
        return Annotated[int, limits] | None, ABSENT if name in INTEGER_COLUMNS else None
    raise TypeError(f"RequestEvent.{name}: no compiled form for {bare!r}")


def _struct(names: Mapping[str, str]) -> Any:
    """A struct whose columns are read under ``names`` (field to name on the wire, where it is another one)."""
    fields = []
    for name, info in RequestEvent.model_fields.items():
        wire = names.get(name, name)
        form, default = _field(name, info)
        fields.append((name, form, default if wire == name else msgspec.field(name=wire, default=default)))
        fields.extend(
            (f"also_{other}".replace(".", "_"), _alias_form(name, form), _absent(other))
            for other in (name, *ALIASES.get(name, ()))
            if other != wire
        )
    # Collecting garbage need not look at it: no field can be part of a cycle.
    return msgspec.defstruct("EventStruct", fields, kw_only=True, gc=False)


def _alias_form(name: str, form: Any) -> Any:
    """What may stand under another name of a field.

    Where the field is no column nothing needs resolving, so its aliases are only checked. Elsewhere only null passes:
    which of several names counts is the model's to say.
    """
    if name in _ALIASED_COLUMNS:
        return None
    return list[form] | None if name == _PLURAL_ALIAS else form


def _absent(wire: str) -> Any:
    return msgspec.field(name=wire, default=None)


EventStruct: Final[Any] = _struct({})
decode_event: Final = msgspec.json.Decoder(EventStruct).decode
# For gateways that use other names throughout. A mixture of names goes to the model.
decode_event_by_alias: Final = tuple(
    msgspec.json.Decoder(_struct(names)).decode
    for names in (
        {"input_tokens": "tokens_in", "output_tokens": "tokens_out"},
        {name: next(alias for alias in ALIASES[name] if "." in alias) for name in _ALIASED_COLUMNS},
    )
)


def struct_of(event: RequestEvent, raw: dict[str, Any]) -> Any:
    """The struct of an event the model accepted; unknown enum values stay as they came, so that they are counted."""
    fields = {name: value for name in RequestEvent.model_fields if (value := getattr(event, name)) is not None}
    fields |= {name: raw[name] for name in OPEN_ENUMS if isinstance(raw.get(name), str)}
    return EventStruct(**fields)
