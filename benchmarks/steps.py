"""CPU of each step of the worker, in process and without a broker.

Drives the worker's own ``Detector`` with chunks of four partitions and takes the CPU time of the functions it calls,
each without what it calls in turn, so the rows add up. Run as ``python benchmarks/steps.py [--events N] [--batch
500]``. Fetching and sending are not in it (``side_by_side.py`` measures the whole process). Names that no longer exist
are listed as missing, and their cost shows in the step around them.
"""

import importlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from corpus import MINUTE_MS, PARTITIONS, Corpus, corpus
from measure import arguments, machine, report

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
    ("accounts: the rest", f"{_PIPELINE}.topology", "AccountsNode.events"),
    ("sketch", f"{_PIPELINE}.accept.sketch", "Sketcher.sketch"),
    ("observe (windows, repeats, tiers)", f"{_PIPELINE}.topology", "observe"),
    ("share", f"{_PIPELINE}.topology", "share"),
    ("judge accounts", f"{_PIPELINE}.topology", "AccountsNode._decide"),
    ("pack rows", "streamdetect.worker.detector", "pack_shared"),
    ("links: the rest", "streamdetect.worker.detector", "Detector.links"),
    ("unpack rows", "streamdetect.worker.detector", "unpack_links"),
    ("associations: the rest", f"{_PIPELINE}.topology", "AssociationsNode.links"),
    ("absorb (windows, members)", f"{_PIPELINE}.topology", "absorb"),
    ("judge shared keys", f"{_PIPELINE}.topology", "AssociationsNode._decide"),
    ("pack evidence", "streamdetect.worker.detector", "pack_findings"),
    ("evidence: the rest", "streamdetect.worker.detector", "Detector.evidence"),
    ("unpack evidence", "streamdetect.worker.detector", "facts_of"),
    ("take evidence, judge", f"{_PIPELINE}.topology", "AccountsNode.evidence"),
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
        self._offsets: dict[tuple[str, int], int] = defaultdict(int)
        self.decisions: list[Any] = []
        self.rows = self.findings = self.link_bytes = 0

    def round(self, requests: list[Chunk]) -> None:
        """One chunk of each partition, all the way."""
        links: dict[int, list[bytes]] = defaultdict(list)
        evidence: dict[int, list[bytes]] = defaultdict(list)
        for chunk in requests:
            outcome = self._take(self._detector.requests(chunk))
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


def measure(events: int, batch: int) -> dict[str, Any]:
    """Microseconds a step and event, over ``events`` after half as many to warm up."""
    warm()
    watch = Stopwatch()
    missing = install(watch)
    made = corpus(events + events // 2, START_MS - START_MS % MINUTE_MS)
    rounds = chunks(made, batch)
    wiring = Wiring(Detector(default_policy(), "live", ("requests",), PARTITIONS))
    for number, requests in enumerate(rounds):
        if number == len(rounds) // 3:
            watch.spent_ns.clear()
            before = (wiring.rows, wiring.findings, wiring.link_bytes, len(wiring.decisions))
            started, counted = time.process_time(), 0
        wiring.round(requests)
        if number >= len(rounds) // 3:
            counted += sum(map(len, requests))
    whole_us = (time.process_time() - started) / counted * 1e6
    encode = time.thread_time_ns()
    for decision in wiring.decisions:
        decision.to_bytes()
    encode_us = (time.thread_time_ns() - encode) / max(1, len(wiring.decisions)) / 1000
    steps = {step: round(watch.spent_ns[step] / counted / 1000, 2) for step, _, _ in STEPS}
    rows, findings, link_bytes, decisions = before
    return {
        "events": counted,
        "batch": batch,
        "bytes_per_event": round(sum(map(len, made.values)) / len(made)),
        "us_per_event": steps,
        "sum_us": round(sum(steps.values()), 2),
        "process_us_per_event": round(whole_us, 2),
        "rows_per_event": round((wiring.rows - rows) / counted, 2),
        "findings_per_event": round((wiring.findings - findings) / counted, 3),
        "link_bytes_per_event": round((wiring.link_bytes - link_bytes) / counted),
        "decisions": len(wiring.decisions) - decisions,
        "encode_us_per_decision": round(encode_us, 1),
        "missing_steps": missing,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=500)
    chosen = parser.parse_args()
    before = machine()
    found = measure(chosen.events, chosen.batch)
    for step, cost in found["us_per_event"].items():
        print(f"{step:<40}{cost:>8.2f} us")
    print(f"{'sum':<40}{found['sum_us']:>8.2f} us")
    report("steps", found, save=chosen.save, before=before)


if __name__ == "__main__":
    main()
