"""When a process must take it that others own its partitions."""

import time
from types import SimpleNamespace

import pytest

from streamdetect.errors import UnreachableError
from streamdetect.worker.engine import MEMBER_BEAT_S, SESSION_S
from streamdetect.worker.heartbeats import hear
from streamdetect.worker.lease import Lease

MAX_S = SESSION_S - MEMBER_BEAT_S


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lease(clock):
    made = Lease(MAX_S, SESSION_S, clock)
    made.begin()
    return made


def test_whoever_turns_often_enough_keeps_it(lease, clock):
    for _ in range(10):
        clock.now += MAX_S
        lease.check()


def test_standing_still_until_the_group_may_have_given_up_loses_it_for_good(lease, clock):
    """The last sign of life may be an interval older than the standstill."""
    clock.now += SESSION_S - MEMBER_BEAT_S + 0.01
    lease.beat()
    clock.now += 0.1
    for _ in range(2):
        with pytest.raises(UnreachableError, match="stood still for 6 s"):
            lease.check()
        lease.begin()


def test_before_anything_is_owned_nothing_can_be_lost(clock):
    lease = Lease(MAX_S, SESSION_S, clock)
    clock.now += 100
    lease.beat()
    lease.begin()
    lease.check()


def test_a_group_that_does_not_answer_is_believed_for_as_long_as_it_waits(lease, clock):
    assert lease.sure
    lease.heard(clock.now + 1)  # sent then, answered later
    clock.now += SESSION_S + 0.9
    assert lease.sure
    clock.now += 0.1
    assert not lease.sure


def test_a_group_that_answers_again_makes_sure_again(lease, clock):
    clock.now += 60
    assert not lease.sure
    lease.heard(clock.now - 0.5)
    assert lease.sure
    lease.heard(clock.now - 30)  # an answer that comes late tells nothing new
    assert lease.sure


def test_who_owns_nothing_yet_is_not_sure(clock):
    lease = Lease(MAX_S, SESSION_S, clock)
    assert not lease.sure
    lease.begin()
    assert lease.sure


async def test_heartbeats_count_from_when_they_were_sent_and_only_if_they_are_answered():
    heard, answers = [], iter([True, False, True])

    async def do_heartbeat():
        heard.append("sent")
        return next(answers)

    coordinator = SimpleNamespace(_do_heartbeat=do_heartbeat)
    hear(coordinator, heard.append)
    before_s = time.monotonic()
    assert [await coordinator._do_heartbeat() for _ in range(3)] == [True, False, True]

    _, first, _, _, second = heard
    assert before_s <= first <= second <= time.monotonic()
