"""Building and running the Faust app: the settings that matter, hot topics, and a process that ends cleanly.

The app runs under our own signal handling, not ``faust.Worker``, which takes over logging and standard output and
answers a second signal by hanging on. One process, one app.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from mode.supervisors import CrashingSupervisor

from streamdetect.errors import StreamdetectError, UnreachableError
from streamdetect.worker.chunks import ChunkLimits, ChunkSchema
from streamdetect.worker.transport import ChunkTransport

SESSION_S = 8.0  # how long the group waits for a silent member
MEMBER_BEAT_S = 2.0  # how often a member shows itself, so a silence may have begun so long before it is noticed
CRASH_STOP_S = 3.0
Hook = Callable[[], Awaitable[None]]


def faust_settings(*, queue_chunks: int = 16, instance_id: str | None = None) -> dict[str, Any]:
    """The settings under which delivery holds; broker, credentials and group id are the caller's.

    ``queue_chunks`` bounds the chunks waiting for one agent. ``instance_id`` makes group membership static: a restart
    within the session timeout then moves no partition.
    """
    return {
        # Faust's pages show state and settings; our metrics have their own port.
        "web_enabled": False,
        "web_tables_enabled": False,
        "web_router_enabled": False,
        # Topics are made from the plan under deploy/kafka, with its partitions and retention, never by a worker.
        "topic_allow_declare": False,
        # No leader topic: nothing here runs on a leader only.
        "topic_disable_leader": True,
        # An agent that raises ends the process without acking; a restart in place would skip the chunk.
        "agent_supervisor": CrashingSupervisor,
        # Acks may be held while outputs are on their way, so waiting for them at a rebalance would stall the group.
        "stream_wait_empty": False,
        "stream_buffer_maxsize": queue_chunks,
        # A dead worker is noticed in 8 s; a request may not end before the session does.
        "broker_session_timeout": SESSION_S,
        "broker_heartbeat_interval": MEMBER_BEAT_S,
        "broker_rebalance_timeout": 12.0,
        "broker_request_timeout": 30.0,
        # Polls stop while partitions are held back, which is not death.
        "broker_max_poll_interval": 600.0,
        "broker_commit_interval": 1.0,
        # Commits by count block delivery; the interval is enough.
        "broker_commit_every": 1 << 62,
        "broker_max_poll_records": None,
        "broker_check_crcs": True,
        "consumer_max_fetch_size": 2 << 20,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": instance_id,
        "producer_acks": -1,
        "producer_linger": 0.005,
        "producer_max_batch_size": 256 << 10,
        # The stock 20 minutes would hide a dead broker.
        "producer_request_timeout": 30.0,
        # Standbys read every changelog twice; recovery is quick instead.
        "table_standby_replicas": 0,
    }


class DetectorApp(faust.App):  # type: ignore[misc]  # Faust is untyped here
    """A Faust app that leaves no folders behind."""

    def _create_directories(self) -> None:
        """Nothing of ours is kept on disk."""


def declare_app(
    group: str,
    broker: str,
    *,
    hot_topics: frozenset[str],
    limits: ChunkLimits | None = None,
    credentials: Any = None,
    **settings: Any,
) -> faust.App:
    """Make the app of one consumer group, with ``hot_topics`` delivered as chunks.

    ``broker`` is ``kafka://host:port``, several joined by ``;``. ``credentials`` are Faust's broker credentials.
    ``settings`` go over ``faust_settings()``.
    """
    app = DetectorApp(group, broker=broker, broker_credentials=credentials, **{**faust_settings(), **settings})
    app.transport = ChunkTransport(app, hot_topics, limits=limits)
    return app


def hot_topic(app: faust.App, name: str) -> Any:
    """The Faust topic of a hot topic; the value of its events is a ``Chunk``."""
    return app.topic(name, schema=ChunkSchema(key_type=bytes, value_type=bytes))


async def serve(app: faust.App, *, stop_timeout_s: float, before_stop: Hook | None = None) -> None:
    """Run ``app`` until SIGTERM or SIGINT, or until it crashes.

    ``before_stop`` is awaited first of all on a signal, so that finished work can be acked and committed.
    Raises what crashed the app, or ``UnreachableError`` if stopping takes longer than ``stop_timeout_s``.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    running = asyncio.create_task(_run(app))
    stopping = asyncio.create_task(signalled.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            # Nothing of it may be acked any more, and parts of it may be gone that others wait for.
            await asyncio.wait({asyncio.create_task(app.stop())}, timeout=CRASH_STOP_S)
            running.result()
            return
        stop = asyncio.create_task(_stop(app, running, before_stop))
        # Not by cancelling: Faust swallows it in places.
        until_s = loop.time() + stop_timeout_s
        await asyncio.wait({stop, running}, timeout=stop_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # what it failed of while it was to stop, which the stop might wait for in vain
        await asyncio.wait({stop}, timeout=max(0.0, until_s - loop.time()))
        if not stop.done():
            raise UnreachableError(
                f"not stopped in order within {stop_timeout_s:g} s: what was not acked is processed again"
            )
        stop.result()
    finally:
        for task in (running, stopping):
            task.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _run(app: faust.App) -> None:
    await app.start()
    await app.wait_until_stopped()
    if app.crash_reason is not None:
        raise _cause(app.crash_reason)


async def _stop(app: faust.App, running: "asyncio.Task[None]", before_stop: Hook | None) -> None:
    if before_stop is not None:
        await before_stop()
    await app.stop()
    await running


def _cause(reason: BaseException) -> BaseException:
    """What a crash was about: an agent's task group wraps it."""
    if isinstance(reason, BaseExceptionGroup):
        ours = reason.subgroup(StreamdetectError)
        return _cause((ours or reason).exceptions[0])
    return reason
