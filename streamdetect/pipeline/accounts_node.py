"""The node that owns accounts: events, evidence and account records in, rows about shared keys and decisions out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.hashing import hash_spans
from streamdetect.kernels.index import find
from streamdetect.kernels.packed import EVIDENCE, unpack
from streamdetect.messages.account import AccountRecord
from streamdetect.messages.decision import Decision
from streamdetect.messages.override import Override
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.pipeline.accept.sketch import Sketcher
from streamdetect.pipeline.accounts.evidence import take_evidence
from streamdetect.pipeline.accounts.features import WIDTH, usage_of
from streamdetect.pipeline.accounts.observe import observe
from streamdetect.pipeline.accounts.records import account_hash, learn_records
from streamdetect.pipeline.accounts.sharing import share
from streamdetect.pipeline.accounts.state import FACT, AccountsState
from streamdetect.pipeline.decisions.judge import Hit
from streamdetect.pipeline.decisions.schedule import pieces
from streamdetect.pipeline.enforcement.decider import Case, Decider
from streamdetect.pipeline.enforcement.pardons import places_to_cut
from streamdetect.pipeline.enforcement.records import Newest
from streamdetect.pipeline.enforcement.rulings import SubjectKey, SubjectRecord
from streamdetect.pipeline.node import Node, Saved
from streamdetect.pipeline.outputs import (
    AccountsOutput,
    Counters,
    counts_of,
    joined_accounts,
)


@dataclass(slots=True)
class AccountsNode(Node):
    """Accept, accounts, decisions and enforcement for the accounts of one request partition.

    ``links_partitions`` is the number of partitions of the links topic; caps are split over ``partitions``.
    """

    links_partitions: int
    partitions: int = 1
    adopted: Mapping[SubjectKey, SubjectRecord] = field(default_factory=dict)
    state: AccountsState = field(default_factory=AccountsState)
    sketcher: Sketcher = field(init=False)
    _tiers_ms: NDArray[np.int64] = field(init=False)
    _watched: set[int] | None = None

    def __post_init__(self) -> None:
        self.decider = Decider(("account",), self.policy, self.mode, self.partitions, self.adopted)
        self.obey(self.policy, self.mode)

    def _apply_policy(self) -> None:
        self.sketcher = Sketcher(self.policy.model.content.min_shingles)
        bounds = self.policy.tier_bounds
        self._tiers_ms = np.array([bounds.t0_ms, bounds.t1_ms, bounds.t3_ms], np.int64)
        self.decider.obey(self.policy, self.mode, self.state.table, lambda row: ("account", self.state.account_id(row)))

    def events(self, columns: RequestColumns) -> AccountsOutput:
        """Take in events in order."""
        at = self._place_of_coming(columns.occurred_at)
        if at is None:
            return self._events(columns)
        before, after = (columns.take(rows) for rows in pieces(len(columns), at))
        first = self._events(before)
        self._go_over()
        return joined_accounts(first, self._events(after))

    def _events(self, columns: RequestColumns) -> AccountsOutput:
        if not self.state.strangers or not len(columns):
            return self._take_events(columns)
        # What waits for an account is taken in right after the event that makes it known, however the stream was cut.
        ids = columns.account_id
        accounts = hash_spans(columns.identifiers, ids.start, ids.end, np.uint64(0))
        places = (np.flatnonzero(np.isin(accounts, self.state.strangers.accounts)) + 1).tolist()
        borders = pairwise(sorted({0, *places, len(columns)}))
        outputs = [self._take_events(columns.take(np.arange(start, end))) for start, end in borders]
        return reduce(joined_accounts, outputs)

    def _take_events(self, columns: RequestColumns) -> AccountsOutput:
        content = self.sketcher.sketch(columns)
        observed = observe(self.state, columns, content.prompt_digest, content.system_digest, self._tiers_ms)
        shared = share(columns, observed, content.system_digest, content.bands, content.band_row, self.links_partitions)
        counters = counts_of(columns, observed)
        counters.link_rows = len(shared)
        live = np.flatnonzero(observed.row >= 0)
        rows, table = observed.row[live], self.state.table.rows
        hits = self.decider.judges["account"].hits(
            observed.features[live],
            observed.newest_at[live],
            rows,
            table["quiet_level"][rows],
            table["quiet_until_s"][rows],
        )
        decisions: list[Decision] = []
        for hit in hits:
            index = int(live[hit.index])
            at, newest = int(observed.newest_at[index]), _event_of(columns, index)
            case = self._case(int(observed.row[index]), observed.features[index], newest, at=at, windows_at=at)
            decisions += self.decider.decide(hit, case, int(observed.event[index]))
        if observed.new_rows and self.state.strangers:
            late = self.evidence(
                *self.state.strangers.take(table["key"][observed.first_new_row :][: observed.new_rows])
            )
            decisions += late.decisions
        return AccountsOutput(decisions, counters, observed, shared)

    def evidence(self, accounts: NDArray[np.uint64], facts: NDArray[np.void]) -> AccountsOutput:
        """Take in ``FACT[n]`` about ``accounts`` (``uint64[n]``) in order, and judge after each."""
        at = self._place_of_coming(facts["at"])
        if at is None:
            return self._evidence(accounts, facts)
        before, after = ((accounts[rows], facts[rows]) for rows in pieces(len(facts), at))
        first = self._evidence(*before)
        self._go_over()
        return joined_accounts(first, self._evidence(*after))

    def _evidence(self, accounts: NDArray[np.uint64], facts: NDArray[np.void]) -> AccountsOutput:
        trusted = facts["trusted"] > 0
        if not self._pardonable and not trusted.any():
            return self._take_facts(accounts, facts)
        places = places_to_cut(accounts.tolist(), trusted.tolist(), self._pardonable)
        borders = pairwise([0, *places, len(facts)])
        outputs = [self._take_facts(accounts[start:end], facts[start:end]) for start, end in borders]
        return reduce(joined_accounts, outputs)

    @property
    def _pardonable(self) -> set[int]:
        """Hashes of the accounts whose facts are looked at, because they were pardoned or allowed."""
        if self._watched is None:
            subjects = (*self.standings.pardoned(), *self.decider.people.allowed)
            self._watched = {int(account_hash(value)) for _, value in subjects}
        return self._watched

    def _take_facts(self, accounts: NDArray[np.uint64], facts: NDArray[np.void]) -> AccountsOutput:
        touched, features, ignored = take_evidence(self.state, accounts, facts, self._tiers_ms, WIDTH)
        known = np.flatnonzero(touched >= 0)
        if len(known) < len(touched):
            self.state.strangers.keep(accounts[touched < 0], facts[touched < 0])
        counters = Counters(facts=len(accounts), facts_of_strangers=len(accounts) - len(known), facts_ignored=ignored)
        decisions = self._judge_facts(touched[known], features[known], facts[known])
        return AccountsOutput(decisions, counters)

    def records(self, records: Sequence[tuple[str, AccountRecord | None]]) -> AccountsOutput:
        """Take in what the provider says of accounts; ``None`` takes it back."""
        learn_records(self.state, records)
        if not self.state.strangers:
            return AccountsOutput([], Counters())
        accounts = np.unique(np.array([account_hash(account_id) for account_id, _ in records], np.uint64))
        return self.evidence(*self.state.strangers.take(accounts))

    def overrides(self, records: Iterable[tuple[str, Override | None]]) -> AccountsOutput:
        """Take in what people decided, by key and in order; ``None`` takes it back. An allow lifts what is in force."""
        decisions: list[Decision] = []
        for key, override in records:
            taken = self.decider.people.take(key, override)
            if taken is not None and (row := self._row(taken[0])) >= 0:
                newest = Newest(*self.state.newest_event(row))
                usage = usage_of(self.state.activity_of(row))
                at = newest.event_at or 0
                decisions += self.decider.heed(self._case(row, usage, newest, at=at, windows_at=at), taken[1])
        self._watched = None
        return AccountsOutput(decisions, Counters())

    def _row(self, subject: SubjectKey) -> int:
        return int(find(self.state.table.slots, self.state.table.rows, account_hash(subject[1])))

    def _saved(self) -> dict[str, Saved]:
        return {"accounts": self.state, "account_standings": self.standings}

    def follow(self, decisions: Iterable[Decision]) -> None:
        """Take over what was published about accounts after the state was saved."""
        for subject in self.standings.follow(d for d in decisions if d.subject.scope == "account"):
            if (row := self._row(subject)) >= 0:
                self.standings.note_quiet(self.state.table, row, subject)

    def _judge_facts(
        self, rows: NDArray[np.int64], features: NDArray[np.int64], facts: NDArray[np.void]
    ) -> list[Decision]:
        """Judge after each fact; a fact that a trusted user speaks in may also lift what is in force."""
        table = self.state.table.rows
        at = np.maximum(table["newest"][rows], facts["at"])
        cleared = facts["trusted"] > 0
        # A release makes an account hittable again within the batch, so quiet accounts that may be released are judged.
        quiet_level = np.where(np.isin(rows, rows[cleared])[:, None], np.uint8(0), table["quiet_level"][rows])
        by_index: dict[int, list[Hit]] = {}
        for hit in self.decider.judges["account"].hits(features, at, rows, quiet_level, table["quiet_until_s"][rows]):
            by_index.setdefault(hit.index, []).append(hit)
        decisions: list[Decision] = []
        for index in sorted(by_index.keys() | set(np.flatnonzero(cleared).tolist())):
            row = int(rows[index])
            newest = Newest(*self.state.newest_event(row))
            case = self._case(row, features[index], newest, at=int(at[index]), windows_at=newest.event_at or 0)
            for hit in by_index.get(index, ()):
                decisions += self.decider.decide(hit, case, int(facts["event"][index]))
            if cleared[index]:
                decisions += self.decider.clear(case)
                if self._watched is not None and self.standings.pardon_of(case.subject):
                    self._watched.add(int(case.table.rows["key"][case.row]))
        return decisions

    def _case(self, row: int, features: NDArray[np.int64], newest: Newest, *, at: int, windows_at: int) -> Case:
        ledger = int(self.state.table.rows[row]["ledger"])
        facts = self.state.ledgers[ledger] if ledger >= 0 else None
        subject: SubjectKey = ("account", self.state.account_id(row))
        return Case(subject, self.state.table, row, features, at, windows_at, newest, facts)


def _event_of(columns: RequestColumns, index: int) -> Newest:
    start, end = int(columns.event_id.start[index]), int(columns.event_id.end[index])
    return Newest(columns.identifiers[start:end].tobytes().decode(), int(columns.occurred_at[index]))


def facts_of(data: bytes) -> tuple[NDArray[np.uint64], NDArray[np.void], int, NDArray[np.int64], NDArray[np.int64]]:
    """Read a packed ``EVIDENCE`` record: accounts, ``FACT[n]``, source partition, source offsets and rows."""
    record = unpack(EVIDENCE, data)
    columns = record.columns
    facts = np.zeros(record.inner_count, FACT)
    facts["at"] = columns["occurred_at"]
    for name in ("key", "event", "young", "trusted", "members", "family"):
        facts[name] = columns[name]
    return (
        columns["account"],  # type: ignore[return-value]
        facts,
        record.source_partition,
        columns["source_offset"],  # type: ignore[return-value]
        columns["source_row"].astype(np.int64),
    )
