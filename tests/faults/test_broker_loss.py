"""Outbox and follower through the loss of their broker."""

import asyncio

import pytest

from streamdetect.errors import UnreachableError
from streamdetect.kafka.follower import Follower
from streamdetect.kafka.outbox import Outbox, OutboxBounds
from streamdetect.sandbox.cluster import Tier, start_cluster
from streamdetect.settings import Settings

pytestmark = pytest.mark.needs("multibroker")
TOPIC = "facts"


@pytest.fixture
def own_broker(broker):
    """A broker of its own, for it is killed."""
    with start_cluster(tier=Tier.JARS) as cluster:
        cluster.create_topics([TOPIC], settings={"cleanup.policy": "compact"})
        yield cluster


async def test_a_killed_broker_breaks_the_outbox_and_a_follower_waits_for_the_next(own_broker):
    settings = Settings(bootstrap_servers=own_broker.bootstrap_servers)
    (node,) = own_broker.nodes
    held = {}

    def take(record):
        if record.value is None:
            held.pop(record.key, None)
        else:
            held[record.key] = record.value

    async with Follower(settings, TOPIC, take) as follower:
        outbox = Outbox(settings, bounds=OutboxBounds(delivery_timeout_s=2.0))
        await outbox.start()
        await (await outbox.send(TOPIC, b"1", key=b"before"))
        await follower.until_ready()
        node.kill()
        with pytest.raises(UnreachableError):
            await (await outbox.send(TOPIC, b"1", key=b"while it is down"))
        with pytest.raises(UnreachableError):
            await outbox.drain()
        await outbox.stop()

        await asyncio.to_thread(node.restart)
        async with Outbox(settings) as again:
            await again.send(TOPIC, b"2", key=b"before")
            await again.send(TOPIC, b"2", key=b"after")
        async with asyncio.timeout(30):
            while held.get(b"after") != b"2" or held.get(b"before") != b"2":  # noqa: ASYNC110  # waits for a broker
                await asyncio.sleep(0.05)
