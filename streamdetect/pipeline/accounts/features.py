"""One account as numbers: the columns that rules read, filled in the order of ``decisions.features.ACCOUNT_FEATURES``.

A test holds the two orders together; this module stands below ``decisions`` and must not import it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.index import Record
from streamdetect.kernels.members import distinct_of
from streamdetect.kernels.windows import total
from streamdetect.pipeline.accounts.tiers import age_days, trust_tier

FAMILIES = 6  # subnet, org, api_key, payment, template, system
EVIDENCE_COLUMN = 11
TIER_COLUMN = EVIDENCE_COLUMN + 3 * FAMILIES
WIDTH = TIER_COLUMN + 2


@njit(cache=True, nogil=True)
def tier_of(account: Record, now: int, tiers_ms: NDArray[np.int64]) -> int:
    """Trust tier of an account at ``now``; what the gateway told last outweighs the provider's record."""
    told = account.tier_told if account.tier_told != 0 else account.tier_recorded
    return int(trust_tier(now, np.int64(account.created_at), np.int64(told), tiers_ms[0], tiers_ms[1], tiers_ms[2]))


def usage_of(activity: Record) -> NDArray[np.int64]:
    """A row of features with the windows of an account and nothing else."""
    features = np.zeros(WIDTH, np.int64)
    for first, ring in ((0, "requests"), (3, "input_tokens"), (6, "output_tokens")):
        features[first : first + 3] = activity[ring].sum(axis=1)
    features[9:11] = activity["subnets"].sum(axis=(1, 2))
    return features


@njit(cache=True, nogil=True)
def fill_windows(activity: Record, features: NDArray[np.int64]) -> None:
    """Windows and distinct subnets; without an activity they are 0."""
    for window in range(3):
        features[window] = total(activity.requests, window)
        features[3 + window] = total(activity.input_tokens, window)
        features[6 + window] = total(activity.output_tokens, window)
    for window in range(2):
        features[9 + window] = distinct_of(activity.subnets, window, 0)


@njit(cache=True, nogil=True)
def fill_standing(account: Record, now: int, tier: int, features: NDArray[np.int64]) -> None:
    """Tier and age."""
    features[TIER_COLUMN] = tier
    features[TIER_COLUMN + 1] = age_days(now, np.int64(account.created_at))
