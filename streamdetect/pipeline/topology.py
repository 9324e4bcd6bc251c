"""The stages as data, and the two nodes that run them: one owns accounts, one owns typed keys.

Live, a node serves one partition and packed records travel between nodes on Kafka. In replay the same nodes are called
in rounds. A node is a function of its ordered input: cutting it into batches differently changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.images import Image, StageImage
from streamdetect.kernels.index import find
from streamdetect.kernels.packed import EVIDENCE, unpack
from streamdetect.messages.account import AccountRecord
from streamdetect.messages.decision import Decision, Mode
from streamdetect.messages.policy import Scope
from streamdetect.pipeline.accept.columns import AccountTier, RequestColumns
from streamdetect.pipeline.accept.sketch import Sketcher
from streamdetect.pipeline.accounts.evidence import take_evidence
from streamdetect.pipeline.accounts.features import TIER_COLUMN, WIDTH
from streamdetect.pipeline.accounts.observe import DUPLICATE, LATE, REFUSED, Observed, observe
from streamdetect.pipeline.accounts.records import account_hash, learn_records
from streamdetect.pipeline.accounts.sharing import KeyType, share
from streamdetect.pipeline.accounts.state import FACT, AccountsState
from streamdetect.pipeline.accounts.tiers import TrustTier
from streamdetect.pipeline.associations.absorb import Absorbed, Thresholds, absorb
from streamdetect.pipeline.associations.links import Links, cut_links
from streamdetect.pipeline.associations.state import AssociationsState
from streamdetect.pipeline.decisions.judge import LIVE, SIMULATED, Hit, Judge
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.decisions.schedule import Coming, coming, pieces
from streamdetect.pipeline.enforcement.records import Newest, subnet_text, word
from streamdetect.pipeline.enforcement.standing import (
    Ruling,
    Standings,
    SubjectKey,
    SubjectRecord,
    level_max_of,
    quieted,
)
from streamdetect.pipeline.outputs import (
    AccountsOutput,
    AssociationsOutput,
    Counters,
    joined_accounts,
    joined_associations,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the way of an event."""

    name: str
    keyed_by: str
    keeps: str
    gives: str


STAGES = (
    Stage("accept", "-", "watermark, digests of system prompts", "columns, sketches, dead letters"),
    Stage("accounts", "account", "windows, tier, subnets, repeats, evidence ledger", "rows about shared things"),
    Stage("associations", "typed key", "windows, members by class", "evidence for members"),
    Stage("decisions", "the subject", "caps", "hits of rules"),
    Stage("enforcement", "the subject", "standings, revisions", "decisions, what is in force"),
)


