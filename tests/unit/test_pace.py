"""How far behind a worker is, as the brake is told."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from faust.types import TP
from pipeline_reference import low_policy

from streamdetect.worker.detector import Detector
from streamdetect.worker.pace import HEARD_WITHIN_S, SILENT_MAX_S, Pace

TOPIC, HOUR_S = "requests", 3600
PLACE = TP(TOPIC, 0)


class Consumer:
    """What a consumer knows of the one partition: its end, None before the broker has told it."""

    def __init__(self, end, delivered=-1, reached=0, waiting=False):
        self.end, self.newest, self.position, self.waiting = end, delivered, reached, waiting

    def highwater(self, _tp):
        return self.end

    def delivered(self, _tp):
        return self.newest

    def has_more(self, _tp):
        return self.waiting

    def reached(self, _tp):
        return self.position


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


def test_what_holds_no_record_is_not_waited_for_though_a_chunk_waits_for_its_image(detector):
    made, _ = pace(detector, Consumer(12, delivered=9, reached=12))  # ten records, and two markers behind them
    made.assigned({PLACE})
    assert made.lag_records(PLACE) == 0
    assert made.behind_s() == 0


def test_what_was_delivered_and_is_not_processed_is_still_to_do(detector):
    made, _ = pace(detector, Consumer(20, delivered=19, reached=20))
    made.assigned({PLACE})
    assert made.lag_records(PLACE) == 10


class Consumers:
    """What a consumer knows of several partitions."""

    def __init__(self, *consumers):
        self._consumers = consumers

    def __getattr__(self, name):
        return lambda tp: getattr(self._consumers[tp.partition], name)(tp)


@pytest.fixture
def two():
    """Two partitions, the second ahead by more than the policy lets it, and the first with ten more records."""
    made = Detector(low_policy(), "live", (TOPIC,), 2)
    for partition in range(2):
        shard = made.new_shard()
        shard.positions[TOPIC] = 9
        at_ms = 10_000 + partition * 2 * made.max_skew_ms(0)
        shard.watermark.judge(np.array([at_ms]), np.array([1], np.uint64))
        made.add(partition, shard)
    return made


def test_a_partition_that_has_records_and_gives_none_is_waited_for_and_not_for_ever(two):
    slow, fast = Consumer(20, delivered=9, reached=10), Consumer(20, delivered=9, reached=10, waiting=True)
    made, clock = pace(two, Consumers(slow, fast))
    other = TP(TOPIC, 1)
    made.assigned({PLACE, other})
    assert not made.may_go_on(other)
    clock.now_s += SILENT_MAX_S - 1
    assert not made.may_go_on(other)
    clock.now_s += 1
    assert made.may_go_on(other)
    assert made.lag_records(PLACE) == 10, "it stays behind, for everyone to see"

    slow.waiting = True  # its leader is back
    assert not made.may_go_on(other)


def test_a_partition_that_had_nothing_for_long_is_waited_for_when_it_has_something(two):
    slow, fast = Consumer(20, delivered=9, reached=10), Consumer(20, delivered=9, reached=10, waiting=True)
    made, clock = pace(two, Consumers(slow, fast))
    made.assigned({PLACE, TP(TOPIC, 1)})
    assert not made.may_go_on(TP(TOPIC, 1))
    slow.end = 10
    clock.now_s += 10 * SILENT_MAX_S
    assert made.may_go_on(TP(TOPIC, 1))
    slow.end = 20
    assert not made.may_go_on(TP(TOPIC, 1))


@pytest.mark.parametrize("sign", ["waits here", "is on its way", "was passed"])
def test_a_partition_that_gives_something_is_waited_for_however_long_it_takes(two, sign):
    slow, fast = Consumer(40, delivered=9, reached=10), Consumer(40, delivered=9, reached=10, waiting=True)
    made, clock = pace(two, Consumers(slow, fast))
    made.assigned({PLACE, TP(TOPIC, 1)})
    for step in range(4):
        slow.waiting = sign == "waits here"
        slow.newest = 19 if sign == "is on its way" else 9
        if sign == "was passed":
            slow.position = 11 + step
        assert not made.may_go_on(TP(TOPIC, 1))
        clock.now_s += SILENT_MAX_S - 1
