"""A worker that notes every chunk it has processed: the smallest complete program on the chunked transport.

Usage: chunk_worker.py BOOTSTRAP GROUP TOPIC NOTES [--slow-ms N] [--fail-at OFFSET] [--in-flight N]

One line of JSON per chunk goes to the file NOTES. Several chunks may be in flight; an error anywhere ends the process
and leaves its chunk unacked.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

import faust

from streamdetect.worker.engine import declare_app, hot_topic, serve
from streamdetect.worker.store import declare_table


def build(options: argparse.Namespace) -> faust.App:
    app = declare_app(options.group, f"kafka://{options.bootstrap}", hot_topics=frozenset({options.topic}))
    declare_table(app, "state", partitions=4)
    room = asyncio.Semaphore(options.in_flight)
    notes = Path(options.notes).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115  # lives as long as the process

    async def process(event) -> None:
        try:
            chunk = event.value
            offsets = chunk.offsets.tolist()
            if options.slow_ms:
                await asyncio.sleep(options.slow_ms / 1000)
            if options.fail_at in offsets:
                raise RuntimeError("asked to fail")
            assert all(chunk.value(index) is not None for index in (0, len(chunk) - 1))
            notes.write(json.dumps([chunk.partition, offsets]) + "\n")
            event.ack()
        finally:
            room.release()

    @app.agent(hot_topic(app, options.topic), name="note")
    async def note(stream):
        async with asyncio.TaskGroup() as running:
            async for event in stream.noack().events():
                await room.acquire()
                running.create_task(process(event))

    return app


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "group", "topic", "notes"):
        parser.add_argument(name)
    parser.add_argument("--slow-ms", type=float, default=0)
    parser.add_argument("--fail-at", type=int, default=-1)
    parser.add_argument("--in-flight", type=int, default=4)
    options = parser.parse_args()

    async def run() -> None:
        await serve(build(options), stop_timeout_s=10)

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
