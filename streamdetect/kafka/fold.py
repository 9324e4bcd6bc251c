"""What a compacted topic says, as pure functions: last write wins per key, a null value deletes.

A reader first builds a snapshot, then follows the tail; after it lost its place it builds a new snapshot and reports
only what differs. Law: whoever applies the reported changes in order holds the fold of all records, however often and
wherever the reader began anew. Assumes what partitioning gives: all records of one key lie in one partition.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

VANISHED: Final = -1


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a compacted topic. ``value`` ``None`` deletes; ``offset`` -1: it vanished while nobody read."""

    key: bytes
    value: bytes | None
    partition: int
    offset: int
    timestamp_ms: int = -1


Snapshot = dict[bytes, Record]


def fold_into(snapshot: Snapshot, records: Iterable[Record]) -> None:
    """Apply records in order."""
    for record in records:
        if record.value is None:
            snapshot.pop(record.key, None)
        else:
            snapshot[record.key] = record


# Partition, offset, and the time by which a record of a topic that was made again is told from the one before.
_Place = tuple[int, int, int]


def _place(record: Record) -> _Place:
    return record.partition, record.offset, record.timestamp_ms


class Index:
    """Where the newest record of each key lies, without its value: enough to tell what a new snapshot changes."""

    def __init__(self) -> None:
        self._places: dict[bytes, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def replace(self, snapshot: Snapshot) -> Iterator[Record]:
        """Take a complete snapshot; yields what it changes, vanished keys first, then in the order of the snapshot."""
        old = self._places
        self._places = {key: _place(record) for key, record in snapshot.items()}
        yield from [Record(key, None, old[key][0], VANISHED) for key in old if key not in snapshot]
        for key, record in snapshot.items():
            if old.get(key) != _place(record):
                yield record

    def note(self, record: Record) -> None:
        """Take one record of the tail."""
        if record.value is None:
            self._places.pop(record.key, None)
        else:
            self._places[record.key] = _place(record)
