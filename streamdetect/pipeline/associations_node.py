"""The node that owns typed keys: rows about shared keys in, decisions about them and evidence for their members out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from streamdetect.kernels.index import find
from streamdetect.messages.decision import Decision
from streamdetect.messages.override import Override
from streamdetect.messages.policy import Scope
from streamdetect.pipeline.associations.absorb import Absorbed, Thresholds, absorb, usage_of_key
from streamdetect.pipeline.associations.links import FINDING, Links, cut_links
from streamdetect.pipeline.associations.state import AssociationsState
from streamdetect.pipeline.decisions.judge import Hit
from streamdetect.pipeline.enforcement.decider import Case, Decider
from streamdetect.pipeline.enforcement.records import Newest
from streamdetect.pipeline.enforcement.rulings import SubjectKey, SubjectRecord
from streamdetect.pipeline.enforcement.subjects import SHARED_SCOPES, TYPES_OF_SCOPE, identity_of, subject_of
from streamdetect.pipeline.node import Node, Saved
from streamdetect.pipeline.outputs import (
    AssociationsOutput,
    Counters,
    joined_associations,
)


@dataclass(slots=True)
class AssociationsNode(Node):
    """Associations, decisions and enforcement for the typed keys of one links partition."""

    partitions: int = 1
    adopted: Mapping[SubjectKey, SubjectRecord] = field(default_factory=dict)
    state: AssociationsState = field(default_factory=AssociationsState)
    _thresholds: Thresholds = field(init=False)

    def __post_init__(self) -> None:
        self.decider = Decider(SHARED_SCOPES, self.policy, self.mode, self.partitions, self.adopted)
        self.obey(self.policy, self.mode)

    def _apply_policy(self) -> None:
        model = self.policy.model.associations
        young = [
            getattr(model.suspect_young, name) for name in ("subnet", "org", "api_key", "payment", "template", "system")
        ]
        self._thresholds = Thresholds(np.array(young, np.int64), model.young_per_trusted, model.notify_members_max)
        self.decider.obey(self.policy, self.mode, self.state.table, lambda key: subject_of(self.state, key))

    def links(self, links: Links) -> AssociationsOutput:
        """Take in rows in order."""
        at = self._place_of_coming(links.occurred_at[links.outer_index])
        if at is None:
            return self._links(links)
        before, after = cut_links(links, at)
        first = self._links(before)
        self._go_over()
        return joined_associations(first, self._links(after), at)

    def _links(self, links: Links) -> AssociationsOutput:
        absorbed = absorb(self.state, links, self._thresholds)
        hits: list[tuple[int, Scope, Hit]] = []
        for scope in SHARED_SCOPES:
            hits += self._hits(scope, absorbed, links)
        hits.sort(key=lambda entry: entry[0])  # the scopes share the caps, so the order of rows must decide
        decisions: list[Decision] = []
        for row, _, hit in hits:
            decisions += self._decide(row, hit, absorbed, links)
        counters = Counters(late_rows=absorbed.late, findings=len(absorbed.findings))
        return AssociationsOutput(decisions, absorbed.findings, counters)

    def _saved(self) -> dict[str, Saved]:
        return {"associations": self.state, "key_standings": self.standings}

    def follow(self, decisions: Iterable[Decision]) -> None:
        """Take over what was published about shared subjects after the state was saved."""
        if self.standings.follow(d for d in decisions if d.subject.scope != "account"):
            self.state.table.live["quiet_level"] = 0  # only saves work: judged anew, they find their standing
            self.state.table.dirty[: self.state.table.count] = 1

    def overrides(self, records: Iterable[tuple[str, Override | None]]) -> AssociationsOutput:
        """Take in what people decided, by key and in order; ``None`` takes it back. An allow lifts what is in force."""
        decisions: list[Decision] = []
        for override_key, override in records:
            if (taken := self.decider.people.take(override_key, override)) is None:
                continue
            (subject, before), table = taken, self.state.table
            if (key := int(find(table.slots, table.rows, identity_of(subject)))) >= 0:
                at, usage = int(table.rows[key]["newest"]), usage_of_key(self.state, key)
                decisions += self.decider.heed(Case(subject, table, key, usage, at, at, Newest(None, at)), before)
        return AssociationsOutput(decisions, np.zeros(0, FINDING), Counters())

    def _hits(self, scope: Scope, absorbed: Absorbed, links: Links) -> list[tuple[int, Scope, Hit]]:
        """The rows of one scope that rules hold for."""
        judge = self.decider.judges[scope]
        if not judge.rules:
            return []
        rows = np.flatnonzero(TYPES_OF_SCOPE[scope][links.key_type] & (absorbed.row >= 0))
        table, keys = self.state.table.rows, absorbed.row[rows]
        features, at = absorbed.features[rows], absorbed.newest_at[rows]
        hits = judge.hits(features, at, keys, table["quiet_level"][keys], table["quiet_until_s"][keys])
        return [(int(rows[hit.index]), scope, hit) for hit in hits]

    def _decide(self, row: int, hit: Hit, absorbed: Absorbed, links: Links) -> list[Decision]:
        key, at = int(absorbed.row[row]), int(absorbed.newest_at[row])
        subject = subject_of(self.state, key)
        case = Case(subject, self.state.table, key, absorbed.features[row], at, at, Newest(None, at))
        return self.decider.decide(hit, case, int(links.event[links.outer_index[row]]))
