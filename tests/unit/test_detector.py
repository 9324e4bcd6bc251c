"""The nodes of a process without a broker: chunks cut anyhow, delivered again, sent again by a restarted stage.

A ``Log`` is one partition of a topic; a stage reads it in chunks. Decisions are compared as bytes, so order, ids,
revisions and reasons must agree as well.
"""

from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from override_reference import allow
from pipeline_reference import ASK, START, cut, event, low_policy, other_policy
from test_brake import decision

from streamdetect.kernels.chunk import chunk_of
from streamdetect.kernels.images import decode, encode
from streamdetect.pipeline.decisions.policy import load_policy
from streamdetect.pipeline.decisions.schedule import Coming
from streamdetect.worker.detector import Detector

PARTITIONS = 2
DAY_MS = 86_400_000
TOPIC = "requests"


@dataclass
class Log:
    """One partition, and reading it."""

    topic: str
    partition: int
    values: list = field(default_factory=list)

    def chunk(self, offsets):
        offsets = list(offsets)
        return chunk_of(self.topic, self.partition, [self.values[o] for o in offsets], offsets=offsets)

    def chunks(self, places=()):
        return [self.chunk(offsets) for offsets in cut(range(len(self.values)), places)]


def detector():
    return Detector(low_policy(), "live", (TOPIC,), PARTITIONS)


def traffic():
    """Two partitions of a campaign with one text and one card, a hammering account, and trusted people at the end."""
    logs = [Log(TOPIC, partition) for partition in range(PARTITIONS)]
    for number in range(48):
        account = f"young-{number % 8}"
        fields = {"account_created_at": START - DAY_MS, "prompt": ASK + " 7", "payment_id": "card", "org_id": "org"}
        fields |= {"client_ip": f"192.0.2.{number % 8}", "api_key_id": "key"}
        if number % 6 == 5:
            account, fields = "hammer", {}
        if number >= 40:
            account = f"old-{number}"
            fields |= {"account_created_at": START - 400 * DAY_MS, "account_tier": "verified", "org_id": f"o{number}"}
        values = event(number, account, START + number * 700, **fields)
        logs[sum(account.encode()) % PARTITIONS].values.append(orjson.dumps(values))
    return logs


def run(stage, chunks):
    """Outcomes of a stage; the decisions of all, as bytes."""
    outcomes = [stage(chunk) for chunk in chunks]
    return outcomes, [decision.to_bytes() for outcome in outcomes for decision in outcome.decisions]


def logs_of(name, outcomes):
    """Partitions of an internal topic with what outcomes say to it."""
    logs = [Log(name, partition) for partition in range(PARTITIONS)]
    for outcome in outcomes:
        for partition, value in getattr(outcome, name):
            logs[partition].values.append(value)
    return logs


@dataclass
class Pass:
    """All stages one after the other, each cut at the given places."""

    requests: list = field(default_factory=list)
    links: list = field(default_factory=list)
    evidence: list = field(default_factory=list)
    decisions: list = field(default_factory=list)
    detector: Detector = field(default_factory=detector)

    def go(self, places=()):
        self.requests = traffic()
        outcomes = self.read("requests", self.requests, places)
        self.links = logs_of("links", outcomes)
        self.evidence = logs_of("evidence", self.read("links", self.links, places))
        self.read("evidence", self.evidence, places)
        return self

    def read(self, stage, logs, places=()):
        found = []
        for log in logs:
            outcomes, decisions = run(getattr(self.detector, stage), log.chunks(places))
            self.decisions.append(decisions)
            found += outcomes
        return found


PLACES = st.lists(st.integers(0, 60), max_size=12)


@pytest.fixture(scope="module")
def whole():
    return Pass().go()


def test_the_traffic_says_something_at_every_stage(whole):
    """Otherwise equal decisions would prove nothing."""
    requests, links, evidence = (sum(map(len, whole.decisions[n : n + 2])) for n in (0, 2, 4))
    assert min(requests, links, evidence) > 0
    everything = b"".join(line for lines in whole.decisions for line in lines)
    for part in (b'"hammer"', b'"suspend"', b'"subnet"', b'"released"', b'"api_key"'):
        assert part in everything, part


