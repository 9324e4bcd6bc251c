"""A detector that knows many accounts, made by sending it events, and traffic of those accounts to keep it busy.

First every account sends one request with a text of its own within an event-hour, then traffic goes on (``people.py``).
Everything passes the worker's own ``Detector``, four partitions, in memory between the stages.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
from corpus import PARTITIONS
from people import People, Sent
from steps import Wiring

from streamdetect.kernels.chunk import Chunk, chunk_of
from streamdetect.pipeline.decisions.policy import default_policy
from streamdetect.worker.detector import Detector
from streamdetect.worker.shard import Shard

REQUESTS = "requests"
START_MS = 1_767_225_600_000
HOUR_MS = 3_600_000
_SLICE = 20_000
_CHUNK = 500


class Population:
    """``accounts`` accounts behind ``detector``."""

    def __init__(self, accounts: int, *, skew: float = 3.0) -> None:
        self.detector = new_detector()
        self._people = People(accounts, START_MS, skew=skew)
        self._now_ms = START_MS
        self._wiring = Wiring(self.detector)
        self._offsets = [0] * PARTITIONS

    @property
    def decisions(self) -> int:
        """How many were taken."""
        return len(self._wiring.decisions)

    def arrive(self) -> None:
        """The first event of every account."""
        first = 0
        for account in self._people.arrivals(_SLICE):
            at_ms = self._now_ms + (first + np.arange(len(account))) * HOUR_MS // self._people.accounts
            self._take(self._people.first_events(account, at_ms))
            first += len(account)
        self._now_ms += HOUR_MS

    def go_on(self, events: int, lasts_ms: int) -> None:
        """So many events of traffic in so much event time."""
        for first in range(0, events, _SLICE):
            count = min(_SLICE, events - first)
            self._take(self._people.events(self._now_ms + (first + np.arange(count)) * lasts_ms // events))
        self._now_ms += lasts_ms

    def _take(self, sent: Sent) -> None:
        for chunks in self._rounds(sent):
            self._wiring.round(chunks)

    def _rounds(self, sent: Sent) -> Iterator[list[Chunk]]:
        """Rounds of at most one chunk a partition."""
        rows = [np.flatnonzero(sent.partition == one).tolist() for one in range(PARTITIONS)]
        for first in range(0, max(map(len, rows)), _CHUNK):
            found = []
            for one, mine in enumerate(rows):
                part = mine[first : first + _CHUNK]
                if part:
                    offsets = np.arange(self._offsets[one], self._offsets[one] + len(part))
                    self._offsets[one] += len(part)
                    values, keys = [sent.values[row] for row in part], [sent.keys[row] for row in part]
                    found.append(chunk_of(REQUESTS, one, values, keys=keys, offsets=offsets))
            yield found


def new_detector() -> Detector:
    """An empty one, as the worker makes it."""
    return Detector(default_policy(), "live", (REQUESTS,), PARTITIONS)


def arrays_of(shard: Shard) -> dict[str, np.ndarray]:
    """The arrays of one partition that images hold, the part in use."""
    accounts, keys = shard.accounts.state, shard.associations.state
    return {
        "accounts": accounts.table.live,
        "activities": accounts.activities.live,
        "subnets": accounts.subnets.live,
        "facts": accounts.ledgers[: accounts.ledger_count],
        "seen": accounts.seen.tables,
        "ids": np.frombuffer(bytes(accounts.ids), np.uint8),
        "keys": keys.table.live,
        "singles": keys.singles.live,
        "members": keys.members.live,
        "crowds": keys.crowds.live,
        "names": np.frombuffer(bytes(keys.names), np.uint8),
    }


def digest(detector: Detector) -> str:
    """One number for the state of all partitions right after an image of each, when no row is marked as changed."""
    whole = blake2b(digest_size=16)
    for number, shard in sorted(detector.shards.items()):
        whole.update(repr((number, sorted(shard.positions.items()), shard.associations.state.high_water)).encode())
        for array in arrays_of(shard).values():
            whole.update(np.ascontiguousarray(array).view(np.uint8).data)
    return whole.hexdigest()


def sizes(detector: Detector) -> dict[str, Any]:
    """Rows and bytes in use of all partitions together."""
    found: dict[str, dict[str, int]] = {}
    for shard in detector.shards.values():
        for name, array in arrays_of(shard).items():
            entry = found.setdefault(name, {"rows": 0, "bytes": 0})
            entry["rows"] += len(array)
            entry["bytes"] += array.nbytes
    return found
