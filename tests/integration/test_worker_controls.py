"""What people tell: commands, the topics they write, gateways with no worker alive, and a worker that follows."""

import asyncio
import time

import orjson
import pytest
from live import decisions, until, world

from streamdetect.enforcer.client import GatewayClient, GatewayRequest
from streamdetect.kafka.plan import ENFORCEMENT, OVERRIDES, POLICY
from streamdetect.kafka.topics import create_and_check
from streamdetect.messages.decision import Decision, Heartbeat
from streamdetect.pipeline.decisions.policy import load_policy

DAY_MS = 86_400_000
SOON_S = 1.0
POLICY_TEXT = """
id = "told"
version = {version}
mode = "live"
round_ms = 10_000
[[rules]]
id = "many"
when = "requests_1m >= {many}"
action = "rate_limit"
params = {{ unit = "requests", limit = 60, period = "minute" }}
ttl = "1h"
reason_code = "rate_exceeded"
"""


def now_ms():
    return time.time_ns() // 1_000_000


def policy(version, many):
    return POLICY_TEXT.format(version=version, many=many)


def hash_of(version, many):
    return load_policy(policy(version, many)).hash


def done(ended):
    assert ended.returncode == 0, ended.stderr
    return orjson.loads(ended.stdout)


# Gateways, with no worker alive


@pytest.fixture
def gateways(broker, tmp_path):
    admin = "admin" in broker.abilities
    with world(broker.bootstrap_servers, tmp_path, TOPIC_ADMIN=str(admin).lower()) as made:
        made.settings = made.settings.model_copy(update={"topic_admin": admin})
        asyncio.run(create_and_check(made.settings))
        yield made


def suspended(account, now):
    return Decision(
        decision_id=f"d-{account}", revision=1, subject={"scope": "account", "value": account}, action="suspend",
        status="issued", mode="live", origin="rule", issued_at=now, expires_at=now + DAY_MS,
        policy={"id": "p", "version": 1, "hash": "h"}, reason_code="policy",
    )  # fmt: skip


async def becomes(condition, since_s, limit_s=SOON_S):
    """Wait for a change that must come within a second of ``since_s``."""
    while not condition():  # what is waited for lies on a broker
        assert time.monotonic() - since_s < limit_s, "not within a second"
        await asyncio.sleep(0.005)


async def told(made, *words):
    """Run a command beside the loop; its answer, and when it ended."""
    ended = await asyncio.to_thread(made.run, *words, "--actor", "alice", "--json")
    return done(ended), time.monotonic()


async def test_an_allow_and_the_kill_switch_reach_a_gateway_within_a_second_with_no_worker(gateways):
    made, now = gateways, now_ms()
    values = [(f"account:{name}".encode(), suspended(name, now).to_bytes()) for name in ("a:1", "b")]
    await asyncio.to_thread(made.send, values, topic=made.topic(ENFORCEMENT))
    async with GatewayClient(made.settings) as client:
        await client.until_ready()
        one, other = GatewayRequest("a:1"), GatewayRequest("b")
        assert client.check(one).denied
        assert client.check(other).denied

        answer, ended_s = await told(made, "override", "allow", "account:a:1", "--for", "1h", "--reason", "known")
        await becomes(lambda: not client.check(one).denied, ended_s)
        assert (answer["effect"], answer["actor"], answer["replaced"]) == ("allow", "alice", None)
        assert answer["expires_at"] - answer["created_at"] == 3_600_000
        assert client.check(other).denied

        answer, ended_s = await told(made, "kill", "on", "--reason", "a bad rule")
        await becomes(lambda: not client.check(other).denied, ended_s)
        assert "expires_at" not in answer
        answer, ended_s = await told(made, "kill", "off", "--reason", "mended")
        await becomes(lambda: client.check(other).denied, ended_s)
        assert answer["cleared"]["reason"] == "a bad rule"

        answer, ended_s = await told(made, "override", "clear", "account:a:1", "--reason", "over")
        await becomes(lambda: client.check(one).denied, ended_s)
        assert answer["cleared"]["effect"] == "allow"

        words = ("override", "deny", "subnet:2001:db8::/48", "--for", "90s", "--action", "verify", "--reason", "scan")
        _, ended_s = await told(made, *words)
        from_there = GatewayRequest("c", client_ip="2001:db8::1")
        await becomes(lambda: client.check(from_there).action == "verify", ended_s)


