"""What one batch of events does to the accounts of a partition: repeats, times, windows, tiers, first sights.

Judged event by event in one compiled loop, so that the state after each event is what rules see and no batch border
shows. A refused request is counted and leaves no other trace; a completion adds its tokens only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import combine64, fmix64, hash_spans
from streamdetect.kernels.images import Dirty
from streamdetect.kernels.index import Record, find_or_add
from streamdetect.kernels.members import TICK_MS, touch
from streamdetect.kernels.members import advance as advance_members
from streamdetect.kernels.seen import first_seen
from streamdetect.kernels.windows import BUCKETS_MS, DAY, add, advance, is_late
from streamdetect.pipeline.accept.columns import Kind, Outcome, RequestColumns
from streamdetect.pipeline.accounts.evidence import read_ledger
from streamdetect.pipeline.accounts.features import WIDTH, fill_standing, fill_windows, tier_of
from streamdetect.pipeline.accounts.state import EVENT_ID_BYTES, LONG_EVENT_ID, RECENT_DIGESTS, AccountsState

COUNTED, DUPLICATE, LATE, REFUSED = 0, 1, 2, 3  # what became of an event
PROMPT_FIRST, SYSTEM_FIRST = 1, 2  # bits of ``first_sight``

_ID_SEED = np.uint64(0)
_EVENT_SEED = np.uint64(1)
_COMPLETION = np.uint64(0xC0)
_SUBNET_SALT = np.uint64(0x5B)
_DAY_BUCKET_MS = BUCKETS_MS[DAY]
_KIND_COMPLETION = int(Kind.COMPLETION)
_RATE_LIMITED, _BLOCKED = int(Outcome.RATE_LIMITED), int(Outcome.BLOCKED)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a batch did, one entry an event: its fate, its account row (-1 if refused, repeated or late), trust tier.

    ``features`` is ``int64[n, WIDTH]``, the account right after the event; ``first_sight`` has a bit for the prompt and
    one for the system prompt; ``newest_at`` is the account's newest event time by then (ms). ``account`` and ``event``
    are the 64-bit hashes that stand for them between stages. ``first_new_row`` and ``new_rows`` tell which rows the
    batch created.
    """

    account: NDArray[np.uint64]
    event: NDArray[np.uint64]
    fate: NDArray[np.uint8]
    row: NDArray[np.int64]
    tier: NDArray[np.uint8]
    features: NDArray[np.int64]
    first_sight: NDArray[np.uint8]
    newest_at: NDArray[np.int64]
    first_new_row: int
    new_rows: int


