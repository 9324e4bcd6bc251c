"""Ends of an engine on a Kafka in this process."""

import asyncio
import os
import signal

import pytest
from fake_transport import fake_app
from recorder import PATIENCE_S, A, Recorder, broker_with, until

from streamdetect.errors import UnreachableError
from streamdetect.worker.engine import serve


async def test_what_fails_while_stopping_is_what_is_told() -> None:
    """Not that the stop, which waited for what had failed, took too long."""
    broker = broker_with(30)
    app = fake_app(broker, {"hot"})
    agent = Recorder(app)
    agent.room.clear()
    agent.poison = b"v15"

    async def before_stop() -> None:
        agent.room.set()
        await asyncio.Event().wait()

    serving = asyncio.create_task(serve(app, stop_timeout_s=20 * PATIENCE_S, before_stop=before_stop))
    await until(lambda: app.consumer.in_flight(A) > 0)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RuntimeError, match="poison"):
        async with asyncio.timeout(PATIENCE_S):
            await serving


async def test_a_stop_that_waits_in_vain_is_given_up() -> None:
    app = fake_app(broker_with(30), {"hot"})
    agent = Recorder(app)
    serving = asyncio.create_task(serve(app, stop_timeout_s=0.05, before_stop=asyncio.Event().wait))
    await until(lambda: bool(agent.events))
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(UnreachableError, match=r"not stopped in order within 0\.05 s"):
        async with asyncio.timeout(PATIENCE_S):
            await serving
    await app.stop()
