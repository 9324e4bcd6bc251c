"""Rows of a structured array that grows between batches, so that compiled code never allocates.

Used as it is where other rows refer to these by number; with an index on top where they are found by a key
(``kernels.index``, ``kernels.members``). Large arrays grow by half, and shrink when most of one is empty; spare rows
take no memory before they are used. ``dirty`` is 1 for each row that changed since the last image; whoever changes a
row sets it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.images import Dirty, RowSection, capture_rows, restore_rows

Rows = NDArray[np.void]

_LEAST, _SMALL = 1024, 1 << 17


class GrowingRows:
    """Rows in order of their number; what has an index over them keeps it in step by ``_moved``."""

    __slots__ = ("count", "dirty", "rows")

    def __init__(self, dtype: np.dtype[np.void], capacity: int = 64) -> None:
        self.rows: Rows = np.zeros(capacity, dtype)
        self.dirty: Dirty = np.zeros(capacity, np.uint8)
        self.count = 0
        self._moved()

    def _moved(self) -> None:
        """The array is another, or rows have other numbers."""

    def reserve(self, extra: int) -> None:
        """Make room for ``extra`` new rows, before a batch."""
        needed = self.count + extra
        if needed > len(self.rows):
            self._resize(more_room(needed, len(self.rows)))
            self._moved()

    def clear(self, room: int) -> None:
        """No row any more, and zeroed room for at least ``room``."""
        self.count = 0
        self._resize(max(room, less_room(room, len(self.rows))))
        self._moved()

    def kept(self, count: int) -> None:
        """After a sweep: the first ``count`` rows are what is left, each with another number."""
        self.count = count
        self.dirty[:count] = 1
        if (room := less_room(count, len(self.rows))) < len(self.rows):
            self._resize(room)
        self._moved()

    def _resize(self, room: int) -> None:
        self.rows, self.dirty = resized(self.rows, self.dirty, self.count, room)

    def capture(self, stripe: int) -> RowSection:
        """The rows due for an image."""
        return capture_rows(self.rows, self.count, self.dirty, stripe)

    def restore(self, sections: Sequence[RowSection]) -> None:
        """Become what images in order say."""
        self.count = sections[-1].count
        self.rows = restore_rows(sections, self.rows.dtype, at_least=room_for(self.count, len(self.rows)))
        self.dirty = np.zeros(len(self.rows), np.uint8)
        self._moved()

    @property
    def live(self) -> Rows:
        """The rows in use."""
        return self.rows[: self.count]

    @property
    def memory_bytes(self) -> int:
        """Bytes held, spare room included."""
        return self.rows.nbytes + self.dirty.nbytes


def resized(rows: Rows, dirty: Dirty, count: int, room: int) -> tuple[Rows, Dirty]:
    """The first ``count`` rows and their marks, in arrays of ``room``; what is spare there takes no memory yet."""
    moved, marks = np.zeros(room, rows.dtype), np.zeros(room, np.uint8)
    whole = count * rows.dtype.itemsize  # as bytes: numpy copies records field by field
    moved.view(np.uint8)[:whole], marks[:count] = rows.view(np.uint8)[:whole], dirty[:count]
    return moved, marks


def more_room(needed: int, held: int) -> int:
    """How long an array must become that holds less than ``needed``.

    Half more, or twice as long while it is small: each time it is indexed anew.
    """
    return max(needed, held + max(held // 2, min(held, _SMALL)))


def less_room(count: int, held: int) -> int:
    """How long an array should be after a sweep: as it is, or a quarter more than is used if that is less than half."""
    return max(_LEAST, count + count // 4) if 2 * count < held else held


def room_for(rows: int, at_least: int) -> int:
    """How long an array that is restored should be: it must not have to grow at once."""
    return max(at_least, rows + rows // 4)