def joined_observed(parts: Sequence[Observed]) -> Observed:
    """What consecutive batches did, as one."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Observed.__dataclass_fields__
        if name not in ("first_new_row", "new_rows")
    }
    return Observed(**columns, first_new_row=parts[0].first_new_row, new_rows=sum(part.new_rows for part in parts))


@njit(cache=True, nogil=True)
def _learn(account: Record, occurred_at: int, created_at: int, tier: int) -> None:
    """Keep what the event says of the account: the earliest creation time, the newest tier."""
    if created_at >= 0 and (account.created_at < 0 or created_at < account.created_at):
        account.created_at = created_at
    if tier != 0 and (occurred_at > account.tier_at or (occurred_at == account.tier_at and tier > account.tier_told)):
        account.tier_told, account.tier_at = np.uint8(tier), occurred_at


@njit(cache=True, nogil=True)
def _first_sight(activity: Record, digest: np.uint64, occurred_at: int) -> bool:
    """Whether this text is new for the account in this sub-bucket of the day, and remember it."""
    mark = np.uint32(fmix64(digest ^ np.uint64(occurred_at // _DAY_BUCKET_MS)))
    for slot in range(RECENT_DIGESTS):
        if activity.recent[slot] == mark:
            return False
    activity.recent[activity.recent_next] = mark
    activity.recent_next = np.uint8((activity.recent_next + 1) % RECENT_DIGESTS)
    return True


@njit(cache=True, nogil=True)
def _remember_event(account: Record, identifiers: NDArray[np.uint8], start: int, end: int) -> None:
    if end - start > EVENT_ID_BYTES:
        account.event_id_length = np.uint8(LONG_EVENT_ID)
        return
    account.event_id_length = np.uint8(end - start)
    for position in range(end - start):
        account.event_id[position] = identifiers[start + position]


@njit(cache=True, nogil=True)
def observe_events(
    slots: NDArray[np.int32],
    rows: NDArray[np.void],
    dirty: Dirty,
    row_count: int,
    activities: NDArray[np.void],
    activity_dirty: Dirty,
    activity_count: int,
    seen: NDArray[np.uint64],
    seen_dirty: Dirty,
    seen_state: NDArray[np.int64],
    seen_generation: int,
    subnet_slots: NDArray[np.int32],
    subnet_entries: NDArray[np.void],
    subnet_dirty: Dirty,
    subnet_count: int,
    ledgers: NDArray[np.void],
    tiers_ms: NDArray[np.int64],
    account_hash: NDArray[np.uint64],
    event_hash: NDArray[np.uint64],
    occurred: NDArray[np.int64],
    kind: NDArray[np.uint8],
    outcome: NDArray[np.uint8],
    created: NDArray[np.int64],
    tier_told: NDArray[np.uint8],
    tokens_in: NDArray[np.int64],
    tokens_out: NDArray[np.int64],
    subnet: NDArray[np.uint64],
    prompt_digest: NDArray[np.uint64],
    system_digest: NDArray[np.uint64],
    identifiers: NDArray[np.uint8],
    event_start: NDArray[np.int64],
    event_end: NDArray[np.int64],
    fate: NDArray[np.uint8],
    row_of: NDArray[np.int64],
    tier_of_event: NDArray[np.uint8],
    features: NDArray[np.int64],
    first_sight: NDArray[np.uint8],
    newest_at: NDArray[np.int64],
) -> tuple[int, int, int]:
    """The loop behind ``observe``; returns the numbers of rows, activities and subnet entries then in use."""
    for index in range(len(occurred)):
        if not first_seen(seen, seen_dirty, seen_state, seen_generation, event_hash[index]):
            fate[index] = DUPLICATE
            continue
        if _RATE_LIMITED <= outcome[index] <= _BLOCKED:
            fate[index] = REFUSED
            continue
        now = occurred[index]
        row = find_or_add(slots, rows, row_count, account_hash[index])
        account = rows[row]
        if row == row_count:
            row_count += 1
            account.created_at, account.newest = -1, 0
            account.ledger, account.activity = np.int32(-1), np.int32(-1)
        if account.newest != 0 and is_late(account.newest, now):
            fate[index] = LATE
            continue
        row_of[index] = row
        if account.activity < 0:
            account.activity = np.int32(activity_count)
            activity_count += 1
        activity = activities[account.activity]
        if account.newest == 0:
            account.newest = now
        elif now > account.newest:
            advance(activity.requests, account.newest, now)
            advance(activity.input_tokens, account.newest, now)
            advance(activity.output_tokens, account.newest, now)
            advance_members(activity.subnets, account.newest // TICK_MS, now // TICK_MS)
            account.newest = now
        dirty[row], activity_dirty[account.activity] = np.uint8(1), np.uint8(1)
        newest = np.int64(account.newest)
        newest_at[index] = newest
        if now == newest:
            _remember_event(account, identifiers, event_start[index], event_end[index])
        _learn(account, now, created[index], np.int64(tier_told[index]))
        if tokens_in[index] > 0:
            add(activity.input_tokens, newest, now, tokens_in[index])
        if tokens_out[index] > 0:
            add(activity.output_tokens, newest, now, tokens_out[index])
        if kind[index] != _KIND_COMPLETION:
            add(activity.requests, newest, now, 1)
            if subnet[index] != np.uint64(0):
                entry = touch(
                    subnet_slots, subnet_entries, subnet_dirty, subnet_count, activity.subnets, row, newest // TICK_MS,
                    subnet[index], 0, now // TICK_MS, 0,
                )  # fmt: skip
                subnet_count += 1 if entry == subnet_count else 0
            if prompt_digest[index] != np.uint64(0) and _first_sight(activity, prompt_digest[index], now):
                first_sight[index] |= np.uint8(PROMPT_FIRST)
            if system_digest[index] != np.uint64(0) and _first_sight(activity, system_digest[index], now):
                first_sight[index] |= np.uint8(SYSTEM_FIRST)
        tier = tier_of(account, newest, tiers_ms)
        tier_of_event[index] = np.uint8(tier)
        fill_windows(activity, features[index])
        fill_standing(account, newest, tier, features[index])
        if account.ledger >= 0:
            read_ledger(ledgers[account.ledger], newest, features[index])
    return row_count, activity_count, subnet_count


@njit(cache=True, nogil=True)
def event_hashes(account: NDArray[np.uint64], event: NDArray[np.uint64], kind: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One hash for (account, event id, kind): what a repeat is recognised by."""
    hashes = np.empty(len(account), np.uint64)
    for index in range(len(account)):
        mixed = combine64(account[index], event[index])
        hashes[index] = combine64(mixed, _COMPLETION) if kind[index] == _KIND_COMPLETION else mixed
    return hashes


