"""Saving a shard: what a save that is given up leaves behind."""

import asyncio
import contextlib

from pipeline_reference import low_policy

from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.detector import Detector
from streamdetect.worker.saver import Saver, lineage_after


async def test_a_save_given_up_for_want_of_time_takes_back_nothing_that_is_on_its_way():
    detector = Detector(low_policy(), "live", ("requests",), 1)
    detector.add(0, detector.new_shard())
    saver = Saver(detector, None, "changelog", interval_s=1.0, bytes_per_s=1e9, metrics=Metrics())
    saver.begin(0, lineage_after(None, 1, []))
    acked, delivered = [], asyncio.get_running_loop().create_future()
    saver.hold(0, lambda: acked.append(True), delivered)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await saver.save_all()
    assert not delivered.cancelled()
    assert acked == []
    assert saver.partitions == set()  # what was captured is nowhere else now: the partition must be restored
