"""What arrays and numbered blobs have become since the last image, and putting them together again.

State is a handful of growing arrays, whose changed rows are marked ``dirty``, and blobs by number. An image holds the
rows that are marked, and every ``STRIPES``-th stripe of the others whether they changed or not. So the last ``STRIPES``
images in a row hold every row at least once, at its newest: a ring of so many records is all that must be kept, there
is no moment at which everything is written, and applying them in order restores each array byte for byte, order of
rows included. Row layouts travel along by field name, so that a later version reads what an earlier one wrote.

Capturing costs a look at the marks and a copy of the rows; the caller's arrays may change right after it. Packing
(``encode``) is the larger part, needs no lock of the interpreter, and is for another thread. A decoded image is a view
of its bytes, and its rows are unpacked when they are put where they belong. Where images go is not known here.
"""

from collections.abc import Sequence
from typing import Any, Final

import cramjam
import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.errors import ImageError

STRIPES: Final = 16
STRIPE_ROWS: Final = 256

Layout = tuple[tuple[tuple[str, str, tuple[int, ...], int], ...], int]  # (name, format, shape, offset) a field, size
Dirty = NDArray[np.uint8]


class RowSection(msgspec.Struct, frozen=True, array_like=True):
    """``taken`` rows of an array that has ``count``: ``index`` is their numbers as differences, ``uint32``.

    ``packed``: both ``index`` and ``rows`` are lz4 blocks.
    """

    layout: Layout
    count: int
    taken: int
    index: memoryview
    rows: memoryview
    packed: bool = False

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Which rows these are: ``int64[taken]``."""
        return np.cumsum(self.unpacked_index(np.empty(self.taken, np.uint32)), dtype=np.int64)

    def unpacked_index(self, room: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Differences between the numbers of rows, in ``room`` (at least ``taken`` long) or where they are."""
        return self._unpacked(self.index, room.view(np.uint8), self.taken * 4).view(np.uint32)

    def unpacked_rows(self, room: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The rows as ``uint8[taken, size]``, in ``room`` or where they are."""
        size = self.layout[1]
        return self._unpacked(self.rows, room, self.taken * size).reshape(self.taken, size)

    def _unpacked(self, data: memoryview, room: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        try:
            if self.packed and cramjam.lz4.decompress_block_into(data, room[:size].data) == size:
                return room[:size]
        except cramjam.DecompressionError as error:
            raise ImageError(f"{len(data)} bytes of an image cannot be unpacked ({error})") from error
        if self.packed or len(data) != size:
            raise ImageError(f"{len(data)} bytes of an image are not {self.taken} rows of {size} bytes together")
        return np.frombuffer(data, np.uint8)


class BlobSection(msgspec.Struct, frozen=True, array_like=True):
    """Some numbered blobs; ``None`` is one that is gone."""

    blobs: dict[int, bytes | None]


class StageImage(msgspec.Struct, frozen=True, array_like=True):
    """One stage: small things whole, arrays and blobs in part."""

    meta: dict[str, Any]
    rows: dict[str, RowSection] = {}
    blobs: dict[str, BlobSection] = {}


class Image(msgspec.Struct, frozen=True, array_like=True):
    """All stages of one partition at one moment."""

    stages: dict[str, StageImage]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Image)


def encode(image: Image) -> bytes:
    """Bytes of an image, its rows packed."""
    stages = {
        name: StageImage(stage.meta, {part: _packed(section) for part, section in stage.rows.items()}, stage.blobs)
        for name, stage in image.stages.items()
    }
    return _encoder.encode(Image(stages))


def decode(data: bytes) -> Image:
    """Read an image; its rows stay packed, in ``data``. Raises ``ImageError`` for bytes that are none."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ImageError(f"no image can be read from these {len(data)} bytes ({type(error).__name__})") from error


def capture_rows(rows: NDArray[Any], count: int, dirty: Dirty, stripe: int) -> RowSection:
    """The due rows of an array, and no row marked any more.

    Args:
        rows: a one-dimensional array, ``count`` of it in use.
        count: rows in use.
        dirty: not 0 for each row that changed; cleared.
        stripe: number of the image; decides which unchanged rows it holds as well.
    """
    index = _due(count, dirty, stripe)
    dirty[:count] = 0
    raw = rows[:count].view(np.uint8).reshape(count, rows.dtype.itemsize)
    return _section(rows.dtype, count, index, raw[index])


def restore_rows(sections: Sequence[RowSection], dtype: Any, *, at_least: int = 0) -> NDArray[Any]:
    """The array that images in order leave: ``dtype[max(count, at_least)]``, with ``count`` of the last section.

    Raises ``ImageError`` where rows do not fit their index.
    """
    wanted, count = np.dtype(dtype), sections[-1].count
    rows = np.zeros(max(count, at_least), wanted)
    index_room = np.empty(max(section.taken for section in sections), np.uint32)
    rows_room = np.empty(max(section.taken * section.layout[1] for section in sections), np.uint8)
    raw = rows[:count].view(np.uint8).reshape(count, wanted.itemsize)
    for section in sections:
        stored = _dtype_of(section.layout)
        differences, values = section.unpacked_index(index_room), section.unpacked_rows(rows_room)
        if stored == wanted:
            _put(raw, differences, values)
            continue
        if stored.names is None or wanted.names is None:
            raise ImageError(f"rows of {stored} cannot become rows of {wanted}")
        index = np.cumsum(differences, dtype=np.int64)
        inside = index < count  # the array may have shrunk since
        fields = values.reshape(-1).view(stored)[inside]
        for name in set(stored.names) & set(wanted.names):
            rows[name][index[inside]] = fields[name]
    return rows


def capture_bytes(buffer: bytearray, written: int, stripe: int) -> RowSection:
    """The due part of a buffer that only grows at its end; ``written`` is its length at the last image."""
    blocks, whole = -(-len(buffer) // _BLOCK), len(buffer) // _BLOCK
    dirty = np.zeros(blocks, np.uint8)
    dirty[written // _BLOCK :] = 1
    index = _due(blocks, dirty, stripe)
    taken = np.zeros((len(index), _BLOCK), np.uint8)
    full = index < whole
    taken[full] = np.frombuffer(buffer, np.uint8, whole * _BLOCK).reshape(whole, _BLOCK)[index[full]]
    if not full.all():
        taken[-1, : len(buffer) - whole * _BLOCK] = np.frombuffer(buffer, np.uint8, offset=whole * _BLOCK)
    return _section(_BLOCK_DTYPE, blocks, index, taken)


def restore_bytes(sections: Sequence[RowSection], length: int) -> bytearray:
    """The buffer of ``length`` bytes that images in order leave."""
    rows = restore_rows(sections, _dtype_of(sections[-1].layout))
    return bytearray(rows.view(np.uint8)[:length].data)


def restore_blobs(sections: Sequence[BlobSection]) -> dict[int, bytes]:
    """The blobs that images in order leave, by number."""
    found: dict[int, bytes | None] = {}
    for section in sections:
        found |= section.blobs
    return {number: blob for number, blob in sorted(found.items()) if blob is not None}


_BLOCK: Final = 64
_BLOCK_DTYPE: Final = np.dtype((np.void, _BLOCK))


@njit(cache=True, nogil=True)
def _put(rows: NDArray[np.uint8], differences: NDArray[np.uint32], values: NDArray[np.uint8]) -> None:
    """Write ``values`` over the rows they belong to, as far as there are such: the array may have shrunk since."""
    row = np.int64(0)
    for position in range(len(differences)):
        row += np.int64(differences[position])
        if row < len(rows):
            rows[row, :] = values[position, :]


def _due(count: int, dirty: Dirty, stripe: int) -> NDArray[np.int64]:
    """Numbers of the rows an image of number ``stripe`` holds."""
    due = dirty[:count] != 0
    for start in range(stripe % STRIPES * STRIPE_ROWS, count, STRIPES * STRIPE_ROWS):
        due[start : start + STRIPE_ROWS] = True
    return np.flatnonzero(due)


def _section(dtype: np.dtype[Any], count: int, index: NDArray[np.int64], taken: NDArray[np.uint8]) -> RowSection:
    differences = np.diff(index, prepend=0).astype("<u4")
    return RowSection(_layout_of(dtype), count, len(index), _bytes_of(differences), _bytes_of(taken))


def _packed(section: RowSection) -> RowSection:
    if section.packed:
        return section
    index, rows = (memoryview(cramjam.lz4.compress_block(part)) for part in (section.index, section.rows))
    return RowSection(section.layout, section.count, section.taken, index, rows, packed=True)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _layout_of(dtype: np.dtype[Any]) -> Layout:
    if dtype.names is None or dtype.fields is None:
        return (("", dtype.str, (), 0),), dtype.itemsize
    fields = []
    for name in dtype.names:
        field, offset = dtype.fields[name][:2]
        fields.append((name, field.base.str, tuple(field.shape), int(offset)))
    return tuple(fields), dtype.itemsize


def _dtype_of(layout: Layout) -> np.dtype[Any]:
    fields, size = layout
    if len(fields) == 1 and not fields[0][0]:
        return np.dtype(fields[0][1])
    return np.dtype(
        {
            "names": [name for name, *_ in fields],
            "formats": [(base, shape) if shape else base for _, base, shape, _ in fields],
            "offsets": [offset for *_, offset in fields],
            "itemsize": size,
        }
    )
