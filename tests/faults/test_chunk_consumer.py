"""The chunk consumer under faults, on a Kafka in this process: what is delivered, in which order, what is committed."""

import asyncio
import contextlib

import pytest
from fake_transport import FakeBroker, fake_app
from faust.types import TP
from recorder import PATIENCE_S, A, B, Recorder, broker_with, running, settle, until

from streamdetect.worker.chunks import ChunkLimits
from streamdetect.worker.engine import hot_topic


async def test_every_record_arrives_once_in_order_with_its_bytes() -> None:
    broker = FakeBroker()
    broker.append(A, {0: b"zero", 3: None, 4: b"", 9: b"\xff not text"}, key=None)
    broker.append(A, {12: b"twelve"}, key=b"key")
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed.get(A) == 13)
    (event,) = agent.events
    chunk = event.value
    assert chunk.offsets.tolist() == [0, 3, 4, 9, 12]
    assert [chunk.value(i) for i in range(5)] == [b"zero", None, b"", b"\xff not text", b"twelve"]
    assert [chunk.key(i) for i in range(5)] == [None] * 4 + [b"key"]


async def test_partitions_take_turns_chunk_by_chunk() -> None:
    broker = broker_with(50, A, B)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed == {A: 50, B: 50})
    assert agent.seen == {A: list(range(50)), B: list(range(50))}
    turns = [event.value.partition for event in agent.events]
    assert turns == [0, 1] * 5


async def test_a_chunk_is_bounded_in_bytes_but_never_empty() -> None:
    broker = FakeBroker()
    broker.append(A, {0: b"x" * 40, 1: b"x" * 40, 2: b"x" * 200, 3: b"x"}, key=None)
    app = fake_app(broker, {"hot"}, limits=ChunkLimits(records=10, size_bytes=100))
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed.get(A) == 4)
    assert [event.value.offsets.tolist() for event in agent.events] == [[0, 1], [2], [3]]


async def test_commit_stops_before_the_first_unacked_chunk_whatever_the_order_of_acks() -> None:
    broker = FakeBroker()
    broker.append(A, dict.fromkeys(range(0, 120, 3), b"v"))
    app = fake_app(broker, {"hot"})
    agent = Recorder(app, ack=False)
    async with running(app):
        await until(lambda: len(agent.events) == 4)
        first, second, third, fourth = agent.events
        for event in (fourth, second):
            event.ack()
        await settle()
        assert A not in broker.committed
        first.ack()
        await until(lambda: broker.committed.get(A) == second.value.offsets[-1] + 1)
        await settle()
        assert broker.committed[A] == second.value.offsets[-1] + 1
        third.ack()
        await until(lambda: broker.committed[A] == 118)
        assert app.consumer.in_flight(A) == 0


async def test_records_on_their_way_at_a_rebalance_are_not_lost() -> None:
    broker = broker_with(30, A, B)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed == {A: 30, B: 30})
        agent.thread.answering.clear()
        fetched = agent.thread.fetched
        broker.fill(A, 25)
        broker.fill(B, 25)
        await until(lambda: agent.thread.fetched == fetched + 50)
        await agent.thread.rebalance({A, B})
        await settle()
        agent.thread.answering.set()
        await until(lambda: broker.committed == {A: 55, B: 55})
    assert agent.seen == {A: list(range(55)), B: list(range(55))}


async def test_a_fetch_asked_before_a_rebalance_and_answered_after_it_is_not_lost() -> None:
    broker = broker_with(30)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed.get(A) == 30)
        agent.thread.reading.clear()
        asked = agent.thread.asked
        await until(lambda: agent.thread.asked > asked)
        await agent.thread.rebalance({A})
        await until(lambda: app.consumer._positioned.is_set() and app.consumer.flow_active)
        broker.fill(A, 25)
        agent.thread.reading.set()
        await until(lambda: broker.committed[A] == 55)
    assert agent.seen[A] == list(range(55))