@settings(max_examples=25)
@given(PLACES)
def test_chunks_cut_differently_give_the_same_decisions(places):
    assert Pass().go(places).decisions == Pass().go().decisions


@settings(max_examples=25)
@given(places=PLACES, repeats=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=8))
def test_what_is_delivered_again_changes_nothing(whole, places, repeats):
    fresh, expected = Pass(), iter(whole.decisions)
    for stage in ("requests", "links", "evidence"):
        for log in getattr(whole, stage):
            step, decisions, position = getattr(fresh.detector, stage), [], 0
            for offsets in cut(range(len(log.values)), places):
                back = [(start % (position + 1), length) for start, length in repeats]
                for start, length in back:
                    if again := range(start, min(start + length, position)):
                        outcome = step(log.chunk(again))
                        assert outcome.repeated_records == len(again)
                        assert outcome.decisions + outcome.links + outcome.evidence + outcome.dead_letters == []
                # A redelivered chunk may also reach beyond what was known.
                overlapping = range(max(0, offsets[0] - (repeats[0][0] if repeats else 0)), offsets[-1] + 1)
                decisions += [decision.to_bytes() for decision in step(log.chunk(overlapping)).decisions]
                position = offsets[-1] + 1
            assert decisions == next(expected)


@settings(max_examples=25)
@given(crash=st.integers(0, 60), first=PLACES, second=PLACES)
def test_rows_sent_again_by_a_restarted_stage_count_once(whole, crash, first, second):
    """A worker dies somewhere after sending; its successor begins anew and cuts differently."""
    resent = [Log("links", partition) for partition in range(PARTITIONS)]
    died, successor = detector(), detector()
    for log in whole.requests:
        before = [died.requests(log.chunk(part)) for part in cut(range(min(crash, len(log.values))), first)]
        again = [successor.requests(chunk) for chunk in log.chunks(second)]
        for sent, added in zip(resent, logs_of("links", before + again), strict=True):
            sent.values += added.values
    fresh = Pass()
    evidence = logs_of("evidence", fresh.read("links", resent))
    assert fresh.decisions == whole.decisions[2:4]
    fresh.read("requests", whole.requests)
    fresh.read("evidence", evidence)
    assert fresh.decisions[-2:] == whole.decisions[-2:]


@settings(max_examples=25)
@given(crash=st.integers(0, 60), first=PLACES, second=PLACES)
def test_evidence_sent_again_by_a_restarted_stage_counts_once(whole, crash, first, second):
    resent = [Log("evidence", partition) for partition in range(PARTITIONS)]
    died, successor = detector(), detector()
    for log in whole.links:
        before = [died.links(log.chunk(part)) for part in cut(range(min(crash, len(log.values))), first)]
        again = [successor.links(chunk) for chunk in log.chunks(second)]
        for sent, added in zip(resent, logs_of("evidence", before + again), strict=True):
            sent.values += added.values
    fresh = Pass()
    fresh.read("requests", whole.requests)
    fresh.read("evidence", resent)
    assert fresh.decisions[-2:] == whole.decisions[-2:]


def test_partitions_that_went_away_are_forgotten_and_the_others_are_not():
    ran = Pass().go()
    accounts, keys = ran.detector.tracked_accounts, ran.detector.tracked_keys
    ran.detector.keep_only({0})
    assert 0 < ran.detector.tracked_accounts < accounts
    assert 0 < ran.detector.tracked_keys < keys
    assert ran.detector.position((TOPIC, 1)) == -1
    assert ran.detector.watermark_ms(1) == 0
    assert ran.detector.watermark_ms(0) > 0
    # What stayed still knows what it has seen; what comes back begins anew.
    assert ran.detector.requests(ran.requests[0].chunk([0])).repeated_records == 1
    _, decisions = run(ran.detector.requests, ran.requests[1].chunks())
    assert decisions == ran.decisions[1]
    ran.detector.keep_only(set())
    assert (ran.detector.tracked_accounts, ran.detector.tracked_keys) == (0, 0)


