"""The table's store: images by partition, applied in order, dropped with their partition."""

from types import SimpleNamespace

import faust
import pytest
from faust.types import TP

from streamdetect.worker.store import BucketStore, DetectorTable, declare_table


@pytest.fixture
def table() -> DetectorTable:
    return declare_table(faust.App("group", broker="kafka://nowhere"), "state", partitions=4)


def event(partition: int, key: bytes, value: bytes | None) -> SimpleNamespace:
    return SimpleNamespace(key=key, value=value, message=SimpleNamespace(partition=partition, value=value))


def apply(table: DetectorTable, *events: SimpleNamespace) -> None:
    table.apply_changelog_batch(events)


def test_the_changelog_is_named_after_group_and_table_and_forces_the_assignor(table: DetectorTable) -> None:
    assert table.changelog_topic_name == "group-state-changelog"
    assert table.changelog_topic.partitions == 4
    assert table.app.tables.changelog_topics == {"group-state-changelog"}


def test_the_last_image_wins_and_a_tombstone_removes(table: DetectorTable) -> None:
    apply(table, event(0, b"a", b"1"), event(1, b"a", b"other"), event(0, b"b", b"2"))
    apply(table, event(0, b"a", b"3"), event(0, b"b", None), event(0, b"never", None))
    store = table.data
    assert isinstance(store, BucketStore)
    assert list(store.images(0)) == [(b"a", b"3")]
    assert list(store.images(1)) == [(b"a", b"other")]
    assert (0, b"a") in store
    assert len(store) == 2


async def test_partitions_that_moved_away_are_forgotten(table: DetectorTable) -> None:
    apply(table, event(0, b"a", b"1"), event(1, b"a", b"2"))
    kept = {TP("group-state-changelog", 1), TP("requests", 0)}
    await table.on_rebalance(kept, {TP("group-state-changelog", 0)}, set())
    assert list(table.data.images(0)) == []
    assert list(table.data.images(1)) == [(b"a", b"2")]


def test_recovery_starts_at_the_beginning(table: DetectorTable) -> None:
    assert table.persisted_offset(TP("group-state-changelog", 0)) is None
