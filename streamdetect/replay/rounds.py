"""History in rounds: the nodes of the live worker, called slot by slot of event time.

Within a round all events go through accounts and associations; the evidence they cause takes effect at the start of the
next. Batches never cross a round, and everything that could come from several partitions is put into one order first,
so neither the batch size nor the number of partitions shows in the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.hashing import hash_spans
from streamdetect.kernels.spans import joined
from streamdetect.messages.decision import Decision, Mode
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.pipeline.accounts.sharing import Shared, name_spans
from streamdetect.pipeline.accounts.state import FACT
from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.associations.links import FINDING, Links, joined_links
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.outputs import Counters

_LEAST_EMPTY = np.zeros(0, FINDING)


@dataclass(slots=True)
class Rounds:
    """All nodes of a detector in one process. ``partitions`` is how many of each there are."""

    policy: CompiledPolicy
    mode: Mode = "live"
    partitions: int = 1
    batch_events: int = 500
    counters: Counters = field(default_factory=Counters)
    accounts: list[AccountsNode] = field(init=False)
    associations: list[AssociationsNode] = field(init=False)
    _findings: NDArray[np.void] = field(default_factory=lambda: _LEAST_EMPTY)

    def __post_init__(self) -> None:
        count = self.partitions
        self.accounts = [AccountsNode(self.policy, self.mode, count, count) for _ in range(count)]
        self.associations = [AssociationsNode(self.policy, self.mode, count) for _ in range(count)]

    def round(self, columns: RequestColumns, start_ms: int) -> list[Decision]:  # noqa: ARG002  # nothing goes by clock
        """Process ordered events as one round and return its decisions in order of issue."""
        decisions = self._apply_findings()
        found = []
        for first in range(0, len(columns), self.batch_events):
            batch_decisions, batch_found = self._batch(columns.between(first, first + self.batch_events))
            decisions += batch_decisions
            found += batch_found
        self._findings = np.concatenate(found) if found else _LEAST_EMPTY
        return sorted(decisions, key=_issue_order)

    def finish(self) -> list[Decision]:
        """Let the evidence of the last round take effect."""
        return sorted(self._apply_findings(), key=_issue_order)

    def _apply_findings(self) -> list[Decision]:
        findings, self._findings = self._findings, _LEAST_EMPTY
        if not len(findings):
            return []
        findings = findings[np.lexsort((findings["account"], findings["key"], findings["event"], findings["at"]))]
        decisions = []
        for number, node in enumerate(self.accounts):
            mine = findings[findings["partition"] == number]
            if not len(mine):
                continue
            facts = np.zeros(len(mine), FACT)
            for name in ("key", "at", "event", "young", "trusted", "members", "family"):
                facts[name] = mine[name]
            output = node.evidence(np.ascontiguousarray(mine["account"]), facts)
            self.counters.add(output.counters)
            decisions += output.decisions
        return decisions

    def _batch(self, columns: RequestColumns) -> tuple[list[Decision], list[NDArray[np.void]]]:
        decisions: list[Decision] = []
        parts: list[tuple[NDArray[np.int64], RequestColumns, Links, NDArray[np.int64]]] = []
        for number, rows, mine in self._homes(columns):
            node = self.accounts[number]
            output = node.events(mine)
            self.counters.add(output.counters)
            decisions += output.decisions
            assert output.shared is not None
            assert output.observed is not None
            links = links_of(output.shared, mine, output.observed.account, output.observed.event, number)
            parts.append((rows, mine, links, output.shared.owner))
        findings = []
        merged, owner = _merged(parts)
        for number, keys in enumerate(self.associations):
            chosen = np.flatnonzero(owner == number)
            if len(chosen):
                answer = keys.links(merged if self.partitions == 1 else _rows_of(merged, chosen))
                self.counters.add(answer.counters)
                decisions += answer.decisions
                findings.append(answer.findings)
        return decisions, findings

    def _homes(self, columns: RequestColumns) -> Iterator[tuple[int, NDArray[np.int64], RequestColumns]]:
        """The account partitions that have events here: their number, the rows of the events, the events."""
        if self.partitions == 1:
            yield 0, np.arange(len(columns)), columns
            return
        ids = columns.account_id
        home = hash_spans(columns.identifiers, ids.start, ids.end, np.uint64(0)) % np.uint64(self.partitions)
        for number in range(self.partitions):
            rows = np.flatnonzero(home == number)
            if len(rows):
                yield number, rows, columns.take(rows)


def links_of(
    shared: Shared, columns: RequestColumns, account: NDArray[np.uint64], event: NDArray[np.uint64], source: int
) -> Links:
    """The rows of a batch as an associations node takes them, without packing."""
    starts, lengths = name_spans(shared, columns)
    names = joined(columns.identifiers, starts, starts + lengths).tobytes()
    return Links(
        source=np.full(len(columns), source, np.uint16),
        occurred_at=columns.occurred_at,
        account=account,
        member=shared.member,
        event=event,
        member_kind=shared.member_kind,
        outer_index=shared.event.astype(np.uint32),
        key_type=shared.key_type,
        key=shared.key,
        name_length=lengths,
        names=names,
    )


def _rows_of(links: Links, rows: NDArray[np.int64]) -> Links:
    """Some rows of ``links``, in order; event columns are kept whole."""
    ends = np.cumsum(links.name_length)
    chosen = links.name_length[rows]
    named = rows[chosen > 0]
    names = b"".join(links.names[ends[row] - links.name_length[row] : ends[row]] for row in named.tolist())
    return Links(
        links.source, links.occurred_at, links.account, links.member, links.event, links.member_kind,
        links.outer_index[rows], links.key_type[rows], links.key[rows], chosen, names,
    )  # fmt: skip


def _merged(
    parts: list[tuple[NDArray[np.int64], RequestColumns, Links, NDArray[np.int64]]],
) -> tuple[Links, NDArray[np.int64]]:
    """The rows of all account partitions in the order of their events, and the owner of each."""
    if len(parts) == 1:
        return parts[0][2], parts[0][3]
    position = np.concatenate([rows[links.outer_index] for rows, _, links, _ in parts])
    order = np.argsort(position, kind="stable")
    joined = joined_links([links for _, _, links, _ in parts])
    owner = np.concatenate([owners for *_, owners in parts])
    return _rows_of(joined, order), owner[order]


def _issue_order(decision: Decision) -> tuple[int, str, str, int]:
    return decision.issued_at, decision.subject.scope, decision.subject.value, decision.revision
