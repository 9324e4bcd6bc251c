"""The brake on the wall clock, in a live worker with events of now: a few pass, the others are logged, releases pass.

Twenty young accounts share one text and are to be verified; three trusted organisations that use it as well clear them.
"""

import time

import pytest
from live import decisions, until, world

pytestmark = pytest.mark.needs("admin")

PER_MINUTE, ACCOUNTS = 5, 20
DAY_MS = 86_400_000
TEXT = "summarise the attached quarterly report and list each risk it names with the page on which it is found, number"
POLICY = """
id = "brake"
version = 1
mode = "live"
round_ms = 10_000
[[rules]]
id = "shared-template"
when = "template_young_1d >= 20 and template_trusted_1d == 0 and not trusted"
action = "verify"
ttl = "24h"
reason_code = "shared_content"
[[rules]]
id = "greedy"
when = "requests_1m >= 3"
action = "suspend"
ttl = "1h"
reason_code = "rate_exceeded"
[caps]
suspend_per_hour = 0
"""


def event(account, **fields):
    now = time.time_ns() // 1_000_000
    values = {"event_id": f"e-{account}", "account_id": account, "occurred_at": now, "prompt": TEXT, "org_id": account}
    return {**values, "account_created_at": now - DAY_MS, **fields}


@pytest.fixture(scope="module")
def braked(broker, tmp_path_factory):
    """A worker after the twenty, its topics, and when the first of them was sent."""
    folder = tmp_path_factory.mktemp("brake")
    (folder / "policy.toml").write_text(POLICY)
    environment = {"POLICY_FILE": str(folder / "policy.toml"), "RESTRICTIONS_PER_MINUTE": str(PER_MINUTE)}
    with world(broker.bootstrap_servers, folder, **environment) as made:
        worker = made.start().ready()
        made.events([event(f"young-{number}") for number in range(ACCOUNTS)])
        made.settled(worker)
        yield made, worker


def by_status(made):
    """Subjects by the status of their decisions."""
    found = {}
    for decision in decisions(made):
        found.setdefault(decision["status"], []).append(decision["subject"]["value"])
    return found


def test_five_of_twenty_are_enforced_within_the_minute_and_the_rest_is_logged_as_held(braked):
    made, worker = braked
    found = by_status(made)
    everyone = {f"young-{number}" for number in range(ACCOUNTS)}
    assert (len(found["issued"]), len(found["held"])) == (PER_MINUTE, ACCOUNTS - PER_MINUTE)
    assert set(found["issued"]) | set(found["held"]) == everyone
    enforced = decisions(made, "enforcement.v1")
    assert sorted(decision["subject"]["value"] for decision in enforced) == sorted(found["issued"])
    assert {(decision["action"], decision["status"]) for decision in enforced} == {("verify", "issued")}
    assert worker.metric("held_total", by="brake") == ACCOUNTS - PER_MINUTE
    # The tick that would let them pass has come and gone.
    until(lambda: worker.metric("queue_records", queue="brake") == ACCOUNTS - PER_MINUTE, "the gauge of what waits")
    assert len(decisions(made, "enforcement.v1")) == PER_MINUTE


def test_what_a_cap_holds_is_not_counted_as_held_by_the_brake(braked):
    made, worker = braked
    before = worker.metric("held_total", by="brake")
    made.events([event("greedy", event_id=f"e-{number}", prompt="more") for number in range(3)])
    made.settled(worker)
    held = [decision for decision in decisions(made) if decision["subject"]["value"] == "greedy"]
    assert [(decision["action"], decision["status"]) for decision in held] == [("suspend", "held")]
    assert (worker.metric("held_total", by="cap"), worker.metric("held_total", by="brake")) == (1, before)


def test_releases_pass_at_once_and_what_was_held_is_held_no_more(braked):
    made, worker = braked
    old = {"account_created_at": time.time_ns() // 1_000_000 - 400 * DAY_MS, "account_tier": "verified"}
    made.events([event(f"trusted-{number}", **old) for number in range(3)])
    made.settled(worker)
    found = by_status(made)
    assert set(found["released"]) == {f"young-{number}" for number in range(ACCOUNTS)}
    assert len(found["issued"]) == PER_MINUTE
    newest = {record.key: record.value for record in made.read("enforcement.v1")}
    assert {key: value for key, value in newest.items() if not key.startswith(b"heartbeat:")} == {
        f"account:young-{number}".encode(): None for number in range(ACCOUNTS)
    }
    until(lambda: worker.metric("queue_records", queue="brake") == 0, "an empty queue")
    assert worker.stop() == 0, worker.log
