"""What a provider says of accounts, on its own topic, reaches the decisions of a live worker; bad records set aside."""

import time

import orjson
import pytest
from live import decisions, world

from streamdetect.kafka.plan import ACCOUNTS

pytestmark = pytest.mark.needs("admin")

DAY_MS = 86_400_000
POLICY = """
id = "accounts"
version = 1
mode = "live"
round_ms = 10_000
[[rules]]
id = "new-and-busy"
when = 'requests_1m >= 3 and tier == "T0"'
action = "verify"
ttl = "1h"
reason_code = "policy"
"""


@pytest.fixture(scope="module")
def place(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("accounts")
    (folder / "policy.toml").write_text(POLICY)
    with world(broker.bootstrap_servers, folder, POLICY_FILE=str(folder / "policy.toml")) as made:
        yield made


def test_age_and_standing_come_from_the_account_topic(place):
    now = time.time_ns() // 1_000_000
    told = {
        "new": {"created_at": now - DAY_MS, "tier": "paid"},
        "new-unpaid": {"created_at": now - 400 * DAY_MS, "tier": "unpaid"},
        "old": {"created_at": now - 400 * DAY_MS, "tier": "paid", "verified_at": now - 300 * DAY_MS},
        "nothing-said": {},
    }
    records = [(name.encode(), orjson.dumps({"account_id": name, **fields})) for name, fields in told.items()]
    bad = (b"bad", orjson.dumps({"account_id": "bad", "created_at": "yesterday"}))
    place.send([*records[:2], bad, *records[2:]], topic=place.topic(ACCOUNTS))
    worker = place.start()
    place.settled(worker)

    names = [*told, "never-heard-of"]
    place.events([{"event_id": f"e{n}", "account_id": name, "occurred_at": now} for name in names for n in range(3)])
    place.settled(worker)

    assert {decision["subject"]["value"] for decision in decisions(place)} == {"new", "new-unpaid"}
    (letter,) = [record.json for record in place.read("dead-letters.v1")]
    assert (letter["topic"], letter["code"], letter["field"]) == (place.topic(ACCOUNTS), "wrong_type", "created_at")


def test_a_tombstone_takes_the_standing_back(place):
    (worker,) = place.workers
    now = time.time_ns() // 1_000_000
    place.send([(b"later", orjson.dumps({"account_id": "later", "tier": "unpaid"}))], topic=place.topic(ACCOUNTS))
    place.send([(b"later", None)], topic=place.topic(ACCOUNTS))
    place.settled(worker)

    place.events([{"event_id": f"e{n}", "account_id": "later", "occurred_at": now} for n in range(3)])
    place.settled(worker)

    assert "later" not in {decision["subject"]["value"] for decision in decisions(place)}
    assert worker.stop() == 0, worker.log
