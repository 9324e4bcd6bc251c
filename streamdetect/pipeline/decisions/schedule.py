"""When a stage goes over to the next policy: at the first row, in the order of its stream, at or after its time.

At most one policy waits. Another one told later replaces it, as the newest record of a compacted topic does, so a
detector that was there all the time and one that read the topic later agree. There is no way back: rows that come
after the switch with an older time are judged by the new policy.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamdetect.messages.decision import Mode
from streamdetect.pipeline.decisions.policy import CompiledPolicy


@dataclass(frozen=True, slots=True)
class Coming:
    """A policy that was told and is not in effect yet, and whether it will be enforced."""

    policy: CompiledPolicy
    mode: Mode

    @property
    def effective_at(self) -> int:
        """Event time in ms of the earliest row it may judge; 0 when it takes effect at once."""
        return self.policy.model.effective_at or 0

    def place(self, times: NDArray[np.int64]) -> int | None:
        """Index of the first row it judges, among rows with these event times; ``None`` if it is none of them."""
        reached = np.flatnonzero(times >= self.effective_at)
        return int(reached[0]) if len(reached) else None


def coming(policy: CompiledPolicy, mode: Mode, current: CompiledPolicy, current_mode: Mode) -> Coming | None:
    """What waits after ``policy`` was told: nothing when it is the one in effect."""
    return None if (policy.hash, mode) == (current.hash, current_mode) else Coming(policy, mode)


def pieces(count: int, at: int) -> Iterator[NDArray[np.int64]]:
    """The rows before ``at`` and those from there on."""
    yield np.arange(at)
    yield np.arange(at, count)
