"""Rows that other rows refer to by number, for those few that need one: a growing structured array without an index.

What only some owners have, and is large, stands here and not in every owner's row. Growth happens between batches, so
that compiled code never allocates. ``dirty`` is 1 for each block that changed since the last image.
"""

from collections.abc import Sequence

import numpy as np

from streamdetect.kernels.images import Dirty, RowSection, capture_rows, restore_rows
from streamdetect.kernels.index import Rows, less_room, more_room, resized, room_for


class Blocks:
    """Blocks in order of their number; the owner of one keeps it."""

    __slots__ = ("count", "dirty", "rows")

    def __init__(self, dtype: np.dtype[np.void], capacity: int = 64) -> None:
        self.rows: Rows = np.zeros(capacity, dtype)
        self.dirty: Dirty = np.zeros(capacity, np.uint8)
        self.count = 0

    def reserve(self, extra: int) -> None:
        """Make room for ``extra`` new blocks, before a batch."""
        needed = self.count + extra
        if needed > len(self.rows):
            self.rows, self.dirty = resized(self.rows, self.dirty, self.count, more_room(needed, len(self.rows)))

    def clear(self, room: int) -> None:
        """No block any more, and zeroed room for at least ``room``."""
        room = max(room, less_room(room, len(self.rows)))
        self.rows, self.dirty = resized(self.rows, self.dirty, 0, room)
        self.count = 0

    def capture(self, stripe: int) -> RowSection:
        """The blocks due for an image."""
        return capture_rows(self.rows, self.count, self.dirty, stripe)

    def restore(self, sections: Sequence[RowSection]) -> None:
        """Become what images in order say."""
        self.count = sections[-1].count
        self.rows = restore_rows(sections, self.rows.dtype, at_least=room_for(self.count, len(self.rows)))
        self.dirty = np.zeros(len(self.rows), np.uint8)

    @property
    def live(self) -> Rows:
        """The blocks in use."""
        return self.rows[: self.count]

    @property
    def memory_bytes(self) -> int:
        """Bytes held, spare room included."""
        return self.rows.nbytes + self.dirty.nbytes
