"""What incoming rows do to typed keys, row by row: windows, members, and evidence the moment a key looks wrong.

A key is *suspect* when many young accounts and hardly any trusted user share it. The row that makes it so sends
evidence to every member; while it lasts each further row of a young or unknown member is answered on the spot, and a
trusted newcomer is told to all. When trust clears a key, its members hear that too.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.images import Dirty
from streamdetect.kernels.index import Record, find, find_or_add
from streamdetect.kernels.members import DAILY, HOURLY, TICK_MS, TRUSTED, UNKNOWN, YOUNG, distinct_of, touch
from streamdetect.kernels.members import advance as advance_members
from streamdetect.kernels.spans import joined
from streamdetect.kernels.windows import BUCKETS, BUCKETS_MS, DAY, add, advance, is_late, total
from streamdetect.pipeline.accounts.evidence import FACT_MS
from streamdetect.pipeline.accounts.sharing import KeyType, key_identity
from streamdetect.pipeline.associations.links import FINDING, Links
from streamdetect.pipeline.associations.state import CROWD, AssociationsState, count_alone

FAMILY_OF_TYPE = np.array([0, 0, 0, 0, 0, 1, 2, 3, 4, 5], np.uint8)
PREFIX_OF_TYPE = np.array([-1, 24, 64, 56, 48, -1, -1, -1, -1, -1], np.int64)
SHARED_WIDTH = 10

_LAST_SUBJECT = int(KeyType.API_KEY)
_FIRST_CONTENT = int(KeyType.TEMPLATE)
_MEMBER_TICKS = FACT_MS // TICK_MS
_CROWD_SHAPE = CROWD["distinct"].shape


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a key becomes suspect, by family (subnet, org, api_key, payment, template, system)."""

    suspect_young: NDArray[np.int64]
    young_per_trusted: int
    notify_members_max: int


@njit(cache=True, nogil=True)
def _tell(
    findings: NDArray[np.void], count: int, account: np.uint64, partition: int, key: Record, family: int,
    counts: tuple[int, int, int], occurred_at: int, event: np.uint64, source_row: int,
) -> int:  # fmt: skip
    finding = findings[count]
    finding.account, finding.partition, finding.key = account, np.uint16(partition), key.key
    finding.family, finding.at, finding.event = np.uint8(family), occurred_at, event
    finding.source_row = np.uint32(source_row)
    finding.young, finding.trusted, finding.members = np.uint32(counts[0]), np.uint32(counts[1]), np.uint32(counts[2])
    return count + 1


@njit(cache=True, nogil=True)
def _tell_all(
    findings: NDArray[np.void], count: int, entries: NDArray[np.void], key: Record, family: int,
    counts: tuple[int, int, int], occurred_at: int, event: np.uint64, source_row: int, most: int,
) -> int:  # fmt: skip
    """One finding for each member of the last day that is not trusted, newest member first, at most ``most``."""
    entry = np.int64(key.head)
    told = 0
    oldest = key.newest // TICK_MS - _MEMBER_TICKS
    while entry >= 0 and told < most:
        member = entries[entry]
        if member.kind != TRUSTED and member.tick > oldest:
            count = _tell(
                findings, count, member.member, np.int64(member.partition), key, family, counts, occurred_at, event,
                source_row,
            )  # fmt: skip
            told += 1
        entry = np.int64(member.next)
    return count


@njit(cache=True, nogil=True)
def _wait_alone(
    slots: NDArray[np.int32], singles: NDArray[np.void], dirty: Dirty, count: int, identity: np.uint64,
    member: np.uint64, occurred_at: int, partition: int, kind: int, waits: bool,
) -> tuple[int, int]:  # fmt: skip
    """Keep a lone key among the singles. Returns (singles in use, its row) if it has company or needs not wait for it.

    Else (.., -1), or (.., -2) if the row is late: older than all that the key retains.
    """
    row = find_or_add(slots, singles, count, identity)
    single = singles[row]
    if row == count:
        single.member, single.newest = member, occurred_at
        single.partition, single.kind, single.promoted = np.uint16(partition), np.uint8(kind), np.uint8(0)
        dirty[row] = np.uint8(1)
        return count + 1, -1 if waits else row
    if single.promoted != 0 or single.member != member:
        return count, row
    if is_late(single.newest, occurred_at):
        return count, -2 if waits else row
    tick, newest_tick = occurred_at // TICK_MS, single.newest // TICK_MS
    if tick > newest_tick or (tick == newest_tick and kind > single.kind):
        single.kind = np.uint8(kind)
    single.newest, dirty[row] = max(single.newest, occurred_at), np.uint8(1)
    return count, -1 if waits else row


