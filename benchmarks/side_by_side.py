"""The same job on one real Kafka, side by side: CPU per event of each contestant's process tree.

Job: counts a minute per account and per subnet with limits, 128-permutation MinHash with a search for near duplicates,
a record out per decision (``contestants/job.py``). ``streamdetect worker`` does more: trust tiers, distinct counts,
repeats, organisations, keys and cards, evidence between accounts, enforcement; and its near duplicates are kept for a
day instead of 20 s. Of the 128 permutations it computes the 24 that its bands read. In each round every contestant
takes a fresh topic: it starts on warm-up events, is stopped (SIGSTOP) while the events are produced, and is measured
from its continuation until all are processed; for the worker until all of requests, rows and evidence are. Images of
its state are left out of the first row (the others save none, or as they come) and five times as frequent as usual in
the second. Rounds interleave; the median counts, and ratios within one round. The decisions of planted bursts must
equal brute force, or the run fails.
"""

import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from broker import IMAGES_OFF, WorkerPlace, broker, produce, read_all, worker_policy
from corpus import ACCOUNT_LIMIT, MINUTE_MS, SUBNET_LIMIT, Corpus, corpus
from measure import Table, arguments, cpu_s, machine, memory_mb, middle, report, tree_of

from streamdetect.kafka.plan import DECISIONS
from streamdetect.sandbox.cluster import Cluster
from streamdetect.sandbox.places import cache_root

HERE = Path(__file__).parent
LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program of ``contestants/`` with the environment it runs in; no program is the worker, with images so often."""

    name: str
    program: str | None
    environment: str | None
    fast: bool
    images_s: str = ""


CONTESTANTS = (
    Contestant("streamdetect worker", None, None, True, IMAGES_OFF),
    Contestant("streamdetect worker, state saved every 2 s", None, None, True, "2"),
    Contestant("aiokafka getmany + datasketch", "plain_aiokafka.py", None, False),
    Contestant("Bytewax stateful_map + datasketch", "bytewax_flow.py", "bytewax", False),
    Contestant("Quix Streams window + datasketch", "quix_streams.py", "quix", False),
    Contestant("stock Faust windowed Tables + datasketch", "stock_faust.py", None, False),
)


def python_of(environment: str | None) -> str:
    """The interpreter of a contestant; its environment is made once, in the cache folder, from pinned requirements."""
    if environment is None:
        return sys.executable
    pinned = HERE / f"requirements-{environment}.txt"
    folder = cache_root() / "benchmarks" / environment
    done = folder / "requirements.txt"
    interpreter = folder / "bin" / "python"
    if not done.exists() or done.read_bytes() != pinned.read_bytes():
        print(f"making the environment of {environment} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(pinned)], check=True)
        done.write_bytes(pinned.read_bytes())
    return str(interpreter)


class Running:
    """A started contestant that tells its progress on standard output."""

    def __init__(self, process: subprocess.Popen[bytes], log: Any) -> None:
        self.pid, self._process, self._log = process.pid, process, log
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def wait(self, mark: int) -> float:
        """Wait until so many events are processed; returns when that was."""
        wanted = f"processed {mark}".encode()
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                line = self._lines.get(timeout=1)
            except queue.Empty:
                continue
            if line.strip() == wanted:
                return time.perf_counter()
            if not line:
                break
        self._log.seek(0)
        raise SystemExit(f"{self._process.args[1]}: {mark} events not processed\n{self._log.read()[-3000:].decode()}")


def _signal_tree(pid: int, number: signal.Signals) -> None:
    for one in tree_of(pid):
        os.kill(one, number)


@contextmanager
def _started(command: list[str]) -> Iterator[Running]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=HERE / "contestants")
        try:
            yield Running(process, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True)
class Task:
    """What one round sends: warm-up, then events."""

    cluster: Cluster
    name: str
    warm: Corpus
    events: Corpus
    folder: Path


def run(contestant: Contestant, task: Task) -> dict[str, float]:
    """One contestant on a fresh topic; figures of the measured part. Exits when its decisions are wrong."""
    if contestant.program is None:
        return _run_worker(task, contestant)
    topic, out = f"{task.name}.requests", f"{task.name}.out"
    task.cluster.create_topics([topic, out], settings={"message.timestamp.type": "CreateTime"})
    if contestant.program == "stock_faust.py":  # it does not wait for the brokers to know what it has created
        task.cluster.create_topics([f"{task.name}-{table}-changelog" for table in ("accounts", "subnets")])
    bootstrap = task.cluster.bootstrap_servers
    produce(bootstrap, topic, task.warm)
    state = task.folder / task.name
    state.mkdir()
    command = [python_of(contestant.environment), str(HERE / "contestants" / contestant.program)]
    command += [f"--bootstrap={bootstrap}", f"--topic={topic}", f"--out={out}", f"--group={task.name}"]
    total = len(task.warm) + len(task.events)
    command += [f"--state={state}", f"--marks={len(task.warm)},{total}"]
    command += [f"--account-limit={ACCOUNT_LIMIT}", f"--subnet-limit={SUBNET_LIMIT}"]
    with _started(command) as running:
        running.wait(len(task.warm))
        found = _measured(task, topic, running.pid, lambda: running.wait(total))
        _settle(bootstrap, out)
    told = [orjson.loads(value) for value in read_all(bootstrap, out)]
    decisions = {
        kind: {(one["key"], one["minute"]) for one in told if one["kind"] == kind} for kind in ("account", "subnet")
    }
    _compare(contestant.name, task, decisions)
    return {**found, "content_decisions": sum(one["kind"] == "content" for one in told)}


def _settle(bootstrap: str, topic: str) -> None:
    """Wait until nothing has come to a topic for three seconds: what was still in a contestant's producer."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 3:
        time.sleep(0.5)
        count = len(read_all(bootstrap, topic))
        if count != seen:
            seen, since = count, time.monotonic()


