"""What a worker shows of itself."""

import pytest
from pipeline_reference import low_policy

from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.detector import Detector
from streamdetect.worker.gauges import Gauges


@pytest.fixture
def detector():
    made = Detector(low_policy(), "live", ("requests",), 2)
    for partition in range(2):
        made.shard(partition)
    return made


def shown(metrics, name, *labels):
    counter = metrics.counter(name)
    return (counter.labels(*labels) if labels else counter)._value.get()


def test_what_is_forgotten_counts_once_also_when_a_shard_goes_or_comes_back(detector):
    metrics = Metrics()
    gauges = Gauges(metrics)
    detector.shards[0].accounts.state.evicted = 30
    detector.shards[1].accounts.state.strangers.dropped = 4
    for _ in range(2):
        gauges.show_state(detector, 0, 0)
        assert (shown(metrics, "evictions", "state"), shown(metrics, "evictions", "facts")) == (30, 4)

    gone = detector.shards[0]
    detector.keep_only({1})
    gauges.show_state(detector, 0, 0)
    detector.add(0, gone)
    gauges.show_state(detector, 0, 0)
    assert shown(metrics, "evictions", "state") == 30
    gone.accounts.state.evicted += 5
    gauges.show_state(detector, 0, 0)
    assert shown(metrics, "evictions", "state") == 35


def test_records_put_right_are_counted_as_they_come(detector):
    metrics = Metrics()
    gauges = Gauges(metrics)
    for rewritten in (0, 2, 2, 5):
        gauges.show_state(detector, 7, rewritten)
    assert shown(metrics, "stale_records") == 5
    assert metrics.gauge("unsaved_chunks")._value.get() == 7


def test_the_policies_in_effect_are_logged_when_they_change(detector, caplog):
    gauges = Gauges(Metrics())
    with caplog.at_level("INFO"):
        for _ in range(3):
            gauges.show_policies(detector, killed=False)
    assert sum("policies in effect" in record.getMessage() for record in caplog.records) == 1
