"""Dead letters: what is said of a record that could not be read. Topic ``dead-letters.v1``, keyed like the original.

They hold the place, the length and the names of known fields with their JSON types, and never any content.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from streamdetect.messages.base import Count, Message

SCHEMA_VERSION: Final = 1
NAMES_MAX: Final = 32
NAME_CHARS_MAX: Final = 40

# Code to meaning. The list is open: readers must expect codes they do not know.
CODES: Final = {
    "empty_value": "the value, or a required string, is empty",
    "invalid_utf8": "bytes or escapes that are no UTF-8 text",
    "invalid_json": "not JSON",
    "not_an_object": "JSON, but not an object",
    "missing_field": "required and absent or null",
    "wrong_type": "of another JSON type than stated",
    "invalid_value": "of the right type, but not a value it can have",
    "out_of_range": "a number below or above what is possible",
    "too_long": "a string above its limit of bytes",
    "too_deep": "nested deeper than is read",
    "future": "an event time too far ahead of its partition",
}

JsonType = Literal["string", "integer", "number", "boolean", "object", "array", "null"]


class DeadLetter(Message):
    """One record that was set aside. The original can be found by its place as long as its topic keeps it."""

    schema_version: Count = Field(default=SCHEMA_VERSION, description="Version of this format.")
    code: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        description="Why; an open list: " + ", ".join(CODES) + "."
    )
    field: Annotated[str, Field(max_length=80)] = Field(
        default="", description="The field that is wrong; empty when the whole record is."
    )
    message: Annotated[str, Field(max_length=200)] = Field(
        default="", description="For people; made of code and field."
    )
    topic: Annotated[str, Field(max_length=249)] = Field(description="Topic of the original.")
    partition: Count = Field(description="Partition of the original.")
    offset: Count = Field(description="Offset of the original.")
    record_bytes: Count = Field(description="Length of the original's value; 0 for a null value.")
    fields: Annotated[dict[str, JsonType], Field(max_length=NAMES_MAX)] = Field(
        default_factory=dict, description="Known top-level fields of the original with their JSON types."
    )
    other_fields: Count = Field(default=0, description="How many more top-level fields it had.")
