"""What arrays and numbered blobs have become since the last image, and putting them together again.

State is a handful of growing arrays whose rows carry a ``dirty`` flag, and of blobs by number. An image holds the rows
that are dirty, and every ``STRIPES``-th stripe of the others whether they changed or not. So the last ``STRIPES``
images in a row hold every row at least once, at its newest: a ring of so many records is all that must be kept, there
is no moment at which everything is written, and applying them in order restores each array byte for byte, order of
rows included. Row layouts travel along by field name, so that a later version reads what an earlier one wrote.

Capturing costs a look at the flags and a copy of the rows. Where images go, and in what order, is not known here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import cramjam
import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdetect.errors import ImageError

STRIPES: Final = 16
STRIPE_ROWS: Final = 256

Layout = tuple[tuple[tuple[str, str, tuple[int, ...], int], ...], int]  # (name, format, shape, offset) a field, size
Dirty = NDArray[np.bool_] | NDArray[np.uint8]


class RowSection(msgspec.Struct, frozen=True, array_like=True):
    """Some rows of an array that has ``count`` rows: ``index`` is their numbers as differences, ``uint32``."""

    layout: Layout
    count: int
    index: bytes
    rows: bytes


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
    """Bytes of an image, lz4-compressed with their length in front."""
    return bytes(cramjam.lz4.compress_block(_encoder.encode(image)))


def decode(data: bytes) -> Image:
    """Read an image. Raises ``ImageError`` for bytes that are none."""
    try:
        return _decoder.decode(bytes(cramjam.lz4.decompress_block(data)))
    except (cramjam.DecompressionError, msgspec.MsgspecError) as error:
        raise ImageError(f"no image can be read from these {len(data)} bytes ({type(error).__name__})") from error


def in_stripe(count: int, stripe: int) -> NDArray[np.bool_]:
    """Which of ``count`` rows an image of number ``stripe`` holds in any case: ``bool[count]``."""
    return np.asarray(np.arange(count) // STRIPE_ROWS % STRIPES == stripe % STRIPES)


def capture_rows(rows: NDArray[Any], count: int, dirty: Dirty, stripe: int) -> RowSection:
    """The due rows of an array, and no row dirty any more.

    Args:
        rows: a one-dimensional array, ``count`` of it in use.
        count: rows in use.
        dirty: a flag for each row, such as ``rows["dirty"]``; cleared, so that images never hold one.
        stripe: number of the image; decides which clean rows it holds as well.
    """
    due = dirty[:count] != 0
    for start in range(stripe % STRIPES * STRIPE_ROWS, count, STRIPES * STRIPE_ROWS):
        due[start : start + STRIPE_ROWS] = True
    index = np.flatnonzero(due)
    dirty[:count] = 0
    raw = rows[:count].view(np.uint8).reshape(count, rows.dtype.itemsize)
    return RowSection(_layout_of(rows.dtype), count, _packed_index(index), raw[index].tobytes())


def restore_rows(sections: Sequence[RowSection], dtype: Any, *, at_least: int = 0) -> NDArray[Any]:
    """The array that images in order leave: ``dtype[max(count, at_least)]``, with ``count`` of the last section.

    Raises ``ImageError`` where rows do not fit their index.
    """
    wanted, count = np.dtype(dtype), sections[-1].count
    rows = np.zeros(max(count, at_least), wanted)
    for section in sections:
        index = np.cumsum(np.frombuffer(section.index, "<u4").astype(np.int64))
        stored = _dtype_of(section.layout)
        if len(section.rows) != len(index) * stored.itemsize:
            raise ImageError(f"{len(section.rows)} bytes are not {len(index)} rows of {stored.itemsize}")
        values = np.frombuffer(section.rows, stored)
        inside = index < count  # the array may have shrunk since
        if not inside.all():
            index, values = index[inside], values[inside]
        if stored == wanted:
            rows[index] = values
        else:
            for name in set(stored.names or ()) & set(wanted.names or ()):
                rows[name][index] = values[name]
    return rows


def capture_bytes(buffer: bytearray, written: int, stripe: int) -> RowSection:
    """The due part of a buffer that only grows at its end; ``written`` is its length at the last image."""
    width = 64
    padded = np.zeros(-(-len(buffer) // width) * width, np.uint8)
    padded[: len(buffer)] = np.frombuffer(bytes(buffer), np.uint8)
    blocks = padded.view(np.dtype((np.void, width)))
    dirty = np.zeros(len(blocks), np.bool_)
    dirty[written // width :] = True
    return capture_rows(blocks, len(blocks), dirty, stripe)


def restore_bytes(sections: Sequence[RowSection], length: int) -> bytearray:
    """The buffer of ``length`` bytes that images in order leave."""
    return bytearray(restore_rows(sections, _dtype_of(sections[-1].layout)).tobytes()[:length])


def capture_blobs(blobs: Mapping[int, bytes], dirty: Iterable[int], stripe: int) -> BlobSection:
    """The due blobs; a dirty number without a blob is gone."""
    due: dict[int, bytes | None] = {
        number: blob for number, blob in blobs.items() if number // STRIPE_ROWS % STRIPES == stripe % STRIPES
    }
    due |= {number: blobs.get(number) for number in dirty}
    return BlobSection(due)


def restore_blobs(sections: Sequence[BlobSection]) -> dict[int, bytes]:
    """The blobs that images in order leave, by number."""
    found: dict[int, bytes | None] = {}
    for section in sections:
        found |= section.blobs
    return {number: blob for number, blob in sorted(found.items()) if blob is not None}


def _packed_index(index: NDArray[np.int64]) -> bytes:
    return np.diff(index, prepend=0).astype("<u4").tobytes()


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
