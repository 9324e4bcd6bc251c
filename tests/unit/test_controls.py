"""What a worker does with records of the policy and overrides topics; the topics themselves are not needed for that."""

import io
import time

import orjson
import pytest
from override_reference import allow, kill, override
from pipeline_reference import START, event, lines, low_policy, other_policy

from streamdetect.kafka.fold import VANISHED, Record
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.telemetry.logs import configure_logs
from streamdetect.worker.controls import Controls
from streamdetect.worker.detector import Detector


@pytest.fixture
def logged():
    """Give what is logged, as objects."""
    stream = io.StringIO()
    configure_logs("info", stream=stream, json=True)
    return lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]


class Told:
    """A worker's controls, its detector with one partition, and what was lifted."""

    def __init__(self, **settings):
        self.settings = Settings(**settings)
        self.metrics = Metrics()
        self.detector = Detector(
            low_policy(), "live", ("requests",), 1, lambda policy: self.settings.mode or policy.model.mode
        )
        self.shard = self.detector.shard(0)
        self.controls = Controls(self.settings, low_policy(), self.detector, self.metrics)
        self.lifted = []
        self.controls.lifted = lambda partition, decisions: self.lifted.extend(decisions)
        self.events = 0

    def policy(self, text, key=b"default", offset=7):
        value = text if text is None or isinstance(text, bytes) else text.encode()
        self.controls.take_policy(Record(key, value, 0, offset))

    def override(self, key, value):
        self.controls.take_override(Record(key.encode(), value if value is None else value.to_bytes(), 0, 3))

    def ask(self, count=5, account="ann"):
        """Decisions on some events of one account within a second."""
        sent = [event(f"{self.events}-{n}", account, START + n, account_created_at=START) for n in range(count)]
        self.events += 1
        chunk = lines(sent)
        chunk.offsets[:] += 1000 * self.events
        return self.detector.requests(chunk).decisions

    def count(self, name, *labels):
        return self.metrics.counter(name).labels(*labels)._value.get()


def test_a_policy_is_taken_and_stands_in_decisions(logged):
    told = Told()
    told.policy(other_policy().text)

    (decision,) = told.ask()

    assert decision.policy.hash == other_policy().hash
    assert told.count("policies", "taken") == 1
    (line,) = [line for line in logged() if line["event"] == "policy taken"]
    assert (line["policy_hash"], line["version"]) == (other_policy().hash, 2)


@pytest.mark.parametrize(
    ("spoil", "placed", "says"),
    [
        (lambda text: text.replace("requests_1m > 1", "requests_1n > 1"), True, "requests_1n"),
        (lambda text: text.replace("version = 2", "version = "), True, "Invalid value"),
        (lambda text: text.replace('id = "default"', 'id = "another"'), False, "its key is default"),
        (lambda text: text.encode().replace(b"[ladder]", b"\xff"), True, "UTF-8"),
        (lambda text: "", True, "missing"),
        # Python's reader of numbers gives up on so many digits.
        (lambda text: text.replace("version = 2", "version = " + "9" * 5000), False, "policy.v1"),
    ],
)  # fmt: skip
def test_a_bad_policy_is_refused_with_its_place_and_the_old_stays(logged, spoil, placed, says):
    told = Told()
    told.policy(other_policy().text)
    told.ask()
    told.policy(spoil(other_policy().text))

    (decision,) = told.ask(account="bob")

    assert decision.policy.hash == other_policy().hash
    assert told.count("policies", "refused") == 1
    (refused,) = [one for one in logged() if one["event"] == "policy refused"]
    assert (refused["column"] > 0) == placed
    assert says in refused["problem"]
    assert "policy.v1 offset 7" in refused["problem"]


def test_after_a_bad_policy_a_successor_goes_on_with_the_one_in_effect():
    """The topic is compacted: all it has by then is the bad one."""
    told = Told()
    told.policy(other_policy().text.replace('mode = "live"', 'mode = "shadow"'))
    told.ask()
    (in_effect,) = {told.shard.accounts.policy.hash}
    image = told.shard.capture(0)

    successor = Told()
    successor.policy("no policy")
    shard = successor.detector.new_shard()
    shard.restore([image])
    successor.detector.add(0, shard)

    assert (shard.accounts.policy.hash, shard.accounts.mode) == (in_effect, "shadow")
    assert in_effect != low_policy().hash
    # Taken back is not refused: the file counts.
    successor.policy(None)
    third = successor.detector.new_shard()
    third.restore([image])
    successor.detector.add(0, third)
    assert third.accounts.policy.hash == low_policy().hash


def test_policies_of_other_ids_are_nobodys_business_here():
    told = Told()
    told.policy(other_policy().text.replace('id = "default"', 'id = "another"'), key=b"another")
    assert [decision.policy.hash for decision in told.ask()] == [low_policy().hash]
    assert told.count("policies", "taken") == 0


@pytest.mark.parametrize("offset", [8, VANISHED])
def test_a_policy_that_is_taken_back_before_its_time_never_comes(offset):
    told = Told()
    told.policy(other_policy(START + 2).text)
    assert told.detector.waits
    told.policy(None, offset=offset)

    assert not told.detector.waits
    assert [decision.policy.hash for decision in told.ask()] == [low_policy().hash]


@pytest.mark.parametrize(("setting", "simulated"), [(None, False), ("shadow", True), ("live", False)])
def test_the_mode_of_the_setting_goes_before_that_of_the_policy(setting, simulated):
    told = Told(mode=setting)
    told.policy(other_policy().text.replace('mode = "shadow"', 'mode = "live"'))
    assert [decision.simulated for decision in told.ask()] == [simulated]
    assert told.detector.mode_in(0) == (setting or "live")


def test_an_allow_lifts_and_what_comes_back_is_pardoned():
    told = Told()
    assert [decision.status for decision in told.ask()] == ["issued"]
    told.override(*allow("account:ann"))
    assert [decision.status for decision in told.lifted] == ["released"]
    told.override("account:ann", None)

    assert told.ask(1) == []
    assert (told.count("overrides", "allow"), told.count("overrides", "cleared")) == (1, 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("account:ann", b"{"),
        ("account:bob", override("account:ann").to_bytes()),
        ("account:ann", b"{}"),
        ("\x00", b"\xff"),
    ],
)
def test_an_override_that_cannot_be_read_is_counted_and_leaves_things_as_they_were(key, value):
    told = Told()
    told.override(*allow("account:ann"))
    told.controls.take_override(Record(key.encode(), value, 0, 4))

    assert [decision.simulated for decision in told.ask()] == [True]
    assert told.count("overrides", "unreadable") == 1


def test_the_kill_switch_is_known_by_wall_clock_to_the_brake():
    told = Told()
    assert not told.controls.killed()
    told.override(*kill(expires_at=int(time.time() * 1000) - 1))
    assert not told.controls.killed()
    told.override(*kill())
    assert told.controls.killed()
    assert [decision.simulated for decision in told.ask()] == [True]
    told.override("global:enforcement", None)
    assert not told.controls.killed()
    assert [decision.simulated for decision in told.ask(account="bob")] == [False]


def test_the_kill_switch_is_on_until_it_is_over_by_the_clock_that_is_asked():
    told = Told()
    assert not told.controls.killed(START)
    told.override(*kill(START + 10))
    assert told.controls.killed(START + 9)
    assert not told.controls.killed(START + 10)
    assert not told.controls.killed(), "it was over long ago by the clock on the wall"
    told.override(*kill())
    assert told.controls.killed(START + 10)
    assert told.controls.killed()
