"""What the provider says of accounts (``accounts.v1``): creation time and standing, optional, last record wins."""

from collections.abc import Sequence

import numpy as np

from streamdetect.kernels.hashing import hash64
from streamdetect.kernels.index import find_or_add
from streamdetect.messages.account import AccountRecord
from streamdetect.pipeline.accept.columns import AccountTier
from streamdetect.pipeline.accounts.state import AccountsState

_CODES = {tier.name.lower(): int(tier) for tier in AccountTier if tier}


def account_hash(account_id: str) -> np.uint64:
    """The 64-bit hash that stands for an account everywhere in the pipeline."""
    raw = np.frombuffer(account_id.encode(), np.uint8)
    return np.uint64(hash64(raw, 0, len(raw), np.uint64(0)))


def learn_records(state: AccountsState, records: Sequence[tuple[str, AccountRecord | None]]) -> None:
    """Take in (account id, record) pairs in order; ``None`` is a tombstone."""
    state.reserve(len(records))
    for account_id, record in records:
        before = state.table.count
        row = int(find_or_add(state.table.slots, state.table.rows, before, account_hash(account_id)))
        account = state.table.rows[row]
        if row == before:
            state.table.count += 1
            account["created_at"], account["ledger"], account["activity"] = -1, -1, -1
            raw = np.frombuffer(account_id.encode(), np.uint8)
            state.name_new_rows(row, raw, np.zeros(1, np.int64), np.array([len(raw)]))
        state.table.dirty[row] = 1
        account["tier_recorded"] = standing_of(record)
        created_at = None if record is None else record.created_at
        if created_at is not None and (account["created_at"] < 0 or created_at < account["created_at"]):
            account["created_at"] = created_at


def standing_of(record: AccountRecord | None) -> int:
    """A verified account is verified whatever its tier says; nothing known is unknown."""
    if record is None or record.deleted_at is not None:
        return int(AccountTier.UNKNOWN)
    told = _CODES.get(record.tier or "", int(AccountTier.UNKNOWN))
    vouched = record.verified_at is not None and told != AccountTier.ENTERPRISE
    return int(AccountTier.VERIFIED) if vouched else told
