"""Sliding windows of integer counts as rings of sub-buckets, in event time.

A window W has six sub-buckets of W/6, aligned to the epoch. A key is read at its own newest event time T and covers the
current and the five previous sub-buckets, so a window is between 5/6 W and W long. An event older than that changes
nothing, now or later. The state is therefore the same whichever of two events comes first. Sums stop at 2^32 - 1.

::

    sub-bucket      ... b-6 | b-5   b-4   b-3   b-2   b-1    b   |
                    dropped |<---------- in the window --------->|   b = T // bucket_ms
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

BUCKETS = 6
WINDOWS_MS = (60_000, 3_600_000, 86_400_000)
BUCKETS_MS = tuple(window // BUCKETS for window in WINDOWS_MS)
MINUTE, HOUR, DAY = 0, 1, 2
RETAINED_MS = BUCKETS_MS[DAY] * (BUCKETS - 1)  # an event older than its key's newest by more than a day may be late

_BUCKETS_MS = np.array(BUCKETS_MS, np.int64)
_SATURATED = np.int64(0xFFFFFFFF)

Ring = NDArray[np.uint32]


@njit(cache=True, nogil=True)
def advance(ring: Ring, newest: int, occurred_at: int) -> None:
    """Clear the sub-buckets that ``[3, 6]`` enters when its newest time moves forward to ``occurred_at``."""
    for window in range(3):
        first = newest // _BUCKETS_MS[window] + 1
        last = occurred_at // _BUCKETS_MS[window]
        if last - first >= BUCKETS:
            first = last - BUCKETS + 1
        for bucket in range(first, last + 1):
            ring[window, bucket % BUCKETS] = np.uint32(0)


@njit(cache=True, nogil=True)
def add(ring: Ring, newest: int, occurred_at: int, amount: int) -> None:
    """Add ``amount`` at ``occurred_at`` (at most ``newest``) to each window that still retains that time."""
    for window in range(3):
        bucket = occurred_at // _BUCKETS_MS[window]
        if bucket > newest // _BUCKETS_MS[window] - BUCKETS:
            total = np.int64(ring[window, bucket % BUCKETS]) + amount
            ring[window, bucket % BUCKETS] = np.uint32(min(total, _SATURATED))


@njit(cache=True, nogil=True)
def total(ring: Ring, window: int) -> int:
    """The sum over one window."""
    value = 0
    for bucket in range(BUCKETS):
        value += int(ring[window, bucket])
    return value


@njit(cache=True, nogil=True)
def is_late(newest: int, occurred_at: int) -> bool:
    """Whether an event is older than everything a key retains."""
    return bool(occurred_at // _BUCKETS_MS[DAY] <= newest // _BUCKETS_MS[DAY] - BUCKETS)