async def test_records_fetched_before_a_stop_of_the_flow_without_a_rebalance_are_not_lost() -> None:
    broker = broker_with(300)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    agent.room.clear()
    async with running(app):
        await until(lambda: bool(app.consumer._held))
        app.consumer.stop_flow()
        agent.room.set()
        await settle()
        assert len(agent.seen[A]) < 300
        assert not app.consumer._held
        app.consumer.resume_flow()
        await until(lambda: broker.committed.get(A) == 300)
    assert agent.seen[A] == list(range(300))


async def test_rebalances_under_load_lose_and_reorder_nothing() -> None:
    broker = broker_with(100, A, B)
    broker.fetch_records = 35
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    async with running(app):
        await until(lambda: bool(agent.events))
        for assigned in ({A}, {A, B}, set(), {B}, {A, B}):
            await settle(7)
            for tp in (A, B):
                broker.fill(tp, 100)
            await agent.thread.rebalance(assigned)
        await until(lambda: broker.committed == {A: 600, B: 600})
    for tp in (A, B):
        assert set(agent.seen[tp]) == set(range(600))
        newest = -1
        for offset in agent.seen[tp]:
            assert offset <= newest + 1, "an offset was skipped before its turn"
            newest = max(newest, offset)


async def test_what_is_acked_is_committed_before_the_partition_goes() -> None:
    broker = broker_with(20)
    app = fake_app(broker, {"hot"}, broker_commit_interval=1_000.0)
    agent = Recorder(app)
    async with running(app):
        await until(lambda: len(agent.events) == 2)
        assert A not in broker.committed
        await agent.thread.rebalance(set())
        assert broker.committed == {A: 20}


async def test_the_hook_before_a_revoke_can_still_ack() -> None:
    broker = broker_with(20)
    app = fake_app(broker, {"hot"}, broker_commit_interval=1_000.0)
    agent = Recorder(app, ack=False)
    told = []

    async def finish(revoked: frozenset[TP]) -> None:
        told.append(revoked)
        for event in agent.events:
            event.ack()

    async with running(app):
        app.consumer.set_before_revoke(finish, timeout_s=1.0)
        await until(lambda: len(agent.events) == 2)
        await agent.thread.rebalance(set())
        assert broker.committed == {A: 20}
    assert told == [frozenset({A})]


async def test_a_hook_that_hangs_does_not_hold_the_group() -> None:
    broker = broker_with(20)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app, ack=False)

    async def hang(_revoked: frozenset[TP]) -> None:
        await asyncio.Event().wait()

    async with running(app):
        app.consumer.set_before_revoke(hang, timeout_s=0.01)
        await until(lambda: len(agent.events) == 2)
        async with asyncio.timeout(PATIENCE_S):
            await agent.thread.rebalance({A})
        await until(lambda: len(agent.events) == 4)
    assert agent.seen[A] == [*range(20), *range(20)]


async def test_an_ack_after_the_revoke_changes_nothing_and_the_chunk_comes_again() -> None:
    broker = broker_with(20)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app, ack=False)
    async with running(app):
        await until(lambda: len(agent.events) == 2)
        await agent.thread.rebalance({A})
        await until(lambda: len(agent.events) == 4)
        for stale in agent.events[:2]:
            stale.ack()
        await settle()
        assert A not in broker.committed
        for fresh in agent.events[2:]:
            fresh.ack()
        await until(lambda: broker.committed.get(A) == 20)


async def test_unacked_chunks_come_again_after_a_restart() -> None:
    broker = broker_with(40)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app, ack=False)
    async with running(app):
        await until(lambda: len(agent.events) == 4)
        agent.events[0].ack()
        agent.events[2].ack()
        await until(lambda: broker.committed.get(A) == 10)
    again = fake_app(broker, {"hot"})
    second = Recorder(again)
    async with running(again):
        await until(lambda: broker.committed[A] == 40)
    assert second.seen[A] == list(range(10, 40))


