"""From a reject to the message on the dead-letter topic: place, length and shape of the record, never its content."""

from collections.abc import Mapping
from typing import Any, Final

from streamdetect.kernels.chunk import Chunk
from streamdetect.messages.account import AccountRecord
from streamdetect.messages.dead_letter import NAME_CHARS_MAX, NAMES_MAX, DeadLetter
from streamdetect.messages.request import ALIASES, RequestEvent
from streamdetect.pipeline.accept.columns import Reject

# A field name is content too, as far as we know, unless it is one of ours.
KNOWN_NAMES: Final = frozenset(
    name
    for name in (
        *RequestEvent.model_fields,
        *AccountRecord.model_fields,
        *(alias for aliases in ALIASES.values() for alias in aliases),
        "sketch",
    )
    if len(name) <= NAME_CHARS_MAX
)
_JSON_TYPES: Final = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
    type(None): "null",
}
_OTHER: Final = "other"
# Far above any identifier. A longer key could make the dead letter larger than a broker takes, for ever.
KEY_BYTES_MAX: Final = 1024


def shape_of(data: Mapping[str, Any]) -> str:
    """Known top-level names with their JSON types, in order of appearance; all others as one count.

    >>> shape_of({"event_id": "e", "turn": 1.5, "secret": []})
    'event_id:string turn:number other:1'
    """
    known = [name for name in data if name in KNOWN_NAMES][:NAMES_MAX]
    parts = [f"{name}:{_JSON_TYPES[type(data[name])]}" for name in known]
    others = len(data) - len(known)
    return " ".join([*parts, f"{_OTHER}:{others}"] if others else parts)


def dead_letter_of(reject: Reject, chunk: Chunk) -> DeadLetter:
    """The dead letter of one reject of ``chunk``. Its record key is that of ``dead_letter_key``."""
    start, end = int(chunk.values.start[reject.record]), int(chunk.values.end[reject.record])
    fields = dict(part.rsplit(":", 1) for part in reject.shape.split())
    others = int(fields.pop(_OTHER, 0))
    return DeadLetter(
        code=reject.code,
        field=reject.field,
        message=reject.message,
        topic=chunk.topic,
        partition=chunk.partition,
        offset=int(chunk.offsets[reject.record]),
        record_bytes=0 if start < 0 else end - start,
        fields=fields,  # type: ignore[arg-type]  # types are from the table above
        other_fields=others,
    )


def dead_letter_key(reject: Reject, chunk: Chunk) -> bytes | None:
    """The key of the original; ``None`` where it has none or one that is too long to be sent again."""
    start, end = int(chunk.keys.start[reject.record]), int(chunk.keys.end[reject.record])
    return None if end - start > KEY_BYTES_MAX else chunk.key(reject.record)
