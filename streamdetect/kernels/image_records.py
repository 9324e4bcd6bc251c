"""Images as records of a compacted topic: cut into parts, checked, and found again in the right order.

A record's key is ``term/slot/part``. The slot is the image's sequence number modulo ``SLOTS``, so a term keeps a ring
of images and compaction throws the overwritten ones away; there are more slots than a chain needs, so an image that is
only half written never costs one that is needed. A *term* is one ownership of a partition, (epoch, generation): each
owner takes an epoch above the one it recovered, and the consumer group's generation tells two apart that recovered the
same. Terms never share a key, so a stale owner's late image cannot overwrite anything, and recovery takes the highest
term. Every image names its parent, so the chain is followed link by link and not by guessing.

Anything that cannot be read is an ``ImageError`` that names the record: an empty start is nobody's silent default.
Headers are checked by their own sum, all of them; what they head only where it is needed, for that is what takes time.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from zlib import crc32

from streamdetect.errors import ImageError
from streamdetect.kernels.images import STRIPES

VERSION: Final = 1
SLOTS: Final = STRIPES + 8
PART_BYTES: Final = 900_000  # below a broker's usual limit for one record
_MAGIC: Final = b"SDIM"
_HEADER: Final = struct.Struct("<4sHHHHqqqqqqI")
_SUM: Final = struct.Struct("<I")
_FRONT: Final = _HEADER.size + _SUM.size  # where the payload begins


class Term(NamedTuple):
    """One ownership of a partition; the higher one is right."""

    epoch: int
    generation: int


class Place(NamedTuple):
    """One image: whose, and its number in the partition's chain."""

    term: Term
    sequence: int


@dataclass(frozen=True, slots=True)
class Link:
    """An image's place in its chain. ``first`` is the sequence of the oldest image that must be applied before it."""

    place: Place
    parent: Term
    first: int


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One record as the topic holds it."""

    key: bytes
    value: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Chain:
    """The images to apply, oldest first, and the link of the newest; nothing and ``None`` where there is none."""

    images: list[bytes]
    newest: Link | None


def records_of(link: Link, payload: bytes, part_bytes: int = PART_BYTES) -> list[tuple[bytes, bytes]]:
    """Keys and values to write for one image."""
    term, sequence = link.place
    whole = memoryview(payload)
    pieces = [whole[start : start + part_bytes] for start in range(0, len(payload), part_bytes)] or [whole]
    prefix = f"{term.epoch}.{term.generation}/{sequence % SLOTS}"
    records = []
    for part, piece in enumerate(pieces):
        header = _HEADER.pack(
            _MAGIC, VERSION, part, len(pieces), 0, *term, sequence, *link.parent, link.first, crc32(piece)
        )
        records.append((f"{prefix}/{part}".encode(), b"".join((header, _SUM.pack(crc32(header)), piece))))
    return records


@dataclass(frozen=True, slots=True)
class _Part:
    link: Link
    part: int
    parts: int
    payload: memoryview
    checksum: int
    offset: int


def newest_chain(records: Iterable[ImageRecord], where: str) -> Chain:
    """Find the newest whole image and what it needs.

    An image whose parts are not all there is one that was being written when its owner ended: it is as if it had never
    been begun, unless a later one needs it.

    Args:
        records: the newest record of each key of one partition, in any order.
        where: topic and partition, for messages.

    Raises:
        ImageError: for a record of another version, a torn or corrupt one, or a missing link.
    """
    images: dict[Place, dict[int, _Part]] = {}
    for record in records:
        part = _read(record, where)
        images.setdefault(part.link.place, {})[part.part] = part
    whole = {place: parts for place, parts in images.items() if len(parts) == next(iter(parts.values())).parts}
    if not whole:
        return Chain([], None)
    newest = whole[max(whole)][0].link
    chain, link = [], newest
    while True:
        chain.append(_joined(whole[link.place], where))
        if link.place.sequence <= newest.first:
            return Chain(chain[::-1], newest)
        before = Place(link.parent, link.place.sequence - 1)
        if before not in whole:
            raise ImageError(
                f"{where}: image {newest.place.sequence} needs image {before.sequence} of term "
                f"{before.term.epoch}.{before.term.generation}, which is {_state_of(images.get(before))}; {_WAY_OUT}"
            )
        link = whole[before][0].link


_WAY_OUT: Final = (
    "run the version that wrote it, or, to begin with empty state, stop all workers, delete that topic and let "
    "`streamdetect topics` make it again"
)


def _read(record: ImageRecord, where: str) -> _Part:
    place = f"{where} offset {record.offset}"
    if len(record.value) < _FRONT or record.value[:4] != _MAGIC:
        raise ImageError(f"{place}: this is no image of state; {_WAY_OUT}")
    _, version, part, parts, _, epoch, generation, sequence, *rest = _HEADER.unpack_from(record.value)
    if version != VERSION:
        raise ImageError(f"{place}: an image of version {version}, and this program reads {VERSION}; {_WAY_OUT}")
    parent_epoch, parent_generation, first, checksum = rest
    if _SUM.unpack_from(record.value, _HEADER.size)[0] != crc32(record.value[: _HEADER.size]):
        raise ImageError(f"{place}: a corrupt image, the checksum of its header does not fit; {_WAY_OUT}")
    link = Link(Place(Term(epoch, generation), sequence), Term(parent_epoch, parent_generation), first)
    return _Part(link, part, parts, memoryview(record.value)[_FRONT:], checksum, record.offset)


def _joined(parts: Mapping[int, _Part], where: str) -> bytes:
    for part in parts.values():
        if crc32(part.payload) != part.checksum:
            raise ImageError(f"{where} offset {part.offset}: a corrupt image, its checksum does not fit; {_WAY_OUT}")
    return b"".join(parts[number].payload for number in range(len(parts)))


def _state_of(parts: Mapping[int, _Part] | None) -> str:
    if not parts:
        return "missing"
    first = next(iter(parts.values()))
    return f"torn: {len(parts)} of {first.parts} parts are there, the first at offset {first.offset}"


def keys_outside(term: Term, keys: Iterable[bytes]) -> Sequence[bytes]:
    """The keys that belong to other terms, to be thrown away once nothing needs them."""
    prefix = f"{term.epoch}.{term.generation}/".encode()
    return [key for key in keys if not key.startswith(prefix)]
