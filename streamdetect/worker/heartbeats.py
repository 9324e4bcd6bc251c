"""When the consumer group was last heard of, which aiokafka keeps to itself."""

import time
from collections.abc import Callable
from typing import Any


def hear(coordinator: Any, heard: Callable[[float], None]) -> None:
    """Call ``heard`` with the monotonic time in s at which each heartbeat was sent that the group answers from now on.

    That time, not the answer's: the group waits from when the heartbeat reached it.
    """
    stock = coordinator._do_heartbeat  # noqa: SLF001  # no public way to any of it

    async def do_heartbeat() -> bool:
        sent_s = time.monotonic()
        answered: bool = await stock()
        if answered:
            heard(sent_s)
        return answered

    coordinator._do_heartbeat = do_heartbeat  # noqa: SLF001
