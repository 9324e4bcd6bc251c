"""The request topic is deleted and made again, while the worker is down and while it runs: nothing new is skipped."""

import asyncio
from dataclasses import dataclass

import pytest
from crowd import POLICY, Crowd
from live import until
from load import Kept, faulty_world, records_of
from verdict import Verdict, judged

from streamdetect.errors import UnreachableError
from streamdetect.kafka.topics import create_and_check
from streamdetect.sandbox.ready import admin_client

pytestmark = pytest.mark.needs("admin")


@dataclass
class Told:
    verdict: Verdict
    ended: int | None
    log: str
    found_anew: float


def deleted(place):
    admin = admin_client(place.bootstrap)
    admin.delete_topics([place.requests])[place.requests].result()


def made_again(place):
    """Make it again; a broker refuses while the old one is still on its way out."""

    def made():
        try:
            return asyncio.run(create_and_check(place.settings, timeout_s=60.0))
        except UnreachableError:
            return None

    until(made, "the topic to be there again")
    place.forget()


def recreated(broker, folder, *, running, more):
    """``more``: the new topic is longer than the old one was when the worker finds it."""
    before, after = Crowd(100, 6, name="b"), Crowd(200 if more else 60, 7, name="n")
    with faulty_world(broker.bootstrap_servers, folder) as place:
        with Kept(place) as kept:
            place.send(records_of(before))
            place.settled(kept)
            old = place.read(place.requests)[:]
            worker = kept.let_go()
        if not running:
            assert worker.stop() == 0, worker.log
        deleted(place)
        ended = worker.process.wait(180)
        made_again(place)
        place.send(records_of(after))
        with Kept(place) as second:
            place.settled(second)
            anew = second.metric("recreated_total")
            second.stop()
        requests = old + place.read(place.requests)
        # What the old topic held is state still, so the whole is as if the new one had gone on where it ended.
        lines = before.lines + after.lines
        return Told(judged(place, lines, POLICY, requests), ended, worker.log, anew)


def longer_while_down(broker, folder):
    return recreated(broker, folder, running=False, more=True)


def shorter_while_down(broker, folder):
    return recreated(broker, folder, running=False, more=False)


def while_running(broker, folder):
    return recreated(broker, folder, running=True, more=False)


@pytest.mark.parametrize(
    "_case",
    [
        pytest.param("longer than before", marks=pytest.mark.story("longer_while_down")),
        pytest.param("shorter than before", marks=[pytest.mark.story("shorter_while_down"), pytest.mark.long]),
        pytest.param("while it runs", marks=pytest.mark.story("while_running")),
    ],
)
def test_a_topic_that_was_made_again_is_read_from_its_start(told, _case):
    told.verdict.check()
    assert told.found_anew == 4


@pytest.mark.story("while_running")
def test_a_worker_whose_topic_goes_away_ends_and_says_so(told):
    assert told.ended == UnreachableError.exit_code
    assert "requests.v1" in told.log.splitlines()[-1]
    assert "deleted" in told.log.splitlines()[-1]