async def test_an_agent_that_raises_ends_the_app_and_its_chunk_stays_uncommitted() -> None:
    broker = broker_with(40)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    agent.poison = b"v25"
    await app.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await app.wait_until_stopped()
        assert isinstance(app.crash_reason, RuntimeError)
    finally:
        await app.stop()
    assert agent.seen[A] == list(range(20))
    assert broker.committed.get(A, 0) <= 20
    again = fake_app(broker, {"hot"})
    second = Recorder(again)
    async with running(again):
        await until(lambda: broker.committed.get(A) == 40)
    assert set(agent.seen[A]) | set(second.seen[A]) == set(range(40))


async def test_an_agent_that_acks_automatically_is_refused() -> None:
    broker = broker_with(10)
    app = fake_app(broker, {"hot"})
    Recorder(app, ack=False, noack=False)
    await app.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await app.wait_until_stopped()
        assert "noack" in str(app.crash_reason)
    finally:
        with contextlib.suppress(RuntimeError):
            await app.stop()
    assert A not in broker.committed


async def test_a_gate_holds_one_partition_and_loses_nothing() -> None:
    broker = broker_with(100, A, B)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    shut: set[TP] = set()

    def gate(tp: TP) -> bool:
        if len(agent.seen[A]) >= 20 and not shut and not opened:
            shut.add(A)
        return tp not in shut

    opened = False
    async with running(app):
        app.consumer.set_gate(gate)
        await until(lambda: broker.committed.get(B) == 100)
        await settle()
        assert A in shut
        held = len(agent.seen[A])
        assert held < 100
        broker.fill(A, 50)
        broker.fill(B, 50)
        await until(lambda: broker.committed.get(B) == 150)
        assert len(agent.seen[A]) == held
        opened = True
        shut.clear()
        await until(lambda: broker.committed.get(A) == 150)
    assert agent.seen == {A: list(range(150)), B: list(range(150))}


async def test_a_slow_agent_bounds_what_is_in_memory() -> None:
    broker = broker_with(3_000)
    broker.fetch_records = 200
    limits = ChunkLimits(records=20, held_bytes=8 << 10)
    app = fake_app(broker, {"hot"}, limits=limits, stream_buffer_maxsize=8)
    agent = Recorder(app)
    agent.room.clear()
    async with running(app):
        await until(lambda: A in app.consumer._buffered_partitions)
        await settle()
        # With the queue and the agent, held, and of the last fetch; a record of this log takes 48 bytes or more.
        assert agent.thread.fetched <= 9 * limits.records + limits.held_bytes // 48 + 200
        assert app.consumer.in_flight(A) <= 8 + 1
        agent.room.set()
        await until(lambda: broker.committed.get(A) == 3_000)
    assert agent.seen[A] == list(range(3_000))


@pytest.mark.parametrize(("patience_s", "place"), [(60.0, 10), (-1.0, 1)])
async def test_full_chunks_go_before_small_ones_for_a_while(monkeypatch, patience_s: float, place: int) -> None:
    monkeypatch.setattr("streamdetect.worker.transport.PATIENCE_S", patience_s)
    broker = broker_with(100, A)
    broker.fill(B, 3)
    app = fake_app(broker, {"hot"}, limits=ChunkLimits(records=10))
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed == {A: 100, B: 3})
    order = [event.message.tp for event in agent.events]
    assert order == [A] * place + [B] + [A] * (10 - place)


@pytest.mark.parametrize("hot", [True, False])
async def test_other_topics_come_the_stock_way(hot: bool) -> None:
    cold = TP("cold", 0)
    broker = broker_with(5, cold)
    app = fake_app(broker, {"hot"} | ({"cold"} if hot else set()))
    values = []

    @app.agent(hot_topic(app, "cold"), name="cold")
    async def take(stream):
        async for event in stream.noack().events():
            values.append(event.value)
            event.ack()

    async with running(app):
        await until(lambda: broker.committed.get(cold) == 5)
    assert (len(values) == 1) if hot else (values == [b"v%d" % i for i in range(5)])
