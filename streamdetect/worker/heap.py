"""The heap of the C library, set for a process that runs for months.

An image of a shard takes tens of megabytes for a moment. glibc learns from the first that such blocks are common, keeps
all that come later in its heaps, one a thread, and gives little of it back: memory creeps. So large blocks always come
from the system and go back to it, and few heaps are shared by all threads.
"""

import ctypes
from typing import Final

LARGE_BYTES: Final = 4 << 20  # above a chunk and what is made of it, below an image
_SPARE_BYTES: Final = 64 << 20  # kept at the end of a heap: to give it back and take it again costs page faults
_HEAPS: Final = 4
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of <malloc.h>


def give_large_blocks_back() -> None:
    """Set the heap of this process; nothing where the C library has no such settings."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _SPARE_BYTES)
        mallopt(_ARENA_MAX, _HEAPS)
