"""What a subject is not hit for again: the evidence against it when a person allowed it, or when trust spoke for it.

Of counts over windows, what the windows held then is taken off until it has left them, so that only what came since
counts. A fact about a shared thing that was known then says nothing, unless by now twice as many young accounts stand
behind it. What speaks *for* a subject, such as trusted users, counts as ever. A pardon only ever prevents hits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdetect.pipeline.accounts.evidence import read_ledger
from streamdetect.pipeline.accounts.features import EVIDENCE_COLUMN, FAMILIES
from streamdetect.pipeline.decisions.features import catalogue_of

FACTS_MAX: Final = 32
GROWN: Final = 2  # a fact counts again when more than so many times as many young accounts stand behind it

FactKey = tuple[int, int]  # family, key


@dataclass(frozen=True, slots=True)
class Pardon:
    """``counts`` are the counted columns as of event time ``at`` (ms); ``facts`` are (family, key, young accounts)."""

    at: int = 0
    counts: tuple[int, ...] = ()
    facts: tuple[tuple[int, int, int], ...] = ()

    def with_counts(self, features: NDArray[np.int64], at: int, scope: str) -> "Pardon":
        """Also for what the windows held, read at ``at``; a later time takes the place of an earlier one."""
        if self.counts and at < self.at:
            return self
        columns, _ = _COUNTED[scope == "account"]
        return replace(self, at=at, counts=tuple(features[columns].tolist()))

    def with_facts(self, facts: Iterable[tuple[int, int, int]]) -> "Pardon":
        """Also for these facts; of too many the oldest go."""
        kept = {(family, key): young for family, key, young in self.facts}
        for family, key, young in facts:
            kept[family, key] = max(young, kept.pop((family, key), 0))
        return replace(self, facts=tuple((*fact, young) for fact, young in kept.items())[-FACTS_MAX:])

    def left_of(
        self, features: NDArray[np.int64], ledger: NDArray[np.void] | None, scope: str, *, at: int, windows_at: int
    ) -> NDArray[np.int64]:
        """A copy of a row of features, less what was pardoned of it.

        ``windows_at`` is the event time its windows were read at, ``at`` the one its facts were.
        """
        left = features.copy()
        if self.counts:
            columns, windows = _COUNTED[scope == "account"]
            inside = np.where(windows_at < self.at + windows, np.array(self.counts, np.int64), 0)
            left[columns] = np.maximum(left[columns] - inside, 0)
        if self.facts and ledger is not None:
            self._ignore_facts(left, ledger, at)
        return left

    def _ignore_facts(self, features: NDArray[np.int64], ledger: NDArray[np.void], at: int) -> None:
        """Write the evidence columns of a row anew, as if the ledger did not hold what was pardoned."""
        pardoned = {(family, key): young for family, key, young in self.facts}
        left = ledger.copy()
        for fact in left:
            known = pardoned.get((int(fact["family"]), int(fact["key"])))
            if known is not None and int(fact["young"]) <= GROWN * known:
                fact["at"] = 0
        features[EVIDENCE_COLUMN : EVIDENCE_COLUMN + 3 * FAMILIES] = 0
        read_ledger(left, at, features)


def facts_in(ledger: NDArray[np.void], voided: frozenset[int] | None = None) -> list[tuple[int, int, int]]:
    """(family, key, young accounts) of the facts in a ledger; with ``voided`` of those in which trusted users speak.

    ``voided`` are the families in which they have a say.
    """
    chosen = ledger[ledger["at"] > 0]
    if voided is not None:
        chosen = chosen[(chosen["trusted"] > 0) & np.isin(chosen["family"], list(voided))]
    return [(int(fact["family"]), int(fact["key"]), int(fact["young"])) for fact in chosen]


def places_to_cut(accounts: Sequence[int], trusted: Sequence[bool], watched: set[int]) -> list[int]:
    """Where facts must be taken in apart, so that each look at a ledger sees it as it was right after its fact.

    Looked at are the ledgers of ``watched`` accounts and of those that a trusted fact is about. Where an account whose
    ledger was looked at comes up again, the batch is cut.
    """
    looked: set[int] = set()
    speaking: set[int] = set()
    places = []
    for index, account in enumerate(accounts):
        if account in looked:
            places.append(index)
            looked.clear()
        if trusted[index]:
            speaking.add(account)
        if account in watched or account in speaking:
            looked.add(account)
    return places


def _counted(scope: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns of the counts that weigh against a subject, and their windows in ms."""
    names = ("requests_", "accounts_", "young_accounts_")
    own = scope == "account"
    found = [
        (column, feature.window_ms)
        for column, feature in enumerate(catalogue_of(scope))
        if feature.window_ms is not None and (column < EVIDENCE_COLUMN if own else feature.name.startswith(names))
    ]
    columns, windows = zip(*found, strict=True)
    return np.array(columns, np.int64), np.array(windows, np.int64)


_COUNTED: Final = {True: _counted("account"), False: _counted("subnet")}
