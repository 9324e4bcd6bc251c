"""A worker that stood still for longer than its group waits, and wakes up: the new owner's word stands.

And the fence itself, without luck: an image and an enforcement record as a stale owner would write them late.
"""

import signal
import time
from dataclasses import dataclass, field

import orjson
import pytest
from crowd import POLICY, Crowd
from live import decisions, until
from load import Kept, Load, faulty_world, records_of
from test_two_workers import ALL, until_shared
from verdict import Verdict, in_force, judged, same, subject_of

from streamdetect.errors import UnreachableError
from streamdetect.kafka.plan import CHANGELOG
from streamdetect.kernels.image_records import _HEADER, Link, Place, Term
from streamdetect.kernels.image_records import records_of as image_records
from streamdetect.kernels.images import encode
from streamdetect.pipeline.decisions.policy import load_policy
from streamdetect.worker.detector import Detector

pytestmark = pytest.mark.needs("admin")


@dataclass
class Told:
    verdict: Verdict
    ended: int
    last_words: str
    overwritten: float
    stale: dict
    table: dict = field(default_factory=dict)


def zombie(broker, folder):
    crowd = Crowd(600, 5)
    with (
        faulty_world(broker.bootstrap_servers, folder) as place,
        Load(place, records_of(crowd), 150) as load,
        Kept(place) as sleeper,
        Kept(place) as heir,
    ):
        until_shared(sleeper, heir)
        asleep = sleeper.let_go()
        asleep.process.send_signal(signal.SIGSTOP)
        until(lambda: heir.partitions == ALL, "the other worker to take over")
        alone_ms = time.time_ns() // 1_000_000
        heir.until_working()
        asleep.process.send_signal(signal.SIGCONT)
        ended = asleep.process.wait(180)
        load.finish()
        place.settled(heir)
        stale = late_records(place, alone_ms)
        until(lambda: {s: in_force(place).get(s) for s in stale} == stale, "the table to be put right")
        until(lambda: heir.metric("stale_records_total") >= len(stale), "what was put right to be counted")
        overwritten = heir.metric("stale_records_total")
        late_images(place)
        heir.stop()
        third = place.start().ready()
        assert third.stop() == 0, third.log
        return Told(judged(place, crowd.lines), ended, asleep.log, overwritten, stale, in_force(place))


def late_records(place, alone_ms):
    """Write over what is in force: an older record of two subjects, a tombstone of a third; returns what was.

    Only what the heir has written itself, since it was alone: with the rest a stale owner cannot be late.
    """
    table, before, newest = in_force(place), {}, {}
    for decision in decisions(place):
        subject = subject_of(decision)
        if decision["action"] != "observe" and same(decision) != table[subject]:
            before[subject] = orjson.dumps(decision)
        newest[subject] = max(newest.get(subject, 0), decision["published_at"])
    latest = [subject for subject in table if newest[subject] > alone_ms]
    chosen = [subject for subject in latest if subject in before][:2]
    chosen.append(next(subject for subject in latest if subject not in before))
    for subject in chosen:
        place.send([(":".join(subject).encode(), before.get(subject))], topic=place.topic("enforcement.v1"))
    return {subject: table[subject] for subject in chosen}


def late_images(place):
    """For each partition, an empty image as the owner before the last would have written it next."""
    empty = Detector(load_policy(POLICY), "live", place.settings.request_topics, 4).new_shard()
    terms = {}
    for record in place.read(CHANGELOG):
        if record.value is None:
            continue
        _, _, _, _, _, epoch, generation, sequence, *_ = _HEADER.unpack_from(record.value)
        newest = terms.setdefault(record.partition, {})
        newest[Term(epoch, generation)] = max(sequence, newest.get(Term(epoch, generation), 0))
    for partition, newest in terms.items():
        stale = sorted(newest)[-2] if len(newest) > 1 else Term(0, 0)
        last = newest.get(stale, 0)
        for sequence in range(last + 1, last + 4):
            link = Link(Place(stale, sequence), stale, sequence)
            records = image_records(link, encode(empty.capture(sequence)))
            place.send(records, topic=place.topic(CHANGELOG), partition=partition)


@pytest.mark.story("zombie")
def test_a_worker_that_stood_still_ends_with_an_error_that_says_so(told):
    assert told.ended == UnreachableError.exit_code
    assert "stood still" in told.last_words


@pytest.mark.story("zombie")
def test_what_it_did_and_what_a_stale_owner_writes_late_changes_nothing(told):
    told.verdict.check(stale_owner=True)


@pytest.mark.story("zombie")
def test_stale_records_of_what_is_in_force_are_overwritten(told):
    assert len(told.stale) == 3
    assert told.overwritten > 0
    assert {subject: told.table[subject] for subject in told.stale} == told.stale
