"""CPU of each step of the worker, per request event, median of several runs.

Drives the worker's own ``Detector`` in process with chunks of four partitions and takes the CPU time of the functions
it calls, each without what it calls in turn, so the rows add up. Fetch and output are measured on a real Kafka with the
worker's client, without Faust around it; what Faust, its second thread and the event loop add is the difference to the
worker's whole in ``side-by-side``. Every event is the first turn of a conversation with a text of its own, which is the
most expensive kind: eight content keys each.
"""

import importlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from corpus import MINUTE_MS, PARTITIONS, Corpus, corpus
from measure import Table, arguments, machine, report

from streamdetect.kernels.chunk import Chunk, chunk_of
from streamdetect.pipeline.decisions.policy import default_policy
from streamdetect.pipeline.warm import warm
from streamdetect.worker.detector import Detector, Outcome

START_MS = 1_767_225_600_000
_PIPELINE = "streamdetect.pipeline"
# (step, module, name in it): what each step calls its parts by.
STEPS = (
    ("requests: the rest", "streamdetect.worker.detector", "Detector.requests"),
    ("decode", "streamdetect.worker.detector", "decode_requests"),
    ("watermark", "streamdetect.worker.detector", "Detector._believable"),
    ("partition of keys", "streamdetect.worker.detector", "Detector._count_keys"),
    ("accounts: the rest", f"{_PIPELINE}.accounts_node", "AccountsNode.events"),
    ("sketch", f"{_PIPELINE}.accept.sketch", "Sketcher.sketch"),
    ("observe (windows, repeats, tiers)", f"{_PIPELINE}.accounts_node", "observe"),
    ("share", f"{_PIPELINE}.accounts_node", "share"),
    ("decide", f"{_PIPELINE}.enforcement.decider", "Decider.decide"),
    ("pack rows", "streamdetect.worker.detector", "pack_shared"),
    ("links: the rest", "streamdetect.worker.detector", "Detector.links"),
    ("unpack rows", "streamdetect.worker.detector", "unpack_links"),
    ("associations: the rest", f"{_PIPELINE}.associations_node", "AssociationsNode.links"),
    ("absorb (windows, members)", f"{_PIPELINE}.associations_node", "absorb"),
    ("judge shared keys", f"{_PIPELINE}.associations_node", "AssociationsNode._decide"),
    ("pack evidence", "streamdetect.worker.detector", "pack_findings"),
    ("evidence: the rest", "streamdetect.worker.detector", "Detector.evidence"),
    ("unpack evidence", "streamdetect.worker.detector", "facts_of"),
    ("take evidence, judge", f"{_PIPELINE}.accounts_node", "AccountsNode.evidence"),
)


