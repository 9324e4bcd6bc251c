"""The table behind which the state of a stage lives, so that Faust assigns, co-partitions and recovers it.

The store keeps opaque images by partition and bucket key. No stage writes images yet: the table is declared from the
first version because the group protocol depends on it, and its changelog stays empty. State images come later.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import faust
from faust.stores.base import Store
from faust.types import TP

Image = bytes


class BucketStore(Store):  # type: ignore[misc]  # Faust is untyped here
    """Images of the partitions held, as a mapping from ``(partition, bucket)``."""

    def __post_init__(self) -> None:
        self.data: dict[tuple[int, bytes], Image] = {}

    def images(self, partition: int) -> Iterator[tuple[bytes, Image]]:
        """The buckets of one partition, in key order."""
        for (owner, bucket), image in sorted(self.data.items()):
            if owner == partition:
                yield bucket, image

    def persisted_offset(self, tp: TP) -> int | None:
        """Nothing outlives the process: recovery reads the changelog from its start."""
        del tp
        return None

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Take in images as they were written, in order; a null value removes its bucket."""
        for event in batch:
            key = (event.message.partition, to_key(event.key))
            if event.message.value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = to_value(event.value)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Forget partitions that moved away: their next owner writes on, and ours would be stale if they came back."""
        del revoked, newly_assigned, generation_id
        kept = {tp.partition for tp in assigned if tp.topic == self.table.changelog_topic_name}
        self.data = {key: image for key, image in self.data.items() if key[0] in kept}

    def reset_state(self) -> None:
        """Nothing on disk to remove."""

    async def backup_partition(self, tp: TP | int, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        """Nothing on disk to back up: the changelog is the copy."""

    def restore_backup(self, tp: TP | int, latest: bool = True, backup_id: int = 0) -> None:
        """Nothing on disk to restore."""


class DetectorTable(faust.Table):  # type: ignore[misc]  # Faust is untyped here
    """A table with a ``BucketStore``; its changelog has as many partitions as the stage's source topic."""

    def _new_store(self) -> BucketStore:
        return BucketStore(
            "buckets://",
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            value_type=self.value_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            loop=self.loop,
        )


def declare_table(
    app: faust.App, name: str, *, partitions: int, topic_settings: Mapping[str, Any] | None = None
) -> DetectorTable:
    """Add a table to ``app``. The changelog topic is ``<app id>-<name>-changelog``."""
    table = DetectorTable(
        app,
        name=name,
        partitions=partitions,
        key_type=bytes,
        value_type=bytes,
        extra_topic_configs=dict(topic_settings or {}),
    )
    app.tables.add(table)
    return table
