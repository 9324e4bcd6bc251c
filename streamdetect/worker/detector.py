"""The shards of the partitions this process owns, and what a chunk of each topic does to them. No Faust, no I/O.

A chunk that is delivered again is recognised by its offsets and changes nothing, and the offsets are part of a shard's
images: so the state counts every record once, whoever owns the partition.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamdetect.errors import PolicyError
from streamdetect.kernels.chunk import Chunk
from streamdetect.kernels.hashing import hash_spans
from streamdetect.kernels.murmur2 import key_partitions
from streamdetect.messages.dead_letter import DeadLetter
from streamdetect.messages.decision import Decision, Mode
from streamdetect.messages.override import Override
from streamdetect.pipeline.accept.columns import Reject, RequestColumns
from streamdetect.pipeline.accept.dead_letters import dead_letter_key, dead_letter_of
from streamdetect.pipeline.accept.decode import decode_accounts, decode_requests
from streamdetect.pipeline.accept.watermark import Watermark
from streamdetect.pipeline.accounts.sharing import pack_shared
from streamdetect.pipeline.accounts_node import AccountsNode, facts_of
from streamdetect.pipeline.associations.links import joined_links, pack_findings, unpack_links
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.pipeline.decisions.policy import CompiledPolicy, load_policy
from streamdetect.pipeline.decisions.schedule import Coming
from streamdetect.pipeline.enforcement.rulings import SubjectKey, SubjectRecord
from streamdetect.pipeline.outputs import Counters
from streamdetect.worker.shard import Shard

Place = tuple[str, int]  # topic and partition


@dataclass(slots=True)
class Outcome:
    """What a chunk led to, for the agents to send before they ack it. Packed records are (partition, bytes)."""

    decisions: list[Decision] = field(default_factory=list)
    links: list[tuple[int, bytes]] = field(default_factory=list)
    evidence: list[tuple[int, bytes]] = field(default_factory=list)
    dead_letters: list[tuple[bytes | None, DeadLetter]] = field(default_factory=list)
    followed: list[Decision] = field(default_factory=list)  # of the partition's last owner, to be put in force again
    counters: Counters = field(default_factory=Counters)
    null_keys: int = 0
    foreign_keys: int = 0
    repeated_records: int = 0
    unknown_values: int = 0


class Detector:
    """All shards of one process. ``partitions`` is the number that requests, links and evidence have in common.

    ``policy`` and ``mode`` are what it starts with; ``mode_of`` tells the mode of another policy.
    """

    def __init__(
        self,
        policy: CompiledPolicy,
        mode: Mode,
        request_topics: tuple[str, ...],
        partitions: int,
        mode_of: Callable[[CompiledPolicy], Mode] | None = None,
    ) -> None:
        self.policy, self.mode, self.partitions = policy, mode, partitions
        self._mode_of = mode_of or (lambda _policy: mode)
        self._told: CompiledPolicy | None = None
        self._refused = False
        self._people: dict[str, Override] = {}
        self.shards: dict[int, Shard] = {}
        self._evicted_before: dict[int, int] = {}  # by partition, what its earlier owners forgot
        self._adopted: Mapping[SubjectKey, SubjectRecord] = {}
        self._sources = {topic: index for index, topic in enumerate(sorted(request_topics))}

    def schedule(self, policy: CompiledPolicy) -> None:
        """Go over to another policy at its time, in each partition for itself; replaces one that waits."""
        self._told, self._refused = policy, False
        for node in self._nodes():
            node.schedule(policy, self._mode_of(policy))

    def withdraw(self) -> None:
        """No policy waits any more, and none was told; the one in effect stays."""
        self._told, self._refused = None, False
        for node in self._nodes():
            node.coming = None

    def refuse(self) -> None:
        """A policy was told that is wrong: every shard goes on with the one it was saved with."""
        self._refused = True

    def heed(self, key: str, override: Override | None) -> dict[int, list[Decision]]:
        """Take in what people decided, ``None`` takes it back; returns what that lifts, by partition."""
        if override is None:
            self._people.pop(key, None)
        else:
            self._people[key] = override
        return {partition: self._lifts(shard, [(key, override)]) for partition, shard in self.shards.items()}

    def add(self, partition: int, shard: Shard) -> list[Decision]:
        """Take up a shard that was restored; it learns what people told. Returns what that lifts."""
        self.shards[partition] = shard
        self._evicted_before[partition] = shard.evicted
        nodes: tuple[AccountsNode | AssociationsNode, ...] = (shard.accounts, shard.associations)
        for node, text in zip(nodes, shard.told_policies, strict=True):
            # Of a policy that nobody tells any more nothing is left; the file counts.
            if (self._told or self._refused) and (saved := self._saved(text)) is not None:
                node.obey(saved, self._mode_of(saved))
            if self._told is not None:
                node.schedule(self._told, self._mode_of(self._told))
        return self._lifts(shard, list(self._people.items()))

    def _saved(self, text: str) -> CompiledPolicy | None:
        """The policy a shard had been told of when it was saved, if it is of our id and can still be run."""
        try:
            policy = load_policy(text) if text else None
        except PolicyError:
            return None
        return policy if policy is not None and policy.model.id == self.policy.model.id else None

    @property
    def in_effect(self) -> dict[str, CompiledPolicy]:
        """The policies that some stage here goes by, by hash."""
        return {node.policy.hash: node.policy for node in self._nodes()}

    def mode_in(self, partition: int) -> Mode:
        """The mode the accounts of a partition are decided on in."""
        shard = self.shards.get(partition)
        return shard.accounts.mode if shard else self.mode

    def max_skew_ms(self, partition: int) -> int:
        """How far a partition may be ahead of the others, by the policy in effect there."""
        shard = self.shards.get(partition)
        return (shard.accounts.policy if shard else self.policy).model.max_skew_ms

    @property
    def waits(self) -> bool:
        """Whether a policy was told that is not in effect everywhere yet."""
        return any(node.coming for node in self._nodes())

    @staticmethod
    def _lifts(shard: Shard, told: Sequence[tuple[str, Override | None]]) -> list[Decision]:
        return [*shard.accounts.overrides(told).decisions, *shard.associations.overrides(told).decisions]

    def _nodes(self) -> list[AccountsNode | AssociationsNode]:
        return [node for shard in self.shards.values() for node in (shard.accounts, shard.associations)]

    def adopt(self, in_force: Mapping[SubjectKey, SubjectRecord]) -> None:
        """Go on from what is in force, in the shards that are made from now on."""
        self._adopted = in_force

    def hear(self, decision: Decision) -> None:
        """Somebody else has decided on a subject that may be ours: a stale owner that was ahead of us."""
        for shard in self.shards.values():
            shard.hear(decision)

    def decides_on(self, subject: SubjectKey) -> bool:
        """Whether a shard that is here has decided on a subject."""
        return any(shard.standings_of(subject[0]).knows(*subject) for shard in self.shards.values())

    def new_shard(self) -> Shard:
        """An empty shard, which belongs to no partition yet."""
        return Shard(
            AccountsNode(self.policy, self.mode, self.partitions, self.partitions, self._adopted),
            AssociationsNode(self.policy, self.mode, self.partitions, self._adopted),
            Watermark(self.policy.model.max_ahead_ms),
            self.policy.hash,
            sources=dict(self._sources),
        )

    def shard(self, partition: int) -> Shard:
        """The shard of a partition; a new one where none was restored."""
        shard = self.shards.get(partition)
        if shard is None:
            shard = self.new_shard()
            self.add(partition, shard)
        return shard

    def keep_only(self, partitions: set[int]) -> None:
        """Forget the partitions that are not ours any more: their next owner goes on with them."""
        for partition in self.shards.keys() - partitions:
            del self.shards[partition]

    def watermark_ms(self, partition: int) -> int:
        """Newest believed event time of a request partition, 0 before the first."""
        shard = self.shards.get(partition)
        return shard.watermark.time_ms if shard else 0

    def position(self, place: Place) -> int:
        """Offset of the newest record processed, -1 before the first."""
        topic, partition = place
        shard = self.shards.get(partition)
        return shard.positions.get(topic, -1) if shard else -1

    def needed(self, place: Place) -> int | None:
        """Offset of the first record that the state of a partition lacks, ``None`` where that is not known."""
        topic, partition = place
        shard = self.shards.get(partition)
        position = shard.positions.get(topic) if shard else None
        return None if position is None else position + 1

    def pass_holes(self, passed: Callable[[Place], int]) -> None:
        """Tell shards how far their topics were passed, where something waits for that; ``passed`` knows."""
        for partition, shard in self.shards.items():
            for topic in shard.repeated_until:
                shard.passed(topic, passed((topic, partition)))

    def stamp_ms(self, place: Place) -> int:
        """Broker time of the newest record processed, -1 if there is none or it has none."""
        topic, partition = place
        shard = self.shards.get(partition)
        return shard.stamps.get(topic, -1) if shard else -1

    @property
    def tracked_accounts(self) -> int:
        """Accounts in memory."""
        return sum(shard.accounts.state.table.count for shard in self.shards.values())

    @property
    def tracked_keys(self) -> int:
        """Typed keys in memory, those used by one account included."""
        states = [shard.associations.state for shard in self.shards.values()]
        return sum(state.table.count + state.singles.count for state in states)

    @property
    def evicted(self) -> int:
        """Accounts, keys and subjects forgotten because a bound was reached, of the shards here since they came."""
        return sum(shard.evicted - self._evicted_before[partition] for partition, shard in self.shards.items())

    @property
    def dropped_facts(self) -> int:
        """Facts about accounts without a row dropped because too many waited, of the shards here since they came."""
        return sum(shard.accounts.state.strangers.dropped for shard in self.shards.values())

    def requests(self, chunk: Chunk) -> Outcome:
        """Request events: accept, accounts, decisions; rows for the owners of shared keys."""
        outcome = Outcome()
        fresh = self._fresh(chunk, outcome)
        columns, rejects = decode_requests(chunk)
        if outcome.repeated_records:
            columns = columns.take(np.flatnonzero(fresh[columns.record]))
            rejects = [reject for reject in rejects if fresh[reject.record]]
        columns = self._believable(chunk.partition, columns, rejects)
        outcome.dead_letters = [(dead_letter_key(reject, chunk), dead_letter_of(reject, chunk)) for reject in rejects]
        outcome.unknown_values = sum(columns.unknown_values.values())
        self._count_keys(chunk, outcome)
        if len(columns):
            shard = self.shard(chunk.partition)
            output = shard.accounts.events(columns)
            assert output.shared is not None
            assert output.observed is not None
            source = shard.sources[chunk.topic] * self.partitions + chunk.partition
            offsets = shard.rising(chunk.topic, chunk.offsets[columns.record])
            packed = pack_shared(output.shared, columns, output.observed, offsets, source)
            outcome.links = list(packed.items())
            outcome.decisions, outcome.counters = output.decisions, output.counters
        return self._with_followed(chunk, outcome)

    def links(self, chunk: Chunk) -> Outcome:
        """Rows about shared keys: associations and decisions; evidence back to where the rows came from."""
        outcome = Outcome()
        fresh = self._fresh(chunk, outcome)
        shard = self.shard(chunk.partition)
        node = shard.associations
        parts = {}
        for index in np.flatnonzero(fresh).tolist():
            links, _ = unpack_links(node.state, chunk.value(index) or b"", self.partitions)
            if len(links.key):
                parts[index] = links
        if parts:
            output = node.links(joined_links(list(parts.values())))
            outcome.decisions, outcome.counters = output.decisions, output.counters
            counts = [len(part.key) for part in parts.values()]
            # Which record a row of the joined batch came from, and its place in that record.
            record = np.repeat(np.fromiter(parts, np.int64), counts)[output.findings["source_row"]]
            first = np.repeat(np.cumsum([0, *counts[:-1]]), counts)[output.findings["source_row"]]
            place = (output.findings["source_row"] - first).astype(np.uint32)
            offsets = shard.rising(chunk.topic, chunk.offsets[record])
            packed = pack_findings(output.findings, chunk.partition, offsets, place)
            outcome.evidence = list(packed.items())
        return self._with_followed(chunk, outcome)

    def evidence(self, chunk: Chunk) -> Outcome:
        """Evidence about accounts of one request partition."""
        outcome = Outcome()
        fresh = self._fresh(chunk, outcome)
        shard = self.shard(chunk.partition)
        marks = shard.marks
        accounts: list[NDArray[np.uint64]] = []
        facts: list[NDArray[np.void]] = []
        for index in np.flatnonzero(fresh).tolist():
            about, found, source, offsets, _ = facts_of(chunk.value(index) or b"")
            new = offsets > marks.get(source, -1)
            if new.any():
                marks[source] = int(offsets[-1])
                accounts.append(about[new])
                facts.append(found[new])
        if facts:
            output = shard.accounts.evidence(np.concatenate(accounts), np.concatenate(facts))
            outcome.decisions, outcome.counters = output.decisions, output.counters
        return self._with_followed(chunk, outcome)

    def account_records(self, chunk: Chunk) -> Outcome:
        """What the provider says of accounts."""
        outcome = Outcome()
        fresh = self._fresh(chunk, outcome)
        entries, rejects = decode_accounts(chunk)
        outcome.dead_letters = [
            (dead_letter_key(reject, chunk), dead_letter_of(reject, chunk))
            for reject in rejects
            if fresh[reject.record]
        ]
        known = [(entry.account_id, entry.account) for entry in entries if fresh[entry.record]]
        if known:
            output = self.shard(chunk.partition).accounts.records(known)
            outcome.decisions, outcome.counters = output.decisions, output.counters
        return self._with_followed(chunk, outcome)

    def _with_followed(self, chunk: Chunk, outcome: Outcome) -> Outcome:
        outcome.followed = self.shard(chunk.partition).followed()
        return outcome

    def _fresh(self, chunk: Chunk, outcome: Outcome) -> NDArray[np.bool_]:
        """Which records were not processed before; moves the position of their partition."""
        shard = self.shard(chunk.partition)
        seen = shard.positions.get(chunk.topic, -1)
        fresh = chunk.offsets > seen
        outcome.repeated_records = int(np.count_nonzero(~fresh))
        if fresh[-1]:
            shard.positions[chunk.topic] = int(chunk.offsets[-1])
            shard.stamps[chunk.topic] = int(chunk.timestamps_ms[-1])
        return fresh

    def _believable(self, partition: int, columns: RequestColumns, rejects: list[Reject]) -> RequestColumns:
        """Reject events from the future, and move the watermark."""
        shard, ids = self.shard(partition), columns.account_id
        accounts = hash_spans(columns.identifiers, ids.start, ids.end, np.uint64(0))
        shard.watermark.max_ahead_ms = shard.accounts.policy.model.max_ahead_ms
        future = _judged(shard.watermark, shard.accounts.coming, columns.occurred_at, accounts)
        if not future.any():
            return columns
        message = f"more than {shard.watermark.max_ahead_ms} ms ahead of the stream"
        rejects += [Reject(int(record), "future", "occurred_at", message) for record in columns.record[future]]
        return columns.take(np.flatnonzero(~future))

    def _count_keys(self, chunk: Chunk, outcome: Outcome) -> None:
        buffer = np.frombuffer(chunk.buffer, np.uint8)
        belongs = key_partitions(buffer, chunk.keys.start, chunk.keys.end, self.partitions)
        outcome.null_keys = int(np.count_nonzero(belongs < 0))
        outcome.foreign_keys = int(np.count_nonzero((belongs >= 0) & (belongs != chunk.partition)))


def _judged(
    watermark: Watermark, coming: Coming | None, occurred_at: NDArray[np.int64], accounts: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Which events are from the future; after the one that brings the coming policy by its bound."""
    if coming is None:
        return watermark.judge(occurred_at, accounts)
    believed = ~watermark.copy().judge(occurred_at, accounts)
    at = coming.place(np.where(believed, occurred_at, -1))
    if at is None:
        return watermark.judge(occurred_at, accounts)
    before = watermark.judge(occurred_at[: at + 1], accounts[: at + 1])
    watermark.max_ahead_ms = coming.policy.model.max_ahead_ms
    return np.concatenate([before, watermark.judge(occurred_at[at + 1 :], accounts[at + 1 :])])
