"""Topics, outbox, follower and gateway client on a broker."""

import asyncio
import os
import subprocess
import sys
import time

import pytest

from streamdetect.enforcer.client import GatewayClient, GatewayOptions, GatewayRequest
from streamdetect.errors import UnreachableError
from streamdetect.kafka.follower import Follower, read_all
from streamdetect.kafka.outbox import Outbox, OutboxBounds
from streamdetect.kafka.plan import ENFORCEMENT, LINKS, OVERRIDES, full_name, plan
from streamdetect.kafka.topics import create_and_check, demand_topic
from streamdetect.messages.decision import Decision, Heartbeat, Subject
from streamdetect.messages.override import Override
from streamdetect.settings import Settings

NOBODY = "127.0.0.1:1"


@pytest.fixture
def settings(broker, topic_prefix):
    return Settings(
        bootstrap_servers=broker.bootstrap_servers,
        topic_prefix=topic_prefix,
        group_id=topic_prefix + "group",
        topic_admin="admin" in broker.abilities,
    )


@pytest.fixture
async def ready_settings(settings):
    await create_and_check(settings)
    return settings


async def until(condition, limit_s=20.0):
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  # what is waited for lies on a broker
            await asyncio.sleep(0.01)


async def send_all(settings, topic, pairs):
    async with Outbox(settings) as outbox:
        for key, value in pairs:
            await outbox.send(topic, value, key=key)


@pytest.mark.needs("admin")
async def test_topics_are_created_once_and_then_only_checked(settings):
    first = await create_and_check(settings)
    assert set(first.created) == {spec.name for spec in plan(settings)}
    second = await create_and_check(settings)
    assert second.created == ()
    assert second.partitions == first.partitions
    assert second.unchecked == ()


@pytest.mark.needs("admin")
async def test_new_topics_join_the_partition_count_of_those_that_exist(settings, broker):
    broker.create_topics([full_name(LINKS, settings)], partitions=3)
    report = await create_and_check(settings)
    assert {report.partitions[spec.name] for spec in plan(settings) if spec.equal} == {3}


@pytest.mark.needs("admin")
async def test_what_does_not_fit_is_named_and_ends_with_4(settings, broker):
    links, accounts = full_name(LINKS, settings), settings.topic("accounts.v1")
    broker.create_topics([links], partitions=3)
    broker.create_topics([accounts], partitions=2, settings={"cleanup.policy": "delete"})
    with pytest.raises(UnreachableError) as caught:
        await create_and_check(settings)
    assert caught.value.exit_code == 4
    for part in (f"{links} has 3", f"{accounts} has 2", f"{accounts} must have cleanup.policy=compact, not delete"):
        assert part in str(caught.value)


@pytest.mark.needs("admin")
async def test_missing_topics_are_not_created_when_told_not_to(settings):
    with pytest.raises(UnreachableError, match=r"overrides\.v1 is missing.*streamdetect topics"):
        await create_and_check(settings, create=False)


async def test_all_topics_are_there_after_a_check_on_any_tier(ready_settings):
    assert set((await create_and_check(ready_settings)).partitions) == {spec.name for spec in plan(ready_settings)}


async def test_another_cluster_than_demanded_is_refused(ready_settings):
    found = (await create_and_check(ready_settings)).cluster_id
    demanding = ready_settings.model_copy(update={"cluster_id": found})
    assert (await create_and_check(demanding)).cluster_id == found
    other = ready_settings.model_copy(update={"cluster_id": "elsewhere"})
    for asked in (create_and_check(other), demand_topic(other, ready_settings.topic("overrides.v1"))):
        with pytest.raises(
            UnreachableError, match=f"this is cluster {found}, not elsewhere.*BOOTSTRAP_SERVERS"
        ) as caught:
            await asked
        assert caught.value.exit_code == 4


async def test_an_absent_broker_is_one_clear_error():
    settings = Settings(bootstrap_servers=NOBODY)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1.*STREAMDETECT_BOOTSTRAP_SERVERS"):
        await create_and_check(settings)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        await Outbox(settings).start()
    with pytest.raises(UnreachableError, match="could not be read within"):
        await read_all(settings, "t", timeout_s=0.5)
    assert time.monotonic() - began < 15


