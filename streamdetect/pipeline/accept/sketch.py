"""Texts become sketches, and only sketches leave this stage.

Sketched is what may give content keys: the first turn of a request that was not refused. System prompts repeat by the
million, so a digest is remembered by a fast hash of the raw bytes; the memory is bounded and changes no result.
"""

from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from streamdetect.kernels.minhash import band_keys, permutations
from streamdetect.kernels.text import SketchProfile, Words, sketch
from streamdetect.pipeline.accept.columns import Kind, Outcome, RequestColumns

PROFILE = SketchProfile(name="sd-mh1")
# Eight bands of three. A prompt that keeps 70 % of its template's shingles has a key of the template in some band with
# probability 1 - (1 - 0.7^3)^8 = 0.97, with 50 % 0.66; two unrelated prompts (12 % in common) meet with 0.01. Every key
# is a row to send and a row to keep, so their number is half of the cost of content. Other values of the
# signature are not computed, for nobody asks for them: a value depends on its own permutation alone.
BANDS, ROWS_PER_BAND = 8, 3
_REMEMBERED_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Sketched:
    """Content of a batch: digests (0 where there is none to share), band keys and which row of them an event has."""

    prompt_digest: NDArray[np.uint64]
    system_digest: NDArray[np.uint64]
    bands: NDArray[np.uint64]
    band_row: NDArray[np.int64]


def _first_permutations(count: int) -> tuple[Words, Words]:
    """Those that give the first ``count`` values of a signature of the profile."""
    factors, addends = permutations(PROFILE)
    return factors[:count], addends[:count]


@dataclass(slots=True)
class Sketcher:
    """The permutations, the gate for short texts, and the remembered digests of system prompts."""

    min_shingles: int
    _permutations: tuple[Words, Words] = field(default_factory=lambda: _first_permutations(BANDS * ROWS_PER_BAND))
    _remembered: dict[int, int] = field(default_factory=dict)

    def sketch(self, columns: RequestColumns) -> Sketched:
        """Sketch the prompts and digest the system prompts that may give content keys."""
        refused = (columns.outcome >= Outcome.RATE_LIMITED) & (columns.outcome <= Outcome.BLOCKED)
        eligible = (columns.kind == Kind.REQUEST) & ~refused & (columns.turn <= 0)
        chosen = np.flatnonzero(eligible & (columns.prompt.start >= 0))
        count = len(columns)
        prompts = sketch(
            columns.texts,
            columns.prompt.start[chosen],
            columns.prompt.end[chosen],
            *self._permutations,
            PROFILE.cap_bytes,
        )
        prompt_digest, band_row = np.zeros(count, np.uint64), np.full(count, -1, np.int64)
        prompt_digest[chosen] = np.where(prompts.shingles >= self.min_shingles, prompts.digest, np.uint64(0))
        band_row[chosen] = np.arange(len(chosen))
        bands = band_keys(prompts.signatures, BANDS, ROWS_PER_BAND)
        return Sketched(prompt_digest, self._system_digests(columns, eligible), bands, band_row)

    def _system_digests(self, columns: RequestColumns, eligible: NDArray[np.bool_]) -> NDArray[np.uint64]:
        digests = np.zeros(len(columns), np.uint64)
        chosen = np.flatnonzero(eligible & (columns.system_prompt.start >= 0))
        if not len(chosen):
            return digests
        view = memoryview(columns.texts)  # type: ignore[arg-type]
        starts, ends = columns.system_prompt.start[chosen], columns.system_prompt.end[chosen]
        raw = [xxhash.xxh3_64_intdigest(view[s:e]) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]
        if len(self._remembered) > _REMEMBERED_MAX:
            self._remembered.clear()
        unknown = [index for index, value in enumerate(raw) if value not in self._remembered]
        if unknown:
            self._remember(columns, starts[unknown], ends[unknown], [raw[index] for index in unknown])
        digests[chosen] = [self._remembered[value] for value in raw]
        return digests

    def _remember(
        self, columns: RequestColumns, starts: NDArray[np.int64], ends: NDArray[np.int64], raw: list[int]
    ) -> None:
        found = sketch(columns.texts, starts, ends, *_first_permutations(0), PROFILE.cap_bytes)
        digests = np.where(found.shingles >= self.min_shingles, found.digest, np.uint64(0)).tolist()
        self._remembered.update(zip(raw, digests, strict=True))
