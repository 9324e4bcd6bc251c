"""When a process must take it that others own its partitions."""

import pytest

from streamdetect.errors import UnreachableError
from streamdetect.worker.engine import MEMBER_BEAT_S, SESSION_S
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
    made = Lease(MAX_S, clock)
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
    lease = Lease(MAX_S, clock)
    clock.now += 100
    lease.beat()
    lease.begin()
    lease.check()
