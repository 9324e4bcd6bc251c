"""Quix Streams: the account minute as a tumbling window (RocksDB, changelog), datasketch.

Counting subnets the framework's way needs ``group_by``, a second topic and seconds of latency; a dictionary in the
process does it here instead, which is right with one process and cheaper.
"""

from datetime import timedelta

import orjson
from job import MINUTE_MS, MinuteCounts, NearDuplicates, Progress, arguments, decision, subnet_of
from quixstreams import Application

chosen = arguments()
app = Application(
    broker_address=chosen.bootstrap,
    consumer_group=chosen.group,
    auto_offset_reset="earliest",
    state_dir=chosen.state,
    loglevel="WARNING",
    producer_extra_config={"compression.type": "lz4"},
)
requests = app.topic(chosen.topic, value_deserializer="bytes", key_deserializer="str")
out = app.topic(chosen.out, value_serializer="bytes", key_serializer="str")
subnets, near = MinuteCounts(chosen.subnet_limit), NearDuplicates()
progress = Progress(chosen.marks)


def judge(value: bytes) -> list[bytes]:
    event = orjson.loads(value)
    account, subnet, at = event["account_id"], subnet_of(event), event["occurred_at"]
    found = []
    if subnets.crossed(subnet, at):
        found.append(decision("subnet", subnet, at))
    if near.found(account, event["event_id"], at, event["prompt"]):
        found.append(decision("content", account, at))
    progress.add()
    return found


def crossed(window: dict, key: str, *_: object) -> bytes:
    return decision("account", key, window["start"] // MINUTE_MS * MINUTE_MS)


stream = app.dataframe(requests)
windows = stream.tumbling_window(timedelta(minutes=1), grace_ms=timedelta(minutes=1)).count().current()
windows = windows[windows["value"] == chosen.account_limit + 1]
windows.apply(crossed, metadata=True).to_topic(out)
stream.apply(judge, expand=True).to_topic(out)

app.run()
