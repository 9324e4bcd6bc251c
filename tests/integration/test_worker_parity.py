"""Law 4: what a live worker does with a stream, and what replay does with the same events, is the same per subject.

The file is sent at many times life, which is the hard case: a tenth of a second on the way is minutes of event time, so
the live worker decides later, on more evidence. The strongest action against each subject must be the same.
"""

import orjson
import pytest
from live import ROOT, decisions, world

from streamdetect.pipeline.decisions.policy import default_text

pytestmark = pytest.mark.needs("admin")

LEVELS = {"observe": 1, "rate_limit": 2, "verify": 3, "suspend": 4}
DAY_S, RUN_S = 86_400, 12


def strongest(found):
    """The strongest action taken against each subject."""
    levels = {}
    for decision in found:
        subject = (decision["subject"]["scope"], decision["subject"]["value"])
        if decision["status"] in ("issued", "renewed"):
            levels[subject] = max(levels.get(subject, 0), LEVELS[decision["action"]])
    return levels


def lower(text):
    """The shipped policy with bounds that a few hundred accounts reach."""
    for old, new in (("_young_1d >= 20", "_young_1d >= 5"), ("young_accounts_1h >= 20", "young_accounts_1h >= 3"),
                     ("payment_young_1d >= 5", "payment_young_1d >= 3")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    return (
        text.replace("template = 20", "template = 5")
        .replace("subnet = 20", "subnet = 3")
        .replace("payment = 5", "payment = 3")
    )


@pytest.fixture(scope="module")
def both(broker, tmp_path_factory):
    """Decisions of replay and of a live worker over one file."""
    folder = tmp_path_factory.mktemp("parity")
    assert ROOT.is_dir()
    (folder / "policy.toml").write_text(lower(default_text()))
    with world(broker.bootstrap_servers, folder, POLICY_FILE=str(folder / "policy.toml"), CLOCK="event") as made:
        for command in (
            ("simulate", "C2+L5", "--output", "traffic", "--seed", "11", "--scale", "0.003", "--days", "1"),
            ("replay", "traffic/requests.jsonl.gz", "--output", "replayed", "--policy", "policy.toml"),
        ):
            ended = made.run(*command)
            assert ended.returncode == 0, ended.stderr
        worker = made.start("--mode", "live").ready()
        ended = made.run("produce", "traffic/requests.jsonl.gz", "--speed", str(DAY_S // RUN_S), "--json")
        assert ended.returncode == 0, ended.stderr
        made.settled(worker)
        summary = orjson.loads((folder / "replayed" / "summary.json").read_bytes())
        replayed = [orjson.loads(line) for line in (folder / "replayed" / "decisions.jsonl").read_bytes().splitlines()]
        assert worker.metric("events_total", topic=made.requests) == summary["events"]
        assert worker.metric("late_total") == summary["late"] == 0
        yield replayed, decisions(made), decisions(made, "enforcement.v1")


def test_live_and_replay_reach_the_same_strongest_action_per_subject(both):
    replayed, live, _ = both
    wanted, found = strongest(replayed), strongest(live)
    assert len(wanted) > 20
    assert len(set(wanted.values())) > 1
    differing = {
        subject: (wanted.get(subject), found.get(subject))
        for subject in wanted.keys() | found.keys()
        if wanted.get(subject) != found.get(subject)
    }
    assert differing == {}


def test_what_is_enforced_is_the_log_without_what_only_observes(both):
    _, live, enforced = both
    wanted = {subject: level for subject, level in strongest(live).items() if level > LEVELS["observe"]}
    assert wanted
    assert strongest(enforced) == wanted
