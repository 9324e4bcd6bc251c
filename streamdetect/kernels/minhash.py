"""What is done with MinHash signatures: permutations, band keys for an index, estimates, and datasketch objects.

A signature is a row of ``uint32`` of the "affine32" scheme of datasketch 2.0. Two signatures can be compared only if
they have the same profile. datasketch itself is imported only where one of its objects is asked for: it brings SciPy,
and building one of its objects costs more than sketching ten prompts.
"""

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from streamdetect.kernels.hashing import Hashes, fmix64
from streamdetect.kernels.text import SketchProfile, Words

if TYPE_CHECKING:
    from datasketch import MinHash

_BAND_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SCHEME = "affine32"


def permutations(profile: SketchProfile) -> tuple[Words, Words]:
    """Factors (odd) and addends of a profile, each ``uint32[num_perm]``, drawn exactly as datasketch draws them.

    ``ValueError`` for a scheme other than "affine32".
    """
    if profile.scheme != _SCHEME:
        raise ValueError(f"scheme {profile.scheme!r} of profile {profile.name!r} is not {_SCHEME!r}")
    # The legacy generator on purpose: its stream is frozen, and datasketch uses it.
    generator = np.random.RandomState(profile.seed)
    factors = generator.randint(0, 1 << 31, profile.num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    addends = generator.randint(0, 1 << 32, profile.num_perm, dtype=np.uint32)
    return factors, addends


def band_keys(signatures: Words, bands: int, rows: int) -> Hashes:
    """Keys ``uint64[n, bands]`` of ``rows`` consecutive slots each, from ``uint32[n, num_perm]``; never 0.

    Rows share the key of a band exactly if they are equal there (but for 64-bit accidents), and never across bands.
    ``ValueError`` if the signatures are too short.
    """
    if bands < 1 or rows < 1 or bands * rows > signatures.shape[1]:
        raise ValueError(f"{bands} bands of {rows} rows do not fit into {signatures.shape[1]} slots")
    keys: Hashes = _band_keys(signatures, bands, rows)
    return keys


@njit(cache=True, nogil=True)
def _band_keys(signatures: Words, bands: int, rows: int) -> Hashes:
    keys = np.empty((len(signatures), bands), np.uint64)
    for row in range(len(signatures)):
        for band in range(bands):
            state = np.uint64(band + 1) * _BAND_FACTOR
            for slot in range(band * rows, band * rows + rows):
                state = (state ^ np.uint64(signatures[row, slot])) * _BAND_FACTOR
                state ^= state >> np.uint64(32)
            keys[row, band] = max(fmix64(state), np.uint64(1))
    return keys


@njit(cache=True, nogil=True)
def estimate_jaccard(first: Words, second: Words) -> float:
    """Share of equal slots of two signatures of one profile: estimates J with a deviation of sqrt(J(1-J)/num_perm).

    Two empty signatures give 1.0; callers leave texts without shingles out beforehand.
    """
    equal = 0
    for slot in range(min(len(first), len(second))):
        equal += first[slot] == second[slot]
    return equal / max(len(first), len(second), 1)


def to_datasketch(signature: Words, profile: SketchProfile) -> "MinHash":
    """The signature as a ``datasketch.MinHash``, for reports and exports: about 10 us, and seconds at first use.

    Its ``hashfunc`` is the identity: what updates it must be 32-bit shingle hashes of the profile.
    """
    from datasketch import MinHash  # noqa: PLC0415 - slow to import, and needed off the hot path only

    if len(signature) != profile.num_perm:
        raise ValueError(f"{len(signature)} slots, but profile {profile.name!r} has {profile.num_perm}")
    return MinHash(
        seed=profile.seed,
        hashfunc=_identity,
        hashvalues=signature,
        permutations=permutations(profile),
        scheme=_SCHEME,
    )


def _identity(value: int) -> int:
    return value
