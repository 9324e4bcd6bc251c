"""What a stage says to a batch: decisions, counts, rows for the next stage, and which rows of its state it changed."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.messages.decision import Decision
from streamdetect.pipeline.accept.columns import AccountTier, RequestColumns
from streamdetect.pipeline.accounts.observe import DUPLICATE, LATE, REFUSED, Observed, joined_observed
from streamdetect.pipeline.accounts.sharing import Shared, joined_shared


@dataclass(slots=True)
class Counters:
    """What a batch amounted to; added up by whoever shows it."""

    events: int = 0
    duplicates: int = 0
    late: int = 0
    refused: int = 0
    link_rows: int = 0
    late_rows: int = 0
    findings: int = 0
    facts: int = 0
    facts_of_strangers: int = 0
    facts_ignored: int = 0
    without_content: int = 0
    without_address: int = 0
    without_age: int = 0

    def add(self, other: "Counters") -> None:
        """Add another batch's counts to these."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def counts_of(columns: RequestColumns, observed: Observed) -> Counters:
    """What a batch of events amounts to, as far as the accounts stage can tell."""
    fates = np.bincount(observed.fate, minlength=4)
    unknown_age = (columns.account_created_at < 0) & (columns.account_tier == AccountTier.UNKNOWN)
    return Counters(
        events=len(columns),
        duplicates=int(fates[DUPLICATE]),
        late=int(fates[LATE]),
        refused=int(fates[REFUSED]),
        without_content=int(np.count_nonzero(columns.prompt.start < 0)),
        without_address=int(np.count_nonzero(columns.address_family == 0)),
        without_age=int(np.count_nonzero(unknown_age)),
    )


@dataclass(frozen=True, slots=True)
class AccountsOutput:
    """What an accounts node says to a batch. The rows it changed are marked in the state, until an image is taken."""

    decisions: list[Decision]
    counters: Counters
    observed: Observed | None = None
    shared: Shared | None = None


def joined_accounts(before: AccountsOutput, after: AccountsOutput) -> AccountsOutput:
    """What a batch amounts to that was cut in two."""
    before.counters.add(after.counters)
    output = replace(before, decisions=[*before.decisions, *after.decisions])
    if before.observed is None or after.observed is None or before.shared is None or after.shared is None:
        return output
    observed = joined_observed([before.observed, after.observed])
    return replace(output, observed=observed, shared=joined_shared([before.shared, after.shared]))


@dataclass(frozen=True, slots=True)
class AssociationsOutput:
    """What an associations node says to a batch of rows: findings for members, decisions on shared subjects."""

    decisions: list[Decision]
    findings: NDArray[np.void]
    counters: Counters


def joined_associations(before: AssociationsOutput, after: AssociationsOutput, at: int) -> AssociationsOutput:
    """The same for rows; ``at`` is the place in the batch where it was cut."""
    before.counters.add(after.counters)
    after.findings["source_row"] += np.uint32(at)
    return AssociationsOutput(
        [*before.decisions, *after.decisions],
        np.concatenate([before.findings, after.findings]),
        before.counters,
    )