@njit(cache=True, nogil=True)
def account_subnets(family: NDArray[np.uint8], high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The /24 or /64 of each address as one number that is never 0; 0 where there is no address."""
    subnets = np.zeros(len(family), np.uint64)
    for index in range(len(family)):
        if family[index] == 4:
            subnets[index] = combine64(_SUBNET_SALT, low[index] >> np.uint64(8))
        elif family[index] == 6:
            subnets[index] = combine64(_SUBNET_SALT + np.uint64(1), high[index])
    return subnets


def observe(
    state: AccountsState,
    columns: RequestColumns,
    prompt_digest: NDArray[np.uint64],
    system_digest: NDArray[np.uint64],
    tiers_ms: NDArray[np.int64],
) -> Observed:
    """Take in a batch. ``prompt_digest`` and ``system_digest`` are 0 where no content row may follow.

    Args:
        state: the accounts of this partition; changed in place.
        columns: the events.
        prompt_digest: ``uint64[n]``, digest of the normalised prompt.
        system_digest: ``uint64[n]``, digest of the normalised system prompt.
        tiers_ms: ``int64[3]``, bounds of the trust tiers.
    """
    count = len(columns)
    state.reserve(count)
    account = hash_spans(columns.identifiers, columns.account_id.start, columns.account_id.end, _ID_SEED)
    named = hash_spans(columns.identifiers, columns.event_id.start, columns.event_id.end, _EVENT_SEED)
    event = event_hashes(account, named, columns.kind)
    fate, tier, first_sight = np.zeros(count, np.uint8), np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    row, features = np.full(count, -1, np.int64), np.zeros((count, WIDTH), np.int64)
    newest_at = np.zeros(count, np.int64)
    before = state.table.count
    rows, activities, subnets = observe_events(
        state.table.slots, state.table.rows, state.table.dirty, before,
        state.activities.rows, state.activities.dirty, state.activities.count,
        state.seen.tables, state.seen.dirty, state.seen.state, state.seen.generation,
        state.subnets.slots, state.subnets.rows, state.subnets.dirty, state.subnets.count,
        state.ledgers, tiers_ms, account, event,
        columns.occurred_at, columns.kind, columns.outcome, columns.account_created_at, columns.account_tier,
        columns.input_tokens, columns.output_tokens,
        account_subnets(columns.address_family, columns.address_high, columns.address_low),
        prompt_digest, system_digest,
        columns.identifiers, columns.event_id.start, columns.event_id.end,
        fate, row, tier, features, first_sight, newest_at,
    )  # fmt: skip
    state.table.count, state.activities.count, state.subnets.count = int(rows), int(activities), int(subnets)
    _name(state, columns, row, before)
    if count:
        state.newest = max(state.newest, int(columns.occurred_at.max()))
    return Observed(
        account, event, fate, row, tier, features, first_sight, newest_at, before, state.table.count - before
    )


def _name(state: AccountsState, columns: RequestColumns, row: NDArray[np.int64], before: int) -> None:
    """Keep the ids of new accounts and the event ids too long for a row; both are rare in a running detector."""
    identifiers = columns.identifiers
    new = np.flatnonzero(row >= before)
    if len(new):
        firsts = new[np.unique(row[new], return_index=True)[1]]
        state.name_new_rows(before, identifiers, columns.account_id.start[firsts], columns.account_id.end[firsts])
    long = np.flatnonzero((columns.event_id.end - columns.event_id.start > EVENT_ID_BYTES) & (row >= 0))
    for index in long:
        if columns.occurred_at[index] == state.table.rows[row[index]]["newest"]:
            start, end = columns.event_id.start[index], columns.event_id.end[index]
            state.long_event_ids[int(row[index])] = identifiers[start:end].tobytes()
