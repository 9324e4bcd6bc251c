"""Golden scenarios: what the shipped policy does to small, committed traffic.

``STREAMDETECT_UPDATE_GOLDEN=1`` rewrites the files; then read the difference, and the ``why.md`` beside it.
"""

import os
import sys
from pathlib import Path
from random import Random

import orjson
import pytest

from streamdetect.kernels.chunk import chunk_of
from streamdetect.messages.policy import ACTIONS
from streamdetect.pipeline.decisions.policy import default_policy
from streamdetect.replay.driver import Options, Replay

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from scenarios import AGENT, DAY_MS, NEW, OLD, SCENARIOS, START, WORDS, event, events_of  # noqa: E402  # the folder is no package

BYTES_MAX = 200_000
UPDATE = os.environ.get("STREAMDETECT_UPDATE_GOLDEN") == "1"
DECIDED_NOTHING = {"quiet", "refused_retries", "subnet_with_trusted", "template_with_trusted", "all_of_unknown_age"}


def decisions_of(data, **options):
    replay, decisions = Replay(default_policy(), Options(**options)), []
    for some in replay.push(chunk_of("golden", 0, data.splitlines())):
        decisions += some
    for some in replay.finish():
        decisions += some
    assert not replay.feed.dead_letters
    return decisions


def strongest(decisions):
    """By subject: the strongest action, the reason codes and how it ended."""
    found = {}
    for decision in decisions:
        entry = found.setdefault(decision.subject.key, {"action": "", "reason_codes": [], "last_status": ""})
        if decision.action in ACTIONS:
            entry["action"] = max(entry["action"], decision.action, key=["", *ACTIONS].index)
        entry["reason_codes"] = sorted({*entry["reason_codes"], decision.reason_code})
        entry["last_status"] = decision.status
    return dict(sorted(found.items()))


@pytest.fixture(params=sorted(SCENARIOS))
def scenario(request):
    folder = HERE / request.param
    if UPDATE:
        folder.mkdir(exist_ok=True)
        data = b"".join(orjson.dumps(one) + b"\n" for one in events_of(request.param))
        (folder / "events.jsonl").write_bytes(data)
        found = orjson.dumps(strongest(decisions_of(data)), option=orjson.OPT_INDENT_2) + b"\n"
        (folder / "expected.json").write_bytes(found)
    return folder


def test_the_shipped_policy_decides_what_is_expected(scenario):
    data = (scenario / "events.jsonl").read_bytes()

    expected = orjson.loads((scenario / "expected.json").read_bytes())
    assert strongest(decisions_of(data)) == expected
    assert strongest(decisions_of(data, partitions=3, batch_events=17)) == expected


def test_the_files_are_what_the_generator_makes(scenario):
    data = (scenario / "events.jsonl").read_bytes()

    assert data == b"".join(orjson.dumps(one) + b"\n" for one in events_of(scenario.name))
    assert len(data) < BYTES_MAX
    assert (scenario / "why.md").read_text().strip()


def test_every_folder_has_a_scenario():
    assert {path.parent.name for path in HERE.glob("*/events.jsonl")} == set(SCENARIOS)


def expected_of(name):
    return orjson.loads((HERE / name / "expected.json").read_bytes())


# What may never be rewritten away: the points of the scenarios, whatever the files say.


@pytest.mark.parametrize("name", sorted(DECIDED_NOTHING))
def test_honest_traffic_is_left_alone(name):
    assert expected_of(name) == {}


def test_hammering_is_limited_and_busy_is_not():
    assert {subject: entry["action"] for subject, entry in expected_of("hammering").items()} == {
        "account:hammer": "rate_limit"
    }


@pytest.mark.parametrize(
    ("name", "subjects"),
    [("subnet", {"subnet:192.0.2.0/24"}), ("subnet_v6", {"subnet:2001:db8:7:1::/64", "subnet:2001:db8:7::/56"})],
)
def test_young_accounts_of_one_network_are_slowed_as_a_network(name, subjects):
    assert {subject: entry["action"] for subject, entry in expected_of(name).items()} == dict.fromkeys(
        subjects, "rate_limit"
    )


def test_all_users_of_a_young_template_prove_themselves():
    found = expected_of("template")
    assert set(found) == {f"account:young-{number}" for number in range(30)}
    assert {entry["action"] for entry in found.values()} == {"verify"}


def test_a_trusted_user_lifts_what_the_template_brought():
    found = expected_of("template_cleared_later")
    assert {entry["last_status"] for entry in found.values()} == {"released"}
    assert len(found) == 30


def test_nobody_of_unknown_age_is_treated_harder_than_a_limit():
    found = expected_of("template_unknown_age")
    unknown = {subject: entry["action"] for subject, entry in found.items() if "unknown" in subject}
    assert set(unknown.values()) == {"rate_limit"}
    assert len(unknown) == 10


def test_content_and_money_together_suspend():
    found = expected_of("template_and_payment")
    assert [entry["action"] for entry in found.values()].count("suspend") == 30


def test_users_of_a_popular_agent_are_at_most_watched():
    assert {entry["action"] for entry in expected_of("agent").values()} <= {"observe"}


@pytest.mark.parametrize("field", ["system_prompt", "prompt"])
def test_an_agent_that_thousands_use_is_left_alone(field):
    """The whole text as the system prompt, or before each prompt; a user every 20 s, two in three of them new."""
    lines = []
    for number in range(3_000):
        created_at = (NEW, START - 20 * DAY_MS, START - 60 * DAY_MS, OLD, NEW, None)[number % 6]
        told = {"client_ip": f"10.{number % 250}.{number // 250}.5", "account_created_at": created_at}
        question = " ".join(Random(number).choices(WORDS, k=24))
        asked = {"prompt": f"{AGENT} {question}"} if field == "prompt" else {"prompt": question, "system_prompt": AGENT}
        lines.append(orjson.dumps(event(number, f"user-{number}", number * 20_000, **told, **asked)))

    decisions = decisions_of(b"\n".join(lines))

    assert {decision.action for decision in decisions} <= {"observe"}
