"""Which offset of a hot partition may be committed.

A ledger lists the chunks delivered from one partition since it was last positioned, in order. Offsets may have holes
(compaction, transaction markers) and chunks may be acked out of order. Whoever holds a chunk marks its own delivery, so
an ack that arrives after a rebalance touches a delivery no ledger lists any more, and changes nothing.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Delivery:
    """One delivered chunk: its last offset, and whether its work is done."""

    last: int
    acked: bool = False


@dataclass(slots=True, eq=False)
class Ledger:
    """Delivered chunks of one partition, ``newest`` the last offset of all. Cost: amortised constant per chunk."""

    _open: deque[Delivery] = field(default_factory=deque)
    _done: int | None = None
    newest: int = -1

    def __len__(self) -> int:
        """Chunks delivered and not yet part of the acked prefix."""
        return len(self._open)

    def deliver(self, last: int) -> Delivery:
        """List a chunk that ends at offset ``last``; offsets rise."""
        delivery = Delivery(last)
        self._open.append(delivery)
        self.newest = last
        return delivery

    def committable(self) -> int | None:
        """The offset to commit: one past the last chunk of the contiguous acked prefix, ``None`` before the first."""
        while self._open and self._open[0].acked:
            self._done = self._open.popleft().last + 1
        return self._done
