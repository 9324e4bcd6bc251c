"""From the start of a worker to its first decision: with the compiled kernels cached, and with an empty cache.

The topic already holds one account that hammers; the clock runs from the start of the process to the decision on
the broker. The empty cache is a fresh NUMBA_CACHE_DIR, as on a machine that has never run streamdetect.
"""

import tempfile
import time
from pathlib import Path

from broker import WorkerPlace, broker, produce, worker_policy
from confluent_kafka import Consumer, TopicPartition
from corpus import ACCOUNT_LIMIT, MINUTE_MS, corpus
from measure import Table, arguments, cpu_s, machine, report

from streamdetect.kafka.plan import DECISIONS
from streamdetect.sandbox.cluster import Cluster

LIMIT_S = 400.0


def first_decision_s(cluster: Cluster, name: str, policy: Path, cache: Path) -> dict[str, float]:
    """Seconds of wall clock and of CPU until the first decision is readable."""
    place = WorkerPlace(cluster.bootstrap_servers, name)
    start_ms = (int(time.time() * 1000) // MINUTE_MS - 10) * MINUTE_MS
    produce(cluster.bootstrap_servers, place.requests, corpus(20_000, start_ms))
    topic = place.settings.topic(DECISIONS)
    reader = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": name + "-reader"})
    partitions = reader.list_topics(topic, timeout=10).topics[topic].partitions
    reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    reader.consume(1, timeout=1)
    started = time.perf_counter()
    with place.process(policy, NUMBA_CACHE_DIR=str(cache)) as worker:
        while not (found := reader.consume(1, timeout=0.02)) or found[0].error() is not None:
            if time.perf_counter() - started > LIMIT_S or worker.poll() is not None:
                raise SystemExit(f"{name}: no decision after {LIMIT_S:g} s, or the worker ended")
        seconds, cpu = time.perf_counter() - started, cpu_s(worker.pid)
        reader.close()
        worker.wait(60)
    return {"first_decision_s": round(seconds, 2), "cpu_s": round(cpu, 2)}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="starts with a cache; without one there is one")
    chosen = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as folder, broker() as cluster:
        policy = worker_policy(Path(folder), account_limit=ACCOUNT_LIMIT)
        cache = Path(folder) / "numba"
        cold = first_decision_s(cluster, "cold", policy, cache)
        size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        runs = [first_decision_s(cluster, f"cached{number}", policy, cache) for number in range(chosen.repeats)]
    runs.sort(key=lambda run: run["first_decision_s"])
    found = {
        "machine": before,
        "kafka": cluster.describe(),
        "empty_cache": cold,
        "cached": runs[len(runs) // 2],
        "cached_runs": runs,
        "cache_mb": round(size / 2**20, 1),
    }
    rows = [
        ("compiled kernels cached", *found["cached"].values(), len(runs)),
        ("empty cache: the first start on a machine", *cold.values(), 1),
    ]
    columns = ("start", "seconds to the first decision", "CPU seconds", "runs")
    note = f"The cache holds {found['cache_mb']} MB. Median of several starts."
    report("cold-start", __doc__, found, [Table(columns, rows, note)], save=chosen.save)


if __name__ == "__main__":
    main()
