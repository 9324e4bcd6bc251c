"""What an associations stage takes and gives: rows about shared keys, and findings about the accounts that share them.

Both travel packed. A row keeps the position of the record it was made from, so that a receiver counts it once however
often and in whatever records it is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.packed import EVIDENCE, LINKS, pack, unpack
from streamdetect.pipeline.associations.state import AssociationsState

FINDING = np.dtype(
    [
        ("account", "u8"),
        ("key", "u8"),
        ("at", "i8"),
        ("event", "u8"),
        ("source_row", "u4"),
        ("young", "u4"),
        ("trusted", "u4"),
        ("members", "u4"),
        ("partition", "u2"),
        ("family", "u1"),
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class Links:
    """Rows for one links partition: event columns (``outer``) and row columns that refer to them.

    ``source`` is the request partition of each event, where evidence goes back to.
    """

    source: NDArray[np.uint16]
    occurred_at: NDArray[np.int64]
    account: NDArray[np.uint64]
    member: NDArray[np.uint64]
    event: NDArray[np.uint64]
    member_kind: NDArray[np.uint8]
    outer_index: NDArray[np.uint32]
    key_type: NDArray[np.uint8]
    key: NDArray[np.uint64]
    name_length: NDArray[np.int64]
    names: bytes


def unpack_links(state: AssociationsState, data: bytes, partitions: int) -> tuple[Links, int]:
    """Read a packed ``LINKS`` record, leaving out what this partition took in before; the count of those comes second.

    Rows arrive in order of their source offset, so one high-water mark a source tells what is new. A source is a
    request topic and partition as one number; modulo ``partitions`` it is where evidence goes back to.
    """
    record = unpack(LINKS, data)
    columns: dict[str, Any] = record.columns
    offsets = columns["source_offset"]
    mark = state.high_water.get(record.source_partition, -1)
    state.high_water[record.source_partition] = max(mark, int(offsets.max(initial=-1)))
    fresh = offsets[columns["outer_index"]] > mark
    skipped = len(fresh) - int(np.count_nonzero(fresh))
    lengths = columns["name_length"].astype(np.int64)
    names = record.names
    if skipped:
        ends = np.cumsum(lengths)
        names = b"".join(names[ends[row] - lengths[row] : ends[row]] for row in np.flatnonzero(fresh & (lengths > 0)))
    links = Links(
        source=np.full(record.outer_count, record.source_partition % partitions, np.uint16),
        **{name: columns[name] for name in ("occurred_at", "account", "member", "event", "member_kind")},
        **{name: columns[name][fresh] if skipped else columns[name] for name in ("outer_index", "key_type", "key")},
        name_length=lengths[fresh] if skipped else lengths,
        names=names,
    )
    return links, skipped


def joined_links(parts: Sequence[Links]) -> Links:
    """Several batches of rows as one, in order."""
    if len(parts) == 1:
        return parts[0]
    bases = np.cumsum([0, *(len(part.source) for part in parts[:-1])])
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Links.__dataclass_fields__
        if name not in ("outer_index", "names")
    }
    outer_index = [part.outer_index + np.uint32(base) for part, base in zip(parts, bases, strict=True)]
    return Links(**columns, outer_index=np.concatenate(outer_index), names=b"".join(part.names for part in parts))


def cut_links(links: Links, at: int) -> tuple[Links, Links]:
    """The first ``at`` rows, and the rest; both keep all event columns."""
    named = int(links.name_length[:at].sum())
    columns = ("outer_index", "key_type", "key", "name_length")
    before = replace(links, **{name: getattr(links, name)[:at] for name in columns}, names=links.names[:named])
    after = replace(links, **{name: getattr(links, name)[at:] for name in columns}, names=links.names[named:])
    return before, after


def pack_findings(
    findings: NDArray[np.void], source_partition: int, source_offset: NDArray[np.int64], source_row: NDArray[np.uint32]
) -> dict[int, bytes]:
    """One packed ``EVIDENCE`` record for each partition that gets findings, rows in order.

    ``source_offset`` and ``source_row`` give, for each finding, the links record and the row in it that made it.
    """
    records: dict[int, bytes] = {}
    for partition in np.unique(findings["partition"]).tolist():
        chosen = np.flatnonzero(findings["partition"] == partition)
        rows = findings[chosen]
        columns: dict[str, NDArray[np.generic]] = {
            "source_offset": source_offset[chosen],
            "source_row": source_row[chosen],
            "occurred_at": rows["at"],
            **{name: rows[name] for name in ("account", "family", "key", "young", "trusted", "members", "event")},
        }
        records[int(partition)] = pack(EVIDENCE, source_partition, columns)
    return records
