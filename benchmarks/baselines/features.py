"""Random Fourier features of hashed words: a Gaussian kernel between prompts as a plain dot product.

A prompt is a vector of counts of its words and word pairs, hashed into ``BUCKETS`` and scaled to length 1. Features are
cos and sin of random projections: phi(x) . phi(y) estimates exp(-|x - y|^2 / (2 sigma^2)) with an error of about
1 / sqrt(frequencies), and phi(x) . phi(x) = 1 exactly. About 15 us a prompt of 90 words at 128 frequencies.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.chunk import Spans
from streamdetect.kernels.hashing import combine64
from streamdetect.kernels.text import tokens_of

BUCKETS: Final = 4096
_TOKENS_MAX: Final = 512  # of a prompt that are looked at

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """The projection; equal arguments give equal features. Output has ``2 * frequencies`` columns."""

    frequencies: int = 128
    sigma: float = 0.9
    seed: int = 1
    _weights: Vectors = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed).standard_normal((BUCKETS, self.frequencies)) / self.sigma
        object.__setattr__(self, "_weights", draw.astype(np.float32))

    def of(self, texts: NDArray[np.uint8], spans: Spans) -> Vectors:
        """Features of n texts, ``float32[n, 2 * frequencies]``."""
        tokens = [
            tokens_of(texts[start:end].tobytes())[:_TOKENS_MAX]
            for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True)
        ]
        ends = np.cumsum([len(each) for each in tokens]).astype(np.int64)
        joined = np.concatenate(tokens) if tokens else np.zeros(0, np.uint32)
        return _project(joined, ends, self._weights)


def counts_of(text: bytes) -> NDArray[np.float64]:
    """The vector that ``Features`` projects, for checks: ``float64[BUCKETS]`` of length 1, or 0 without a word."""
    counts = np.zeros(BUCKETS, np.float32)
    tokens = tokens_of(text)[:_TOKENS_MAX]
    _count(tokens, 0, len(tokens), counts)
    length = np.sqrt(float((counts.astype(np.float64) ** 2).sum()))
    return counts / length if length else counts.astype(np.float64)


@njit(cache=True)
def _count(tokens, start, end, counts):
    for index in range(start, end):
        counts[np.int64(tokens[index]) % BUCKETS] += 1
        if index > start:
            pair = combine64(np.uint64(tokens[index - 1]), np.uint64(tokens[index]))
            counts[np.int64(pair % np.uint64(BUCKETS))] += 1


@njit(cache=True, fastmath=True)
def _project(tokens, ends, weights):
    frequencies = weights.shape[1]
    out = np.zeros((len(ends), 2 * frequencies), np.float32)
    counts = np.zeros(BUCKETS, np.float32)
    start = 0
    for row in range(len(ends)):
        _count(tokens, start, ends[row], counts)
        square = np.float32(0)
        angle = np.zeros(frequencies, np.float32)
        for index in range(start, ends[row]):
            # Each bucket once: its count is taken and zeroed at its first token.
            for pair in range(2):
                bucket = np.int64(tokens[index]) % BUCKETS
                if pair:
                    if index == start:
                        continue
                    mixed = combine64(np.uint64(tokens[index - 1]), np.uint64(tokens[index]))
                    bucket = np.int64(mixed % np.uint64(BUCKETS))
                count = counts[bucket]
                if count == 0:
                    continue
                counts[bucket] = 0
                square += count * count
                for column in range(frequencies):
                    angle[column] += count * weights[bucket, column]
        start = ends[row]
        scale = np.float32(1) / np.sqrt(max(square, np.float32(1)))
        norm = np.float32(1) / np.sqrt(np.float32(frequencies))
        for column in range(frequencies):
            out[row, column] = np.cos(angle[column] * scale) * norm
            out[row, frequencies + column] = np.sin(angle[column] * scale) * norm
    return out
