"""Bytes picked out of a buffer by their spans, without an object per span."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Bytes, Ints


@njit(cache=True, nogil=True)
def copy_spans(
    source: Bytes, start: Ints, end: Ints, target: Bytes, position: int, new_start: Ints, new_end: Ints
) -> int:
    """Copy n spans to ``target`` from ``position`` on, and say where each went (-1 absent)."""
    for row in range(len(start)):
        if start[row] < 0:
            new_start[row] = new_end[row] = -1
            continue
        new_start[row] = position
        for byte in range(start[row], end[row]):
            target[position] = source[byte]
            position += 1
        new_end[row] = position
    return position


def joined(source: Bytes, start: Ints, end: Ints) -> NDArray[np.uint8]:
    """The bytes of n present spans, one after the other.

    >>> joined(np.frombuffer(b"abcdef", np.uint8), np.array([4, 0]), np.array([6, 2])).tobytes()
    b'efab'
    """
    target = np.empty(int(np.sum(end - start)), np.uint8)
    copy_spans(source, start, end, target, 0, np.empty(len(start), np.int64), np.empty(len(start), np.int64))
    return target
