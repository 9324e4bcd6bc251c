"""Intervals of 95 %: exact for rare counts, bootstrap over campaigns for what campaigns differ in.

Accounts of one campaign are not independent, so they are never resampled one by one.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_TAIL = 0.025
_EXACT_UP_TO = 200
_Z, _Z_ONE_SIDED = 1.959963984540054, 1.6448536269514722  # normal quantiles of 0.975 and 0.95
REPLICATES = 1000


def poisson_interval(count: int) -> tuple[float, float]:
    """Bounds of the mean of a Poisson count, each missed with a chance of 2.5 % (Garwood).

    Exact up to a count of 200, then by Wilson and Hilferty, which is off by less than 0.01 % there.

    >>> [round(bound, 3) for bound in poisson_interval(0)], [round(bound, 3) for bound in poisson_interval(10)]
    ([0.0, 3.689], [4.795, 18.39])
    """
    low = 0.0 if count == 0 else _bound(count, lower=True)
    return low, _bound(count, lower=False)


def poisson_upper(count: int) -> float:
    """The mean that a count of at most this many would be too small for with a confidence of 95 %, one-sided.

    Exact up to a count of 200, then by Wilson and Hilferty.

    >>> round(poisson_upper(0), 3), round(poisson_upper(3), 3)
    (2.996, 7.754)
    """
    if count > _EXACT_UP_TO:
        return _by_wilson_and_hilferty(count + 1, _Z_ONE_SIDED)
    return _solved(lambda mean: _cdf(count, mean) > 2 * _TAIL, count)


def _bound(count: int, *, lower: bool) -> float:
    if count > _EXACT_UP_TO:
        return _by_wilson_and_hilferty(count, -_Z) if lower else _by_wilson_and_hilferty(count + 1, _Z)
    if lower:
        return _solved(lambda mean: 1 - _cdf(count - 1, mean) < _TAIL, count)
    return _solved(lambda mean: _cdf(count, mean) > _TAIL, count)


def _by_wilson_and_hilferty(degrees: int, z: float) -> float:
    return float(degrees * (1 - 1 / (9 * degrees) + z / (3 * math.sqrt(degrees))) ** 3)


def _solved(too_small: Callable[[float], bool], count: int) -> float:
    """The mean at which ``too_small`` turns false, by bisection."""
    low, high = 0.0, count + 10 * math.sqrt(count + 1) + 10
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return high


def _cdf(count: int, mean: float) -> float:
    """P(at most ``count``) of a Poisson variable."""
    if mean <= 0:
        return 1.0
    logarithm = math.log(mean)
    return math.fsum(math.exp(k * logarithm - mean - math.lgamma(k + 1)) for k in range(count + 1))


def resampled(groups: int, seed: int = 0, replicates: int = REPLICATES) -> NDArray[np.int64]:
    """How often each of ``groups`` is drawn in each bootstrap replicate: ``int64[replicates, groups]``."""
    raw = np.random.PCG64(seed).random_raw(replicates * groups)  # raw bits: the same with every version of numpy
    drawn = (raw % np.uint64(groups)).astype(np.int64).reshape(replicates, groups)
    weights = np.zeros((replicates, groups), np.int64)
    np.add.at(weights, (np.arange(replicates)[:, None], drawn), 1)
    return weights


def bootstrap_interval(statistic: Callable[[NDArray[np.int64]], float | None], groups: int) -> list[float] | None:
    """The middle 95 % of ``statistic(weights)`` over resampled groups; ``None`` for fewer than two groups.

    Replicates without a value (``None``) are left out; ``None`` too if more than a tenth has none.
    """
    if groups < 2:
        return None
    found = [value for weights in resampled(groups) if (value := statistic(weights)) is not None]
    if len(found) < 0.9 * REPLICATES:
        return None
    low, high = np.quantile(np.array(found), [_TAIL, 1 - _TAIL])
    return [float(low), float(high)]


def weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.int64], share: float) -> float | None:
    """The smallest of ascending ``values`` that at least ``share`` of the weight does not exceed."""
    total = np.cumsum(weights)
    if not len(values) or total[-1] == 0:
        return None
    return float(values[int(np.searchsorted(total, share * total[-1]))])
