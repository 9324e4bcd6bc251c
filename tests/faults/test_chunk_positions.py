"""Where the chunk consumer begins to deliver: at what was committed, or before it where the state needs more."""

from fake_transport import fake_app
from recorder import A, B, Recorder, broker_with, running, settle, until


async def test_hot_partitions_are_silent_until_they_stand_at_their_committed_offsets() -> None:
    broker = broker_with(30)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed.get(A) == 30)
        agent.thread.seeking.clear()
        await agent.thread.rebalance({A})
        broker.fill(A, 30)
        app.flow_control.resume()
        app.consumer.resume_flow()
        await settle()
        assert len(agent.seen[A]) == 30
        agent.thread.seeking.set()
        await until(lambda: broker.committed[A] == 60)
    assert agent.seen[A] == list(range(60))


async def test_no_partition_begins_behind_what_its_state_needs() -> None:
    broker = broker_with(30, A, B)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    async with running(app):
        await until(lambda: broker.committed == {A: 30, B: 30})
        app.consumer.set_needed(lambda tp: 12 if tp == A else None)
        await agent.thread.rebalance({A, B})
        broker.fill(A, 5)
        await until(lambda: broker.committed[A] == 35)
    assert agent.seen == {A: [*range(30), *range(12, 35)], B: list(range(30))}


async def test_a_state_restored_late_takes_its_partition_back_to_what_it_needs() -> None:
    """What was fetched meanwhile is fetched again in its turn, and a second place of the same group is not moved."""
    broker = broker_with(30, A, B)
    broker.committed |= {A: 20, B: 20}
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    here, needed = set(), {A: 12}
    async with running(app):
        app.consumer.set_gate(here.__contains__)
        app.consumer.set_needed(needed.get)
        needed.clear()
        await until(lambda: A in app.consumer._held)
        needed[A] = 12
        assert await app.consumer.go_back([A, B]) == {A: 20, B: 20}
        here |= {A, B}
        await until(lambda: broker.committed == {A: 30, B: 30})
    assert agent.seen == {A: list(range(12, 30)), B: list(range(20, 30))}


async def test_records_given_back_do_not_undo_a_seek_that_came_between() -> None:
    broker = broker_with(30)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app, ack=False)
    async with running(app):
        await until(lambda: len(agent.events) == 3)
        agent.events[0].ack()
        await until(lambda: broker.committed.get(A) == 10)
        agent.thread.answering.clear()
        broker.fill(A, 30)
        await until(lambda: agent.thread.fetched == 60)
        agent.ack = True
        await app.consumer.perform_seek()
        agent.thread.answering.set()
        await until(lambda: broker.committed[A] == 60)
    assert agent.seen[A] == [*range(30), *range(10, 60)]


async def test_what_holds_no_record_is_passed_also_while_chunks_wait_for_their_acks() -> None:
    broker = broker_with(20)
    broker.ends[A] = 23
    app = fake_app(broker, {"hot"})
    agent = Recorder(app, ack=False)
    async with running(app):
        await until(lambda: len(agent.events) == 2)
        await until(lambda: app.consumer.reached(A) == 23)
        assert app.consumer.in_flight(A) == 2
        agent.thread.answering.clear()
        broker.ends.clear()
        broker.append(A, dict.fromkeys(range(23, 33), b"v"))
        await until(lambda: agent.thread.positions[A].position == 33)
        assert app.consumer.reached(A) == 23, "what is fetched is not yet here"
        agent.thread.answering.set()
        await until(lambda: app.consumer.reached(A) == 33)
        assert len(agent.events) == 3
