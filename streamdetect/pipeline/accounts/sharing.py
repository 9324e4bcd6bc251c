"""What an account shares with others, as rows for the stage that owns each shared key.

A row says: this member used this key at this time. Subnet, organisation, API key and payment go out with every counted
request; content keys (the MinHash bands of the prompt, one key of the whole system prompt) with the first turn of a
conversation and the account's first sight of the text in a sub-bucket of the day. Rows depend on requests alone, never
on evidence or policy, so that computing them again gives the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import combine64, fmix64, hash_spans
from streamdetect.kernels.members import TRUSTED, UNKNOWN, YOUNG
from streamdetect.kernels.packed import LINKS, pack
from streamdetect.kernels.spans import joined
from streamdetect.pipeline.accept.columns import Kind, RequestColumns
from streamdetect.pipeline.accounts.observe import COUNTED, PROMPT_FIRST, SYSTEM_FIRST, Observed
from streamdetect.pipeline.accounts.tiers import TrustTier


class KeyType(IntEnum):
    """The kinds of shared key. Subnets carry their address bits as the key, so that it can be read back."""

    SUBNET_24 = 1
    SUBNET_64 = 2
    SUBNET_56 = 3
    SUBNET_48 = 4
    ORG = 5
    API_KEY = 6
    PAYMENT = 7
    TEMPLATE = 8
    SYSTEM = 9


KIND_OF_TIER = np.zeros(5, np.uint8)  # how a member of each trust tier is counted
KIND_OF_TIER[TrustTier.UNKNOWN] = UNKNOWN
KIND_OF_TIER[[TrustTier.T0, TrustTier.T1]] = YOUNG
KIND_OF_TIER[[TrustTier.T2, TrustTier.T3]] = TRUSTED

_ORG_SEED, _API_KEY_SEED, _PAYMENT_SEED = np.uint64(5), np.uint64(6), np.uint64(7)
SEED_OF_NAMED = {KeyType.ORG: _ORG_SEED, KeyType.API_KEY: _API_KEY_SEED}
_ORG_MEMBER = np.uint64(0x0D6)
_PARTITION_SALT = np.uint64(0x9A37)
_ROWS_PER_EVENT = 8  # beside the content keys: three subnets, org, API key, payment, system prompt, and one to spare
_COMPLETION = int(Kind.COMPLETION)


@njit(cache=True, nogil=True)
def key_identity(key: np.uint64, key_type: int) -> np.uint64:
    """One number for a typed key: what it is found by, and what decides its partition."""
    return np.uint64(combine64(np.uint64(key_type), key))


@njit(cache=True, nogil=True)
def partition_of(identity: np.uint64, partitions: int) -> int:
    """The partition that owns a typed key."""
    return int(np.int64(fmix64(identity ^ _PARTITION_SALT) % np.uint64(partitions)))


@njit(cache=True, nogil=True)
def _collect(
    fate: NDArray[np.uint8],
    kind: NDArray[np.uint8],
    first_sight: NDArray[np.uint8],
    family: NDArray[np.uint8],
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    org: NDArray[np.uint64],
    api_key: NDArray[np.uint64],
    payment: NDArray[np.uint64],
    system: NDArray[np.uint64],
    bands: NDArray[np.uint64],
    band_row: NDArray[np.int64],
    partitions: int,
    events: NDArray[np.int64],
    types: NDArray[np.uint8],
    keys: NDArray[np.uint64],
    owners: NDArray[np.int64],
) -> int:
    """List (event, type, key, owning partition) in event order; returns how many."""
    count = 0
    local_types, local_keys = np.empty(_ROWS_PER_EVENT, np.uint8), np.empty(_ROWS_PER_EVENT, np.uint64)
    for index in range(len(fate)):
        if fate[index] != COUNTED or kind[index] == _COMPLETION:
            continue
        found = 0
        if family[index] == 4:
            local_types[0], local_keys[0] = 1, low[index] >> np.uint64(8)
            found = 1
        elif family[index] == 6:
            for level in range(3):
                local_types[level], local_keys[level] = 2 + level, high[index] >> np.uint64(8 * level)
            found = 3
        if org[index] != np.uint64(0):
            local_types[found], local_keys[found] = 5, org[index]
            found += 1
        if api_key[index] != np.uint64(0):
            local_types[found], local_keys[found] = 6, api_key[index]
            found += 1
        if payment[index] != np.uint64(0):
            local_types[found], local_keys[found] = 7, payment[index]
            found += 1
        if first_sight[index] & np.uint8(SYSTEM_FIRST):
            local_types[found], local_keys[found] = 9, system[index]
            found += 1
        for slot in range(found):
            events[count], types[count], keys[count] = index, local_types[slot], local_keys[slot]
            count += 1
        if first_sight[index] & np.uint8(PROMPT_FIRST):
            for band in range(bands.shape[1]):
                events[count], types[count], keys[count] = index, 8, bands[band_row[index], band]
                count += 1
    for row in range(count):
        owners[row] = partition_of(key_identity(keys[row], np.int64(types[row])), partitions)
    return count


@njit(cache=True, nogil=True)
def _members(
    account: NDArray[np.uint64], org: NDArray[np.uint64], tier: NDArray[np.uint8], kind_of_tier: NDArray[np.uint8]
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Who is counted: trusted users of an organisation count once, as the organisation."""
    members, kinds = np.empty(len(account), np.uint64), np.empty(len(account), np.uint8)
    for index in range(len(account)):
        kinds[index] = kind_of_tier[tier[index]]
        as_organisation = kinds[index] == TRUSTED and org[index] != np.uint64(0)
        members[index] = combine64(_ORG_MEMBER, org[index]) if as_organisation else account[index]
    return members, kinds


