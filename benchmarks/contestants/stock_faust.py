"""Faust as its manual has it: an agent, one event at a time, windowed Tables in memory with changelogs, datasketch.

The subnet table is written from the account's partition, which ``group_by`` would mend at more cost (and with the loss
of record time); with one process the counts are right.
"""

import sys

import faust
import orjson
from job import NearDuplicates, Progress, arguments, decision, subnet_of

chosen = arguments()
app = faust.App(
    chosen.group,
    broker=f"kafka://{chosen.bootstrap}",
    store="memory://",
    topic_partitions=4,
    topic_disable_leader=True,
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    datadir=chosen.state,
)
topic = app.topic(chosen.topic, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")
out = app.topic(chosen.out, value_serializer="raw")
accounts = app.Table("accounts", default=int, partitions=4).tumbling(60.0, expires=300.0).relative_to_stream()
subnets = app.Table("subnets", default=int, partitions=4).tumbling(60.0, expires=300.0).relative_to_stream()
near = NearDuplicates()
progress = Progress(chosen.marks)


@app.agent(topic)
async def detect(stream):
    async for value in stream:
        event = orjson.loads(value)
        account, subnet, at = event["account_id"], subnet_of(event), event["occurred_at"]
        accounts[account] += 1
        if accounts[account].current() == chosen.account_limit + 1:
            await out.send(value=decision("account", account, at))
        subnets[subnet] += 1
        if subnets[subnet].current() == chosen.subnet_limit + 1:
            await out.send(value=decision("subnet", subnet, at))
        if near.found(account, event["event_id"], at, event["prompt"]):
            await out.send(value=decision("content", account, at))
        progress.add()


if __name__ == "__main__":
    sys.argv = [sys.argv[0]]
    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()
