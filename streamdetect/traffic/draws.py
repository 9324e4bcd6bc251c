"""Random draws that give the same numbers on every machine.

Everything is integer arithmetic: PCG64 for plans, a keyed 64-bit mixer for whatever must not depend on the order of
drawing. Distributions are rounded quantile tables, because the last bit of a library's exp or log differs between
processors and a seed must not. A table of 4096 steps has no tail beyond its last step; that is deliberate.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
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


def mix(keys: Keys) -> Keys:
    """Scramble 64-bit keys one to one (splitmix64), so distinct keys stay distinct."""
    mixed = keys + np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def salted(keys: Keys, salt: int) -> Keys:
    """Draw afresh for another purpose: one independent-looking key per key."""
    return mix(keys ^ np.uint64((salt * _GOLDEN) & _MASK))


def below(keys: Keys, limit: int | Integers) -> Integers:
    """Reduce keys to integers in [0, limit); the bias is below limit / 2**32."""
    return ((keys >> np.uint64(32)) * np.asarray(limit, np.uint64) >> np.uint64(32)).astype(np.int64)


def skewed_below(keys: Keys, limit: Integers) -> Integers:
    """Reduce keys to [0, limit) with small numbers far more likely: the square of a uniform draw."""
    uniform = keys >> np.uint64(44)
    return ((uniform * uniform >> np.uint64(20)) * limit.astype(np.uint64) >> np.uint64(20)).astype(np.int64)


def chosen(keys: Keys, weights: Sequence[int]) -> Integers:
    """Pick one index per key with probability proportional to its weight."""
    edges = np.cumsum(np.asarray(weights, np.int64))
    return np.searchsorted(edges, below(keys, int(edges[-1])), side="right").astype(np.int64)


def lognormal_table(*, median: float, sigma: float, limit: int, scale: int = 1) -> Integers:
    """Quantiles of a lognormal law in units of 1/scale, at least 1 and at most limit (in whole units)."""
    law = NormalDist()
    points = (law.inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS))
    rounded = (round(min(limit, median * math.exp(sigma * point)) * scale) for point in points)
    return np.array([max(1, value) for value in rounded], np.int64)


def drawn(keys: Keys, table: Integers) -> Integers:
    """Draw one value per key from a quantile table."""
    return table[below(keys, len(table))]
