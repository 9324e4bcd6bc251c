"""The simulate command: what it leaves behind, and how it ends."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from streamdetect.cli.simulate import simulate
from streamdetect.errors import BadDataError, UsageError
from streamdetect.traffic.simulation import Spec, generate

_SMALL = {"seed": 5, "scale": 0.0004, "days": 0.5}


def expected(**changes) -> bytes:
    return b"".join(line for lines in generate(Spec(**{"scenarios": "C2+L5", **_SMALL, **changes})) for line in lines)


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_bytes(gzip.compress(b"".join(orjson.dumps(row) + b"\n" for row in rows)))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "pack"
    folder.mkdir()
    write_rows(folder / "organic.jsonl.gz", [{"source": "o", "text": f'ordinary "question" {i}'} for i in range(40)])
    write_rows(
        folder / "templates.jsonl.gz",
        [{"source": "s", "template": f"t{t}", "text": f"task {t} slot {i}"} for t in range(3) for i in range(30)],
    )
    kinds = ("agent-system-prompt", "agent-rules")
    write_rows(folder / "traps.jsonl.gz", [{"kind": kind, "text": f"{kind}\n{i}"} for kind in kinds for i in range(3)])
    return folder


def test_a_folder_holds_requests_labels_cover_and_manifest(tmp_path, capsys):
    simulate("C2+L5", output=str(tmp_path / "out"), json=True, **_SMALL)
    summary = orjson.loads(capsys.readouterr().out)
    requests = (tmp_path / "out" / "requests.jsonl.gz").read_bytes()
    assert expected() == gzip.decompress(requests)
    assert bytes(4) == requests[4:8]  # no time in the header
    labels = (tmp_path / "out" / "labels.jsonl").read_bytes().splitlines()
    assert len(labels) == summary["accounts"] == 40
    manifest = orjson.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest == {name: value for name, value in summary.items() if name != "wall_seconds"}
    assert set(manifest["files"].values()) | {"manifest.json"} == {p.name for p in (tmp_path / "out").iterdir()}
    assert manifest["reactions"]["C2"]["respawns_per_day"] > 0
    assert [row["name"] for row in manifest["parameters"]] == ["C2", "L5", "background"]
    cover = gzip.decompress((tmp_path / "out" / "cover.jsonl.gz").read_bytes()).splitlines()
    assert len(cover) == manifest["cohorts"]["C2"]["cover_exchanges"]
    attack = gzip.decompress((tmp_path / "out" / "attack.jsonl.gz").read_bytes()).splitlines()
    assert len(attack) == manifest["cohorts"]["C2"]["events"]


def test_the_requests_go_to_standard_output_on_request():
    command = [sys.executable, "-m", "streamdetect", "simulate", "C2+L5", "--output", "-", "--seed", "5"]
    ran = subprocess.run([*command, "--scale", "0.0004", "--days", "0.5"], capture_output=True, check=True)
    assert expected() == ran.stdout
    assert ran.stderr == b""


def test_a_reader_that_stops_early_is_no_error():
    command = [
        sys.executable,
        "-m",
        "streamdetect",
        "simulate",
        "C2",
        "--output",
        "-",
        "--seed",
        "5",
        "--scale",
        "0.01",
    ]
    ran = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ran.stdout is not None
    ran.stdout.read(100)
    ran.stdout.close()
    assert ran.stderr is not None
    assert ran.stderr.read() == b""
    ran.stderr.close()
    assert ran.wait(timeout=60) == 0


def test_the_start_moves_every_time(tmp_path):
    simulate("C2+L5", output=str(tmp_path), start="2026-03-02T00:00:00Z", **_SMALL)
    first = orjson.loads(gzip.decompress((tmp_path / "requests.jsonl.gz").read_bytes()).splitlines()[0])
    assert 1_772_409_600_000 <= first["occurred_at"] < 1_772_409_600_000 + 43_200_000


def test_the_list_shows_what_can_be_simulated(capsys):
    simulate(list_=True, json=True)
    rows = {row["name"]: row for row in orjson.loads(capsys.readouterr().out)}
    assert {name: rows[name]["campaign"] for name in ("C2", "L5")} == {"C2": True, "L5": False}
    assert rows["C2"]["groups"][0]["streams"][0]["speech"]["count"] == 200
    simulate(list_=True)
    assert "25,000" in capsys.readouterr().out
    simulate("C2+L5", list_=True)
    told = capsys.readouterr().out
    assert [row["name"] for row in orjson.loads(told)] == ["C2", "L5"]
    assert '"rate_median": ' in told
    assert '"taken_over_per_day": 100' in told


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("C99", {}),
        ("C2+C2", {}),
        ("C2", {"scale": 0.0}),
        ("C2", {"days": -1.0}),
        ("C2", {"days": float("nan")}),
        ("C2", {"background": -0.5}),
        ("C2", {"seed": -1}),
        ("C2", {"start": "yesterday"}),
        ("C2", {"scale": 999.0}),
        ("C2", {"split": "fit"}),
        (None, {}),
    ],
)
def test_what_cannot_be_simulated_is_a_usage_error(tmp_path, scenario, options):
    with pytest.raises(UsageError):
        simulate(scenario, output=str(tmp_path / "out"), **{**_SMALL, **options})
    assert not (tmp_path / "out").exists()


def test_a_pack_gives_the_words(tmp_path, pack):
    simulate("C2+L5", output=str(tmp_path / "out"), data=pack, **_SMALL)
    raw = gzip.decompress((tmp_path / "out" / "requests.jsonl.gz").read_bytes())
    assert expected(data=pack) == raw
    events = [orjson.loads(line) for line in raw.splitlines()]
    prompts = [event["prompt"] for event in events]
    assert any(prompt.startswith("task ") for prompt in prompts)
    assert any(prompt.startswith("agent-rules") for prompt in prompts)
    assert any(event.get("system_prompt", "").startswith("agent-system-prompt") for event in events)
    # Words are varied, and only words of the pack stand in for others.
    words = {word for prompt in prompts for word in prompt.split() if word.isalpha()}
    assert "ordinary" in words


@pytest.mark.parametrize("broken", ["missing", "torn", "no JSON", "no text"])
def test_a_broken_pack_is_named(tmp_path, pack, broken):
    path = pack / "organic.jsonl.gz"
    whole = path.read_bytes()
    path.unlink()
    content = {"torn": whole[:-12], "no JSON": gzip.compress(b"?\n"), "no text": gzip.compress(b'{"source":"x"}\n')}
    if broken in content:
        path.write_bytes(content[broken])
    with pytest.raises(BadDataError, match=r"organic\.jsonl\.gz"):
        simulate("C2", output=str(tmp_path / "out"), data=pack, **_SMALL)


def test_the_test_data_can_be_used_as_a_pack(tmp_path):
    folder = Path(os.environ.get("STREAMDETECT_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (folder / "organic.jsonl.gz").exists():
        pytest.skip("no test data: set STREAMDETECT_TEST_DATA")
    simulate("C2+L5", output=str(tmp_path / "out"), data=folder, **_SMALL)
    assert orjson.loads((tmp_path / "out" / "manifest.json").read_bytes())["material"] == "pack"
