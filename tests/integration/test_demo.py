"""The demo as a newcomer runs it: the command alone, on the mock tier, judged by what it leaves and says."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamdetect.pipeline.decisions.policy import default_text

LIMIT_S = 240.0
COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "streamdetect", "demo")

pytest.importorskip("confluent_kafka")


def descendants(environment_mark: str) -> list[int]:
    """Processes that carry a run's own mark in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if environment_mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until_gone(mark: str) -> list[int]:
    deadline = time.monotonic() + 20
    while (left := descendants(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def worker_pid(mark: str) -> int:
    """Wait for the detector of a run."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        for pid in descendants(mark):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"worker" in words and words[1:3] == [b"-m", b"streamdetect"]:
                return pid
        time.sleep(0.05)
    raise AssertionError("no detector was started")


def environment(mark: str, cache: Path) -> dict[str, str]:
    # Settings of a caller must not reach the demo's detector: this address answers nobody.
    return {
        **os.environ,
        "DEMO_TEST": mark,
        "STREAMDETECT_CACHE": str(cache),
        "STREAMDETECT_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }


def run_demo(*arguments: str, cache: Path) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """One whole run, and the processes it left behind."""
    mark = f"demo-{os.getpid()}-{time.monotonic_ns()}"
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment(mark, cache),
    )
    return done, wait_until_gone(mark)


linux = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


@linux
def test_the_campaign_is_caught_and_the_figures_agree(tmp_path: Path) -> None:
    done, left = run_demo("--once", "--json", "--hours", "8", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert left == []
    assert list((tmp_path / "run").iterdir()) == []
    told = json.loads(done.stdout)
    campaign, honest = told["campaign"], told["honest"]
    assert told["passed"]
    assert told["reasons"] == []
    assert told["events"] > 2000
    assert campaign["planned"] > campaign["served"] > 0
    assert campaign["leakage"] == pytest.approx(campaign["served"] / campaign["planned"], abs=1e-4)
    assert 0.8 * campaign["due"] <= campaign["due_stopped"] <= campaign["stopped"] <= campaign["accounts"]
    assert campaign["heard"] <= campaign["accounts"]
    assert sum(told["refused"].values()) == campaign["refused"] + honest["refused"] > 0
    assert campaign["planned"] + honest["requests"] <= told["events"]
    assert honest["suspended"] == 0
    # On the first day the agent's users and the others are as many as the campaign's accounts each; some sleep.
    assert 0.3 * campaign["accounts"] < honest["heard"] < 2.2 * campaign["accounts"]
    assert told["served_after_stop"] == 0
    assert 0 < told["time_to_first_action_s"] < told["event_seconds"]
    assert 0 < told["decision_delay_median_s"] <= told["decision_delay_p95_s"] < told["wall_seconds"]
    assert sum(told["decisions"].values()) >= campaign["stopped"]
    assert told["events_per_second"] == pytest.approx(told["events"] / told["wall_seconds"], rel=0.01)
    # The story says the same, in order.
    story = done.stderr
    marks = [
        "traffic begins",
        "first finding: account acct_",
        "because: ",
        "first refusal: ",
        "After 8 hours",
        "PASSED",
    ]
    places = [story.index(mark) for mark in marks]
    assert places == sorted(places)
    assert f"{campaign['served']:,} of the {campaign['planned']:,} requests" in story
    assert "\x1b" not in story


@linux
def test_without_rules_nothing_is_caught_and_it_says_so(tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text(re.sub(r"\n\[\[rules\]\]\n(?:(?!\n\[).)*", "", default_text(), flags=re.DOTALL))
    assert "[[rules]]" not in bare.read_text()
    done, left = run_demo("--once", "--json", "--hours", "2", "--policy", str(bare), cache=tmp_path / "cache")
    told = json.loads(done.stdout)
    assert (done.returncode, told["passed"], left) == (1, False, [])
    assert "the campaign was not found" in done.stderr
    assert told["reasons"] == ["the campaign was not found: the detector put nothing in force"]
    assert told["campaign"]["leakage"] == 1.0
    assert told["refused"] == {}
    assert told["time_to_first_action_s"] is None


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_run_that_is_ended(number: signal.Signals, tmp_path: Path) -> None:
    mark = f"demo-{os.getpid()}-{time.monotonic_ns()}"
    with subprocess.Popen(
        [*COMMAND, "--once"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(mark, tmp_path)
    ) as demo:
        worker_pid(mark)
        demo.send_signal(number)
        _, complaint = demo.communicate(timeout=60)
    assert wait_until_gone(mark) == []
    if number is not signal.SIGKILL:
        assert demo.returncode == 130
        assert complaint == ""
        assert list((tmp_path / "run").iterdir()) == []


@linux
def test_on_a_terminal_it_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    mark = f"demo-{os.getpid()}-{time.monotonic_ns()}"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "--hours", "6"], stdout=theirs, stderr=subprocess.PIPE, env=environment(mark, tmp_path)
    ) as demo:
        os.close(theirs)
        story = b""
        while b"since the verdict" not in story:
            story += os.read(ours, 4096)
        demo.send_signal(signal.SIGINT)
        while b"nothing is left behind" not in story:
            story += os.read(ours, 4096)
        _, complaint = demo.communicate(timeout=60)
    os.close(ours)
    assert (demo.returncode, complaint) == (0, b"")
    refused = re.search(rb"since the verdict: (\d+) campaign requests refused", story)
    assert refused is not None
    assert int(refused[1]) > 0
    assert wait_until_gone(mark) == []


@linux
def test_a_detector_that_dies_ends_the_demo(tmp_path: Path) -> None:
    mark = f"demo-{os.getpid()}-{time.monotonic_ns()}"
    with subprocess.Popen(
        [*COMMAND, "--once"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(mark, tmp_path)
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "traffic begins" in line:
                break
        os.kill(worker_pid(mark), signal.SIGKILL)
        story, complaint = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "The detector has ended by itself" in story
    assert "the detector ended by itself; its last lines:\n" in complaint
    assert "worker starts" in complaint
    assert wait_until_gone(mark) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--speed", "0"), 2, "--speed must be"),
        (("--hours", "-1"), 2, "--hours must be"),
        (("--policy", "missing.toml"), 3, "No such file"),
        (("--policy", __file__), 3, "test_demo.py:1:"),
    ],
)
def test_wrong_arguments_are_told_at_once(arguments: tuple[str, ...], code: int, says: str, tmp_path: Path) -> None:
    done, _ = run_demo(*arguments, cache=tmp_path)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stdout == ""