def test_what_earlier_owners_forgot_is_not_counted_again():
    one = detector()
    shard = one.new_shard()
    shard.accounts.state.evicted = 400_000
    one.add(0, shard)
    assert one.evicted == 0
    shard.accounts.standings.evicted += 3
    shard.associations.state.evicted += 4
    assert one.evicted == 7


def test_a_state_begins_where_was_committed_but_not_behind_the_end_of_a_topic():
    """Behind its end was committed of another topic of that name; of that one every record counts."""
    one = detector()
    shard = one.new_shard()
    shard.positions["links"] = 7
    shard.begin_at({TOPIC: 30, "accounts": 900, "links": 50, "evidence": 0}, {TOPIC: 40, "accounts": 12, "links": 60})
    one.add(0, shard)
    assert [one.needed((topic, 0)) for topic in (TOPIC, "accounts", "links", "evidence")] == [30, 0, 8, 0]
    assert one.needed((TOPIC, 1)) is None


def test_what_was_followed_is_forgotten_though_a_topic_ends_with_what_is_no_record():
    one = detector()
    shard = one.shard(0)
    shard.positions = {TOPIC: 98, "accounts": 40}
    said = decision("ann")
    shard.follow([said], {TOPIC: 100, "accounts": 42})
    standings = shard.accounts.standings
    passed = {(TOPIC, 0): 100, ("accounts", 0): 41}
    one.pass_holes(passed.__getitem__)
    shard.capture(0)
    assert standings.capture(0).meta["taken"] == [said.decision_id], "a record of accounts is still to come"
    passed["accounts", 0] = 42
    one.pass_holes(passed.__getitem__)
    shard.capture(1)
    assert standings.capture(1).meta["taken"] == standings.capture(1).meta["later"] == []


@pytest.mark.parametrize("text", ["", "\u200b" * 500, "\u0301" * 500, "\u202e\ufeff" * 50, "\0" * 50])
def test_prompts_without_a_visible_character_are_counted_and_say_nothing(text):
    """No content row: honest oddities must not look alike."""
    fields = {"prompt": text, "system_prompt": text, "account_created_at": START - DAY_MS}
    log = Log(TOPIC, 0, [orjson.dumps(event(n, f"a{n}", START + n, **fields)) for n in range(10)])
    (outcome,), decisions = run(detector().requests, log.chunks())
    assert outcome.counters.events == 10
    assert (outcome.counters.link_rows, outcome.links, decisions) == (0, [], [])


def test_a_bad_record_delivered_again_is_not_set_aside_again():
    log = Log(TOPIC, 0, [orjson.dumps(event(1, "a", START)), b"{", orjson.dumps(event(2, "a", START))])
    one = detector()
    assert [letter.offset for _, letter in one.requests(log.chunk([0, 1])).dead_letters] == [1]
    again = one.requests(log.chunk([0, 1, 2]))
    assert again.dead_letters == []
    assert again.counters.events == 1


def test_a_bad_record_with_a_huge_key_can_be_set_aside():
    huge = b"k" * 9_000_000
    for take, topic in ((Detector.requests, TOPIC), (Detector.account_records, "accounts")):
        chunk = chunk_of(topic, 0, [b"{", b"{"], keys=[huge, b"k"])
        assert [key for key, _ in take(detector(), chunk).dead_letters] == [None, b"k"]


def test_a_time_from_the_future_is_set_aside_and_does_not_move_the_watermark():
    times = [START, START + 10 * 365 * DAY_MS, START + 1]
    log = Log(TOPIC, 0, [orjson.dumps(event(n, f"a{n}", at)) for n, at in enumerate(times)])
    one = detector()
    outcome = one.requests(log.chunk(range(3)))
    assert [(letter.code, letter.offset) for _, letter in outcome.dead_letters] == [("future", 1)]
    assert one.watermark_ms(0) == START + 1


