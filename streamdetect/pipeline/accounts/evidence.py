"""The ledger: what other stages found out about the things an account shares, at most eight facts an account.

A fact is (family, key) with the counts at its newest time. Of two facts about one key the later wins, so order does not
matter. A fact counts for one day of event time. When all eight are live the weakest of the most frequent family makes
room; only then can the order show, and only if a fact changes that others have already pushed out.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.images import Dirty
from streamdetect.kernels.index import Record, find
from streamdetect.pipeline.accounts.features import EVIDENCE_COLUMN, FAMILIES, fill_standing, fill_windows, tier_of
from streamdetect.pipeline.accounts.state import FACTS_PER_ACCOUNT, AccountsState

FACT_MS = 86_400_000

Facts = NDArray[np.void]


@njit(cache=True, nogil=True)
def _stronger(young: int, trusted: int, other_young: int, other_trusted: int) -> bool:
    """Whether one key speaks louder: more young accounts for each trusted one, then more young accounts."""
    left, right = young * (1 + other_trusted), other_young * (1 + trusted)
    return left > right or (left == right and young > other_young)


@njit(cache=True, nogil=True)
def _outranks(fact: Record, other: Record) -> bool:
    """Whether a fact ranks above another: the louder one, of equals the lower key; no two facts rank alike."""
    young, trusted = np.int64(fact.young), np.int64(fact.trusted)
    other_young, other_trusted = np.int64(other.young), np.int64(other.trusted)
    if _stronger(young, trusted, other_young, other_trusted):
        return True
    if _stronger(other_young, other_trusted, young, trusted):
        return False
    return bool(fact.key < other.key or (fact.key == other.key and fact.family < other.family))


@njit(cache=True, nogil=True)
def read_ledger(facts: Facts, now: int, features: NDArray[np.int64]) -> None:
    """Write young, trusted and all members of each family's strongest live key; the rest stays 0."""
    best = np.full(FAMILIES, -1, np.int64)
    for slot in range(FACTS_PER_ACCOUNT):
        fact = facts[slot]
        if fact.at == 0 or fact.at <= now - FACT_MS:
            continue
        claimed = np.int64(fact.family)
        if best[claimed] < 0 or _outranks(fact, facts[best[claimed]]):
            best[claimed] = slot
    for family in range(FAMILIES):
        if best[family] >= 0:
            fact = facts[best[family]]
            column = EVIDENCE_COLUMN + 3 * family
            features[column] = np.int64(fact.young)
            features[column + 1] = np.int64(fact.trusted)
            features[column + 2] = np.int64(fact.members)


@njit(cache=True, nogil=True)
def _slot_for(facts: Facts, newest: int, row: Record) -> int:
    """The slot a fact belongs in: its own, a free or expired one, or the one that makes room; -1 if none does.

    Expired is what the account, whose newest event is at ``newest``, can never read again. By the time of the incoming
    fact the order of two facts would show.
    """
    free = -1
    for slot in range(FACTS_PER_ACCOUNT):
        fact = facts[slot]
        if fact.at != 0 and fact.family == row.family and fact.key == row.key:
            return slot
        if free < 0 and (fact.at == 0 or fact.at <= newest - FACT_MS):
            free = slot
    return free if free >= 0 else _crowded_out(facts, row)


@njit(cache=True, nogil=True)
def _crowded_out(facts: Facts, row: Record) -> int:
    """The weakest fact of the family that has most, the incoming one counted; -1 if that is the incoming one.

    A prompt has many content keys and a card is one key: without this the many would push out the one that makes the
    difference. What a full ledger keeps is a function of the facts, not of their order, while none of them changes.
    """
    counts = np.zeros(FAMILIES, np.int64)
    counts[row.family] = 1
    for slot in range(FACTS_PER_ACCOUNT):
        counts[facts[slot].family] += 1
    crowded = 0
    for family in range(FAMILIES):
        if counts[family] >= counts[crowded]:
            crowded = family
    weakest = -1
    for slot in range(FACTS_PER_ACCOUNT):
        if facts[slot].family == crowded and (weakest < 0 or _outranks(facts[weakest], facts[slot])):
            weakest = slot
    if row.family == crowded and not _outranks(row, facts[weakest]):
        return -1
    return weakest


