"""Pair MinHash-LSH on whole prompts: near-duplicate search as for web pages and training data, over accounts.

Two prompts are a pair when they meet in a band of datasketch's ``MinHashLSH`` at the given threshold; an account is
acted on when its prompts pair with those of ``accounts`` others within the window. Candidates are not compared again,
as in the usual ``lsh.query``, so the threshold is soft. First turns only, and prompts of at least ``min_shingles``
shingles: without that gate every greeting pairs.

Signatures are the product's kernel's, which are datasketch's bit for bit; number and size of bands are datasketch's.
The index is ``meeting`` (6 us a prompt at 0.5) instead of ``MinHashLSH`` (165 us: wrapping 23, query 40, insert 78,
remove 24, measured on 20,000 prompts). Tests hold the candidates equal to ``MinHashLSH``'s.
"""

from dataclasses import dataclass, field

import numpy as np
from datasketch import MinHashLSH
from numpy.typing import NDArray

from baselines.acquaintances import Acquaintances
from baselines.docket import Docket
from baselines.meeting import Meetings
from baselines.requests import requests_of
from streamdetect.kernels.hashing import Hashes
from streamdetect.kernels.minhash import band_keys, permutations
from streamdetect.kernels.text import SD_MH1, sketch
from streamdetect.messages.decision import Decision, Reason
from streamdetect.pipeline.accept.columns import RequestColumns


def bands_of(threshold: float) -> tuple[int, int]:
    """Number of bands and rows a band, as datasketch chooses them for a threshold.

    >>> bands_of(0.5), bands_of(0.7)
    ((25, 5), (14, 9))
    """
    index = MinHashLSH(threshold=threshold, num_perm=SD_MH1.num_perm)
    return index.b, index.r


@dataclass(slots=True)
class PairLsh:
    """Near-duplicate prompts of different accounts."""

    docket: Docket
    threshold: float
    accounts: int
    window_ms: int
    min_shingles: int
    _meetings: Meetings = field(init=False)
    _met: Acquaintances = field(init=False)
    _bands: tuple[int, int] = field(init=False)
    _permutations: tuple[NDArray[np.uint32], NDArray[np.uint32]] = field(default_factory=lambda: permutations(SD_MH1))

    def __post_init__(self) -> None:
        self._bands = bands_of(self.threshold)
        self._meetings = Meetings(self.window_ms, self.accounts)
        self._met = Acquaintances(self.window_ms, self.accounts)

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Pair the prompts of a round with those before."""
        requests = requests_of(columns)
        self.docket.learn(requests)
        rows = np.flatnonzero(requests.first_turn & (requests.columns.prompt.start >= 0))
        keys, long_enough = self._keys(requests.columns, rows)
        rows = rows[long_enough]
        visits, others = self._meetings.visit(keys[long_enough], requests.account[rows], requests.at[rows])
        found: list[Decision] = []
        for visit, other in zip(visits.tolist(), others.tolist(), strict=True):
            at = int(requests.at[rows[visit]])
            for account in self._met.meet(int(requests.account[rows[visit]]), other, at):
                if not self.docket.quiet(account, at):
                    found += self.docket.account(account, at, self._reason())
        return found

    def finish(self) -> list[Decision]:
        """Nothing waits."""
        return []

    def _keys(self, columns: RequestColumns, rows: NDArray[np.int64]) -> tuple[Hashes, NDArray[np.bool_]]:
        prompt = columns.prompt
        made = sketch(columns.texts, prompt.start[rows], prompt.end[rows], *self._permutations, SD_MH1.cap_bytes)
        return band_keys(made.signatures, *self._bands), made.shingles >= self.min_shingles

    def _reason(self) -> Reason:
        return Reason(
            family="content", signal="pair-lsh.accounts", value=self.accounts, threshold=self.accounts,
            window_ms=self.window_ms,
        )  # fmt: skip
