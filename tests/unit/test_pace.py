"""How far behind a worker is, as the brake is told."""

import math
import time
from types import SimpleNamespace

import pytest
from faust.types import TP
from pipeline_reference import low_policy

from streamdetect.worker.detector import Detector
from streamdetect.worker.pace import HEARD_WITHIN_S, Pace

TOPIC, HOUR_S = "requests", 3600
PLACE = TP(TOPIC, 0)


class Consumer:
    """What a consumer knows of the one partition: its end, None before the broker has told it."""

    def __init__(self, end):
        self.end = end

    def highwater(self, _tp):
        return self.end

    def in_flight(self, _tp):
        return False

    def reached(self, _tp):
        return 0


@pytest.fixture
def detector():
    """A detector with the state of a worker that stopped an hour ago after ten records."""
    made = Detector(low_policy(), "live", (TOPIC,), 1)
    shard = made.new_shard()
    shard.positions[TOPIC], shard.stamps[TOPIC] = 9, int((time.time() - HOUR_S) * 1000)
    made.add(0, shard)
    return made


def pace(detector, consumer):
    clock = SimpleNamespace(now_s=0.0)
    return Pace(detector, lambda: consumer, {TOPIC}, lambda: clock.now_s), clock


def test_a_worker_without_partitions_is_behind_without_end(detector):
    made, _ = pace(detector, Consumer(10))
    assert made.behind_s() == math.inf
    made.assigned({PLACE})
    made.assigned(())
    assert made.behind_s() == math.inf


def test_a_state_that_comes_back_is_as_far_behind_as_it_was_saved_until_its_records_are_processed(detector):
    made, _ = pace(detector, Consumer(1000))
    made.assigned({PLACE})
    assert made.behind_s() == pytest.approx(HOUR_S, abs=5)
    detector.shards[0].stamps[TOPIC] = int(time.time() * 1000)
    assert made.behind_s() < 5


def test_an_end_nobody_tells_is_waited_for_and_not_for_ever(detector):
    made, clock = pace(detector, Consumer(None))
    made.assigned({PLACE})
    assert made.behind_s() == pytest.approx(HOUR_S, abs=5)
    clock.now_s += HEARD_WITHIN_S
    assert made.behind_s() == 0


def test_who_has_nothing_to_read_is_not_behind(detector):
    made, _ = pace(detector, Consumer(10))
    made.assigned({PLACE})
    assert made.behind_s() == 0
