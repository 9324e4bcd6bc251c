"""Order of decisions on their way to the topics, whatever their senders wait for."""

import asyncio
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from test_brake import Clock, decision

from streamdetect.ports import Stored
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.detector import Outcome
from streamdetect.worker.publisher import Publisher
from streamdetect.worker.turns import Turns

SETTINGS = Settings()
LOG, TABLE, LINKS = (SETTINGS.topic(name) for name in ("decisions.v1", "enforcement.v1", "links.v1"))


class Outbox:
    """Keeps what is sent, by topic; ``open`` lets senders of a topic go on, ``deliver`` acknowledges."""

    def __init__(self, *closed):
        self.sent, self.futures = defaultdict(list), defaultdict(list)
        self.gates = defaultdict(asyncio.Event)
        self.closed = closed

    async def send(self, topic, value, *, key=None, partition=None):
        if topic in self.closed:
            await self.gates[topic].wait()
        landed = asyncio.get_running_loop().create_future()
        self.sent[topic].append((key, value))
        self.futures[topic].append(landed)
        return landed

    def deliver(self, topic):
        for landed in self.futures[topic]:
            if not landed.done():
                landed.set_result(Stored(0, len(self.sent[topic]), b"", b"", 0))


async def turn_of_the_loop():
    for _ in range(20):
        await asyncio.sleep(0)


def revisions(outbox, topic):
    return [None if value is None else int(value.split(b'"revision":')[1].split(b",")[0]) for _, value in
            outbox.sent[topic]]  # fmt: skip


async def test_a_chunk_that_waits_for_room_does_not_let_a_later_decision_pass_before_its_own():
    outbox = Outbox(LINKS)
    publisher = Publisher(SETTINGS, outbox, Metrics(), None)
    first = asyncio.ensure_future(publisher.send(Outcome(links=[(0, b"rows")], decisions=[decision(revision=5)])))
    await turn_of_the_loop()
    publisher.say([decision(status="released", revision=6)], 0)
    await turn_of_the_loop()
    outbox.gates[LINKS].set()
    await first
    outbox.deliver(LOG)
    await turn_of_the_loop()
    assert revisions(outbox, LOG) == [5, 6]
    assert revisions(outbox, TABLE) == [5, None]


async def test_what_is_said_has_its_turn_when_it_is_said():
    outbox = Outbox()
    publisher = Publisher(SETTINGS, outbox, Metrics(), None)
    publisher.say([decision(revision=5)], 0)
    await publisher.send(Outcome(decisions=[decision(revision=6)]))
    assert revisions(outbox, LOG) == [5, 6]


async def test_nothing_is_in_force_before_it_stands_in_the_log():
    outbox = Outbox()
    publisher = Publisher(SETTINGS, outbox, Metrics(), None)
    sent = await publisher.send(Outcome(decisions=[decision(revision=5)]))
    await turn_of_the_loop()
    assert (revisions(outbox, LOG), revisions(outbox, TABLE)) == ([5], [])
    outbox.deliver(LOG)
    await turn_of_the_loop()
    assert revisions(outbox, TABLE) == [5]
    outbox.deliver(TABLE)
    await asyncio.gather(*sent)


async def test_what_the_brake_lets_go_is_held_in_images_until_it_is_in_force():
    outbox, clock = Outbox(), Clock()
    brake = clock.brake(1)
    publisher = Publisher(SETTINGS, outbox, Metrics(), brake)
    for account in "ab":
        await publisher.send(Outcome(decisions=[decision(account)]), 3)
    clock.now_s += 60
    released = asyncio.ensure_future(publisher.release_held())
    await turn_of_the_loop()
    assert (brake.held, [one.subject.value for one in brake.held_of(3)]) == (0, ["b"])
    outbox.deliver(LOG)
    await turn_of_the_loop()
    assert brake.held_of(3)
    outbox.deliver(TABLE)
    await released
    assert brake.held_of(3) == []


@given(st.lists(st.sampled_from(["enter", "cancel", "give up"]), min_size=1, max_size=8), st.randoms())
def test_turns_come_in_the_order_of_their_places(fates, random):
    async def run():
        turns, came = Turns(), []

        async def take(turn, number):
            async with turn:
                came.append(number)
                await asyncio.sleep(0)

        places = [turns.take() for _ in fates]
        waiting = {}
        for number in random.sample(range(len(fates)), len(fates)):
            if fates[number] == "give up":
                places[number].give_up()
            else:
                waiting[number] = asyncio.ensure_future(take(places[number], number))
        await asyncio.sleep(0)
        for number, task in waiting.items():
            if fates[number] == "cancel":
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*waiting.values(), return_exceptions=True), 5)
        assert came == sorted(came)
        assert {number for number, fate in enumerate(fates) if fate == "enter"} <= set(came)

    asyncio.run(run())


async def test_where_the_log_ends_is_where_a_successor_begins_though_nothing_was_decided_here():
    outbox = Outbox()
    publisher = Publisher(SETTINGS, outbox, Metrics(), None)
    publisher.log_reached({0: 70, 1: 80})
    await publisher.send(Outcome(decisions=[decision(revision=5)]))
    outbox.deliver(LOG)
    await turn_of_the_loop()
    assert publisher.log_ends() == {0: 70, 1: 80}, "what landed before that end moves nothing back"
    publisher.log_reached({0: 75})
    assert publisher.log_ends() == {0: 75, 1: 80}


async def test_decisions_have_a_way_of_their_own_past_rows_that_wait():
    rows, urgent = Outbox(LINKS), Outbox()
    publisher = Publisher(SETTINGS, rows, Metrics(), None, urgent=urgent)
    sending = asyncio.ensure_future(publisher.send(Outcome(links=[(0, b"rows")], decisions=[decision(revision=5)])))
    await turn_of_the_loop()
    urgent.deliver(LOG)
    await turn_of_the_loop()
    assert (revisions(urgent, LOG), revisions(urgent, TABLE)) == ([5], [5])
    assert not sending.done()
    rows.gates[LINKS].set()
    await sending
    assert set(rows.sent) == {LINKS}