def test_what_was_written_is_said_in_words(gateways):
    first = gateways.run("override", "allow", "org:o", "--for", "7d", "--reason", "partner", "--actor", "alice")
    second = gateways.run("override", "deny", "org:o", "--for", "1h", "--reason", "abuse", "--actor", "bob")
    third = gateways.run("override", "clear", "org:o", "--reason", "enough", "--actor", "carol")
    fourth = gateways.run("override", "clear", "org:o", "--reason", "enough", "--actor", "carol")

    assert [ended.returncode for ended in (first, second, third, fourth)] == [0] * 4
    assert first.stdout.startswith("org:o: allow until 2")
    assert first.stdout.endswith("Z, by alice: partner\n")
    assert second.stdout.splitlines()[1].startswith("  instead of: allow until ")
    assert third.stdout.startswith("org:o: cleared by carol; it was: deny (suspend) until ")
    assert fourth.stdout == "org:o: there was no override\n"
    assert [record.value is None for record in gateways.read(OVERRIDES)] == [False, False, True]


def test_on_the_event_clock_an_override_lasts_by_the_detectors_time(gateways):
    words = ("override", "allow", "account:a", "--for", "1h", "--reason", "old data", "--actor", "alice", "--json")
    ended = gateways.run(*words, CLOCK="event")
    assert ended.returncode == 4
    assert "has no heartbeat" in ended.stderr
    beat = Heartbeat(partition=0, published_at=now_ms(), watermark=1_000_000, mode="live")
    gateways.send([(beat.key.encode(), beat.to_bytes())], topic=gateways.topic(ENFORCEMENT))
    assert done(gateways.run(*words, CLOCK="event"))["expires_at"] == 4_600_000


def test_a_missing_topic_is_told_at_once(gateways):
    if not gateways.settings.topic_admin:
        pytest.skip("topics appear by being asked for")
    began = time.monotonic()
    words = ("override", "allow", "account:a", "--for", "1h", "--reason", "r", "--actor", "alice")
    ended = gateways.run(*words, TOPIC_PREFIX="nowhere.")
    assert (ended.returncode, ended.stdout) == (4, "")
    (line,) = ended.stderr.splitlines()
    assert "topic nowhere.overrides.v1 is missing" in line
    assert time.monotonic() - began < 8


# A worker that follows