@njit(cache=True, nogil=True)
def _is_later(row: Record, fact: Record) -> bool:
    """Of two facts about one key; at one time members are only added, and one that turns trusted weighs most."""
    if row.at != fact.at:
        return bool(row.at > fact.at)
    if row.trusted != fact.trusted:
        return bool(row.trusted > fact.trusted)
    if row.young != fact.young:
        return bool(row.young > fact.young)
    return bool(row.members > fact.members)


@njit(cache=True, nogil=True)
def _note(facts: Facts, dirty: Dirty, newest: int, row: Record, ignored: NDArray[np.int64]) -> None:
    slot = _slot_for(facts, newest, row)
    if slot < 0:
        ignored[0] += 1
        return
    fact = facts[slot]
    if fact.at != 0 and fact.family == row.family and fact.key == row.key and not _is_later(row, fact):
        return
    fact.key, fact.at, fact.event = row.key, row.at, row.event
    fact.young, fact.trusted, fact.members, fact.family = row.young, row.trusted, row.members, row.family
    dirty[slot] = np.uint8(1)


@njit(cache=True, nogil=True)
def apply_evidence(
    slots: NDArray[np.int32],
    rows: NDArray[np.void],
    dirty: Dirty,
    activities: NDArray[np.void],
    ledgers: Facts,
    ledgers_dirty: NDArray[np.uint8],
    ledger_count: int,
    accounts: NDArray[np.uint64],
    incoming: NDArray[np.void],
    tiers_ms: NDArray[np.int64],
    touched: NDArray[np.int64],
    features: NDArray[np.int64],
    ignored: NDArray[np.int64],
) -> int:
    """Take in evidence rows one by one; ``touched`` is each row's account (-1 forgotten), ``features`` its state after.

    Returns the number of ledgers then in use; ``ignored`` counts facts that found no room.
    """
    for index in range(len(accounts)):
        row = find(slots, rows, accounts[index])
        touched[index] = row
        if row < 0:
            continue
        account = rows[row]
        if account.ledger < 0:
            account.ledger, dirty[row] = np.int32(ledger_count), np.uint8(1)
            ledger_count += 1
        facts = ledgers[account.ledger]
        now = max(account.newest, incoming[index].at)
        _note(facts, ledgers_dirty[account.ledger], account.newest, incoming[index], ignored)
        if account.activity >= 0:
            fill_windows(activities[account.activity], features[index])
        fill_standing(account, now, tier_of(account, now, tiers_ms), features[index])
        read_ledger(facts, now, features[index])
    return ledger_count


def take_evidence(
    state: AccountsState,
    accounts: NDArray[np.uint64],
    incoming: NDArray[np.void],
    tiers_ms: NDArray[np.int64],
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Apply evidence to the ledgers.

    Args:
        state: the accounts of this partition.
        accounts: ``uint64[n]``, whom each fact is about.
        incoming: ``FACT[n]``.
        tiers_ms: bounds of the trust tiers.
        width: number of feature columns.

    Returns:
        the account row of each fact (-1 forgotten), the features after it ``int64[n, width]``, and how many facts found
        no room.
    """
    count = len(accounts)
    state.reserve_ledgers(count)
    touched = np.empty(count, np.int64)
    features = np.zeros((count, width), np.int64)
    ignored = np.zeros(1, np.int64)
    state.ledger_count = int(
        apply_evidence(
            state.table.slots,
            state.table.rows,
            state.table.dirty,
            state.activities.rows,
            state.ledgers,
            state.ledgers_dirty,
            state.ledger_count,
            accounts,
            incoming,
            tiers_ms,
            touched,
            features,
            ignored,
        )
    )
    return touched, features, int(ignored[0])
