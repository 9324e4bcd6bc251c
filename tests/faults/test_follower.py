"""What a follower does when its topic or its broker goes, and when it ends itself: in memory, in virtual time."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from simulated_broker import run_virtually

from streamdetect.enforcer.client import GatewayClient, GatewayOptions
from streamdetect.kafka import follower as module
from streamdetect.kafka.follower import BACKOFF_MAX_S, Follower, stop_all
from streamdetect.messages.decision import Heartbeat
from streamdetect.settings import Settings

SETTINGS = Settings()
TOPIC = SETTINGS.topic("overrides.v1")


class World:
    """One cluster with topics of one partition, as a client knows it."""

    def __init__(self):
        self.logs = {SETTINGS.topic(name): [] for name in ("overrides.v1", "enforcement.v1")}
        self.known = True
        self.up = True
        self.attempts = 0

    def consumer(self, **_):
        return Consumer(self)


class Consumer:
    """What a follower uses of aiokafka; a topic made anew answers a fetch as if nothing had happened."""

    def __init__(self, world):
        self.world, self.place = world, 0

    async def start(self):
        self.world.attempts += 1
        if not self.world.up:
            raise KafkaConnectionError("refused")

    async def stop(self):
        pass

    async def topics(self):
        return set(self.world.logs)

    def assign(self, partitions):
        self.topic = partitions[0].topic

    def partitions_for_topic(self, _topic):
        return {0} if self.world.known else None

    async def end_offsets(self, partitions):
        return dict.fromkeys(partitions, len(self.world.logs[self.topic]))

    async def beginning_offsets(self, partitions):
        return dict.fromkeys(partitions, 0)

    def seek(self, _partition, place):
        self.place = place

    async def position(self, _partition):
        return self.place

    async def getmany(self, *_, **__):
        await asyncio.sleep(0.1)
        if not self.world.up:
            raise KafkaConnectionError("gone")
        found = self.world.logs[self.topic][self.place :]
        records = [
            SimpleNamespace(key=key, value=value, partition=0, offset=self.place + number, timestamp=0)
            for number, (key, value) in enumerate(found)
        ]
        self.place += len(records)
        return {TopicPartition(self.topic, 0): records}


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(module, "AIOKafkaConsumer", made.consumer)
    return made


def test_a_topic_made_again_with_as_many_records_is_read_from_its_start(world):
    held = {}

    def keep(record):
        held[record.key] = record.value

    async def story():
        world.logs[TOPIC] = [(b"account:a", b"allow"), (b"account:b", b"deny")]
        async with Follower(SETTINGS, TOPIC, keep) as follower:
            await follower.until_ready()
            world.known, world.logs[TOPIC] = False, []
            await asyncio.sleep(1)
            world.known, world.logs[TOPIC] = True, [(b"account:%d" % number, b"deny") for number in range(3)]
            await asyncio.sleep(BACKOFF_MAX_S)

    run_virtually(story())
    assert {key for key, value in held.items() if value is not None} == {b"account:0", b"account:1", b"account:2"}


def test_a_topic_whose_partitions_nobody_tells_is_waited_for(world):
    async def story():
        world.known = False
        async with Follower(SETTINGS, TOPIC, lambda _record: None) as follower:
            await asyncio.sleep(1)
            assert (follower.ready.is_set(), follower.ended) == (False, False)
            world.known = True
            await follower.until_ready()

    run_virtually(story())


def test_pauses_grow_while_the_broker_is_away_also_after_it_has_been_there(world):
    async def story():
        async with Follower(SETTINGS, TOPIC, lambda _record: None) as follower:
            await follower.until_ready()
            world.up, world.attempts = False, 0
            await asyncio.sleep(60)
            assert world.attempts <= 12
            world.up = True
            await asyncio.sleep(BACKOFF_MAX_S)
            world.up, world.attempts = False, 0
            await asyncio.sleep(1)
            assert world.attempts >= 2, "a pause of another outage lasted on"

    run_virtually(story())


@pytest.mark.parametrize("topic", ["overrides.v1", "enforcement.v1"])
def test_a_gateway_sees_that_it_no_longer_follows_and_stops_the_rest(world, topic):
    async def story():
        client = GatewayClient(SETTINGS, GatewayOptions(wall_ms=lambda: 1000))
        beat = Heartbeat(partition=0, published_at=1000, mode="live")
        world.logs[SETTINGS.topic("enforcement.v1")].append((beat.key.encode(), beat.to_bytes()))
        client.start()
        await client.until_ready()
        client.raise_if_ended()
        assert (client.ready, client.stale) == (True, False)
        world.logs[SETTINGS.topic(topic)].append((7, None))  # a key that is no bytes: a defect of a client library
        await asyncio.sleep(1)
        assert (client.ready, client.stale) == (False, True)
        with pytest.raises(AttributeError):
            client.raise_if_ended()
        with pytest.raises(AttributeError):
            await client.stop()
        assert {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("follow")} == set()

    run_virtually(story())


@pytest.mark.parametrize("broken", [0, 1])
def test_all_followers_are_stopped_whichever_of_them_has_ended(world, broken):
    async def story():
        for log in world.logs.values():
            log.append((b"key", b"value"))

        def refuse(_record):
            raise LookupError("nobody takes this")

        followers = [
            Follower(SETTINGS, topic, refuse if number == broken else lambda _record: None)
            for number, topic in enumerate(world.logs)
        ]
        for follower in followers:
            follower.start()
        await asyncio.sleep(1)
        with pytest.raises(LookupError):
            await stop_all(followers)
        assert {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("follow")} == set()

    run_virtually(story())
