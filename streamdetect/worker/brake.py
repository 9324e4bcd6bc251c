"""The brake between decisions and the topics: a detector gone wrong must not stop a whole fleet at once.

At most ``per_minute`` new restrictions a minute, and none while the worker is behind; releases always pass. What is
held waits in a bounded queue and passes when there is room, or lapses when its time is over; both are logged. Minutes
are of a clock that nobody sets, or one set back would hold everything until it has caught up; what is over is told by
wall clock. On the event clock (old data, demos, tests) there is no brake and nothing lapses.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from streamdetect.messages.decision import Decision

MINUTE_S = 60.0
RESTRICTING = ("issued", "renewed")


@dataclass(slots=True)
class Brake:
    """``behind_s`` tells how far the worker is behind; while ``killed`` nothing new passes.

    ``wall_s`` is the clock of expiries, ``now_s`` that of minutes; both in seconds. ``stands`` tells whether what a
    decision renews is in force: the renewal of one that lapsed or was dropped here is new to gateways.
    """

    per_minute: int
    lag_max_s: float
    wall_s: Callable[[], float]
    behind_s: Callable[[], float]
    killed: Callable[[], bool] = lambda: False
    held_max: int = 10_000
    now_s: Callable[[], float] = time.monotonic
    _passed: deque[float] = field(default_factory=deque)
    stands: Callable[[Decision], bool] = lambda _decision: True
    _held: OrderedDict[str, tuple[Decision, int]] = field(default_factory=OrderedDict)  # with the partition it is of
    _passing: dict[str, tuple[Decision, int]] = field(default_factory=dict)  # let go by ``due``, not delivered yet
    dropped: int = 0

    @property
    def held(self) -> int:
        """Decisions waiting."""
        return len(self._held)

    def held_of(self, partition: int) -> list[Decision]:
        """What waits of one partition, oldest first, and what was let go and is on its way."""
        waiting = (*self._passing.values(), *self._held.values())
        return [decision for decision, home in waiting if home == partition]

    def delivered(self) -> None:
        """What ``due`` gave last is delivered."""
        self._passing.clear()

    def forget(self, partition: int) -> None:
        """Drop what waits of a partition that went to another owner, who holds it now."""
        for waiting in (self._held, self._passing):
            for key in [key for key, (_, home) in waiting.items() if home == partition]:
                del waiting[key]

    def go_on(self, decisions: Iterable[Decision], partition: int) -> None:
        """Hold what waited at the brake of a partition's last owner, and is logged as held already."""
        for decision in decisions:
            self._hold(decision.subject.key, decision, partition)

    def judge(self, decision: Decision, partition: int = 0) -> list[Decision]:
        """What to publish for a decision of a partition now: itself, or its held or lapsed form."""
        key = decision.subject.key
        if decision.simulated or decision.action == "observe" or decision.status not in (*RESTRICTING, "released"):
            return [decision]
        if decision.status == "released":
            self._held.pop(key, None)
            return [decision]
        if decision.expires_at <= self.wall_s() * 1000:
            return [decision.model_copy(update={"status": "lapsed"})]
        if decision.status == "renewed" and key not in self._held and self.stands(decision):
            return [decision]
        if key not in self._held and self._take():
            return [decision]
        return self._hold(key, decision, partition)

    def due(self) -> list[Decision]:
        """Held decisions that may pass now, oldest first, and those that lapsed waiting."""
        ready = []
        now_ms = self.wall_s() * 1000
        for key, (decision, home) in list(self._held.items()):
            if decision.expires_at <= now_ms:
                ready.append(decision.model_copy(update={"status": "lapsed"}))
            elif self._take():
                ready.append(decision)
            else:
                break
            del self._held[key]
            self._passing[key] = decision, home
        return ready

    def _hold(self, key: str, decision: Decision, partition: int) -> list[Decision]:
        known = key in self._held
        self._held[key] = decision, partition
        if len(self._held) > self.held_max:
            self._held.popitem(last=False)
            self.dropped += 1
        return [] if known else [decision.model_copy(update={"status": "held"})]

    def _take(self) -> bool:
        if self.killed() or self.behind_s() > self.lag_max_s:
            return False
        now = self.now_s()
        while self._passed and self._passed[0] <= now - MINUTE_S:
            self._passed.popleft()
        if len(self._passed) >= self.per_minute:
            return False
        self._passed.append(now)
        return True