def test_rows_of_a_request_topic_that_is_added_count_whatever_its_name():
    """Also of one that comes before the others in the alphabet, or after one that is gone."""
    known, image = 0, None
    offsets = {}
    for topics in (("m",), ("a", "m"), ("b", "m", "a"), ("a", "c")):
        one = Detector(low_policy(), "live", topics, 1)
        shard = one.new_shard()
        if image is not None:
            shard.restore([image])
        one.add(0, shard)
        for topic in topics:
            first = offsets.get(topic, 0)
            fields = {"org_id": "org", "account_created_at": START - DAY_MS}
            sent = [orjson.dumps(event(f"{topic}{first + n}", f"{topic}{n}", START + n, **fields)) for n in range(9)]
            offsets[topic] = first + len(sent)
            outcome = one.requests(chunk_of(topic, 0, sent, offsets=range(first, first + len(sent))))
            for _, value in outcome.links:
                one.links(chunk_of("links", 0, [value], offsets=[known]))
                known += 1
            assert counted(shard) == sum(offsets.values())
        image = decode(encode(shard.capture(0)))


def counted(shard):
    """Requests of the organisation, which every event names, in its longest window."""
    return int(shard.associations.state.table.live["requests"].sum(axis=2).max())


# Policies and overrides


@settings(max_examples=25)
@given(places=PLACES, effective_at=st.one_of(st.none(), st.integers(START, START + 48 * 700)))
def test_a_policy_takes_over_at_the_same_record_however_chunks_are_cut(places, effective_at):
    def run(places):
        one = Pass()
        one.detector.schedule(other_policy(effective_at))
        return one.go(places).decisions, sorted(one.detector.in_effect)

    assert run(places) == run(())


@settings(max_examples=25)
@given(places=PLACES, ahead=st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_how_far_ahead_an_event_may_be_changes_with_the_policy_at_its_record(places, ahead):
    """Jumps of a day: too far for the other policy, near enough for the first."""
    jumps = [START + sum(ahead[:number]) * DAY_MS + number for number in range(len(ahead))]
    log = Log(TOPIC, 0, [orjson.dumps(event(n, f"a{n}", at)) for n, at in enumerate(jumps)])

    def run(chunks):
        one = detector()
        one.schedule(other_policy(jumps[10]))
        return [letter.offset for chunk in chunks for _, letter in one.requests(chunk).dead_letters]

    refused = run(log.chunks([*range(21)]))
    assert run(log.chunks(places)) == refused
    first = next(n for n, at in enumerate(jumps) if at >= jumps[10])
    assert min(refused, default=first + 1) > first


def test_a_shard_goes_on_with_the_policy_it_was_told():
    log = Log(TOPIC, 0, [orjson.dumps(event(n, "a", START + n)) for n in range(2)])
    one = detector()
    one.schedule(other_policy())
    one.requests(log.chunk([0]))
    image = one.shard(0).capture(0)
    later = other_policy(START + DAY_MS)

    def successor(policy, told_now):
        fresh = Detector(policy, "live", (TOPIC,), PARTITIONS)
        if told_now is not None:
            fresh.schedule(told_now)
        shard = fresh.new_shard()
        shard.restore([image])
        fresh.add(0, shard)
        return [node.policy.hash for node in (shard.accounts, shard.associations)], shard.accounts.coming

    low, other = low_policy().hash, other_policy().hash
    # Links have not come, so associations had not gone over.
    assert successor(low_policy(), later) == ([other, low], Coming(later, "live"))
    # The topic has no policy of that id any more, or the process was started for another id: the file counts.
    assert successor(low_policy(), None) == ([low, low], None)
    renamed = load_policy(low_policy().text.replace('id = "default"', 'id = "another"'))
    assert successor(renamed, None)[0] == [renamed.hash] * 2


def test_overrides_reach_shards_that_come_later_and_lift_what_they_hold():
    fields = {"account_created_at": START}
    log = Log(TOPIC, 0, [orjson.dumps(event(n, "ann", START + n, **fields)) for n in range(8)])
    one = detector()
    (issued,) = one.requests(log.chunk(range(5))).decisions
    image = one.shard(0).capture(0)

    successor = detector()
    assert successor.heed(*allow("account:ann")) == {}
    shard = successor.new_shard()
    shard.restore([image])
    (lifted,) = successor.add(0, shard)
    assert (lifted.status, lifted.decision_id) == ("released", issued.decision_id)
    assert [d.simulated for d in successor.requests(log.chunk(range(5, 8))).decisions] == [True]

    assert successor.heed("account:ann", None) == {0: []}
    third = successor.new_shard()
    assert successor.add(1, third) == []