@njit(cache=True, nogil=True)
def absorb_rows(
    first: int, slots: NDArray[np.int32], rows: NDArray[np.void], dirty: Dirty, row_count: int,
    single_slots: NDArray[np.int32], singles: NDArray[np.void], single_dirty: Dirty, single_count: int,
    member_slots: NDArray[np.int32], entries: NDArray[np.void], entry_dirty: Dirty, entry_count: int,
    crowds: NDArray[np.uint32], crowd_dirty: Dirty, crowd_count: int,
    suspect_young: NDArray[np.int64], young_per_trusted: int, notify_most: int,
    family_of_type: NDArray[np.uint8], prefix_of_type: NDArray[np.int64], sources: NDArray[np.uint16],
    occurred: NDArray[np.int64], account: NDArray[np.uint64], member: NDArray[np.uint64], event: NDArray[np.uint64],
    member_kind: NDArray[np.uint8], outer_index: NDArray[np.uint32], key_type: NDArray[np.uint8],
    keys: NDArray[np.uint64], row_of: NDArray[np.int64], newest_at: NDArray[np.int64], features: NDArray[np.int64],
    findings: NDArray[np.void],
    finding_count: int, late: NDArray[np.int64],
) -> tuple[int, int, int, int, int, int]:  # fmt: skip
    """Take in rows from ``first`` on.

    Stops early when ``findings`` might not hold what the next row says, so that the caller can make room and go on.
    Returns (next row, rows, singles, entries, crowds, findings) then in use. ``row_of`` is -1 for keys that wait among
    the singles and for late rows.
    """
    alone = np.zeros(_CROWD_SHAPE, np.uint32)
    for index in range(first, len(keys)):
        if finding_count + notify_most + 1 > len(findings):
            return index, row_count, single_count, entry_count, crowd_count, finding_count
        outer, kind_of_key = outer_index[index], np.int64(key_type[index])
        now, kind = occurred[outer], np.int64(member_kind[outer])
        identity, partition = key_identity(keys[index], kind_of_key), np.int64(sources[outer])
        row = find(slots, rows, identity)
        if row < 0 and kind_of_key > _LAST_SUBJECT:
            waits = kind_of_key >= _FIRST_CONTENT or suspect_young[family_of_type[kind_of_key]] > 1
            single_count, single = _wait_alone(
                single_slots, singles, single_dirty, single_count, identity, member[outer], now, partition, kind, waits,
            )  # fmt: skip
            if single < 0:
                late[0] += single == -2
                continue
            row = find_or_add(slots, rows, row_count, identity)
            row_count += 1
            key, lone = rows[row], singles[single]
            key.newest, key.raw, key.key_type = lone.newest, keys[index], np.uint8(kind_of_key)
            key.head, key.crowd = np.int32(-1), np.int32(-1)
            if lone.promoted == 0:
                lone.promoted, single_dirty[single] = np.uint8(1), np.uint8(1)
                entry = touch(
                    member_slots, entries, entry_dirty, entry_count, alone, row, lone.newest // TICK_MS,
                    lone.member, np.int64(lone.partition), lone.newest // TICK_MS, np.int64(lone.kind),
                )  # fmt: skip
                key.head, entry_count = np.int32(entry), entry_count + 1
        elif row < 0:
            row = find_or_add(slots, rows, row_count, identity)
            row_count += 1
            key = rows[row]
            key.newest, key.raw, key.key_type = now, keys[index], np.uint8(kind_of_key)
            key.head, key.crowd = np.int32(-1), np.int32(-1)
        key = rows[row]
        dirty[row] = np.uint8(1)
        distinct = alone
        if key.crowd >= 0:
            distinct, crowd_dirty[key.crowd] = crowds[key.crowd], np.uint8(1)
        else:
            count_alone(alone, entries, key)
        if now > key.newest:
            advance(key.requests, key.newest, now)
            advance_members(distinct, key.newest // TICK_MS, now // TICK_MS)
            key.newest = now
        elif is_late(key.newest, now):
            late[0] += 1
            continue
        row_of[index] = row
        trusted_before = distinct_of(distinct, DAILY, TRUSTED)
        newest = np.int64(key.newest)
        newest_at[index] = newest
        if kind_of_key <= _LAST_SUBJECT:  # nobody reads the windows of others
            add(key.requests, newest, now, 1)
        entry = touch(
            member_slots, entries, entry_dirty, entry_count, distinct, row, newest // TICK_MS, member[outer],
            partition, now // TICK_MS, kind,
        )  # fmt: skip
        if entry == entry_count:
            if key.crowd < 0 and key.head >= 0:
                crowds[crowd_count, :] = alone
                key.crowd, crowd_dirty[crowd_count] = np.int32(crowd_count), np.uint8(1)
                crowd_count += 1
            entries[entry].next, key.head = key.head, np.int32(entry)
            entry_count += 1
        unknown = distinct_of(distinct, DAILY, UNKNOWN)
        young, trusted = distinct_of(distinct, DAILY, YOUNG), distinct_of(distinct, DAILY, TRUSTED)
        counts = (young, trusted, young + trusted + unknown)
        family = np.int64(family_of_type[kind_of_key])
        cleared = young < young_per_trusted * trusted
        many = young >= suspect_young[family]
        if key.suspect == 0:
            tell_all = many and not cleared
            key.suspect = np.uint8(1) if tell_all else np.uint8(0)
        else:
            tell_all = cleared or trusted > trusted_before
            if cleared or 2 * young < suspect_young[family]:
                key.suspect = np.uint8(0)
        if tell_all:
            finding_count = _tell_all(
                findings, finding_count, entries, key, family, counts, newest, event[outer], index, notify_most
            )
        elif key.suspect != 0 and kind != TRUSTED:
            finding_count = _tell(
                findings, finding_count, account[outer], partition, key, family, counts, newest, event[outer], index
            )
        if kind_of_key <= _LAST_SUBJECT:
            for window in range(3):
                features[index, window] = total(key.requests, window)
            young_1h = distinct_of(distinct, HOURLY, YOUNG)
            trusted_1h = distinct_of(distinct, HOURLY, TRUSTED)
            features[index, 3] = young_1h + trusted_1h + distinct_of(distinct, HOURLY, UNKNOWN)
            features[index, 4], features[index, 5] = young_1h, trusted_1h
            features[index, 6], features[index, 7], features[index, 8] = counts[2], young, trusted
            features[index, 9] = prefix_of_type[kind_of_key]
    return len(keys), row_count, single_count, entry_count, crowd_count, finding_count


def usage_of_key(state: AssociationsState, row: int) -> NDArray[np.int64]:
    """A row of features with the windows of a key and nothing else."""
    features = np.zeros(SHARED_WIDTH, np.int64)
    features[:3] = state.table.rows["requests"][row].sum(axis=1)
    by_kind = state.distinct(row).sum(axis=1)  # [window, class]
    features[3:6] = by_kind[HOURLY].sum(), by_kind[HOURLY, YOUNG], by_kind[HOURLY, TRUSTED]
    features[6:9] = by_kind[DAILY].sum(), by_kind[DAILY, YOUNG], by_kind[DAILY, TRUSTED]
    return features


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What a batch of rows did: each row's key (-1 lone or late), findings, late rows.

    ``features`` holds the key after each row, for the types that can be subjects; other rows are not filled.
    ``newest_at`` is the key's newest event time by then (ms); it is not filled for lone keys and late rows.
    """

    row: NDArray[np.int64]
    newest_at: NDArray[np.int64]
    features: NDArray[np.int64]
    findings: NDArray[np.void]
    late: int


_BUCKET_CHECK = BUCKETS_MS[DAY] * BUCKETS  # facts and members live equally long
assert _BUCKET_CHECK == FACT_MS


def absorb(state: AssociationsState, links: Links, thresholds: Thresholds) -> Absorbed:
    """Take in rows, in order. See ``absorb_rows`` for what each does."""
    count = len(links.key)
    state.reserve(count)
    before = state.table.count
    row_of, features = np.full(count, -1, np.int64), np.empty((count, SHARED_WIDTH), np.int64)
    newest_at = np.empty(count, np.int64)
    late = np.zeros(1, np.int64)
    findings = np.zeros(count + 2 * thresholds.notify_members_max, FINDING)
    position = found = 0
    while position < count:
        position, rows, singles, entries, crowds, found = absorb_rows(
            position, state.table.slots, state.table.rows, state.table.dirty, state.table.count,
            state.singles.slots, state.singles.rows, state.singles.dirty, state.singles.count,
            state.members.slots, state.members.rows, state.members.dirty, state.members.count,
            state.crowds.rows["distinct"], state.crowds.dirty, state.crowds.count,
            thresholds.suspect_young, thresholds.young_per_trusted, thresholds.notify_members_max,
            FAMILY_OF_TYPE, PREFIX_OF_TYPE, links.source,
            links.occurred_at, links.account, links.member, links.event, links.member_kind,
            links.outer_index, links.key_type, links.key, row_of, newest_at, features, findings, found, late,
        )  # fmt: skip
        state.table.count, state.singles.count, state.members.count = int(rows), int(singles), int(entries)
        state.crowds.count = int(crowds)
        if position < count:
            findings = np.concatenate([findings, np.zeros(len(findings), FINDING)])
    state.newest = max(state.newest, int(links.occurred_at.max(initial=0)))
    _name_new(state, links, row_of, before)
    return Absorbed(row_of, newest_at, features, findings[:found], int(late[0]))


def _name_new(state: AssociationsState, links: Links, row_of: NDArray[np.int64], before: int) -> None:
    """Keep the ids of organisations and API keys seen for the first time."""
    if not links.names or state.table.count == before:
        return
    named = np.flatnonzero((row_of >= before) & (links.name_length > 0))
    if not len(named):
        return
    rows, first = np.unique(row_of[named], return_index=True)
    ends = np.cumsum(links.name_length)[named[first]]
    lengths = links.name_length[named[first]]
    new_ends = len(state.names) + np.cumsum(lengths)
    state.names += joined(np.frombuffer(links.names, np.uint8), ends - lengths, ends).tobytes()
    state.table.rows["name_start"][rows], state.table.rows["name_length"][rows] = new_ends - lengths, lengths
