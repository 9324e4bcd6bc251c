"""Events sent under another account's name, and in other words than planned.

Other words are prompts of a spare template. Where there is none they are the same letters, rotated: no word of the old
template is left, all accounts share the new one, layout and lengths stay. That stands for a template written anew; only
letters of the Latin alphabet change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Spans, spans_of
from streamdetect.kernels.spans import copy_spans
from streamdetect.pipeline.accept.columns import RequestColumns

_LETTERS = 26


@dataclass(frozen=True, slots=True)
class Identity:
    """What events say of their account. ``None`` where they say nothing; ``created_at`` -1 then."""

    account_id: bytes
    org_id: bytes | None
    api_key_id: bytes | None
    payment_id: bytes | None
    created_at: int
    tier: int


@dataclass(frozen=True, slots=True)
class Exit:
    """Where an account's requests come from, as in ``RequestColumns``."""

    family: int
    high: int
    low: int


def identity_of(columns: RequestColumns, row: int) -> Identity:
    """What one event says of its account."""

    def text(spans: Spans) -> bytes | None:
        start = int(spans.start[row])
        return None if start < 0 else columns.identifiers[start : int(spans.end[row])].tobytes()

    account_id = text(columns.account_id)
    assert account_id is not None, "an event without an account is a dead letter"
    return Identity(
        account_id,
        text(columns.org_id),
        text(columns.api_key_id),
        text(columns.payment_id),
        int(columns.account_created_at[row]),
        int(columns.account_tier[row]),
    )


def impersonated(
    columns: RequestColumns,
    rows: NDArray[np.int64],
    sender: NDArray[np.int64],
    identities: Mapping[int, Identity],
    exits: Mapping[int, Exit],
) -> RequestColumns:
    """Events with ``rows`` sent by ``sender`` (one a row): with its identity, and from its exit where it has one."""
    spans = {
        name: Spans(getattr(columns, name).start.copy(), getattr(columns, name).end.copy())
        for name in ("account_id", "org_id", "api_key_id", "payment_id")
    }
    created, tier = columns.account_created_at.copy(), columns.account_tier.copy()
    family, high, low = columns.address_family.copy(), columns.address_high.copy(), columns.address_low.copy()
    extra, position = [columns.identifiers.tobytes()], len(columns.identifiers)
    order = np.argsort(sender, kind="stable")
    borders = np.flatnonzero(np.diff(sender[order])) + 1
    for group in np.split(order, borders):
        who, mine = int(sender[group[0]]), rows[group]
        identity = identities[who]
        for name, span in spans.items():
            value = getattr(identity, name)
            span.start[mine] = -1 if value is None else position
            span.end[mine] = -1 if value is None else position + len(value)
            if value is not None:
                extra.append(value)
                position += len(value)
        created[mine], tier[mine] = identity.created_at, identity.tier
        if who in exits:
            family[mine], high[mine], low[mine] = exits[who].family, exits[who].high, exits[who].low
    return replace(
        columns,
        identifiers=np.frombuffer(b"".join(extra), np.uint8).copy(),  # writable, as everywhere: one kernel type less
        account_created_at=created, account_tier=tier, address_family=family, address_high=high, address_low=low,
        account_id=spans["account_id"], org_id=spans["org_id"], api_key_id=spans["api_key_id"],
        payment_id=spans["payment_id"],
    )  # fmt: skip


def reworded(columns: RequestColumns, version: NDArray[np.int64]) -> RequestColumns:
    """Events whose prompts are in the words of ``version`` (one an event; 0 as planned)."""
    changed = np.flatnonzero(version > 0)
    spans = (columns.prompt, columns.system_prompt)
    total = sum(int(np.sum(one.end[changed] - one.start[changed])) for one in spans)
    texts = np.empty(len(columns.texts) + total, np.uint8)
    texts[: len(columns.texts)] = columns.texts
    position, moved = len(columns.texts), []
    for one in spans:
        start, end = one.start.copy(), one.end.copy()
        new_start, new_end = np.empty(len(changed), np.int64), np.empty(len(changed), np.int64)
        position = copy_spans(columns.texts, start[changed], end[changed], texts, position, new_start, new_end)
        _rotate(texts, new_start, new_end, version[changed])
        start[changed], end[changed] = new_start, new_end
        moved.append(Spans(start, end))
    return replace(columns, texts=texts, prompt=moved[0], system_prompt=moved[1])


def prompted(columns: RequestColumns, rows: NDArray[np.int64], prompts: list[bytes]) -> RequestColumns:
    """Events with ``rows`` asking other ``prompts`` (one a row) instead."""
    buffer, spans = spans_of(prompts, base=len(columns.texts))
    start, end = columns.prompt.start.copy(), columns.prompt.end.copy()
    start[rows], end[rows] = spans.start, spans.end
    texts = np.concatenate([columns.texts, np.frombuffer(buffer, np.uint8)])
    return replace(columns, texts=texts, prompt=Spans(start, end))


@njit(cache=True, nogil=True)
def _rotate(
    texts: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], version: NDArray[np.int64]
) -> None:
    for row in range(len(start)):
        by = (version[row] - 1) % (_LETTERS - 1) + 1  # never back to where it was
        for place in range(max(np.int64(0), start[row]), end[row]):
            letter = np.int64(texts[place])
            first = 97 if 97 <= letter <= 122 else 65
            if first <= letter < first + _LETTERS:
                texts[place] = np.uint8(first + (letter - first + by) % _LETTERS)
