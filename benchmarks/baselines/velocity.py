"""Velocity limits: too many requests of an account, or of a /24 (IPv6: /48), within a window.

What gateways do everywhere, and all that most do. Needs only an account and an address. A limit that 26 requests a day
exceed also stops one honest developer in seven, so it does not see a campaign of light users.
"""

from collections import deque
from dataclasses import dataclass, field

from baselines.docket import Docket
from baselines.requests import requests_of
from streamdetect.messages.decision import Decision, Reason
from streamdetect.pipeline.accept.columns import RequestColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """``count`` requests within (t - window_ms, t] are too many for a subject of ``scope`` (account or subnet)."""

    scope: str
    count: int
    window_ms: int


@dataclass(slots=True)
class Velocity:
    """Sliding windows, exact: a window is full when the ``count``-th request back is still inside it."""

    docket: Docket
    limits: tuple[Limit, ...]
    _times: list[dict[int, deque[int]]] = field(init=False)

    def __post_init__(self) -> None:
        self._times = [{} for _ in self.limits]

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Count the requests of a round."""
        requests = requests_of(columns)
        self.docket.learn(requests)
        found: list[Decision] = []
        for limit, times in zip(self.limits, self._times, strict=True):
            keys = requests.account if limit.scope == "account" else requests.subnet
            for row, (key, at) in enumerate(zip(keys.tolist(), requests.at.tolist(), strict=True)):
                if not key:
                    continue
                recent = times.get(key)
                if recent is None:
                    recent = times[key] = deque(maxlen=limit.count)
                recent.append(at)
                if len(recent) < limit.count or recent[0] <= at - limit.window_ms:
                    continue
                reason = Reason(
                    family="behaviour", signal=f"velocity.{limit.scope}", value=limit.count, threshold=limit.count,
                    window_ms=limit.window_ms,
                )  # fmt: skip
                if limit.scope == "account":
                    found += self.docket.account(key, at, reason)
                else:
                    found += self.docket.subject("subnet", requests.subnet_text(row), at, reason)
        return found

    def finish(self) -> list[Decision]:
        """Nothing waits."""
        return []
