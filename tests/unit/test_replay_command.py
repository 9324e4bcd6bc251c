"""The replay command with labels: what it writes, what it says, and what it refuses."""

import gzip
import math
import re
from random import Random
from xml.etree import ElementTree as ET

import orjson
import pytest

from streamdetect.cli.replay import replay
from streamdetect.cli.simulate import simulate
from streamdetect.errors import BadDataError, UsageError
from streamdetect.messages.decision import ACTIONS

PER_ACTION = ("time_to_first_s", "precision", "recall", "false_per_100k_account_days")


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """Simulate a small campaign among honest people."""
    folder = tmp_path_factory.mktemp("traffic")
    simulate("C2+L5", output=str(folder), seed=3, scale=0.002, days=0.3)
    return folder


def replayed(traffic, output, **options):
    options = {"labels": traffic / "labels.jsonl"} | options
    replay(str(traffic / "requests.jsonl.gz"), output=output, **options)
    summary = orjson.loads((output / "summary.json").read_bytes())
    return {name: value for name, value in summary.items() if name not in ("wall_seconds", "cpu_seconds")}


def test_the_summary_has_what_is_promised(traffic, tmp_path, capsys):
    summary = replayed(traffic, tmp_path / "open")
    text = capsys.readouterr().out

    plain = replayed(traffic, tmp_path / "plain", labels=None)
    assert plain == {name: summary[name] for name in plain}
    assert (tmp_path / "open/decisions.jsonl").read_bytes() == (tmp_path / "plain/decisions.jsonl").read_bytes()
    assert 0 < summary["leakage"] < 1
    assert set(summary["per_campaign"]) == {"C2"}
    assert {"C2", "L5", "background"} <= set(summary["per_cohort"])
    for group in (summary, *summary["per_campaign"].values(), *summary["per_cohort"].values()):
        assert set(group["exchanges_per_account"]) == {"median", "p95"}
        for name in PER_ACTION:
            assert tuple(group[name]) == ACTIONS
        assert {"leakage", "evaluation"} <= set(group)
    assert {"low", "high", "value"} <= set(summary["false_per_100k_account_days"]["suspend"])
    manifest = orjson.loads((traffic / "manifest.json").read_bytes())
    assert summary["evaluation"]["planned"] == manifest["cohorts"]["C2"]["planned_exchanges"]
    assert summary["evaluation"]["loop"] == "open"
    assert "open loop" in text
    assert "leakage: " in text


def test_the_closed_loop_reads_what_lies_beside_the_labels_and_repeats_itself(traffic, tmp_path, capsys):
    manifest = orjson.loads((traffic / "manifest.json").read_bytes())
    manifest["reactions"] = {"C2": {"gives_up_after": 2, "fail_overs": 1, "passes_verification_percent": 0}}
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest))

    def loop(name, **options):
        found = replayed(traffic, tmp_path / name, closed_loop=True, **options)
        return found, (tmp_path / name / "decisions.jsonl").read_bytes()

    told = loop("told", manifest=tmp_path / "manifest.json")
    assert loop("again", manifest=tmp_path / "manifest.json") == told
    stop, _ = loop("stop", reaction="stop")
    respawn, _ = loop("respawn", reaction="respawn")
    text = capsys.readouterr().out

    assumed = told[0]["evaluation"]["assumed"]["reactions"]["C2"]
    assert (assumed["gives_up_after"], assumed["fail_overs"]) == (2, 1)
    assert told[0]["evaluation"]["attackers"]["failed_over"] > 0
    assert stop["evaluation"]["attackers"]["accounts_given_up"] > 0
    assert "failed_over" not in stop["evaluation"]["attackers"]
    assert respawn["evaluation"]["attackers"]["accounts_bought"] > 0
    assert respawn["leakage"] > stop["leakage"]
    assert respawn["evaluation"]["campaign_accounts"] > stop["evaluation"]["campaign_accounts"]
    for summary in (told[0], stop, respawn):
        budget = summary["evaluation"]["budget"]
        assert budget["v0"] + budget["v_join"] + budget["v_miss"] == summary["evaluation"]["served"]
    assert "closed loop" in text
    assert "accounts bought" in text


@pytest.mark.parametrize("options", [{}, {"closed_loop": True}, {"labels": None}], ids=str)
def test_the_report_is_one_page_that_names_no_account_and_needs_no_network(traffic, tmp_path, options):
    pages = []
    for name in ("one", "other"):
        replayed(traffic, tmp_path / name, **options)
        pages.append((tmp_path / name / "report.html").read_text())

    assert pages[0] == pages[1]
    root = ET.fromstring(re.sub("<meta [^>]*>|<!doctype html>", "", pages[0]))
    titles = [one.text for one in root.iter("h2")]
    assert titles[-1] == "Decisions over time"
    assert len(root.findall(".//polyline")) >= (1 if "labels" in options else 7)
    assert (
        ("Leakage over time" in titles) == ("False actions on honest accounts" in titles) == ("labels" not in options)
    )
    assert "http" not in pages[0]
    assert "<script" not in pages[0]
    labels = [orjson.loads(line) for line in (traffic / "labels.jsonl").read_bytes().splitlines()]
    assert not [label for label in labels if label["account_id"] in pages[0]]