@dataclass(frozen=True, slots=True)
class Shared:
    """Rows of one batch, all partitions together, in event order. ``event`` indexes the batch."""

    event: NDArray[np.int64]
    key_type: NDArray[np.uint8]
    key: NDArray[np.uint64]
    owner: NDArray[np.int64]
    member: NDArray[np.uint64]
    member_kind: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.event)


def joined_shared(parts: Sequence[Shared]) -> Shared:
    """Rows of consecutive batches as those of one."""
    bases = np.cumsum([0, *(len(part.member) for part in parts[:-1])])
    event = np.concatenate([part.event + base for part, base in zip(parts, bases, strict=True)])
    names = ("key_type", "key", "owner", "member", "member_kind")
    return Shared(event, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def share(
    columns: RequestColumns,
    observed: Observed,
    system_digest: NDArray[np.uint64],
    bands: NDArray[np.uint64],
    band_row: NDArray[np.int64],
    partitions: int,
) -> Shared:
    """List what the events of a batch share.

    Args:
        columns: the events.
        observed: what became of them.
        system_digest: ``uint64[n]``, digest of the normalised system prompt, 0 absent.
        bands: ``uint64[m, bands]``, content keys of the sketched prompts.
        band_row: ``int64[n]``, row of ``bands`` of each event; read only where the prompt is a first sight.
        partitions: number of partitions of the links topic.
    """
    ids = columns.identifiers
    org = hash_spans(ids, columns.org_id.start, columns.org_id.end, _ORG_SEED)
    api_key = hash_spans(ids, columns.api_key_id.start, columns.api_key_id.end, _API_KEY_SEED)
    payment = hash_spans(ids, columns.payment_id.start, columns.payment_id.end, _PAYMENT_SEED)
    prompts = int(np.count_nonzero(observed.first_sight & PROMPT_FIRST))
    room = len(columns) * _ROWS_PER_EVENT + prompts * bands.shape[1]
    event, owner = np.empty(room, np.int64), np.empty(room, np.int64)
    key_type, key = np.empty(room, np.uint8), np.empty(room, np.uint64)
    count = _collect(
        observed.fate, columns.kind, observed.first_sight,
        columns.address_family, columns.address_high, columns.address_low,
        org, api_key, payment, system_digest, bands, band_row, partitions,
        event, key_type, key, owner,
    )  # fmt: skip
    member, member_kind = _members(observed.account, org, observed.tier, KIND_OF_TIER)
    return Shared(event[:count], key_type[:count], key[:count], owner[:count], member, member_kind)


@njit(cache=True, nogil=True)
def _split(
    owner: NDArray[np.int64], event: NDArray[np.int64], partitions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64]]:
    """Group rows by owner, keeping their order.

    Returns the rows in grouped order, where each owner's rows begin (one more than owners), each owner's events in
    turn, every row's index among its owner's events, and where each owner's events begin.
    """
    row_starts, event_starts = np.zeros(partitions + 1, np.int64), np.zeros(partitions + 1, np.int64)
    last_event = np.full(partitions, -1, np.int64)
    for row in range(len(owner)):
        row_starts[owner[row] + 1] += 1
        if last_event[owner[row]] != event[row]:
            last_event[owner[row]] = event[row]
            event_starts[owner[row] + 1] += 1
    for partition in range(partitions):
        row_starts[partition + 1] += row_starts[partition]
        event_starts[partition + 1] += event_starts[partition]
    rows, index = np.empty(len(owner), np.int64), np.empty(len(owner), np.uint32)
    events = np.empty(event_starts[partitions], np.int64)
    next_row, next_event = row_starts[:-1].copy(), event_starts[:-1].copy()
    last_event[:] = -1
    for row in range(len(owner)):
        at = owner[row]
        if last_event[at] != event[row]:
            last_event[at] = event[row]
            events[next_event[at]] = event[row]
            next_event[at] += 1
        rows[next_row[at]] = row
        index[next_row[at]] = np.uint32(next_event[at] - 1 - event_starts[at])
        next_row[at] += 1
    return rows, row_starts, events, index, event_starts


