"""What becomes of partitions whose restoring fails or is cut short."""

import asyncio
from types import SimpleNamespace

import pytest
from test_brake import NOW_S, decision

from streamdetect.worker.brake import Brake
from streamdetect.worker.ownership import Ownership


class Restoring:
    """Stands for the detector, the saver and the recovery of an ownership; every shard has one decision held."""

    partitions = frozenset()

    def __init__(self, fails=None):
        self.fails, self.failed, self.begun = fails, [], []
        self.brake = Brake(5, 300.0, lambda: NOW_S, lambda: 0.0)
        self.enforcing, self.slow = asyncio.Event(), asyncio.Event()
        self.ownership = Ownership(self, self, self, self.brake, self.enforce, self.fail, self.go_back)

    def add(self, _partition, _shard):
        return []

    def begin(self, _partition, _lineage): ...

    def keep_only(self, _partitions): ...

    async def restore(self, partitions, _generation):
        if self.fails:
            raise self.fails
        shard = SimpleNamespace(followed=lambda: [decision("followed")], begin_at=lambda *told: self.begun.append(told))
        lineage = SimpleNamespace(next_sequence=5)
        return [
            SimpleNamespace(
                partition=number,
                shard=shard,
                lineage=lineage,
                held=[decision(f"held-{number}")],
                ends={"requests": 500},
            )
            for number in sorted(partitions)
        ]

    async def enforce(self, _decisions):
        self.enforcing.set()
        await self.slow.wait()
        return []

    async def go_back(self, partition):
        return {"requests": 100 + partition}

    async def fail(self, error):
        self.failed.append(error)


@pytest.mark.parametrize("error", [ValueError("an array does not fit"), MemoryError(), KeyError("positions")])
async def test_whatever_ends_a_restore_is_told(error):
    restoring = Restoring(fails=error)
    await restoring.ownership.assigned({3}, 1)
    await restoring.ownership.settle()

    assert restoring.failed == [error]
    assert not restoring.ownership.ready


async def test_what_a_state_does_not_know_begins_where_was_committed():
    restoring = Restoring()
    restoring.slow.set()
    await restoring.ownership.assigned({3}, 1)
    await restoring.ownership.settle()
    assert restoring.begun == [({"requests": 103}, {"requests": 500})]


async def test_a_restore_cut_short_leaves_nothing_at_the_brake():
    restoring = Restoring()
    await restoring.ownership.assigned({3, 4}, 1)
    await restoring.enforcing.wait()
    assert restoring.brake.held == 1

    await restoring.ownership.revoked()
    await restoring.ownership.assigned({4}, 2)
    restoring.slow.set()
    await restoring.ownership.settle()

    assert restoring.ownership.ready
    assert restoring.brake.held_of(3) == []
    assert [held.subject.value for held in restoring.brake.held_of(4)] == ["held-4"]
