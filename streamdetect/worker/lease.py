"""Whether this process may still speak for its partitions.

A process that was stopped (a suspended machine, SIGSTOP, a long swap) for longer than the group waits has lost them,
and does not know. So it looks at its own clock before it writes: when its loop has not turned for longer than the
session, somebody else may own what it owns, and it ends without writing or acking. What it had handed to the client
library before can still go out; readers know such records by term and revision (``kernels.image_records``,
``worker.in_force``).

One that runs on and cannot reach its group has lost them as well, after the same time, and may get them back: it takes
nothing in and saves nothing until the group has answered, or has given it other partitions.
"""

import math
import time
from collections.abc import Callable

from streamdetect.errors import UnreachableError


class Lease:
    """``beat`` often; ``check`` before each write; take nothing in while it is not ``sure``.

    ``still_max_s`` is how long one may stand still and stay a member: less than ``silent_max_s``, for which the group
    waits for a heartbeat, because it counts from the last one. A lease begins with the first partition that is ours:
    to read what is in force, and to be let into the group, takes as long as it takes.
    """

    def __init__(self, still_max_s: float, silent_max_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._still_max_s, self._silent_max_s, self._now_s = still_max_s, silent_max_s, now_s
        self._last_s: float | None = None
        self._heard_s = -math.inf
        self._lost_s = 0.0

    def begin(self) -> None:
        """Partitions are ours, by the group's word. What was lost before stays lost."""
        self.heard(self._now_s())
        if self._last_s is None:
            self._last_s = self._now_s()

    def heard(self, sent_s: float) -> None:
        """The group has answered what was sent to it then, by the lease's clock. May be called from another thread."""
        self._heard_s = max(self._heard_s, sent_s)

    @property
    def sure(self) -> bool:
        """Whether the group cannot have given our partitions away yet."""
        return self._now_s() - self._heard_s < self._silent_max_s

    def beat(self) -> None:
        """The loop turns. A lease once lost stays lost."""
        if self._last_s is None:
            return
        now = self._now_s()
        if now - self._last_s > self._still_max_s:
            self._lost_s = now - self._last_s
        self._last_s = now

    def check(self) -> None:
        """Raise ``UnreachableError`` if the group may have given our partitions away."""
        self.beat()
        if self._lost_s:
            raise UnreachableError(
                f"this process stood still for {self._lost_s:.0f} s, longer than the {self._still_max_s:g} s after "
                "which its group may give its partitions away, so it ends; start it again"
            )