def describe() -> str:
    """The stages as a table, in the order an event passes them."""
    rows = [("stage", "keyed by", "keeps", "gives"), *((s.name, s.keyed_by, s.keeps, s.gives) for s in STAGES)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


@dataclass(slots=True)
class AccountsNode:
    """Accept, accounts, decisions and enforcement for the accounts of one request partition.

    ``links_partitions`` is the number of partitions of the links topic; caps are split over ``partitions``. ``policy``
    and ``mode`` are those in effect; ``coming`` takes effect at the first row of its time.
    """

    policy: CompiledPolicy
    mode: Mode
    links_partitions: int
    partitions: int = 1
    adopted: Mapping[SubjectKey, SubjectRecord] = field(default_factory=dict)
    state: AccountsState = field(default_factory=AccountsState)
    coming: Coming | None = None
    sketcher: Sketcher = field(init=False)
    standings: Standings = field(init=False)
    _judge: Judge = field(init=False)
    _tiers_ms: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.standings = Standings(self.policy, self.partitions, adopted=self.adopted)
        self.obey(self.policy, self.mode)

    def schedule(self, policy: CompiledPolicy, mode: Mode) -> None:
        """Go over to another policy at the first row at or after its ``effective_at``; replaces one that waits."""
        self.coming = coming(policy, mode, self.policy, self.mode)

    def obey(self, policy: CompiledPolicy, mode: Mode) -> NDArray[np.int64]:
        """Go over to a policy with the next row; all that is known and in force stays. Returns the rows it changed."""
        quiet_stays = policy.model.ladder.renew_fraction == self.policy.model.ladder.renew_fraction
        self.policy, self.mode, self.coming = policy, mode, None
        self.sketcher = Sketcher(policy.model.content.min_shingles)
        self.standings.obey(policy)
        self._judge = Judge(policy, "account", mode)
        bounds = policy.tier_bounds
        self._tiers_ms = np.array([bounds.t0_ms, bounds.t1_ms, bounds.t3_ms], np.int64)
        rows = quieted(self.state.table.live, skip=quiet_stays)
        for row in rows.tolist():
            self.standings.note_quiet(self.state.table.rows[row], ("account", self.state.account_id(row)))
        return rows

    def events(self, columns: RequestColumns) -> AccountsOutput:
        """Take in events in order."""
        at = self.coming.place(columns.occurred_at) if self.coming else None
        if at is None:
            return self._events(columns)
        before, after = (columns.take(rows) for rows in pieces(len(columns), at))
        return joined_accounts(self._events(before), self._go_over(), self._events(after))

    def _go_over(self) -> NDArray[np.int64]:
        assert self.coming is not None
        return self.obey(self.coming.policy, self.coming.mode)

    def _events(self, columns: RequestColumns) -> AccountsOutput:
        content = self.sketcher.sketch(columns)
        observed = observe(self.state, columns, content.prompt_digest, content.system_digest, self._tiers_ms)
        shared = share(columns, observed, content.system_digest, content.bands, content.band_row, self.links_partitions)
        counters = _count(columns, observed)
        counters.link_rows = len(shared)
        live = np.flatnonzero(observed.row >= 0)
        rows, table = observed.row[live], self.state.table.rows
        hits = self._judge.hits(
            observed.features[live], observed.newest_at[live], table["quiet_level"][rows], table["quiet_until"][rows]
        )
        decisions: list[Decision] = []
        for hit in hits:
            index = int(live[hit.index])
            newest = _event_of(columns, index)
            decisions += self._decide(
                hit, int(observed.row[index]), observed.features[index], at=int(observed.newest_at[index]),
                trigger=int(observed.event[index]), newest=newest,
            )  # fmt: skip
        if observed.new_rows and self.state.strangers:
            late = self.evidence(
                *self.state.strangers.take(table["key"][observed.first_new_row :][: observed.new_rows])
            )
            decisions += late.decisions
        return AccountsOutput(decisions, counters, np.unique(rows), observed, shared)

    def evidence(self, accounts: NDArray[np.uint64], facts: NDArray[np.void]) -> AccountsOutput:
        """Take in ``FACT[n]`` about ``accounts`` (``uint64[n]``) in order, and judge after each."""
        at = self.coming.place(facts["at"]) if self.coming else None
        if at is None:
            return self._evidence(accounts, facts)
        before, after = ((accounts[rows], facts[rows]) for rows in pieces(len(facts), at))
        return joined_accounts(self._evidence(*before), self._go_over(), self._evidence(*after))

    def _evidence(self, accounts: NDArray[np.uint64], facts: NDArray[np.void]) -> AccountsOutput:
        touched, features, ignored = take_evidence(self.state, accounts, facts, self._tiers_ms, WIDTH)
        known = np.flatnonzero(touched >= 0)
        if len(known) < len(touched):
            self.state.strangers.keep(accounts[touched < 0], facts[touched < 0])
        counters = Counters(facts=len(accounts), facts_of_strangers=len(accounts) - len(known), facts_ignored=ignored)
        decisions = self._judge_facts(touched[known], features[known], facts[known])
        return AccountsOutput(decisions, counters, np.unique(touched[known]))

    def records(self, records: Sequence[tuple[str, AccountRecord | None]]) -> AccountsOutput:
        """Take in what the provider says of accounts; ``None`` takes it back."""
        dirty = learn_records(self.state, records)
        return AccountsOutput([], Counters(), dirty)

    def capture(self, stripe: int) -> dict[str, StageImage]:
        """What is due for an image."""
        return {"accounts": self.state.capture(stripe), "account_standings": self.standings.capture(stripe)}

    def restore(self, images: Sequence[Image]) -> None:
        """Become what images in order say; before the first event."""
        self.state.restore([image.stages["accounts"] for image in images])
        self.standings.restore([image.stages["account_standings"] for image in images])

    def follow(self, decisions: Iterable[Decision]) -> None:
        """Take over what was published about accounts after the state was saved."""
        for subject in self.standings.follow(d for d in decisions if d.subject.scope == "account"):
            row = int(find(self.state.table.slots, self.state.table.rows, account_hash(subject[1])))
            if row >= 0:
                self.standings.note_quiet(self.state.table.rows[row], subject)

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
        for hit in self._judge.hits(features, at, quiet_level, table["quiet_until"][rows]):
            by_index.setdefault(hit.index, []).append(hit)
        decisions: list[Decision] = []
        for index in sorted(by_index.keys() | set(np.flatnonzero(cleared).tolist())):
            row, when = int(rows[index]), int(at[index])
            newest = Newest(*self.state.newest_event(row))
            trigger = int(facts["event"][index])
            for hit in by_index.get(index, ()):
                decisions += self._decide(hit, row, features[index], at=when, trigger=trigger, newest=newest)
            if cleared[index]:
                decisions += self._release(row, features[index], when, newest)
        return decisions

    def _decide(
        self, hit: Hit, row: int, features: NDArray[np.int64], *, at: int, trigger: int, newest: Newest
    ) -> list[Decision]:
        subject: SubjectKey = ("account", self.state.account_id(row))
        level_max = level_max_of(features[TIER_COLUMN] == TrustTier.UNKNOWN, self.policy)
        ruling = self.standings.hit(subject, hit, at=at, trigger=trigger, level_max=level_max)
        return self._worded(row, ruling, features, newest)

    def _release(self, row: int, features: NDArray[np.int64], at: int, newest: Newest) -> list[Decision]:
        """Lift what rested on shared keys, once the rule behind it holds no longer."""
        subject: SubjectKey = ("account", self.state.account_id(row))
        decisions: list[Decision] = []
        for track in (LIVE, SIMULATED):
            standing = self.standings.in_force(subject, track, at)
            if standing is None or not self._judge.rests_on_evidence(standing.rule_id):
                continue
            if not self._judge.still_holds(standing.rule_id, features):
                decisions += self._worded(row, self.standings.release(subject, track, at), None, newest)
        return decisions

    def _worded(
        self, row: int, ruling: Ruling | None, features: NDArray[np.int64] | None, newest: Newest
    ) -> list[Decision]:
        if ruling is None:
            return []
        self.standings.note_quiet(self.state.table.rows[row], ruling.subject)
        return [word(ruling, features, newest, self.policy, self.mode)]


def _event_of(columns: RequestColumns, index: int) -> Newest:
    start, end = int(columns.event_id.start[index]), int(columns.event_id.end[index])
    return Newest(columns.identifiers[start:end].tobytes().decode(), int(columns.occurred_at[index]))


_SCOPE_OF_TYPE: dict[KeyType, Scope] = {
    KeyType.SUBNET_24: "subnet",
    KeyType.SUBNET_64: "subnet",
    KeyType.SUBNET_56: "subnet",
    KeyType.SUBNET_48: "subnet",
    KeyType.ORG: "org",
    KeyType.API_KEY: "api_key",
}
_SHARED_SCOPES: tuple[Scope, ...] = ("subnet", "org", "api_key")


@dataclass(slots=True)
class AssociationsNode:
    """Associations, decisions and enforcement for the typed keys of one links partition."""

    policy: CompiledPolicy
    mode: Mode
    partitions: int = 1
    adopted: Mapping[SubjectKey, SubjectRecord] = field(default_factory=dict)
    state: AssociationsState = field(default_factory=AssociationsState)
    coming: Coming | None = None
    standings: Standings = field(init=False)
    _judges: dict[Scope, Judge] = field(init=False)
    _thresholds: Thresholds = field(init=False)

    def __post_init__(self) -> None:
        self.standings = Standings(self.policy, self.partitions, adopted=self.adopted)
        self.obey(self.policy, self.mode)

    def schedule(self, policy: CompiledPolicy, mode: Mode) -> None:
        """Go over to another policy at the first row at or after its ``effective_at``; replaces one that waits."""
        self.coming = coming(policy, mode, self.policy, self.mode)

    def obey(self, policy: CompiledPolicy, mode: Mode) -> NDArray[np.int64]:
        """Go over to a policy with the next row; all that is known and in force stays. Returns the rows it changed."""
        quiet_stays = policy.model.ladder.renew_fraction == self.policy.model.ladder.renew_fraction
        self.policy, self.mode, self.coming = policy, mode, None
        self.standings.obey(policy)
        self._judges = {scope: Judge(policy, scope, mode) for scope in _SHARED_SCOPES}
        model = policy.model.associations
        young = [
            getattr(model.suspect_young, name) for name in ("subnet", "org", "api_key", "payment", "template", "system")
        ]
        self._thresholds = Thresholds(np.array(young, np.int64), model.young_per_trusted, model.notify_members_max)
        keys = quieted(self.state.table.live, skip=quiet_stays)
        for key in keys.tolist():
            self.standings.note_quiet(self.state.table.rows[key], self._subject(key))
        return keys

    def links(self, links: Links) -> AssociationsOutput:
        """Take in rows in order."""
        at = self.coming.place(links.occurred_at[links.outer_index]) if self.coming else None
        if at is None:
            return self._links(links)
        before, after = cut_links(links, at)
        return joined_associations(self._links(before), self._go_over(), self._links(after), at)

    def _go_over(self) -> NDArray[np.int64]:
        assert self.coming is not None
        return self.obey(self.coming.policy, self.coming.mode)

    def _links(self, links: Links) -> AssociationsOutput:
        absorbed = absorb(self.state, links, self._thresholds)
        hits: list[tuple[int, Scope, Hit]] = []
        for scope, judge in self._judges.items():
            hits += self._hits(scope, judge, absorbed, links)
        hits.sort(key=lambda entry: entry[0])  # the scopes share the caps, so the order of rows must decide
        decisions: list[Decision] = []
        for row, _, hit in hits:
            decisions += self._decide(row, hit, absorbed, links)
        counters = Counters(late_rows=absorbed.late, findings=len(absorbed.findings))
        dirty = np.unique(absorbed.row[absorbed.row >= 0])
        return AssociationsOutput(decisions, absorbed.findings, counters, dirty)

    def capture(self, stripe: int) -> dict[str, StageImage]:
        """What is due for an image."""
        return {"associations": self.state.capture(stripe), "key_standings": self.standings.capture(stripe)}

    def restore(self, images: Sequence[Image]) -> None:
        """Become what images in order say; before the first row."""
        self.state.restore([image.stages["associations"] for image in images])
        self.standings.restore([image.stages["key_standings"] for image in images])

    def follow(self, decisions: Iterable[Decision]) -> None:
        """Take over what was published about shared subjects after the state was saved."""
        if self.standings.follow(d for d in decisions if d.subject.scope != "account"):
            self.state.table.live["quiet_level"] = 0  # only saves work: judged anew, they find their standing
            self.state.table.live["dirty"] = 1

    def _hits(self, scope: Scope, judge: Judge, absorbed: Absorbed, links: Links) -> list[tuple[int, Scope, Hit]]:
        """The rows of one scope that rules hold for."""
        if not judge.rules:
            return []
        types = [int(key_type) for key_type, name in _SCOPE_OF_TYPE.items() if name == scope]
        rows = np.flatnonzero((absorbed.row >= 0) & np.isin(links.key_type, types))
        table, keys = self.state.table.rows, absorbed.row[rows]
        features, at = absorbed.features[rows], absorbed.newest_at[rows]
        hits = judge.hits(features, at, table["quiet_level"][keys], table["quiet_until"][keys])
        return [(int(rows[hit.index]), scope, hit) for hit in hits]

    def _decide(self, row: int, hit: Hit, absorbed: Absorbed, links: Links) -> list[Decision]:
        key, at = int(absorbed.row[row]), int(absorbed.newest_at[row])
        trigger = int(links.event[links.outer_index[row]])
        subject = self._subject(key)
        ruling = self.standings.hit(subject, hit, at=at, trigger=trigger, level_max=level_max_of(False, self.policy))
        if ruling is None:
            return []
        self.standings.note_quiet(self.state.table.rows[key], subject)
        return [word(ruling, absorbed.features[row], Newest(None, at), self.policy, self.mode)]

    def _subject(self, key: int) -> SubjectKey:
        record = self.state.table.rows[key]
        name, key_type = self.state.name(key), int(record["key_type"])
        return _SCOPE_OF_TYPE[KeyType(key_type)], name.decode() if name else subnet_text(int(record["raw"]), key_type)


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


def _count(columns: RequestColumns, observed: Observed) -> Counters:
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
