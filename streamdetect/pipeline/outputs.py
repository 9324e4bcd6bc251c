"""What a stage says to a batch: decisions, counts, rows for the next stage, and which rows of its state it changed."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.messages.decision import Decision
from streamdetect.pipeline.accounts.observe import Observed, joined_observed
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


@dataclass(frozen=True, slots=True)
class AccountsOutput:
    """What an accounts node says to a batch. ``dirty`` lists the account rows it changed."""

    decisions: list[Decision]
    counters: Counters
    dirty: NDArray[np.int64]
    observed: Observed | None = None
    shared: Shared | None = None


def joined_accounts(before: AccountsOutput, changed: NDArray[np.int64], after: AccountsOutput) -> AccountsOutput:
    """What a batch amounts to that a change of policy cut in two; ``changed`` lists the rows of the change itself."""
    before.counters.add(after.counters)
    dirty = np.unique(np.concatenate([before.dirty, changed, after.dirty]))
    output = replace(before, decisions=[*before.decisions, *after.decisions], dirty=dirty)
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
    dirty: NDArray[np.int64]


def joined_associations(
    before: AssociationsOutput, changed: NDArray[np.int64], after: AssociationsOutput, at: int
) -> AssociationsOutput:
    """The same for rows; ``at`` is the place in the batch where it was cut."""
    before.counters.add(after.counters)
    after.findings["source_row"] += np.uint32(at)
    return AssociationsOutput(
        [*before.decisions, *after.decisions],
        np.concatenate([before.findings, after.findings]),
        before.counters,
        np.unique(np.concatenate([before.dirty, changed, after.dirty])),
    )
