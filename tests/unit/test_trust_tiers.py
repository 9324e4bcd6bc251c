import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdetect.pipeline.accept.columns import ABSENT, AccountTier
from streamdetect.pipeline.accounts.tiers import DAY_MS, TrustTier, age_days, trust_tier

NOW = 2_000 * DAY_MS
BOUNDS = (7 * DAY_MS, 30 * DAY_MS, 90 * DAY_MS)
UNKNOWN, UNPAID, PAID, VERIFIED, ENTERPRISE = AccountTier


def tier_at(age_ms, standing):
    return TrustTier(trust_tier(NOW, NOW - age_ms, int(standing), *BOUNDS))


@pytest.mark.parametrize(
    ("age_ms", "standing", "expected"),
    [
        (7 * DAY_MS - 1, ENTERPRISE, TrustTier.T0),
        (7 * DAY_MS, PAID, TrustTier.T1),
        (7 * DAY_MS, UNPAID, TrustTier.T0),
        (400 * DAY_MS, UNPAID, TrustTier.T0),
        (30 * DAY_MS - 1, VERIFIED, TrustTier.T1),
        (30 * DAY_MS, PAID, TrustTier.T2),
        (30 * DAY_MS, UNKNOWN, TrustTier.T2),
        (90 * DAY_MS - 1, VERIFIED, TrustTier.T2),
        (90 * DAY_MS, VERIFIED, TrustTier.T3),
        (90 * DAY_MS, ENTERPRISE, TrustTier.T3),
        (900 * DAY_MS, PAID, TrustTier.T2),
        (-5 * DAY_MS, PAID, TrustTier.T0),  # created in the future: a clock is wrong, the account is new
    ],
)
def test_tiers_begin_at_their_bounds(age_ms, standing, expected):
    assert tier_at(age_ms, standing) is expected


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (UNKNOWN, TrustTier.UNKNOWN),
        (UNPAID, TrustTier.UNKNOWN),
        (PAID, TrustTier.UNKNOWN),
        (VERIFIED, TrustTier.T2),
        (ENTERPRISE, TrustTier.T2),
    ],
)
def test_without_an_age_only_a_vouched_standing_gives_a_tier(standing, expected):
    assert TrustTier(trust_tier(NOW, ABSENT, int(standing), *BOUNDS)) is expected


@given(st.sampled_from(AccountTier), st.integers(-DAY_MS, 1000 * DAY_MS), st.integers(0, 1000 * DAY_MS))
def test_trust_never_falls_with_age(standing, age_ms, older_ms):
    assert tier_at(age_ms, standing) <= tier_at(age_ms + older_ms, standing)


def test_age_is_in_whole_days_and_minus_one_if_unknown():
    ages = [age_days(NOW, created_at) for created_at in (ABSENT, NOW + 5, NOW - DAY_MS + 1, NOW - DAY_MS, 0)]
    assert ages == [-1, 0, 0, 1, 2000]
