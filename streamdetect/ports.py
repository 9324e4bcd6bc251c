"""What the detector asks of a log outside itself: to send records, and to read a stretch of a partition.

``kafka.outbox`` and ``kafka.reader`` are the real ones; tests of crashes put a log in memory behind the same names.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as a partition holds it; a value of ``None`` is a tombstone, a time of -1 is not known."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = -1


class Sender(Protocol):
    """Sends records; nothing counts as sent before its future resolves."""

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, partition: int | None = None
    ) -> "asyncio.Future[Stored]":
        """Hand over one record; the future resolves on delivery, with where it landed."""


class LogReader(Protocol):
    """Reads stretches of partitions, outside any group."""

    async def starts(self, topic: str) -> dict[int, int]:
        """The offset of the oldest record kept of each partition, as of now."""

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record of each partition, as of now."""

    async def first(self, topic: str, starts: Mapping[int, int]) -> dict[int, Stored]:
        """The first record of each given partition at or after an offset; nothing of those that have none as of now."""

    def read(self, topic: str, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[Stored], None]:
        """All records of the given partitions from an offset on (or the oldest kept) to their ends as of now."""
