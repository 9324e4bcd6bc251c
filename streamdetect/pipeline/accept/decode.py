"""From a chunk of bytes to columns and rejects: the first and hottest step of the pipeline.

Three ways, each for what the one before refuses: a compiled scan of the bytes (``scan``), a decoder generated from the
message model with one comprehension a column, and the model alone, which also judges what a column cannot hold as it
came. A property test keeps them equal. A bad record becomes a ``Reject`` and never an exception, and nothing of its
content is copied.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from streamdetect.kernels.chunk import Chunk
from streamdetect.messages.account import AccountRecord
from streamdetect.messages.base import IDENTIFIER_BYTES_MAX
from streamdetect.messages.reading import Fault, is_too_deep, parse_object, validate
from streamdetect.messages.request import RequestEvent, unwrapped
from streamdetect.pipeline.accept.columns import Reject, RequestColumns, merged
from streamdetect.pipeline.accept.dead_letters import shape_of
from streamdetect.pipeline.accept.event_struct import decode_event, decode_event_by_alias, struct_of
from streamdetect.pipeline.accept.gather import columns_of, held_of
from streamdetect.pipeline.accept.scan import scan_events

_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # a ValidationError is a DecodeError


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """One accepted record of the account topic. ``account`` is ``None`` where the account was deleted (a tombstone)."""

    record: int
    account_id: str
    account: AccountRecord | None


def decode_requests(chunk: Chunk) -> tuple[RequestColumns, list[Reject]]:
    """Columns of the accepted events and the rejects of a chunk, both in record order. Never raises for bad input."""
    columns, refused = scan_events(chunk)
    if not len(refused):
        return columns, []
    decoded, rejects = _decode(chunk, refused.tolist())
    return merged(columns, decoded), rejects


def _decode(chunk: Chunk, chosen: list[int]) -> tuple[RequestColumns, list[Reject]]:
    """The same of the records ``chosen``, by the decoder and the model."""
    records, events, rejects = _read_all(chunk, chosen)
    held = held_of(events)
    doubtful = held.doubtful()
    if doubtful:
        records, events, late = _judge_again(chunk, records, events, doubtful)
        rejects = sorted([*rejects, *late], key=lambda reject: reject.record)
        held = held_of(events)
    return columns_of(records, events, held), rejects


def decode_accounts(chunk: Chunk) -> tuple[list[AccountEntry], list[Reject]]:
    """Accepted records and tombstones of the account topic, and the rejects, both in record order."""
    entries: list[AccountEntry] = []
    rejects: list[Reject] = []
    for record in range(len(chunk)):
        value = chunk.value(record)
        found = _tombstone(record, chunk.key(record)) if value is None else _account(record, value)
        if isinstance(found, Reject):
            rejects.append(found)
        else:
            entries.append(found)
    return entries, rejects


def judge(record: int, value: bytes | None) -> Any:
    """The model's own verdict on one request record: an ``EventStruct`` or a ``Reject``."""
    data = parse_object(value)
    if isinstance(data, Fault):
        return _reject(record, data)
    data = dict(unwrapped(data))
    event = validate(RequestEvent, data)
    return _reject(record, event, data) if isinstance(event, Fault) else struct_of(event, data)


def _read_all(chunk: Chunk, chosen: list[int]) -> tuple[list[int], list[Any], list[Reject]]:
    """Records and structs of those ``chosen`` that could be read, and the rejects."""
    records: list[int] = []
    events: list[Any] = []
    rejects: list[Reject] = []
    for record in chosen:
        value = chunk.value(record) or b""
        event = None
        # Most records are flat and ASCII: for them the call would cost more than what it asks.
        if (value.isascii() and value.find(b"{", 1) < 0 and b"[" not in value) or _is_plain(value):
            try:
                event = decode_event(value)
            except _REFUSALS:
                event = _by_alias(value)
        if event is None:
            event = judge(record, value)
        if type(event) is Reject:
            rejects.append(event)
        else:
            records.append(record)
            events.append(event)
    return records, events, rejects


def _by_alias(value: bytes) -> Any:
    """The struct of an event that uses one set of other names throughout, else ``None``."""
    for decode in decode_event_by_alias:
        try:
            return decode(value)
        except _REFUSALS:
            continue
    return None


def _is_plain(value: bytes) -> bool:
    """Whether the compiled decoder may see it: it skips unknown fields without reading their UTF-8 or minding depth."""
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    return not is_too_deep(value)


def _judge_again(
    chunk: Chunk, records: list[int], events: list[Any], doubtful: set[int]
) -> tuple[list[int], list[Any], list[Reject]]:
    """Replace the doubtful events by what the model says of them."""
    kept_records: list[int] = []
    kept_events: list[Any] = []
    rejects: list[Reject] = []
    for row, (record, event) in enumerate(zip(records, events, strict=True)):
        verdict = judge(record, chunk.value(record)) if row in doubtful else event
        if type(verdict) is Reject:
            rejects.append(verdict)
        else:
            kept_records.append(record)
            kept_events.append(verdict)
    return kept_records, kept_events, rejects


def _account(record: int, value: bytes) -> AccountEntry | Reject:
    data = parse_object(value)
    if isinstance(data, Fault):
        return _reject(record, data)
    account = validate(AccountRecord, data)
    if isinstance(account, Fault):
        return _reject(record, account, data)
    return AccountEntry(record, account.account_id, account)


def _tombstone(record: int, key: bytes | None) -> AccountEntry | Reject:
    if not key:
        return _reject(record, Fault("empty_value"))
    if len(key) > IDENTIFIER_BYTES_MAX:
        return _reject(record, Fault("too_long", "account_id"))
    try:
        return AccountEntry(record, key.decode(), None)
    except UnicodeDecodeError:
        return _reject(record, Fault("invalid_utf8", "account_id"))


def _reject(record: int, fault: Fault, data: dict[str, Any] | None = None) -> Reject:
    return Reject(record, fault.code, fault.field, fault.message, shape_of(data) if data else "")