@pytest.fixture(scope="module")
def place(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    (folder / "policy.toml").write_text(policy(1, 100))
    with world(broker.bootstrap_servers, folder, POLICY_FILE=str(folder / "policy.toml")) as made:
        yield made


@pytest.fixture(scope="module")
def worker(place):
    started = place.start().ready()
    yield started
    assert started.stop() == 0, started.log


def apply(place, version, many, *words):
    file = place.folder / f"policy-{version}.toml"
    file.write_text(policy(version, many))
    return done(place.run("policy", "apply", str(file), "--actor", "alice", "--json", *words))


def ask(place, worker, account, count, at_ms=None):
    """Send some requests of an account; the decisions about it afterwards, oldest first."""
    at = now_ms() if at_ms is None else at_ms
    sent = [{"event_id": f"{account}/{at}/{n}", "account_id": account, "occurred_at": at} for n in range(count)]
    place.events(sent)
    place.settled(worker)
    found = [one for one in decisions(place) if one["subject"]["value"] == account]
    return sorted(found, key=lambda one: one["revision"])


def taken(worker, count):
    until(lambda: worker.metric("policies_total", status="taken") >= count, "the worker has read the policy")


@pytest.mark.needs("admin")
def test_a_policy_that_is_applied_takes_effect_and_its_hash_stands_in_decisions(place, worker):
    assert ask(place, worker, "before", 3) == []

    answer = apply(place, 2, 3)
    taken(worker, 1)
    (decision,) = ask(place, worker, "after", 3)

    assert (answer["hash"], answer["replaced"]) == (hash_of(2, 3), None)
    assert decision["policy"] == {"id": "told", "version": 2, "hash": hash_of(2, 3)}
    assert (decision["simulated"], decision["mode"]) == (False, "live")


@pytest.mark.needs("admin")
def test_a_bad_policy_is_refused_and_reported_and_the_old_stays(place, worker):
    apply(place, 3, 4)
    taken(worker, 2)
    bad = policy(4, 1).replace("requests_1m", "requests_1n")
    place.send([(b"told", bad.encode())], topic=place.topic(POLICY))
    until(lambda: worker.metric("policies_total", status="refused") == 1, "the refusal")

    (decision,) = ask(place, worker, "refused", 4)

    assert decision["policy"]["version"] == 3
    (line,) = [orjson.loads(line) for line in worker.log.splitlines() if '"policy refused"' in line]
    assert (line["line"], line["column"]) == (8, 9)
    assert "did you mean requests_1" in line["problem"]
    assert worker.alive()


@pytest.mark.needs("admin")
def test_a_policy_waits_for_its_event_time(place, worker):
    at = now_ms() + 60_000
    apply(place, 5, 2, "--effective-at", str(at))
    taken(worker, 3)
    assert ask(place, worker, "early", 3, at - 1000) == []
    until(lambda: worker.metric("policy_waiting") == 1, "the gauge")

    (decision,) = ask(place, worker, "timely", 2, at)

    assert decision["policy"]["version"] == 5


@pytest.mark.needs("admin")
def test_an_allow_lifts_what_is_in_force_and_nothing_comes_back_for_the_same_requests(place, worker):
    apply(place, 6, 4)
    taken(worker, 4)
    (issued,) = ask(place, worker, "known", 4)
    assert issued["status"] == "issued"

    done(place.run("override", "allow", "account:known", "--for", "1h", "--reason", "r", "--actor", "al", "--json"))
    until(lambda: len(decisions_on(place, "known")) == 2, "the release")
    _, lifted = decisions_on(place, "known")
    assert (lifted["status"], lifted["origin"], lifted["reasons"][0]["signal"]) == ("released", "human", "allow")
    newest = [record.value for record in place.read(ENFORCEMENT) if record.key == b"account:known"]
    assert newest[-1] is None

    # What comes while it lasts is logged and not enforced; what comes afterwards counts from then on.
    assert [one["simulated"] for one in ask(place, worker, "known", 1)] == [False, False, True]
    done(place.run("override", "clear", "account:known", "--reason", "r", "--actor", "al", "--json"))
    until(lambda: worker.metric("overrides_total", kind="cleared") == 1, "the worker has read it")
    assert len(ask(place, worker, "known", 3)) == 3
    *_, again = ask(place, worker, "known", 1)
    assert (again["status"], again["simulated"], again["reasons"][0]["value"]) == ("issued", False, 4)


def decisions_on(place, account):
    return [one for one in decisions(place) if one["subject"]["value"] == account]


@pytest.mark.needs("admin")
def test_while_the_kill_switch_is_on_decisions_are_logged_and_not_enforced(place, worker):
    done(place.run("kill", "on", "--reason", "r", "--actor", "al", "--json"))
    until(lambda: worker.metric("kill_switch") == 1, "the worker has read it")
    (killed,) = ask(place, worker, "killed", 4)
    assert (killed["simulated"], killed["reasons"][-1]["signal"]) == (True, "kill")

    done(place.run("kill", "off", "--reason", "r", "--actor", "al", "--json"))
    until(lambda: worker.metric("kill_switch") == 0, "the worker has read it")
    assert [one["simulated"] for one in ask(place, worker, "killed", 4)] == [True, False]


@pytest.mark.needs("admin")
def test_a_worker_that_starts_knows_what_was_told_before_its_first_record(place, worker):
    """A second group on the same topics, from the start: every record is judged by what is on the topics now."""
    done(place.run("override", "allow", "account:after", "--for", "1h", "--reason", "r", "--actor", "al", "--json"))
    apply(place, 7, 3)
    with world(place.bootstrap, place.folder, POLICY_FILE=str(place.folder / "policy.toml")) as fresh:
        for topic in (POLICY, OVERRIDES):
            fresh.send([(record.key, record.value) for record in place.read(topic)], topic=fresh.topic(topic))
        fresh.send([(record.key, record.value) for record in place.read(place.requests)])
        started = fresh.start()
        fresh.settled(started)
        found = decisions(fresh)
        assert {one["policy"]["version"] for one in found} == {7}
        assert {one["simulated"] for one in found if one["subject"]["value"] == "after"} == {True}
        assert started.stop() == 0, started.log
