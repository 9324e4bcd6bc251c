"""Trust tiers: how far the history of an account speaks for it, at the time of an event.

Young (T0, T1) and trusted (T2, T3) are what every count of users is split by. Unknown is a tier of its own, neither
young nor trusted, and age is never inferred from the first event seen: an account that is old but new to us would be
young by that rule. Compiled, a few nanoseconds a call.
"""

from enum import IntEnum

from numba import njit

from streamdetect.pipeline.accept.columns import AccountTier

DAY_MS = 86_400_000
UNKNOWN_AGE = -1


class TrustTier(IntEnum):
    """Codes as they stand in state and in feature columns; their order means nothing but young before trusted."""

    UNKNOWN = 0
    T0 = 1
    T1 = 2
    T2 = 3
    T3 = 4


TIER_NAMES = {"unknown": TrustTier.UNKNOWN, **{tier.name: tier for tier in TrustTier if tier}}
YOUNG_TIERS = (TrustTier.T0, TrustTier.T1)
TRUSTED_TIERS = (TrustTier.T2, TrustTier.T3)

# Plain integers, because compiled code freezes globals and an enum member there costs a conversion.
_UNPAID, _VERIFIED, _ENTERPRISE = int(AccountTier.UNPAID), int(AccountTier.VERIFIED), int(AccountTier.ENTERPRISE)
_UNKNOWN, _T0, _T1, _T2, _T3 = (int(tier) for tier in TrustTier)


@njit(cache=True)
def age_ms(occurred_at: int, created_at: int) -> int:
    """Age of an account at an event, in ms; -1 if ``created_at`` is absent (-1), 0 if it lies in the future."""
    if created_at < 0:
        return UNKNOWN_AGE
    return max(0, occurred_at - created_at)


@njit(cache=True)
def age_days(occurred_at: int, created_at: int) -> int:
    """Whole days of age, as the feature of that name; -1 unknown."""
    age = age_ms(occurred_at, created_at)
    return age // DAY_MS if age >= 0 else UNKNOWN_AGE


@njit(cache=True)
def trust_tier(  # compiled code is called by position
    occurred_at: int, created_at: int, account_tier: int, t0_ms: int, t1_ms: int, t3_ms: int
) -> int:
    """``TrustTier`` code of an account at an event.

    ``account_tier`` is an ``AccountTier`` code. T0 is younger than ``t0_ms`` or unpaid, T1 younger than ``t1_ms``, T3
    at least ``t3_ms`` old and verified or enterprise, T2 the rest. Without an age only a verified or enterprise account
    has a tier (T2): unpaid alone says nothing about how long somebody has been there.
    """
    vouched = account_tier in (_VERIFIED, _ENTERPRISE)
    age = age_ms(occurred_at, created_at)
    if age < 0:
        return _T2 if vouched else _UNKNOWN
    if age < t0_ms or account_tier == _UNPAID:
        return _T0
    if age < t1_ms:
        return _T1
    return _T3 if vouched and age >= t3_ms else _T2
