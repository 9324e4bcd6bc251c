"""Many accounts and what they send, as JSON events: for benchmarks in which the size of the state matters.

20 accounts a subnet, a quarter of them young, a third of the old in an organisation. An account's rank decides how busy
it is: with ``skew`` 3 the busiest hundredth sends a fifth of all requests; with 1 all are alike, which is the worst
case for images. One request in four begins a conversation, which is what makes content keys: of a text of its own, or,
if ``texts`` is given, of the one of so many that the account always takes, so that neither keys nor users become more.
"""

from dataclasses import dataclass

import numpy as np
from corpus import PARTITIONS, account_id, lines, prose

from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.murmur2 import key_partitions
from streamdetect.traffic.draws import mix

_REPEATED_TEXTS = 2_000  # what later turns of conversations say
_FIRST_OF_REPEATED, _FIRST_OF_KNOWN = np.uint64(1 << 60), np.uint64(1 << 61)


@dataclass(frozen=True, slots=True)
class Sent:
    """Events in order of time; ``partition`` is where the key belongs."""

    values: list[bytes]
    keys: list[bytes]
    partition: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


class People:
    """``accounts`` accounts, whose age is counted from ``start_ms``."""

    def __init__(
        self, accounts: int, start_ms: int, *, skew: float = 3.0, seed: int = 1, texts: int | None = None
    ) -> None:
        self.accounts, self._start_ms, self._skew, self._seed = accounts, start_ms, skew, seed
        self._draw = np.random.default_rng(seed)
        self._repeated = prose(mix(np.arange(_REPEATED_TEXTS, dtype=np.uint64) + _FIRST_OF_REPEATED))
        self._known = None if texts is None else prose(mix(np.arange(texts, dtype=np.uint64) + _FIRST_OF_KNOWN))
        self._sent = 0

    def arrivals(self, size: int) -> list[np.ndarray]:
        """Every account once, in random order, in pieces of ``size``."""
        order = self._draw.permutation(self.accounts)
        return [order[first : first + size] for first in range(0, self.accounts, size)]

    def first_events(self, account: np.ndarray, at_ms: np.ndarray) -> Sent:
        """One event each of ``account``, all of them first turns."""
        return self._events(account, at_ms, np.zeros(len(account), np.int64))

    def events(self, at_ms: np.ndarray) -> Sent:
        """Traffic at these times."""
        count = len(at_ms)
        rank = (self.accounts * self._draw.random(count) ** self._skew).astype(np.int64)
        # Ranks must have nothing to do with numbers, by which accounts are young or share subnets.
        account = rank * 7_368_787 % self.accounts
        return self._events(account, at_ms, np.where(self._draw.random(count) < 0.25, 0, rank % 19 + 1))

    def _events(self, account: np.ndarray, at_ms: np.ndarray, turn: np.ndarray) -> Sent:
        number = mix(np.arange(self._sent, self._sent + len(account), dtype=np.uint64) + np.uint64(self._seed << 40))
        series = b"%02x%08x" % (self._seed, self._sent)
        self._sent += len(account)
        texts = [self._repeated[row] for row in (number % np.uint64(_REPEATED_TEXTS)).tolist()]
        begins = np.flatnonzero(turn == 0)
        if self._known is None:
            first = prose(number[begins])
        else:
            first = [self._known[row] for row in (account[begins] % len(self._known)).tolist()]
        for row, text in zip(begins.tolist(), first, strict=True):
            texts[row] = text
        subnets = [f"{11 + (net >> 16)}.{net >> 8 & 255}.{net & 255}" for net in (account // 20).tolist()]
        values = lines(series, account, subnets, at_ms, texts, account % 4 == 0, self._start_ms, turn=turn)
        keys = [account_id(one).encode() for one in account.tolist()]
        buffer, spans = spans_of(keys)
        partition = key_partitions(np.frombuffer(buffer, np.uint8), spans.start, spans.end, PARTITIONS)
        return Sent(values, keys, partition)
