"""aiokafka ``getmany``, orjson, dictionaries, datasketch: no framework, no state that survives."""

import asyncio

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from job import MinuteCounts, NearDuplicates, Progress, arguments, decision, subnet_of


async def main() -> None:
    chosen = arguments()
    progress = Progress(chosen.marks)
    accounts, subnets = MinuteCounts(chosen.account_limit), MinuteCounts(chosen.subnet_limit)
    near = NearDuplicates()
    consumer = AIOKafkaConsumer(
        chosen.topic, bootstrap_servers=chosen.bootstrap, group_id=chosen.group, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=chosen.bootstrap, compression_type="lz4", linger_ms=5)
    async with consumer, producer:
        while True:
            for records in (await consumer.getmany(timeout_ms=200, max_records=500)).values():
                for record in records:
                    event = orjson.loads(record.value)
                    account, subnet, at = event["account_id"], subnet_of(event), event["occurred_at"]
                    if accounts.crossed(account, at):
                        await producer.send(chosen.out, decision("account", account, at))
                    if subnets.crossed(subnet, at):
                        await producer.send(chosen.out, decision("subnet", subnet, at))
                    if near.found(account, event["event_id"], at, event["prompt"]):
                        await producer.send(chosen.out, decision("content", account, at))
                progress.add(len(records))


asyncio.run(main())
