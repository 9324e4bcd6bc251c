"""Shared address: several accounts from one address or one subnet within a window; all of them are acted on.

The classic of account fraud (BotGraph, EvilCohort start from it). ``young_only`` counts and acts on young accounts
alone, which spares most offices and carriers. Blind to residential proxies with an exit for each account.
"""

from dataclasses import dataclass, field

import numpy as np

from baselines.docket import Docket
from baselines.meeting import Meetings
from baselines.requests import requests_of
from streamdetect.messages.decision import Decision, Reason
from streamdetect.pipeline.accept.columns import RequestColumns


@dataclass(slots=True)
class SharedAddress:
    """Acts when ``per_address`` accounts use an address (IPv6: a /64), or ``per_subnet`` a /24 (a /48)."""

    docket: Docket
    per_address: int
    per_subnet: int
    window_ms: int
    young_only: bool
    _addresses: Meetings = field(init=False)
    _subnets: Meetings = field(init=False)

    def __post_init__(self) -> None:
        # An account and n - 1 others are n.
        self._addresses = Meetings(self.window_ms, self.per_address - 1)
        self._subnets = Meetings(self.window_ms, self.per_subnet - 1)

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Look who shares what in a round."""
        requests = requests_of(columns)
        self.docket.learn(requests)
        counted = (requests.address != 0) & (requests.young | (not self.young_only))
        rows = np.flatnonzero(counted)
        found: list[Decision] = []
        for signal, keys, meetings in (
            ("address", requests.address, self._addresses),
            ("subnet", requests.subnet, self._subnets),
        ):
            visits, others = meetings.visit(keys[rows][:, None], requests.account[rows], requests.at[rows])
            sizes = np.bincount(visits, minlength=len(rows))
            full = sizes[visits] >= meetings.limit
            for visit, other in zip(visits[full].tolist(), others[full].tolist(), strict=True):
                row, count = int(rows[visit]), int(sizes[visit]) + 1
                reason = Reason(
                    family="network", signal=f"shared-{signal}.accounts", value=count, threshold=meetings.limit + 1,
                    window_ms=self.window_ms,
                )  # fmt: skip
                for account in (int(requests.account[row]), other):
                    found += self.docket.account(account, int(requests.at[row]), reason)
        return found

    def finish(self) -> list[Decision]:
        """Nothing waits."""
        return []
