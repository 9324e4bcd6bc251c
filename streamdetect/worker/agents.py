"""The Faust agents: one for each topic that is delivered as chunks, each a stream for ``worker.work``."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import faust

from streamdetect.worker.engine import hot_topic
from streamdetect.worker.work import Message, Work

Queued = dict[str, Callable[[], int]]


def declare_agents(app: faust.App, topics: frozenset[str], work: Work) -> Queued:
    """Declare the agents of an app. Returns, by topic, how many chunks wait for its agent; filled once they run."""
    queued: Queued = {}
    for topic in sorted(topics):
        _declare(app, topic, work, queued)
    return queued


def _declare(app: faust.App, topic: str, work: Work, queued: Queued) -> None:
    async def agent(stream: Any) -> None:
        queued[topic] = stream.channel.queue.qsize
        await work.run(topic, _messages(stream))

    app.agent(hot_topic(app, topic), name=f"streamdetect.{work.stage(topic)}.{topic}", concurrency=1)(agent)


async def _messages(stream: Any) -> AsyncIterator[Message]:
    """The messages behind a stream's events, unacked."""
    async for event in stream.noack().events():
        message = event.message
        del event  # it holds the chunk as well
        yield message
