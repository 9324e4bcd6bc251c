"""Random draws that give the same numbers on every machine.

Everything is integer arithmetic: PCG64 for plans, a keyed 64-bit mixer for whatever must not depend on the order of
drawing. Distributions are rounded quantile tables, because the last bit of a library's exp or log differs between
processors and a seed must not. A table of 4096 steps has no tail beyond its last step; that is deliberate.
"""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numba import njit
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Integers = NDArray[np.int64]

_STEPS: Final = 4096
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def generator(seed: int, *path: int) -> Generator:
    """Return the generator of one purpose: equal (seed, path) give equal draws, different paths are independent."""
    return Generator(PCG64(SeedSequence(seed, spawn_key=path)))


@njit(cache=True, nogil=True)
def mixed(key: np.uint64) -> np.uint64:
    """Scramble one 64-bit key (splitmix64)."""
    value = key + np.uint64(_GOLDEN)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def reduced(key: np.uint64, limit: int) -> np.int64:
    """Reduce one key to [0, limit)."""
    return np.int64((key >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32))


def mix(keys: Keys) -> Keys:
    """Scramble 64-bit keys one to one (splitmix64), so distinct keys stay distinct."""
    return salted(keys, 0)


def salted(keys: Keys, salt: int) -> Keys:
    """Draw afresh for another purpose: one independent-looking key per key."""
    out = np.empty(len(keys), np.uint64)
    _salt(np.ascontiguousarray(keys), np.uint64((salt * _GOLDEN) & _MASK), out)
    return out


def below(keys: Keys, limit: int | Integers) -> Integers:
    """Reduce keys to integers in [0, limit); the bias is below limit / 2**32."""
    out = np.empty(len(keys), np.int64)
    if isinstance(limit, np.ndarray):
        _reduce_each(np.ascontiguousarray(keys), np.ascontiguousarray(limit, np.int64), out)
    else:
        _reduce(np.ascontiguousarray(keys), limit, out)
    return out


@njit(cache=True, nogil=True)
def _salt(keys: Keys, salt: np.uint64, out: Keys) -> None:
    for row in range(len(keys)):
        out[row] = mixed(keys[row] ^ salt)


@njit(cache=True, nogil=True)
def _reduce(keys: Keys, limit: int, out: Integers) -> None:
    for row in range(len(keys)):
        out[row] = reduced(keys[row], limit)


@njit(cache=True, nogil=True)
def _reduce_each(keys: Keys, limits: Integers, out: Integers) -> None:
    for row in range(len(keys)):
        out[row] = reduced(keys[row], limits[row])


def skewed_below(keys: Keys, limit: Integers) -> Integers:
    """Reduce keys to [0, limit) with small numbers far more likely: the square of a uniform draw."""
    uniform = keys >> np.uint64(44)
    return ((uniform * uniform >> np.uint64(20)) * limit.astype(np.uint64) >> np.uint64(20)).astype(np.int64)


def chosen(keys: Keys, weights: Sequence[int]) -> Integers:
    """Pick one index per key with probability proportional to its weight."""
    return ranked(keys, np.cumsum(np.asarray(weights, np.int64)))


def ranked(keys: Keys, edges: Integers) -> Integers:
    """Pick one index per key, by the sums of weights up to and with each."""
    return np.searchsorted(edges, below(keys, int(edges[-1])), side="right").astype(np.int64)


@cache
def popularity(count: int, skew_percent: int) -> Integers:
    """Sums of weights that fall with the rank as 1 / rank ** (skew_percent / 100) and are at least 1."""
    weights = [max(1, round(1_000_000 / (rank + 1) ** (skew_percent / 100))) for rank in range(count)]
    return np.cumsum(np.array(weights, np.int64))


def blocks(count: int, sizes: Integers, key: int) -> Integers:
    """Number the block of each of ``count`` rows; blocks are runs of rows whose sizes are drawn from a table.

    The first rows are in the same blocks whatever ``count`` is.
    """
    number, ends = 0, [0]
    while ends[-1] < count:
        keys = np.arange(number, number + 1024, dtype=np.uint64) + np.full(1024, key & _MASK, np.uint64)
        ends += (np.cumsum(drawn(mix(keys), sizes)) + ends[-1]).tolist()
        number += 1024
    return np.searchsorted(np.asarray(ends[1:], np.int64), np.arange(count), side="right").astype(np.int64)


@cache
def lognormal_table(*, median: float, sigma: float, limit: int, scale: int = 1) -> Integers:
    """Quantiles of a lognormal law in units of 1/scale, at least 1 and at most limit (in whole units)."""
    rounded = (round(min(limit, median * math.exp(sigma * point)) * scale) for point in _normal_quantiles())
    return np.array([max(1, value) for value in rounded], np.int64)


@cache
def _normal_quantiles() -> tuple[float, ...]:
    law = NormalDist()
    return tuple(law.inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS))


def drawn(keys: Keys, table: Integers) -> Integers:
    """Draw one value per key from a quantile table."""
    return table[below(keys, len(table))]
