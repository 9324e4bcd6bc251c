"""What decoding gives: the accepted events of one chunk as columns, and the rejected ones as values.

All integer columns are aligned, one entry an accepted event, in record order. Absent means unknown and is -1 (or a span
of -1), never zero.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Bytes, Ints, Spans

ABSENT = -1
TEXTS = ("prompt", "system_prompt")  # fields whose spans lie in ``texts``


class Kind(IntEnum):
    """What an event reports: the admission of a request, or its completion."""

    REQUEST = 0
    COMPLETION = 1


class Outcome(IntEnum):
    """What the gateway did. The three in the middle are refusals."""

    SERVED = 0
    RATE_LIMITED = 1
    CHALLENGED = 2
    BLOCKED = 3
    FAILED = 4


class AccountTier(IntEnum):
    """What the provider says of an account's standing; 0 where it says nothing."""

    UNKNOWN = 0
    UNPAID = 1
    PAID = 2
    VERIFIED = 3
    ENTERPRISE = 4


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be an event. ``code`` is from an open list; ``field`` is empty when the whole is wrong.

    ``shape`` names the top-level fields with their JSON types (bounded), because the body itself is never copied.
    """

    record: int
    code: str
    field: str
    message: str
    shape: str = ""


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """Accepted events of one chunk. ``record`` is the index of each in the chunk; times are integer milliseconds."""

    record: Ints
    occurred_at: Ints
    kind: NDArray[np.uint8]
    outcome: NDArray[np.uint8]
    account_created_at: Ints
    account_tier: NDArray[np.uint8]
    input_tokens: Ints
    output_tokens: Ints
    cached_input_tokens: Ints
    turn: Ints
    # Client address: family 0 (absent), 4 or 6; IPv4 lives in the low 32 bits of ``address_low``, high is then 0.
    address_family: NDArray[np.uint8]
    address_high: NDArray[np.uint64]
    address_low: NDArray[np.uint64]
    # Identifiers as UTF-8 bytes: spans into ``identifiers``.
    identifiers: Bytes
    event_id: Spans
    account_id: Spans
    org_id: Spans
    api_key_id: Spans
    payment_id: Spans
    # Prompt texts as UTF-8 bytes: spans into ``texts``. They leave this object only as sketches.
    texts: Bytes
    prompt: Spans
    system_prompt: Spans
    unknown_values: dict[str, int] = field(default_factory=dict)  # field -> count of enum values nobody knows

    def __len__(self) -> int:
        return len(self.record)

    def take(self, rows: NDArray[np.int64]) -> "RequestColumns":
        """The events at ``rows``, in that order; buffers are shared."""
        taken: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Spans):
                taken[name] = Spans(value.start[rows], value.end[rows])
            elif name in ("identifiers", "texts", "unknown_values"):
                taken[name] = value
            else:
                taken[name] = value[rows]
        return RequestColumns(**taken)

    def between(self, start: int, end: int) -> "RequestColumns":
        """The events ``start`` to ``end`` as views: nothing is copied."""
        part: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Spans):
                part[name] = Spans(value.start[start:end], value.end[start:end])
            elif name in ("identifiers", "texts", "unknown_values"):
                part[name] = value
            else:
                part[name] = value[start:end]
        return RequestColumns(**part)


def merged(scanned: RequestColumns, decoded: RequestColumns) -> RequestColumns:
    """The events of two parts of a chunk as one, in record order. Those scanned have all their spans in one buffer."""
    if not len(scanned) or not len(decoded):
        return decoded if len(decoded) else scanned
    assert scanned.identifiers is scanned.texts
    buffers = [scanned.texts, decoded.identifiers, decoded.texts]
    whole = np.concatenate(buffers)
    whole.flags.writeable = False  # as the buffers of chunks are: compiled code knows one kind
    _, names_at, texts_at, _ = np.cumsum([0, *map(len, buffers)]).tolist()
    counts = Counter(scanned.unknown_values) + Counter(decoded.unknown_values)
    joined: dict[str, Any] = {"identifiers": whole, "texts": whole, "unknown_values": dict(counts)}
    for name in RequestColumns.__dataclass_fields__:
        first, second = getattr(scanned, name), getattr(decoded, name)
        if isinstance(first, Spans):
            joined[name] = _joined_spans(first, second, texts_at if name in TEXTS else names_at)
        elif name not in joined:
            joined[name] = np.concatenate([first, second])
    return RequestColumns(**joined).take(np.argsort(joined["record"], kind="stable"))


def _joined_spans(first: Spans, second: Spans, base: int) -> Spans:
    """Two columns of spans, of which the buffer of the second begins at ``base``."""
    shift = np.where(second.start >= 0, base, 0)
    return Spans(np.concatenate([first.start, second.start + shift]), np.concatenate([first.end, second.end + shift]))