def _run_worker(task: Task, contestant: Contestant) -> dict[str, float]:
    place = WorkerPlace(task.cluster.bootstrap_servers, task.name)
    produce(place.settings.bootstrap_servers, place.requests, task.warm)
    policy = worker_policy(task.folder, account_limit=ACCOUNT_LIMIT, subnet_limit=SUBNET_LIMIT)
    with place.process(policy, STREAMDETECT_IMAGE_INTERVAL_S=contestant.images_s) as worker:
        worker.wait(LIMIT_S)
        found = _measured(task, place.requests, worker.pid, lambda: worker.wait(LIMIT_S))
    told = [
        orjson.loads(value) for value in read_all(place.settings.bootstrap_servers, place.settings.topic(DECISIONS))
    ]
    decisions: dict[str, set[tuple[str, int]]] = {"account": set(), "subnet": set()}
    for one in told:
        if one["status"] == "issued" and any(reason["signal"].endswith(".requests_1m") for reason in one["reasons"]):
            decisions[one["subject"]["scope"]].add((one["subject"]["value"], one["issued_at"] // MINUTE_MS))
    _compare(contestant.name, task, decisions)
    content = [one for one in told if any(reason["family"] == "content" for reason in one["reasons"])]
    return {**found, "content_decisions": len(content)}


def _measured(task: Task, topic: str, pid: int, wait: Callable[[], float]) -> dict[str, float]:
    """CPU and time from the continuation of a stopped, warm process to the end of its work, which ``wait`` tells."""
    _signal_tree(pid, signal.SIGSTOP)
    produce(task.cluster.bootstrap_servers, topic, task.events)
    node = task.cluster.nodes[0].pid
    assert node is not None
    cpu, broker_cpu, started = cpu_s(pid), cpu_s(node), time.perf_counter()
    _signal_tree(pid, signal.SIGCONT)
    seconds, count = wait() - started, len(task.events)
    return {
        "cpu_us": (cpu_s(pid) - cpu) / count * 1e6,
        "wall_us": seconds / count * 1e6,
        "broker_us": (cpu_s(node) - broker_cpu) / count * 1e6,
        "peak_mb": sum(memory_mb(one) for one in tree_of(pid)),
    }


def _compare(name: str, task: Task, decisions: dict[str, set[tuple[str, int]]]) -> None:
    for kind, expected in task.events.expected.items():
        if decisions[kind] != expected:
            missing, extra = sorted(expected - decisions[kind])[:5], sorted(decisions[kind] - expected)[:5]
            raise SystemExit(f"{name}: {kind} decisions differ from brute force; missing {missing}, extra {extra}")


def versions() -> dict[str, str]:
    """What the contestants outside this environment run on."""
    pinned = [line for name in ("bytewax", "quix") for line in (HERE / f"requirements-{name}.txt").read_text().split()]
    return dict(line.split("==") for line in pinned if line.startswith(("bytewax", "quixstreams")))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-events", type=int, default=30_000)
    parser.add_argument("--fast-events", type=int, default=300_000)
    parser.add_argument("--warm-events", type=int, default=5_000)
    parser.add_argument("--only", default="", help="part of a contestant's name")
    chosen = parser.parse_args()
    before = machine()
    before["versions"] |= versions()
    start_ms = (int(time.time() * 1000) // MINUTE_MS - 30) * MINUTE_MS
    warm = corpus(chosen.warm_events, start_ms - 2 * MINUTE_MS, seed=2, bursts=False)
    events = {
        fast: corpus(count, start_ms) for fast, count in ((False, chosen.slow_events), (True, chosen.fast_events))
    }
    if not all(made.expected["account"] and made.expected["subnet"] for made in events.values()):
        raise SystemExit(
            "too few events for a burst of an account and one of a subnet: there would be nothing to compare"
        )
    contestants = [one for one in CONTESTANTS if chosen.only in one.name]
    rounds: dict[str, list[dict[str, float]]] = {one.name: [] for one in contestants}
    with tempfile.TemporaryDirectory() as folder, broker() as cluster:
        for number in range(chosen.rounds):
            for place, one in enumerate(contestants):
                task = Task(cluster, f"run{number}-{place}", warm, events[one.fast], Path(folder))
                rounds[one.name].append(run(one, task))
                shown = "  ".join(f"{name} {value:.1f}" for name, value in rounds[one.name][-1].items())
                print(f"round {number + 1}  {one.name:<42}{shown}", flush=True)
        version = cluster.describe()
    found, tables = summary(rounds, events)
    found |= {"machine": before, "kafka": version, "rounds": chosen.rounds, "warm_events": chosen.warm_events}
    report("side-by-side", __doc__, found, tables, save=chosen.save)


def summary(
    rounds: dict[str, list[dict[str, float]]], events: dict[bool, Corpus]
) -> tuple[dict[str, Any], list[Table]]:
    """The medians, and ratios of CPU within the same round to the worker."""
    base = rounds.get(CONTESTANTS[0].name)
    kept: dict[str, Any] = {}
    rows: list[tuple[object, ...]] = []
    for one in (one for one in CONTESTANTS if rounds.get(one.name)):
        runs, made = rounds[one.name], events[one.fast]
        figures, windows = middle(runs), sum(map(len, made.expected.values()))
        ratio = statistics.median(a["cpu_us"] / b["cpu_us"] for a, b in zip(runs, base, strict=True)) if base else 0.0
        kept[one.name] = {
            "events": len(made),
            "window_decisions": windows,
            "times_streamdetect": round(ratio, 1),
            **{name: round(value, 1) for name, value in figures.items()},
            "runs": [{name: round(value, 1) for name, value in run.items()} for run in runs],
        }
        spread = f"{min(run['cpu_us'] for run in runs):.1f} - {max(run['cpu_us'] for run in runs):.1f}"
        shown = [round(figures[name], 1) for name in ("cpu_us", "wall_us", "broker_us")]
        row = (one.name, shown[0], spread, round(ratio, 1), *shown[1:], round(figures["peak_mb"]), len(made), windows)
        rows.append((*row, round(figures["content_decisions"])))
    columns = ("contestant", "CPU us/event", "lowest - highest", "times streamdetect", "wall us/event")
    columns += ("broker CPU us/event", "peak MB", "events", "window decisions, all equal", "content decisions")
    lengths = round(sum(map(len, events[False].values)) / len(events[False]))
    note = f"{lengths} bytes an event; {len(next(iter(rounds.values())))} interleaved rounds, medians."
    return {"bytes_per_event": lengths, "contestants": kept}, [Table(columns, rows, note)]


if __name__ == "__main__":
    main()
