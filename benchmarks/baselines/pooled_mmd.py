"""Pooled-window MMD: do the prompts of a whole group of young accounts look drawn from another source?

A published two-sample test between a window of queries and benign ones, whose windows are too long for one account
(hundreds of prompts at 26 a day), so they are pooled: young accounts by day of sign-up, by wide prefix (IPv4 /16, IPv6
/32), and all together, which is the only pool that fills up where there are few. The reference is what trusted accounts
send, kept with a daily half-life. Windows of trusted accounts, pooled the same way and held against the rest of the
reference, say what chance gives: the threshold is the largest of the newest, plus ``margin`` of their standard
deviations. Of a window that exceeds it, those accounts are acted on whose prompts lie nearer to the window than to the
reference.

The kernel is that of ``features``. Estimates are unbiased: a window from the reference's own source gives 0 on average.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.docket import Docket
from baselines.features import Features, Vectors
from baselines.requests import DAY_MS, Requests, requests_of
from streamdetect.kernels.chunk import Spans
from streamdetect.messages.decision import Decision, Reason
from streamdetect.pipeline.accept.columns import RequestColumns

_NULLS_KEPT = 200
_Key = tuple[str, int, bool]


@dataclass(frozen=True, slots=True)
class Sample:
    """Texts with weights: sum of w phi(x), where phi(x) . phi(x) = 1, sum of w, sum of w squared."""

    total: NDArray[np.float64]
    weight: float
    squares: float

    @classmethod
    def of(cls, rows: NDArray[Any]) -> "Sample":
        """Texts that weigh 1."""
        return cls(rows.sum(axis=0, dtype=np.float64), float(len(rows)), float(len(rows)))

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(self.total + other.total, self.weight + other.weight, self.squares + other.squares)

    def __sub__(self, other: "Sample") -> "Sample":
        return Sample(self.total - other.total, self.weight - other.weight, self.squares - other.squares)

    def halved(self) -> "Sample":
        """The same texts at half the weight."""
        return Sample(self.total / 2, self.weight / 2, self.squares / 4)

    @property
    def within(self) -> float:
        """Mean kernel of two different texts."""
        return float(self.total @ self.total - self.squares) / (self.weight * self.weight - self.squares)


def squared_mmd(first: Sample, second: Sample) -> float:
    """Unbiased squared MMD of two samples."""
    return first.within + second.within - 2 * float(first.total @ second.total) / (first.weight * second.weight)


@dataclass(slots=True)
class _Pool:
    """A window that fills up."""

    began_at: int
    accounts: list[int] = field(default_factory=list)
    rows: list[Vectors] = field(default_factory=list)
    share: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class PooledMmd:
    """Windows of ``prompts`` prompts, at most ``per_account`` of one account, given up after ``window_ms``."""

    docket: Docket
    prompts: int
    per_account: int
    margin: float
    nulls_min: int
    window_ms: int
    reference_min: int
    features: Features = field(default_factory=Features)
    _pools: dict[_Key, _Pool] = field(default_factory=dict)
    _nulls: dict[str, deque[float]] = field(default_factory=dict)
    _reference: Sample = field(init=False)
    _decayed_at: int | None = None

    def __post_init__(self) -> None:
        self._reference = Sample(np.zeros(2 * self.features.frequencies), 0.0, 0.0)

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Add the prompts of a round to their pools, and test those that are full."""
        requests = requests_of(columns)
        self.docket.learn(requests)
        prompt = requests.columns.prompt
        rows = np.flatnonzero(requests.first_turn & (prompt.start >= 0) & (requests.young | requests.trusted))
        if not len(rows):
            return []
        self._decay(int(requests.at[rows[0]]))
        made = self.features.of(requests.columns.texts, Spans(prompt.start[rows], prompt.end[rows]))
        self._reference += Sample.of(made[requests.trusted[rows]])
        found: list[Decision] = []
        for index, row in enumerate(rows.tolist()):
            for key in _pools_of(requests, row):
                found += self._add(key, int(requests.account[row]), int(requests.at[row]), made[index])
        return found

    def finish(self) -> list[Decision]:
        """Windows that are not full are not judged."""
        return []

    def _decay(self, at: int) -> None:
        """Halve the reference once a day. Windows of it that span that are dropped: their parts weigh differently."""
        if self._decayed_at is None:
            self._decayed_at = at
        while at - self._decayed_at >= DAY_MS:
            self._reference = self._reference.halved()
            self._decayed_at += DAY_MS
            self._pools = {key: pool for key, pool in self._pools.items() if not key[2]}

    def _add(self, key: _Key, account: int, at: int, vector: Vectors) -> list[Decision]:
        pool = self._pools.get(key)
        if pool is None or at - pool.began_at >= self.window_ms:
            pool = self._pools[key] = _Pool(at)
        sent = pool.share.get(account, 0)
        if sent >= self.per_account:
            return []
        pool.share[account] = sent + 1
        pool.accounts.append(account)
        pool.rows.append(vector)
        if len(pool.rows) < self.prompts:
            return []
        del self._pools[key]
        return self._judge(key, pool, at)

    def _judge(self, key: _Key, pool: _Pool, at: int) -> list[Decision]:
        kind, _, trusted = key
        rows = np.array(pool.rows, np.float64)
        window, reference = Sample.of(rows), self._reference
        nulls = self._nulls.setdefault(kind, deque(maxlen=_NULLS_KEPT))
        if trusted:
            if reference.weight - window.weight >= self.reference_min:
                nulls.append(squared_mmd(window, reference - window))
            return []
        if len(nulls) < self.nulls_min or reference.weight < self.reference_min:
            return []
        value = squared_mmd(window, reference)
        threshold = float(max(nulls) + self.margin * np.std(nulls))
        if value <= threshold:
            return []
        reason = Reason(
            family="content", signal=f"pooled-mmd.{kind}", value=value, threshold=threshold, window_ms=self.window_ms
        )
        usual = reference.total / reference.weight
        away = rows.mean(axis=0) - usual
        middle = (rows.mean(axis=0) + usual) @ away / 2
        accounts = np.array(pool.accounts, np.uint64)
        found: list[Decision] = []
        for account in dict.fromkeys(pool.accounts):
            mine = rows[accounts == np.uint64(account)].mean(axis=0)
            if mine @ away > middle:
                found += self.docket.account(account, at, reason)
        return found


def _pools_of(requests: Requests, row: int) -> list[_Key]:
    columns, trusted = requests.columns, bool(requests.trusted[row])
    keys: list[_Key] = [("everybody", 0, trusted)]
    created = int(columns.account_created_at[row])
    if created >= 0:
        # Trusted accounts signed up over years: months give them windows as full as days give young ones.
        keys.append(("sign-up", created // (DAY_MS * (30 if trusted else 1)), trusted))
    if columns.address_family[row] == 4:
        keys.append(("prefix", int(columns.address_low[row]) >> 16, trusted))
    elif columns.address_family[row] == 6:
        keys.append(("prefix", (1 << 40) | int(columns.address_high[row]) >> 32, trusted))
    return keys
