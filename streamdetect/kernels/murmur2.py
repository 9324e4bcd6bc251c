"""Kafka's default partitioner, to tell whether a record lies where its key belongs. Murmur2 as Java clients use it."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Bytes, Ints

_M = np.uint32(0x5BD1E995)
_SEED = np.uint32(0x9747B28C)


@njit(cache=True, nogil=True)
def _murmur2(data: Bytes, start: int, end: int) -> np.uint32:
    length = end - start
    h = np.uint32(_SEED ^ np.uint32(length))
    position = start
    while end - position >= 4:
        k = np.uint32(
            np.uint32(data[position])
            | np.uint32(np.uint32(data[position + 1]) << np.uint32(8))
            | np.uint32(np.uint32(data[position + 2]) << np.uint32(16))
            | np.uint32(np.uint32(data[position + 3]) << np.uint32(24))
        )
        k = np.uint32(k * _M)
        k = np.uint32(k ^ (k >> np.uint32(24)))
        k = np.uint32(k * _M)
        h = np.uint32(np.uint32(h * _M) ^ k)
        position += 4
    rest = end - position
    if rest >= 3:
        h = np.uint32(h ^ np.uint32(np.uint32(data[position + 2]) << np.uint32(16)))
    if rest >= 2:
        h = np.uint32(h ^ np.uint32(np.uint32(data[position + 1]) << np.uint32(8)))
    if rest >= 1:
        h = np.uint32(np.uint32(h ^ np.uint32(data[position])) * _M)
    h = np.uint32(h ^ (h >> np.uint32(13)))
    h = np.uint32(h * _M)
    return np.uint32(h ^ (h >> np.uint32(15)))


@njit(cache=True, nogil=True)
def key_partitions(data: Bytes, start: Ints, end: Ints, partitions: int) -> NDArray[np.int64]:
    """The partition of each key, ``int64[n]``; -1 for a null key (span start -1)."""
    found = np.full(len(start), -1, np.int64)
    for row in range(len(start)):
        if start[row] >= 0:
            positive = np.int64(_murmur2(data, start[row], end[row]) & np.uint32(0x7FFFFFFF))
            found[row] = positive % partitions
    return found
