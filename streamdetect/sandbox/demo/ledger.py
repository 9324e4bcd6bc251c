"""What happened to whom: requests served and refused by account, and what was decided about accounts. Pure counting.

The only place where outcomes meet labels. Wall-clock moments come from the caller, in seconds of a monotonic clock.
Memory follows the number of accounts; send times are kept for the newest 20,000 events.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from streamdetect.messages.decision import ACTIONS, Decision
from streamdetect.sandbox.demo.scene import Exchange

# How long after a decision can be read a gateway may still serve the account: 5 readings of the embedded broker.
PROPAGATION_S: Final = 2.0
STOPPING: Final = ("verify", "suspend")
_SENT_MAX: Final = 20_000
_DELAYS_MAX: Final = 10_000
_RANK: Final = {action: rank for rank, action in enumerate(ACTIONS)}


@dataclass(slots=True)
class Account:
    """One account so far; ``touched`` is the strongest thing done to it.

    ``planned`` leaves cover traffic out; ``late`` counts requests after the first finding had reached the gateway.
    """

    requests: int = 0
    refused: int = 0
    planned: int = 0
    served: int = 0
    late: int = 0
    touched: str | None = None

    def touch(self, action: str) -> None:
        """Note an action; the strongest stays."""
        if self.touched is None or _RANK[action] > _RANK[self.touched]:
            self.touched = action


@dataclass(frozen=True, slots=True)
class Standing:
    """A decision that stops an account: until when in event time, and since when it can be read (wall clock)."""

    expires_at: int
    readable_s: float


@dataclass(slots=True)
class Ledger:
    """Everything counted in one run."""

    campaign: frozenset[str]
    honest: frozenset[str]
    accounts: dict[str, Account] = field(default_factory=dict)
    events: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    overruns: int = 0  # served although a readable decision stopped the account
    delays_s: deque[float] = field(default_factory=lambda: deque(maxlen=_DELAYS_MAX))  # of the newest decisions
    first_campaign_at_ms: int | None = None
    first_action: Decision | None = None
    _first_action_s: float | None = None
    _standing: dict[str, Standing] = field(default_factory=dict)
    _revisions: dict[str, int] = field(default_factory=dict)
    _sent_s: OrderedDict[int, float] = field(default_factory=OrderedDict)

    def note_request(self, exchange: Exchange, outcome: str, action: str, now_s: float) -> None:
        """Count one request and what the gateway did: ``outcome`` as in the event, ``action`` in force on it."""
        account = self._account(exchange.account)
        served = outcome == "served"
        self.events += 1
        account.requests += 1
        account.refused += not served
        if action in _RANK:
            account.touch(action)
        if not served:
            self.refused[outcome] += 1
        elif self._stopped(exchange, now_s):
            self.overruns += 1
        if not exchange.cover:
            account.planned += 1
            account.served += served
        if self.first_campaign_at_ms is None and exchange.account in self.campaign:
            self.first_campaign_at_ms = exchange.at_ms
        if self._first_action_s is not None and now_s > self._first_action_s + PROPAGATION_S:
            account.late += 1
        # The first of several events in a millisecond: the slower reading of a decision's delay.
        self._sent_s.setdefault(exchange.at_ms, now_s)
        if len(self._sent_s) > _SENT_MAX:
            self._sent_s.popitem(last=False)

    def note_decision(self, decision: Decision, now_s: float) -> None:
        """Count one decision as it becomes readable."""
        if self._revisions.get(decision.subject.key, -1) >= decision.revision:
            return
        self._revisions[decision.subject.key] = decision.revision
        self.decisions[f"{decision.action} {decision.status}{' simulated' if decision.simulated else ''}"] += 1
        if decision.status == "issued" and (sent_s := self._sent_s.get(decision.issued_at)) is not None:
            self.delays_s.append(now_s - sent_s)
        if decision.simulated or decision.action == "observe" or decision.status in ("held", "lapsed"):
            return
        if self.first_action is None:
            self.first_action, self._first_action_s = decision, now_s
        if decision.subject.scope == "account":
            self._stand(decision, now_s)

    def stopped(self, accounts: Iterable[str]) -> int:
        """How many of these accounts were put under verify or suspend."""
        return sum(self._touched(account) in STOPPING for account in accounts)

    def touched(self, accounts: Iterable[str]) -> Counter[str]:
        """How many of these accounts were touched, by the strongest action."""
        return Counter(action for account in accounts if (action := self._touched(account)) is not None)

    def heard(self, accounts: Iterable[str]) -> list[Account]:
        """Those of these accounts that sent something."""
        return [self.accounts[account] for account in accounts if self._requests(account)]

    def due(self, *, requests_min: int) -> list[str]:
        """Campaign accounts that sent at least so many requests after the first finding had reached the gateway."""
        return [name for name in self.campaign if name in self.accounts and self.accounts[name].late >= requests_min]

    def _account(self, name: str) -> Account:
        return self.accounts.setdefault(name, Account())

    def _touched(self, name: str) -> str | None:
        account = self.accounts.get(name)
        return account.touched if account is not None else None

    def _requests(self, name: str) -> int:
        account = self.accounts.get(name)
        return account.requests if account is not None else 0

    def _stopped(self, exchange: Exchange, now_s: float) -> bool:
        standing = self._standing.get(exchange.account)
        if standing is None:
            return False
        return exchange.at_ms < standing.expires_at and now_s > standing.readable_s + PROPAGATION_S

    def _stand(self, decision: Decision, now_s: float) -> None:
        name = decision.subject.value
        if decision.action in _RANK:
            self._account(name).touch(decision.action)
        if decision.action not in STOPPING:
            self._standing.pop(name, None)
            return
        # A renewal must not hide that the account has been stopped for long.
        before = self._standing.get(name)
        unbroken = before is not None and before.expires_at > decision.issued_at
        since_s = before.readable_s if unbroken and before is not None else now_s
        self._standing[name] = Standing(decision.expires_at, since_s)
