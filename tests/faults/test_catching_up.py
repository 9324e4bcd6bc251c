"""A worker that was down for six hours, on the wall clock: no burst, nothing that is over, releases at once, in order.

The hours are in the records: their stamps and event times lie in the past, as if they had waited all the while.
"""

import time
from collections import Counter
from dataclasses import dataclass

import orjson
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from live import decisions, until
from load import Kept, faulty_world

from streamdetect.kernels.packed import LINKS, unpack
from streamdetect.sandbox.ready import admin_client
from streamdetect.worker.chunks import ChunkLimits

pytestmark = pytest.mark.needs("admin")

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
PER_MINUTE, CHUNK, SKEW_MS = 5, 10, 10 * MINUTE_MS
YOUNG, OVER, STANDING = 8, 12, 20  # accounts: with one text; whose restriction is over; whose is not
POLICY = f"""
id = "catching-up"
version = 1
mode = "live"
round_ms = 10_000
max_skew_ms = {SKEW_MS}
[[rules]]
id = "shared-template"
when = "template_young_1d >= {YOUNG} and template_trusted_1d == 0 and not trusted"
action = "verify"
ttl = "24h"
reason_code = "shared_content"
[[rules]]
id = "short"
when = "requests_1m >= 3"
action = "rate_limit"
params = {{ unit = "requests", limit = 60, period = "minute" }}
ttl = "1h"
reason_code = "rate_exceeded"
[[rules]]
id = "long"
when = "input_tokens_1m >= 1000"
action = "rate_limit"
params = {{ unit = "input_tokens", limit = 60, period = "minute" }}
ttl = "24h"
reason_code = "rate_exceeded"
[associations.suspect_young]
template = {YOUNG}
"""
TEXT = "summarise the attached quarterly report and list each risk it names with the page on which it is found, number"


@dataclass
class Told:
    before: Counter
    log: list
    enforced: list
    tombstones: set
    rows: dict  # links partition -> (source partition, event time) in the order of processing
    ends: dict  # source partition -> time of its last event


def event(account, at, number=0, **fields):
    return {"event_id": f"{account}/{number}", "account_id": account, "occurred_at": at, **fields}


def young(now):
    fields = {"prompt": TEXT, "account_created_at": now - DAY_MS}
    return [event(f"young-{n}", now - 7 * HOUR_MS + n, **fields) for n in range(YOUNG)]


def backlog(now):
    """What is decided on comes first in each partition; partition 0 has few records an hour and the others many."""
    start = now - 6 * HOUR_MS
    old = {"prompt": TEXT, "account_created_at": now - 400 * DAY_MS, "account_tier": "verified"}
    parts = [[], [], [], []]
    for n in range(3):
        parts[n].append(event(f"old-{n}", start + n, org_id=f"org-{n}", **old))
    for n in range(OVER):
        parts[n % 4] += [event(f"over-{n}", start + 10 + k, k) for k in range(3)]
    for n in range(STANDING):
        parts[n % 4].append(event(f"standing-{n}", start + 20, input_tokens=5000))
    for home, count in enumerate((60, 600, 600, 600)):
        for n in range(count):
            at = start + 1000 + (6 * HOUR_MS - 2000) * n // count
            parts[home].append(event(f"filler-{home}-{n}", at, client_ip=f"10.{home}.{n // 200}.{n % 200}"))
    return parts


def send(place, events, **options):
    stamps = [one["occurred_at"] for one in events]
    records = [(one["account_id"].encode(), orjson.dumps(one)) for one in events]
    place.send(records, timestamps_ms=stamps, **options)


def six_hours(broker, folder):
    settings = {"CLOCK": "wall", "CHUNK_RECORDS": str(CHUNK)}
    with faulty_world(broker.bootstrap_servers, folder, POLICY, **settings) as place:
        keep_stamps(place)
        now = time.time_ns() // 1_000_000
        with Kept(place, LAG_MAX_S="1e9") as first:
            send(place, young(now))
            place.settled(first)
            first.stop()
        before = Counter(decision["status"] for decision in decisions(place, "enforcement.v1"))
        seen = len(decisions(place)), len(decisions(place, "enforcement.v1"))
        parts = backlog(now)
        for home, events in enumerate(parts):
            send(place, events, partition=home)
        with Kept(place, RESTRICTIONS_PER_MINUTE=str(PER_MINUTE)) as second:
            place.settled(second)
            until(lambda: len(decisions(place, "enforcement.v1")) >= seen[1] + PER_MINUTE, "what may pass to pass")
            until(lambda: second.metric("queue_records", queue="brake") == STANDING - PER_MINUTE, "the rest to wait")
            second.stop()
        newest = {record.key: record.value for record in place.read("enforcement.v1")}
        return Told(
            before,
            decisions(place)[seen[0] :],
            decisions(place, "enforcement.v1")[seen[1] :],
            {key.decode() for key, value in newest.items() if value is None},
            rows_of(place),
            {home: events[-1]["occurred_at"] for home, events in enumerate(parts)},
        )


def keep_stamps(place):
    """Let records keep the stamps they are sent with."""
    entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, place.requests, incremental_configs=[entry])
    admin = admin_client(place.bootstrap)
    for changed in admin.incremental_alter_configs([resource]).values():
        changed.result()


def rows_of(place):
    found = {}
    for record in place.read("links.v1"):
        packed = unpack(LINKS, record.value)
        times = packed.columns["occurred_at"].tolist()
        found.setdefault(record.partition, []).extend((packed.source_partition, at) for at in times)
    return found


def status_of(told, prefix):
    return Counter(d["status"] for d in told.log if d["subject"]["value"].startswith(prefix))


@pytest.mark.story("six_hours")
def test_releases_pass_however_far_behind_the_worker_is(told):
    assert told.before == {"issued": YOUNG}
    assert status_of(told, "young") == {"released": YOUNG}
    assert told.tombstones == {f"account:young-{number}" for number in range(YOUNG)}


@pytest.mark.story("six_hours")
def test_what_is_over_by_now_is_logged_and_not_put_in_force(told):
    assert status_of(told, "over") == {"lapsed": OVER}
    assert [d for d in told.enforced if d["expires_at"] <= d["published_at"]] == []


@pytest.mark.story("six_hours")
def test_restrictions_wait_until_the_worker_has_caught_up_and_then_pass_by_the_minute(told):
    assert status_of(told, "standing") == {"held": STANDING, "issued": PER_MINUTE}
    assert {d["subject"]["value"].split("-")[0] for d in told.enforced} == {"standing"}
    times = sorted(d["published_at"] for d in told.enforced)
    assert all(late - early > MINUTE_MS for early, late in zip(times, times[PER_MINUTE:], strict=False))


@pytest.mark.story("six_hours")
def test_no_partition_runs_ahead_of_the_others_by_more_than_the_policy_says(told):
    ahead_max = SKEW_MS + ChunkLimits().span_ms
    assert len(told.rows) == 4
    for rows in told.rows.values():
        newest = dict.fromkeys(range(4), 0)
        for source, at in rows:
            others = [time_ms for other, time_ms in newest.items() if other != source]
            assert max(others) <= at + ahead_max
            newest[source] = max(at, newest[source])
        assert {source for source, _ in rows} == set(range(4))