def pack_shared(
    shared: Shared, columns: RequestColumns, observed: Observed, offsets: NDArray[np.int64], source_partition: int
) -> dict[int, bytes]:
    """One packed ``LINKS`` record for each owning partition that gets rows.

    ``offsets`` is each event's offset in its source partition: the receiver skips what it has seen by it.
    """
    partitions = int(shared.owner.max(initial=-1)) + 1
    rows, row_starts, events, outer_index, event_starts = _split(shared.owner, shared.event, partitions)
    starts, lengths = name_spans(shared, columns)
    starts, lengths = starts[rows], lengths[rows]
    outer: dict[str, NDArray[np.generic]] = {
        "source_offset": offsets[events],
        "occurred_at": columns.occurred_at[events],
        "account": observed.account[events],
        "member": shared.member[events],
        "event": observed.event[events],
        "member_kind": shared.member_kind[events],
    }
    inner: dict[str, NDArray[np.generic]] = {
        "outer_index": outer_index,
        "key_type": shared.key_type[rows],
        "key": shared.key[rows],
        "name_length": lengths.astype(np.uint16),
    }
    records: dict[int, bytes] = {}
    for partition in range(partitions):
        of_rows = slice(int(row_starts[partition]), int(row_starts[partition + 1]))
        of_events = slice(int(event_starts[partition]), int(event_starts[partition + 1]))
        if of_rows.start == of_rows.stop:
            continue
        names = joined(columns.identifiers, starts[of_rows], starts[of_rows] + lengths[of_rows]).tobytes()
        chosen = {name: column[of_events] for name, column in outer.items()}
        chosen |= {name: column[of_rows] for name, column in inner.items()}
        records[partition] = pack(LINKS, source_partition, chosen, names)
    return records


def name_spans(shared: Shared, columns: RequestColumns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and length in ``columns.identifiers`` of each row's name.

    Organisations and API keys become subjects and must be named; the other keys name themselves (length 0).
    """
    starts, lengths = np.zeros(len(shared), np.int64), np.zeros(len(shared), np.int64)
    for key_type, spans in ((KeyType.ORG, columns.org_id), (KeyType.API_KEY, columns.api_key_id)):
        rows = np.flatnonzero(shared.key_type == key_type)
        starts[rows] = spans.start[shared.event[rows]]
        lengths[rows] = spans.end[shared.event[rows]] - starts[rows]
    return starts, lengths
