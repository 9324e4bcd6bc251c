"""The Faust agents: one for each topic that is delivered as chunks, each a stream for ``worker.work``."""

from collections.abc import AsyncIterator
from typing import Any

import faust

from streamdetect.worker.engine import hot_topic
from streamdetect.worker.work import Message, Work


def declare_agents(app: faust.App, topics: frozenset[str], work: Work) -> None:
    """Declare the agents of an app."""
    for topic in sorted(topics):
        _declare(app, topic, work)


def _declare(app: faust.App, topic: str, work: Work) -> None:
    async def agent(stream: Any) -> None:
        await work.run(topic, _messages(stream))

    app.agent(hot_topic(app, topic), name=f"streamdetect.{work.stage(topic)}.{topic}", concurrency=1)(agent)


async def _messages(stream: Any) -> AsyncIterator[Message]:
    """The messages behind a stream's events, unacked."""
    async for event in stream.noack().events():
        message = event.message
        del event  # it holds the chunk as well
        yield message
