"""Caps: how many new restrictions of a kind may be decided in any hour of event time.

A cap is split over partitions, share = max(1, ceil(cap / partitions)), because no partition knows of the others; with
few decisions and many partitions the shares together can exceed the cap by up to one decision a partition.
"""

from collections import deque

from streamdetect.messages.policy import Caps as CapsPolicy

HOUR_MS = 3_600_000
_LEVELS = {2: "rate_limit_per_hour", 3: "verify_per_hour", 4: "suspend_per_hour"}


class Caps:
    """Sliding-hour budgets of one partition, by action level. Memory is bounded by the caps themselves."""

    __slots__ = ("_issued", "_shares")

    def __init__(self, policy: CapsPolicy, partitions: int) -> None:
        self._issued: dict[int, deque[int]] = {level: deque() for level in _LEVELS}
        self.obey(policy, partitions)

    def obey(self, policy: CapsPolicy, partitions: int) -> None:
        """Go by other caps from now on; what was issued in the last hour counts against them."""
        self._shares = {
            level: max(1, -(-getattr(policy, name) // partitions)) if getattr(policy, name) else 0
            for level, name in _LEVELS.items()
        }

    def take(self, level: int, at: int) -> bool:
        """Use one of the budget at event time ``at`` (ms); false when it is spent. Observing has no cap."""
        if level not in self._shares:
            return True
        issued = self._issued[level]
        while issued and issued[0] <= at - HOUR_MS:
            issued.popleft()
        if len(issued) >= self._shares[level]:
            return False
        issued.append(at)
        return True

    def capture(self) -> dict[int, list[int]]:
        """What has been used, for an image."""
        return {level: list(issued) for level, issued in self._issued.items()}

    def restore(self, issued: dict[int, list[int]]) -> None:
        """Go on from what an image says was used."""
        self._issued = {level: deque(issued.get(level, ())) for level in _LEVELS}
