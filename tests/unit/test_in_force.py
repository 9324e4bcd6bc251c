"""What is in force as its writers see it, one process or two."""

import asyncio

import pytest
from test_brake import decision

from streamdetect.errors import UnreachableError
from streamdetect.kafka.fold import Record
from streamdetect.ports import Stored
from streamdetect.worker.in_force import AGAIN_MAX, InForce

KEY = b"account:a"


class Topic:
    """The log; whoever follows it sees a record right after it has landed."""

    def __init__(self):
        self.log, self.followers = [], []

    async def send(self, _topic, value, *, key=None, partition=None):
        assert partition is None
        landed = asyncio.get_running_loop().create_future()
        record = Stored(0, len(self.log), key, value)
        self.log.append(record)
        asyncio.get_running_loop().call_soon(self._land, landed, record)
        return landed

    def _land(self, landed, record):
        landed.set_result(record)
        for follower in self.followers:
            follower.seen(Record(record.key, record.value, 0, record.offset))


async def write(topic, owner, revision, value):
    owner.wrote(KEY, revision, value, await topic.send("enforcement", value, key=KEY))


async def settled(owners):
    async with asyncio.timeout(5):
        for _ in range(4 * AGAIN_MAX):
            await asyncio.sleep(0)
            for owner in owners:
                await owner.settle()


@pytest.fixture
def owners():
    topic = Topic()
    both = InForce("enforcement", topic), InForce("enforcement", topic)
    topic.followers += both
    return topic, *both


async def test_two_that_both_believe_to_own_a_subject_do_not_write_for_ever(owners):
    """One released it while the other took over, which puts in force again what it found in the log."""
    topic, stale, heir = owners
    await write(topic, stale, 7, None)
    await write(topic, heir, 5, decision("a", revision=5).to_bytes())
    await settled((stale, heir))

    assert AGAIN_MAX < len(topic.log) <= 2 * (AGAIN_MAX + 2)

    def check_both():
        stale.check()
        heir.check()

    with pytest.raises(UnreachableError, match="another process keeps writing about a subject") as told:
        check_both()
    assert "account:a" not in str(told.value)


async def test_late_records_of_a_stale_owner_are_no_dispute(owners):
    topic, owner, _ = owners
    topic.followers[:] = [owner]
    await write(topic, owner, 20, decision("a", revision=20).to_bytes())
    for late in range(8):
        await topic.send("enforcement", decision("a", revision=3 + late).to_bytes(), key=KEY)
        await settled([owner])

    owner.check()
    assert topic.log[-1].value == decision("a", revision=20).to_bytes()


async def test_what_is_decided_anew_begins_without_a_dispute(owners):
    topic, owner, _ = owners
    topic.followers[:] = [owner]
    for revision in range(20, 20 + 2 * AGAIN_MAX):
        await write(topic, owner, revision, decision("a", revision=revision).to_bytes())
        await topic.send("enforcement", decision("a", revision=3).to_bytes(), key=KEY)
        await settled([owner])
    owner.check()