def test_decisions_of_any_detector_are_graded_from_their_file(traffic, tmp_path):
    ours = replayed(traffic, tmp_path / "ours")
    again = replayed(traffic, tmp_path / "again", decisions=tmp_path / "ours/decisions.jsonl")
    (tmp_path / "none.jsonl").write_bytes(b"")
    nothing = replayed(traffic, tmp_path / "nothing", decisions=tmp_path / "none.jsonl")

    for name in ("precision", "recall", "false_per_100k_account_days", "time_to_first_s"):
        assert again[name] == ours[name]
    # A decision made from evidence of an earlier round is in force one round sooner when it is read from a file.
    assert again["evaluation"]["served"] == pytest.approx(ours["evaluation"]["served"], rel=0.05)
    assert nothing["leakage"] == 1.0
    assert set(nothing["recall"].values()) == {0.0}


def test_the_summary_is_printed_as_json(traffic, tmp_path, capsys):
    replayed(traffic, tmp_path, json=True)

    printed = orjson.loads(capsys.readouterr().out)
    assert printed["leakage"] == orjson.loads((tmp_path / "summary.json").read_bytes())["leakage"]


@pytest.mark.parametrize("closed_loop", [False, True])
@pytest.mark.parametrize("requests", [0, 9])
@pytest.mark.parametrize(
    "labels", [[], [("x", "legit")], [("a", "campaign"), ("never heard of", "campaign")], [("a", "other_abuse")]]
)
def test_what_nothing_is_known_of_is_no_number(tmp_path, capsys, labels, requests, closed_loop):
    lines = [{"event_id": f"e{n}", "account_id": "abx"[n % 3], "occurred_at": 10**12 + n} for n in range(requests)]
    (tmp_path / "requests.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    told = [{"account_id": account, "label": label} for account, label in labels]
    (tmp_path / "labels.jsonl").write_bytes(b"".join(orjson.dumps(label) + b"\n" for label in told))

    replay(
        str(tmp_path / "requests.jsonl"), output=tmp_path / "out", labels=tmp_path / "labels.jsonl",
        closed_loop=closed_loop,
    )  # fmt: skip

    summary = orjson.loads((tmp_path / "out/summary.json").read_bytes())
    campaign, honest = bool(labels) and labels[0][1] == "campaign", labels == [("x", "legit")]
    assert summary["leakage"] == (1.0 if campaign and requests else None)
    assert summary["exchanges_per_account"]["median"] == (3 if campaign and requests else None)
    assert summary["recall"]["verify"] == (0.0 if campaign and requests else None)
    assert summary["precision"]["verify"] is None
    rate = summary["false_per_100k_account_days"]["verify"]
    assert (rate["value"], rate["account_days"]) == ((0.0, 1) if honest and requests else (None, 0))
    assert "loop" in capsys.readouterr().out


def test_the_detector_knows_more_than_chance_and_shuffled_labels_do_not(traffic, tmp_path):
    ours = replayed(traffic, tmp_path / "ours")
    labels = [orjson.loads(line) for line in (traffic / "labels.jsonl").read_bytes().splitlines()]
    names = [label["account_id"] for label in labels]
    Random(1).shuffle(names)
    shuffled = [label | {"account_id": name} for label, name in zip(labels, names, strict=True)]
    (tmp_path / "labels.jsonl").write_bytes(b"".join(orjson.dumps(label) + b"\n" for label in shuffled))

    chance = replayed(
        traffic, tmp_path / "chance", labels=tmp_path / "labels.jsonl", decisions=tmp_path / "ours/decisions.jsonl"
    )

    share = sum(label["label"] == "campaign" for label in labels) / len(labels)
    hit = len({one["subject"]["value"] for one in decisions_of(tmp_path / "ours")})
    noise = 4 * math.sqrt(share * (1 - share) / hit)
    assert ours["precision"]["verify"] > share + noise
    assert abs(chance["precision"]["verify"] - share) < noise


def decisions_of(folder):
    return [orjson.loads(line) for line in (folder / "decisions.jsonl").read_bytes().splitlines()]


def test_in_shadow_nothing_counts_as_an_action(traffic, tmp_path, capsys):
    summary = replayed(traffic, tmp_path, mode="shadow")

    assert sum(summary["decisions"].values()) > 0
    assert summary["leakage"] == 1.0
    assert set(summary["recall"].values()) == {0.0}
    assert "mode shadow" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        {"labels": None, "closed_loop": True},
        {"labels": None, "cover": "cover.jsonl.gz"},
        {"reaction": "stop"},
        {"closed_loop": True, "passes": "legit=2"},
        {"closed_loop": True, "passes": "everybody=0.5"},
        {"closed_loop": True, "passes_after": "soon"},
        {"closed_loop": True, "decisions": "d.jsonl"},
    ],
)
def test_what_does_not_go_together_is_a_usage_error(traffic, tmp_path, options):
    with pytest.raises(UsageError):
        replayed(traffic, tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels", b'{"account_id": "a", "label": "nice"}\n'),
        ("labels", b'{"account_id": "a", "label": "legit"}\n' * 2),
        ("cover", b'{"event_id": "e"}\n'),
        ("attack", b'{"event_id": "e", "template": 3}\n'),
        ("manifest", b"[]"),
        ("manifest", b'{"reactions": {"C2": {"retries": -1}}}'),
        ("manifest", b'{"scale": 0}'),
        ("decisions", b'{"decision_id": "d"}\n'),
    ],
)
def test_a_broken_file_is_named(traffic, tmp_path, name, content):
    suffix = {"cover": ".jsonl.gz", "attack": ".jsonl.gz", "manifest": ".json"}.get(name, ".jsonl")
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)

    with pytest.raises(BadDataError, match=path.name):
        replayed(traffic, tmp_path / "out", closed_loop=name != "decisions", **{name: path})
