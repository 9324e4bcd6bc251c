"""Co-share graph: accounts that sent the same exact prompts, and groups of them that hang together.

As in studies of coordinated accounts: an edge for ``texts`` different texts in common within the window, then connected
components; all accounts of a component of ``accounts`` or more are acted on. A text that more than ``popular``
accounts share makes no edges, as these studies weigh such texts down. First turns with at least ``min_shingles``
shingles. The graph is drawn anew every ``redraw_ms``, which is what a batch job of this kind would do at best.

"Exact" is the text's bytes, so one changed number hides a filled template.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from baselines.docket import Docket
from baselines.requests import requests_of
from streamdetect.kernels.hashing import hash_spans
from streamdetect.kernels.minhash import permutations
from streamdetect.kernels.text import SD_MH1, sketch
from streamdetect.messages.decision import Decision, Reason
from streamdetect.pipeline.accept.columns import RequestColumns

_NO_PERMUTATION = tuple(column[:1] for column in permutations(SD_MH1))


def components(pairs: NDArray[np.uint64], *, texts: int, popular: int) -> list[NDArray[np.uint64]]:
    """Groups of accounts that share at least ``texts`` texts pairwise along a path; each of two or more accounts.

    ``pairs`` is ``uint64[n, 2]`` of distinct (text, account). Texts of more than ``popular`` accounts are left out.
    """
    _, text = np.unique(pairs[:, 0], return_inverse=True)
    users = np.bincount(text)
    kept = (users[text] >= 2) & (users[text] <= popular)
    if not kept.any():
        return []
    accounts, account = np.unique(pairs[kept, 1], return_inverse=True)
    _, text = np.unique(text[kept], return_inverse=True)
    used = coo_array((np.ones(len(account), np.int32), (account, text))).tocsr()
    shared = (used @ used.T).tocoo()
    edges = (shared.data >= texts) & (shared.row < shared.col)
    graph = coo_array((np.ones(int(edges.sum()), np.int8), (shared.row[edges], shared.col[edges])), shared.shape)
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group, kind="stable")
    parts = np.split(accounts[order], np.flatnonzero(np.diff(group[order])) + 1)
    return [part for part in parts if len(part) > 1]


@dataclass(slots=True)
class CoShare:
    """Exact prompts in common."""

    docket: Docket
    texts: int
    accounts: int
    popular: int
    window_ms: int
    redraw_ms: int
    min_shingles: int
    _last: dict[tuple[int, int], int] = field(default_factory=dict)  # (text, account) -> newest time
    _drawn_at: int | None = None
    _newest: int = 0

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:
        """Note the texts of a round; draws the graph when it is time."""
        requests = requests_of(columns)
        self.docket.learn(requests)
        prompt = requests.columns.prompt
        rows = np.flatnonzero(requests.first_turn & (prompt.start >= 0))
        starts, ends = prompt.start[rows], prompt.end[rows]
        made = sketch(requests.columns.texts, starts, ends, *_NO_PERMUTATION, SD_MH1.cap_bytes)
        long_enough = made.shingles >= self.min_shingles
        texts = hash_spans(requests.columns.texts, starts, ends, np.uint64(0))[long_enough].tolist()
        rows = rows[long_enough]
        for text, account, at in zip(texts, requests.account[rows].tolist(), requests.at[rows].tolist(), strict=True):
            self._last[text, account] = at
        if len(requests):
            self._newest = max(self._newest, int(requests.at[-1]))
        if self._drawn_at is None:
            self._drawn_at = start_ms
        if start_ms - self._drawn_at < self.redraw_ms:
            return []
        self._drawn_at = start_ms
        return self._draw()

    def finish(self) -> list[Decision]:
        """Draw the graph a last time."""
        return self._draw()

    def _draw(self) -> list[Decision]:
        at = self._newest
        self._last = {pair: last for pair, last in self._last.items() if last > at - self.window_ms}
        if not self._last:
            return []
        pairs = np.array(list(self._last), np.uint64)
        found: list[Decision] = []
        for group in components(pairs, texts=self.texts, popular=self.popular):
            if len(group) >= self.accounts:
                reason = Reason(
                    family="content", signal="co-share.accounts", value=len(group), threshold=self.accounts,
                    window_ms=self.window_ms,
                )  # fmt: skip
                for account in group.tolist():
                    found += self.docket.account(account, at, reason)
        return found
