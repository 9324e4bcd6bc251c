"""SIGKILL of the worker under load, at moments drawn by lot: while it works, joins, restores; and bad records."""

import random
import time

import pytest
from crowd import Crowd
from load import MEASURED, Kept, Load, faulty_world, records_of
from verdict import judged

pytestmark = pytest.mark.needs("admin")
BAD = (
    b"{",
    b"\xff\xfe",
    b"[]",
    b'{"event_id": "e"}',
    b'{"event_id": 1, "account_id": "a", "occurred_at": 2}',
    None,
    b"",
)


def killed(place, records, *, kills, draw, per_s):
    """Kill a worker ``kills`` times while records come, and let it go on; where each record landed."""
    with Load(place, records, per_s) as load, Kept(place) as kept:
        for number in range(kills):
            if number % 4 == 3:  # perhaps before it has joined, or while it restores
                time.sleep(draw.uniform(0, 15))
            else:
                kept.until_working()
                time.sleep(draw.uniform(0, 2))
            at = kept.kill()
        kept.until_working()
        MEASURED.append(f"{time.monotonic() - at:5.1f} s from a SIGKILL to the next record")
        load.finish()
        place.settled(kept)
        kept.stop()
    return load.landed


def by_lot(broker, folder, *, kills, seed, accounts, per_s):
    crowd, draw = Crowd(accounts, seed), random.Random(seed)
    with faulty_world(broker.bootstrap_servers, folder) as place:
        killed(place, records_of(crowd), kills=kills, draw=draw, per_s=per_s)
        return judged(place, crowd.lines)


def three_kills(broker, folder):
    return by_lot(broker, folder, kills=3, seed=1, accounts=600, per_s=120)


def twenty_kills(broker, folder):
    return by_lot(broker, folder, kills=20, seed=2, accounts=4000, per_s=100)


@pytest.mark.parametrize(
    "_case",
    [
        pytest.param("three", marks=pytest.mark.story("three_kills")),
        pytest.param("twenty", marks=[pytest.mark.story("twenty_kills"), pytest.mark.long]),
    ],
)
def test_whenever_a_worker_is_killed_nothing_is_lost_and_nothing_counts_twice(told, _case):
    told.check()


def poison(broker, folder):
    """Nearly every third record is bad, and the worker is killed in between."""
    crowd, draw = Crowd(300, 3), random.Random(3)
    records, bad = [], set()
    for record in records_of(crowd):
        while draw.random() < 0.3:
            bad.add(len(records))
            records.append((draw.choice((record[0], None)), draw.choice(BAD)))
        records.append(record)
    with faulty_world(broker.bootstrap_servers, folder) as place:
        landed = killed(place, records, kills=1, draw=draw, per_s=300)
        origins = {(sent.partition, sent.offset) for number, sent in enumerate(landed) if number % len(records) in bad}
        letters = [record.json for record in place.read("dead-letters.v1")]
        return judged(place, crowd.lines), origins, letters, len(bad) / len(records)


@pytest.mark.story("poison")
def test_a_flood_of_bad_records_costs_no_good_one(told):
    verdict, *_, share = told
    assert share > 0.25
    verdict.check()


@pytest.mark.story("poison")
def test_every_bad_record_is_set_aside_and_no_other(told):
    _, origins, letters, _ = told
    assert {(letter["partition"], letter["offset"]) for letter in letters} == origins
