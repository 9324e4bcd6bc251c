"""What must be true of a world after any fault: its log, its table, its state, against a run without the fault."""

from collections import Counter
from dataclasses import dataclass

from crowd import POLICY
from live import decisions
from pipeline_reference import account_signals, key_signals

from streamdetect.kafka.plan import CHANGELOG
from streamdetect.kernels.chunk import chunk_of
from streamdetect.kernels.image_records import ImageRecord, newest_chain
from streamdetect.kernels.images import decode
from streamdetect.pipeline.decisions.policy import load_policy
from streamdetect.replay.driver import Options, Replay
from streamdetect.worker.detector import Detector

OLDER = "older revision"
LEVELS = {"observe": 1, "rate_limit": 2, "verify": 3, "suspend": 4}


@dataclass(frozen=True)
class Verdict:
    """What a world came to, beside what it should have."""

    wanted: dict
    found: dict
    conflicts: list
    fold: dict
    table: dict
    signals_wanted: dict
    signals: dict
    statuses: Counter

    def check(self, *, stale_owner=False):
        """Nothing lost, nothing doubled, nothing contradicting.

        A ``stale_owner`` may have had a decision on its way while its successor took it again, with a higher revision.
        """
        assert len(set(self.wanted.values())) == len(LEVELS)
        assert differing(self.wanted, self.found) == {}
        assert [found for found in self.conflicts if not (stale_owner and found[0] == OLDER)] == []
        assert differing(self.fold, self.table) == {}
        for partition, wanted in self.signals_wanted.items():
            for part, found in zip(wanted, self.signals[partition], strict=True):
                assert found == part, partition


def judged(place, lines, policy_text=POLICY, requests=None):
    """The verdict on a world that has settled, whose request topic was sent ``lines`` (among others that are bad).

    ``requests`` are the records that state is made from, if it is not all that lies in the topic.
    """
    policy, fold = load_policy(policy_text), {}
    for decision in sorted(decisions(place), key=lambda decision: decision["revision"]):
        if decision["status"] == "released":
            fold.pop(subject_of(decision), None)
        elif decision["status"] in ("issued", "renewed") and decision["action"] != "observe":
            fold[subject_of(decision)] = same(decision)
    return Verdict(
        uninterrupted(lines, policy),
        strongest(decisions(place)),
        conflicts(decisions(place)),
        fold,
        in_force(place),
        wanted_signals(place, policy, requests),
        saved_signals(place, policy),
        Counter(decision["status"] for decision in decisions(place)),
    )


def subject_of(decision):
    return decision["subject"]["scope"], decision["subject"]["value"]


def strongest(found):
    """The strongest action taken against each subject."""
    levels = {}
    for decision in found:
        if decision["status"] in ("issued", "renewed"):
            subject = subject_of(decision)
            levels[subject] = max(levels.get(subject, 0), LEVELS[decision["action"]])
    return levels


def uninterrupted(lines, policy):
    """The strongest action against each subject in a replay of the same events."""
    replay = Replay(policy, Options(mode="live"))
    rounds = [*replay.push(chunk_of("file", 0, lines)), *replay.finish()]
    return strongest([decision.model_dump(mode="json") for decisions in rounds for decision in decisions])


def differing(wanted, found):
    """Subjects with another strongest action: what was wanted, what was found."""
    return {
        subject: (wanted.get(subject), found.get(subject))
        for subject in wanted.keys() | found.keys()
        if wanted.get(subject) != found.get(subject)
    }


def same(decision):
    """A decision without the time at which it was sent, which is all that may differ in one sent again."""
    return {name: value for name, value in decision.items() if name != "published_at"}


def conflicts(log):
    """Revisions of a subject told twice with other content, and those that come after a higher one."""
    told, newest, found = {}, {}, []
    for decision in log:
        subject, revision = subject_of(decision), decision["revision"]
        if told.setdefault((subject, revision), same(decision)) != same(decision):
            found.append(("other content", told[subject, revision], same(decision)))
        if revision < newest.get(subject, 0):
            found.append((OLDER, newest[subject], same(decision)))
        newest[subject] = max(revision, newest.get(subject, 0))
    return found


def in_force(place):
    """``enforcement.v1`` read from its start, by subject."""
    table = {}
    for record in place.read("enforcement.v1"):
        scope, _, value = record.key.decode().partition(":")
        if record.value is None:
            table.pop((scope, value), None)
        elif scope != "heartbeat":
            table[scope, value] = same(record.json)
    return table


def saved_signals(place, policy):
    """Signal state as the changelog has it, by partition."""
    detector = detector_of(place, policy)
    newest = {}
    for record in place.read(CHANGELOG):
        newest[record.partition, record.key] = record
    found = {}
    for partition in range(detector.partitions):
        records = [
            ImageRecord(record.key, record.value, record.offset)
            for (home, _), record in newest.items()
            if home == partition and record.value is not None
        ]
        shard = detector.new_shard()
        chain = newest_chain(records, f"changelog[{partition}]")
        if chain.images:
            shard.restore([decode(image) for image in chain.images])
        found[partition] = signals_of(shard)
    return found


def wanted_signals(place, policy, requests=None):
    """Signal state after the requests that lie in the topic (or the given ones), stage by stage, without a fault."""
    detector = detector_of(place, policy)
    everything = place.read(place.requests) if requests is None else requests
    links, evidence = {}, {}
    for partition in range(detector.partitions):
        mine = [record for record in everything if record.partition == partition]
        if mine:
            outcome = detector.requests(_chunk(place.requests, partition, mine))
            for home, value in outcome.links:
                links.setdefault(home, []).append(value)
    for home, values in links.items():
        for target, value in detector.links(chunk_of("links", home, values)).evidence:
            evidence.setdefault(target, []).append(value)
    for home, values in evidence.items():
        detector.evidence(chunk_of("evidence", home, values))
    return {partition: signals_of(detector.shard(partition)) for partition in range(detector.partitions)}


def detector_of(place, policy):
    return Detector(policy, "live", place.settings.request_topics, place.settings.topic_partitions)


def signals_of(shard):
    """What must be equal whatever came first: windows, members, seen ids, and of which families an account has facts.

    A ledger keeps eight facts with the counts of their moment, which depend on what came first.
    """
    rows, subnets = account_signals(shard.accounts.state)
    rows = [(*row[:-1], sorted({fact[0] for fact in row[-1]})) for row in rows]
    seen = [sorted(table[table != 0].tolist()) for table in shard.accounts.state.seen.tables]
    return rows, subnets, seen, key_signals(shard.associations.state)


def _chunk(topic, partition, records):
    return chunk_of(topic, partition, [r.value for r in records], keys=[r.key for r in records])
