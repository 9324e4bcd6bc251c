"""Bytewax: keyed state per account and per subnet (``stateful_map``), datasketch; no recovery configured.

``fold_window`` costs several times as much and tells of a crossing only when the minute is over.
"""

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from job import MINUTE_MS, NearDuplicates, Progress, arguments, decision, subnet_of

chosen = arguments()
near, progress = NearDuplicates(), Progress(chosen.marks)
Sent = KafkaSinkMessage[bytes | None, bytes]


def parsed(message: KafkaSourceMessage) -> dict:
    return orjson.loads(message.value)


def counter(kind: str, limit: int):
    def count(state: tuple[int, int] | None, event: dict) -> tuple[tuple[int, int], int]:
        minute = event["occurred_at"] // MINUTE_MS
        state = (minute, state[1] + 1) if state is not None and state[0] == minute else (minute, 1)
        return state, event["occurred_at"] if state[1] == limit + 1 else 0

    def told(item: tuple[str, int]) -> Sent | None:
        key, at = item
        return KafkaSinkMessage(None, decision(kind, key, at)) if at else None

    return count, told


def content(event: dict) -> Sent | None:
    account, at = event["account_id"], event["occurred_at"]
    found = near.found(account, event["event_id"], at, event["prompt"])
    progress.add()
    return KafkaSinkMessage(None, decision("content", account, at)) if found else None


flow = Dataflow("job")
source = kop.input(
    "in",
    flow,
    brokers=[chosen.bootstrap],
    topics=[chosen.topic],
    tail=True,
    batch_size=500,
    add_config={"enable.auto.commit": "false"},
)
events = op.map("parse", source.oks, parsed)
found = []
for kind, key_of, limit in (
    ("account", lambda event: event["account_id"], chosen.account_limit),
    ("subnet", subnet_of, chosen.subnet_limit),
):
    count, told = counter(kind, limit)
    keyed = op.key_on(f"by {kind}", events, key_of)
    found.append(op.filter_map(f"told {kind}", op.stateful_map(f"count {kind}", keyed, count), told))
found.append(op.filter_map("content", events, content))
kop.output(
    "out", op.merge("all", *found), brokers=[chosen.bootstrap], topic=chosen.out, add_config={"compression.type": "lz4"}
)

if __name__ == "__main__":
    cli_main(flow)