def test_the_command_says_it_in_one_line_and_ends_with_4():
    environment = {**os.environ, "STREAMDETECT_BOOTSTRAP_SERVERS": NOBODY}
    command = [sys.executable, "-m", "streamdetect", "topics"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


async def test_the_outbox_delivers_and_waits_when_full(ready_settings):
    topic = ready_settings.topic(ENFORCEMENT)
    async with Outbox(ready_settings, bounds=OutboxBounds(records_max=10)) as outbox:
        for number in range(100):
            await outbox.send(topic, b"v%d" % number, key=b"k%d" % (number % 7))
            assert outbox.records_under_way <= 10
        await outbox.drain()
        assert outbox.records_under_way == 0
    held = await read_all(ready_settings, topic)
    assert held == {b"k%d" % (number % 7): b"v%d" % number for number in range(93, 100)}


async def test_a_record_goes_to_the_partition_it_is_told(ready_settings):
    seen = []
    topic = ready_settings.topic(ENFORCEMENT)
    async with Outbox(ready_settings) as outbox:
        for partition in range(4):
            await outbox.send(
                topic, b"v", key=b"k%d" % partition, partition=partition, timestamp_ms=1_000_000 + partition
            )
    async with Follower(ready_settings, topic, seen.append) as follower:
        await follower.until_ready()
    assert sorted((record.key, record.partition, record.timestamp_ms) for record in seen) == [
        (b"k%d" % partition, partition, 1_000_000 + partition) for partition in range(4)
    ]


@pytest.mark.needs("admin")
async def test_a_refused_record_fails_its_future_and_everything_after_it(settings, broker):
    topic = settings.topic("small")
    broker.create_topics([topic], settings={"max.message.bytes": "1000"})
    outbox = Outbox(settings)
    await outbox.start()
    try:
        delivery = await outbox.send(topic, os.urandom(5000), key=b"k")
        with pytest.raises(UnreachableError, match="small was not delivered"):
            await delivery
        with pytest.raises(UnreachableError):
            await outbox.send(topic, b"fits", key=b"k")
        with pytest.raises(UnreachableError):
            await outbox.drain()
    finally:
        await outbox.stop()


async def test_a_delivery_nobody_acknowledges_fails_in_time(ready_settings):
    """The bound holds even for a broker that is there but is given no time at all."""
    topic = ready_settings.topic(ENFORCEMENT)
    outbox = Outbox(ready_settings, bounds=OutboxBounds(delivery_timeout_s=0.0))
    await outbox.start()
    try:
        with pytest.raises(UnreachableError, match="acknowledged nothing"):
            await (await outbox.send(topic, b"v", key=b"k"))
    finally:
        await outbox.stop()


async def test_leaving_the_outbox_reports_what_was_not_delivered(ready_settings):
    topic = ready_settings.topic(ENFORCEMENT)
    with pytest.raises(UnreachableError):
        async with Outbox(ready_settings, bounds=OutboxBounds(delivery_timeout_s=0.0)) as outbox:
            await outbox.send(topic, b"v", key=b"k")


async def test_a_follower_is_ready_on_an_empty_topic(ready_settings):
    assert await read_all(ready_settings, ready_settings.topic(OVERRIDES)) == {}


async def test_a_follower_gives_the_newest_values_then_the_tail_and_tombstones(ready_settings):
    topic, held = ready_settings.topic(OVERRIDES), {}

    def take(record):
        if record.value is None:
            held.pop(record.key, None)
        else:
            held[record.key] = record.value

    await send_all(ready_settings, topic, [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None), (b"c", b"1")])
    async with Follower(ready_settings, topic, take) as follower:
        await follower.until_ready()
        assert held == {b"a": b"2", b"c": b"1"}
        await send_all(ready_settings, topic, [(b"a", None), (b"d", b"1")])
        await until(lambda: held == {b"c": b"1", b"d": b"1"})


async def test_a_callback_that_raises_is_not_silent(ready_settings):
    def refuse(_record):
        raise RuntimeError("broken")

    topic = ready_settings.topic(OVERRIDES)
    await send_all(ready_settings, topic, [(b"a", b"1")])
    follower = Follower(ready_settings, topic, refuse)
    follower.start()
    with pytest.raises(RuntimeError, match="broken"):
        await follower.until_ready()
    with pytest.raises(RuntimeError, match="broken"):
        await follower.stop()


def suspend(account, now, revision=1):
    return Decision(
        decision_id=f"d-{account}",
        revision=revision,
        subject=Subject(scope="account", value=account),
        action="suspend",
        status="issued",
        mode="live",
        origin="rule",
        issued_at=now,
        expires_at=now + 60_000,
        policy={"id": "p", "version": 1, "hash": "h"},
        reason_code="unusual_volume",
    )


async def test_a_gateway_obeys_what_is_on_the_topics(ready_settings):
    settings = ready_settings
    now = time.time_ns() // 1_000_000
    decisions, overrides = settings.topic(ENFORCEMENT), settings.topic(OVERRIDES)
    beat = Heartbeat(partition=0, published_at=now, mode="live")
    await send_all(
        settings,
        decisions,
        [
            (b"account:a", suspend("a", now).to_bytes()),
            (b"account:b", suspend("b", now).to_bytes()),
            (b"account:c", b"no json"),
            (beat.key.encode(), beat.to_bytes()),
        ],
    )
    async with GatewayClient(settings, GatewayOptions(stale_after_s=600)) as client:
        await client.until_ready()
        assert client.check(GatewayRequest("a")).action == "suspend"
        assert client.admit(GatewayRequest("b")).retry_after_ms is not None
        assert client.check(GatewayRequest("c")).action == "pass"
        assert client.unreadable == 1
        assert not client.stale
        allow = Override(
            override_id="o",
            subject=Subject(scope="account", value="a"),
            effect="allow",
            actor="me",
            reason="r",
            created_at=now,
        )
        await send_all(settings, overrides, [(b"account:a", allow.to_bytes())])
        await send_all(settings, decisions, [(b"account:b", None)])
        await until(
            lambda: not client.check(GatewayRequest("a")).denied and not client.check(GatewayRequest("b")).denied
        )
        assert client.check(GatewayRequest("a")).cause == "allow"
        await send_all(settings, overrides, [(b"account:a", None)])
        await until(lambda: client.check(GatewayRequest("a")).denied)


async def test_old_decisions_hold_on_the_event_clock_only(ready_settings):
    settings = ready_settings
    await send_all(settings, settings.topic(ENFORCEMENT), [(b"account:a", suspend("a", 1_000_000).to_bytes())])
    by_event = settings.model_copy(update={"clock": "event"})
    async with GatewayClient(settings) as wall, GatewayClient(by_event) as event:
        await wall.until_ready()
        await event.until_ready()
        assert not wall.check(GatewayRequest("a")).denied
        assert event.check(GatewayRequest("a"), 1_000_500).denied
        assert not event.check(GatewayRequest("a"), 1_060_000).denied
        assert wall.stale
