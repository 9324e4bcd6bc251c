"""Packed records: many rows between two stages in one Kafka record.

A 16-byte header (magic, version, kind, source partition, three lengths), then each column's bytes in schema order,
little-endian, no padding. A reader refuses what it does not know, by name; it never guesses. Text columns do not exist
here, except the names of shared things (an organisation, an API key), which travel as one blob with lengths.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdetect.errors import ImageError

VERSION = 1
_MAGIC = 0x5344
_HEADER = struct.Struct("<HBBHHII")

Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of one kind of packed record. ``outer`` has one entry an event, ``inner`` one a row."""

    kind: int
    name: str
    outer: tuple[tuple[str, np.dtype[np.generic]], ...]
    inner: tuple[tuple[str, np.dtype[np.generic]], ...]


def _columns(**types: str) -> tuple[tuple[str, np.dtype[np.generic]], ...]:
    return tuple((name, np.dtype(written)) for name, written in types.items())


LINKS = Schema(
    kind=1,
    name="links",
    outer=_columns(source_offset="<i8", occurred_at="<i8", account="<u8", member="<u8", event="<u8", member_kind="u1"),
    inner=_columns(outer_index="<u4", key_type="u1", key="<u8", name_length="<u2"),
)
EVIDENCE = Schema(
    kind=2,
    name="evidence",
    outer=(),
    inner=_columns(
        source_offset="<i8",
        source_row="<u4",
        account="<u8",
        family="u1",
        key="<u8",
        young="<u4",
        trusted="<u4",
        members="<u4",
        occurred_at="<i8",
        event="<u8",
    ),
)


def pack(
    schema: Schema, source_partition: int, columns: Mapping[str, NDArray[np.generic]], names: bytes = b""
) -> bytes:
    """Encode columns. Lengths come from the first column of each group, and the others must agree."""
    outer = [np.ascontiguousarray(columns[name], dtype) for name, dtype in schema.outer]
    inner = [np.ascontiguousarray(columns[name], dtype) for name, dtype in schema.inner]
    outer_count, inner_count = (len(outer[0]) if outer else 0), len(inner[0])
    assert all(len(column) == outer_count for column in outer)
    assert all(len(column) == inner_count for column in inner)
    header = _HEADER.pack(_MAGIC, VERSION, schema.kind, source_partition, 0, outer_count, inner_count)
    return b"".join([header, *(column.tobytes() for column in outer), *(column.tobytes() for column in inner), names])


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A decoded packed record: its columns, the names blob, and the partition its rows were made in."""

    source_partition: int
    outer_count: int
    inner_count: int
    columns: Columns
    names: bytes


def unpack(schema: Schema, data: bytes) -> Unpacked:
    """Decode a packed record.

    Columns are copied out, so that each is aligned and writable whatever the lengths before it: compiled code would
    otherwise be compiled anew, for seconds, for every combination of aligned and misaligned columns that comes along.

    Raises ``ImageError`` for another magic, version or kind, and for a record cut short.
    """
    if len(data) < _HEADER.size:
        raise ImageError(f"a {schema.name} record of {len(data)} bytes is shorter than its header")
    magic, version, kind, partition, _, outer_count, inner_count = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != VERSION or kind != schema.kind:
        raise ImageError(
            f"expected a {schema.name} record of version {VERSION},"
            f" found magic {magic:#x}, kind {kind}, version {version};"
            " run one streamdetect version on all workers, or let the older one drain first"
        )
    columns: Columns = {}
    position = _HEADER.size
    for group, count in ((schema.outer, outer_count), (schema.inner, inner_count)):
        for name, dtype in group:
            size = dtype.itemsize * count
            if position + size > len(data):
                raise ImageError(f"a {schema.name} record is cut short in column {name}")
            columns[name] = np.frombuffer(data, dtype, count, position).copy()
            position += size
    return Unpacked(partition, outer_count, inner_count, columns, data[position:])
