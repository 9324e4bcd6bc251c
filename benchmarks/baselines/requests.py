"""The requests of a round as the baselines read them: who, when, from where, how old, and the prompt's span.

Refused requests and completions are left out, as they are for the product: a baseline that learned from what was denied
would find more of a campaign the more it denies.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Ints
from streamdetect.kernels.hashing import Hashes, hash_spans
from streamdetect.pipeline.accept.columns import AccountTier, Kind, Outcome, RequestColumns

DAY_MS: Final = 86_400_000
_T0_MS, _T1_MS = 7 * DAY_MS, 30 * DAY_MS
# IPv4 and IPv6 prefixes must not meet: the low bit tells them apart.
_SIX: Final = np.uint64(1)


@dataclass(frozen=True, slots=True)
class Requests:
    """Aligned columns. ``account`` is a hash; ``address`` and ``subnet`` are 0 where there is no address.

    ``address`` is the whole IPv4 address or the /64, ``subnet`` the /24 or the /48. ``young`` and ``trusted`` are as in
    the trust tiers of the product (T0 and T1, T2 and T3); an account of unknown age is neither.
    """

    columns: RequestColumns
    at: Ints
    account: Hashes
    address: Hashes
    subnet: Hashes
    young: NDArray[np.bool_]
    trusted: NDArray[np.bool_]
    first_turn: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.at)

    def account_id(self, row: int) -> str:
        """The account's id as the gateway gave it."""
        ids = self.columns.account_id
        return self.columns.identifiers[int(ids.start[row]) : int(ids.end[row])].tobytes().decode()

    def subnet_text(self, row: int) -> str:
        """Canonical CIDR of the subnet of a row that has one."""
        columns = self.columns
        if columns.address_family[row] == 4:
            return str(ipaddress.IPv4Network((int(columns.address_low[row]) >> 8 << 8, 24)))
        return str(ipaddress.IPv6Network((int(columns.address_high[row]) >> 16 << 80, 48)))


def requests_of(columns: RequestColumns) -> Requests:
    """The admitted requests of a round, in order."""
    refused = (columns.outcome >= Outcome.RATE_LIMITED) & (columns.outcome <= Outcome.BLOCKED)
    kept = np.flatnonzero(~refused & (columns.kind == Kind.REQUEST))
    if len(kept) < len(columns):
        columns = columns.take(kept)
    four, six = columns.address_family == 4, columns.address_family == 6
    low, high = columns.address_low << np.uint64(1), columns.address_high
    young, trusted = _standing(columns)
    return Requests(
        columns=columns,
        at=columns.occurred_at,
        account=hash_spans(columns.identifiers, columns.account_id.start, columns.account_id.end, np.uint64(0)),
        address=np.select([four, six], [low + np.uint64(2), (high << np.uint64(1)) | _SIX], np.uint64(0)),
        subnet=np.select(
            [four, six],
            [(low >> np.uint64(9) << np.uint64(9)) + np.uint64(2), high >> np.uint64(16) << np.uint64(16) | _SIX],
            np.uint64(0),
        ),
        young=young,
        trusted=trusted,
        first_turn=columns.turn <= 0,
    )


def _standing(columns: RequestColumns) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Young and trusted, by age and tier at the time of the request."""
    known = columns.account_created_at >= 0
    age_ms = np.maximum(columns.occurred_at - columns.account_created_at, 0)
    vouched = columns.account_tier >= AccountTier.VERIFIED
    young = known & ((age_ms < _T1_MS) | (columns.account_tier == AccountTier.UNPAID))
    return young, ~young & (known | vouched)
