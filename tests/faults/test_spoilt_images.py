"""An image that cannot be read stops the worker with words that name place and way out; it never starts empty."""

from dataclasses import dataclass, field

import pytest
from crowd import Crowd
from live import until
from load import Kept, faulty_world, records_of
from verdict import Verdict, judged

from streamdetect.errors import ImageError, UnreachableError
from streamdetect.kafka.plan import CHANGELOG

pytestmark = pytest.mark.needs("admin")


@dataclass
class Told:
    verdict: Verdict
    endings: dict = field(default_factory=dict)  # what was done -> where, exit code, what was said


def changed(value, place, mask):
    raw = bytearray(value)
    raw[place] ^= mask
    return bytes(raw)


SPOILT = {
    "a bit of its payload": lambda value: changed(value, -1, 0x01),
    "its version": lambda value: changed(value, 4, 0x40),
    "all of it": lambda _value: b"hello",
}


def ending(place):
    """How a start ends, unless it was for the broker that it ended."""
    while (ended := place.run("worker", limit_s=180)).returncode == UnreachableError.exit_code:
        pass
    return ended


def spoilt(broker, folder):
    crowd = Crowd(150, 8)
    with faulty_world(broker.bootstrap_servers, folder) as place:
        with Kept(place) as kept:
            place.send(records_of(crowd))
            place.settled(kept)
            kept.stop()
        image = max((r for r in place.read(CHANGELOG) if r.partition == 2), key=lambda r: r.offset)
        told = {}
        for what, spoil in SPOILT.items():
            (sent,) = place.send([(image.key, spoil(image.value))], topic=image.topic, partition=2)
            ended = ending(place)
            told[what] = f"{image.topic}[2] offset {sent.offset}", ended.returncode, ended.stderr.splitlines()[-1]
        place.send([(image.key, image.value)], topic=image.topic, partition=2)
        with Kept(place) as again:
            until(lambda: again.partitions == "0123", "all partitions")
            again.stop()
        return Told(judged(place, crowd.lines), told)


@pytest.mark.story("spoilt")
@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_image_ends_the_start_and_is_named(told, what):
    where, code, said = told.endings[what]
    assert code == ImageError.exit_code
    assert said.startswith("streamdetect: ")
    assert where in said
    assert "streamdetect topics" in said


@pytest.mark.story("spoilt")
def test_once_it_is_readable_again_nothing_was_lost(told):
    told.verdict.check()