class Stopwatch:
    """CPU time by step, without the steps inside it."""

    def __init__(self) -> None:
        self.spent_ns: dict[str, int] = defaultdict(int)
        self._inner = [0]

    def around(self, step: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work``, timed."""

        def timed(*args: Any, **options: Any) -> Any:
            self._inner.append(0)
            started = time.thread_time_ns()
            try:
                return work(*args, **options)
            finally:
                spent = time.thread_time_ns() - started
                self.spent_ns[step] += spent - self._inner.pop()
                self._inner[-1] += spent

        return timed


def install(watch: Stopwatch) -> list[str]:
    """Put the stopwatch around every step; returns the names that were not found."""
    missing = []
    for step, module, path in STEPS:
        holder: Any = importlib.import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            holder = getattr(holder, parent, None)
        work = getattr(holder, name, None)
        if work is None:
            missing.append(f"{module}.{path}")
        else:
            setattr(holder, name, watch.around(step, work))
    return missing


def chunks(events: Corpus, batch: int) -> list[list[Chunk]]:
    """Rounds of one chunk a partition."""
    rows: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for row, partition in enumerate(events.partition):
        rows[partition].append(row)
    rounds = []
    for first in range(0, max(map(len, rows)), batch):
        found = []
        for partition, mine in enumerate(rows):
            part = mine[first : first + batch]
            if part:
                offsets = np.arange(first, first + len(part))
                values, keys = [events.values[row] for row in part], [events.keys[row] for row in part]
                found.append(chunk_of("requests", partition, values, keys=keys, offsets=offsets))
        rounds.append(found)
    return rounds


class Wiring:
    """The topics between the stages, in memory."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.outputs: list[list[bytes]] = []
        self._offsets: dict[tuple[str, int], int] = defaultdict(int)
        self.decisions: list[Any] = []
        self.rows = self.findings = self.link_bytes = 0

    def round(self, requests: list[Chunk]) -> None:
        """One chunk of each partition, all the way."""
        links: dict[int, list[bytes]] = defaultdict(list)
        evidence: dict[int, list[bytes]] = defaultdict(list)
        for chunk in requests:
            outcome = self._take(self._detector.requests(chunk))
            self.outputs.append([value for _, value in outcome.links])
            for partition, value in outcome.links:
                links[partition].append(value)
                self.link_bytes += len(value)
        for partition, values in links.items():
            outcome = self._take(self._detector.links(self._chunk("links", partition, values)))
            for target, value in outcome.evidence:
                evidence[target].append(value)
        for partition, values in evidence.items():
            self._take(self._detector.evidence(self._chunk("evidence", partition, values)))

    def _take(self, outcome: Outcome) -> Outcome:
        self.decisions += outcome.decisions
        self.rows += outcome.counters.link_rows
        self.findings += outcome.counters.findings
        return outcome

    def _chunk(self, topic: str, partition: int, values: list[bytes]) -> Chunk:
        first = self._offsets[topic, partition]
        self._offsets[topic, partition] += len(values)
        return chunk_of(topic, partition, values, offsets=np.arange(first, first + len(values)))


def measure(watch: Stopwatch, rounds: list[list[Chunk]]) -> tuple[dict[str, float], dict[str, Any], list[list[bytes]]]:
    """Microseconds a step and event, what the events led to, and the records to send; a third of them only warm up."""
    wiring = Wiring(Detector(default_policy(), "live", ("requests",), PARTITIONS))
    warming = len(rounds) // 3
    for requests in rounds[:warming]:
        wiring.round(requests)
    wiring.outputs.clear()
    watch.spent_ns.clear()
    rows, findings, link_bytes, decided = wiring.rows, wiring.findings, wiring.link_bytes, len(wiring.decisions)
    started = time.process_time()
    for requests in rounds[warming:]:
        wiring.round(requests)
    whole_s = time.process_time() - started
    count = sum(len(chunk) for requests in rounds[warming:] for chunk in requests)
    steps = {step: watch.spent_ns[step] / count / 1000 for step, _, _ in STEPS}
    steps["between them"] = whole_s / count * 1e6 - sum(steps.values())
    facts = {
        "events": count,
        "rows_per_event": round((wiring.rows - rows) / count, 2),
        "findings_per_event": round((wiring.findings - findings) / count, 3),
        "link_bytes_per_event": round((wiring.link_bytes - link_bytes) / count),
        "decisions": len(wiring.decisions) - decided,
    }
    return steps, facts, wiring.outputs


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-broker", action="store_true", help="leave out fetch and output")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    warm()
    watch = Stopwatch()
    missing = install(watch)
    made = corpus(chosen.events + chosen.events // 2, START_MS - START_MS % MINUTE_MS)
    rounds = chunks(made, chosen.batch)
    runs = []
    for _ in range(chosen.runs):
        steps, facts, outputs = measure(watch, rounds)
        runs.append(steps)
    if not chosen.no_broker:
        from broker import broker  # noqa: PLC0415  # a machine without Java can measure the rest
        from edges import edges  # noqa: PLC0415

        with broker() as cluster:
            found["kafka"] = cluster.describe()
            # Of now: the broker would delete what is stamped older than its retention.
            part = corpus(facts["events"], int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - 60 * MINUTE_MS)
            for number, run in enumerate(runs):
                run.update(edges(cluster, part, outputs, number))
    middle = {step: statistics.median(run[step] for run in runs) for step in runs[0]}
    found |= {**facts, "batch": chosen.batch, "bytes_per_event": round(sum(map(len, made.values)) / len(made))}
    found |= {"us_per_event": {step: round(cost, 3) for step, cost in middle.items()}, "missing_steps": missing}
    found["runs"] = [{step: round(cost, 3) for step, cost in run.items()} for run in runs]
    whole = sum(middle.values())
    rows: list[tuple[object, ...]] = [(step, cost, f"{cost / whole:.0%}") for step, cost in middle.items()]
    note = (
        f"{facts['events']:,} events of {found['bytes_per_event']} bytes in batches of {chosen.batch}, "
        f"{facts['rows_per_event']} rows about shared keys an event, {len(runs)} runs."
    )
    if missing:
        note += f" Not found, and so part of the step around them: {', '.join(missing)}."
    tables = [Table(("step", "us per event", "share"), [*rows, ("sum", whole, "")], note)]
    report("steps", __doc__, found, tables, save=chosen.save)


if __name__ == "__main__":
    main()
