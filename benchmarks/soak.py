"""Whether a worker's memory, queues and changelog stay as they are under half of its load, for as long as one likes.

First the capacity: events a second while a fresh worker drains the first events of all accounts. Then steady traffic of
those accounts at half of it. Every account begins its conversations with the same text, one of a fixed number, so that
typed keys and those who use them come to an end and what still grows is not state. Every ten seconds: memory, rows,
what waits, bytes of the changelog on disk. The slope of memory is fitted over the second half, with its 95 % interval
from the means of sixteenths of it.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from broker import WorkerPlace, broker, worker_policy
from confluent_kafka import Consumer, TopicPartition
from corpus import PARTITIONS
from measure import Table, arguments, cpu_s, machine, memory_mb, report
from workers import Worker, arrived, load, wait_for

from streamdetect.kafka.plan import CHANGELOG, full_name
from streamdetect.sandbox.cluster import Cluster

FLAT_SHARE_PER_H = 0.02  # less growth than this share of the memory an hour is called flat
_GAUGES = ("lag_records", "unsaved_chunks", "queue_records", "tracked_accounts", "tracked_keys")
_COUNTERS = ("queue_waits_total", "images_total", "image_bytes_total")


def sample(worker: Worker, place: WorkerPlace, cluster: Cluster, started: float) -> dict[str, float]:
    """One line of the diary."""
    worker.check()
    found = {"s": round(time.perf_counter() - started, 1), "rss_mb": round(memory_mb(worker.pid, "VmRSS"), 1)}
    metrics = worker.metrics()
    for name in (*_GAUGES, *_COUNTERS):
        found[name] = sum(value for (of, _), value in metrics.items() if of == name)
    found["events"] = sum(
        value for (of, labels), value in metrics.items() if of == "events_total" and ("topic", place.requests) in labels
    )
    found["cpu_s"] = round(cpu_s(worker.pid), 1)
    changelog = full_name(CHANGELOG, place.settings)
    folders = [f for node in cluster.nodes for f in (node.place.folder / "data").glob(f"{changelog}-*")]
    found["changelog_mb"] = round(sum(size_of(folder) for folder in folders) / 1e6, 1)
    return found


def size_of(folder: Path) -> int:
    """Bytes of the segments of one partition; some go while one looks."""
    total = 0
    for segment in folder.glob("*.log"):
        try:
            total += segment.stat().st_size
        except FileNotFoundError:
            continue
    return total


def slope(diary: list[dict[str, float]]) -> dict[str, float]:
    """Growth of memory in MB an hour over the second half, and how sure that is.

    Neighbouring samples are alike, so the interval comes from sixteen means, which hardly are.
    """
    half = diary[len(diary) // 2 :]
    size = max(1, len(half) // 16)
    pieces = [half[first : first + size] for first in range(0, size * (len(half) // size), size)]
    hours = [statistics.fmean(entry["s"] for entry in piece) / 3600 for piece in pieces]
    memory = [statistics.fmean(entry["rss_mb"] for entry in piece) for piece in pieces]
    if len(pieces) < 4:
        return {"mb_per_h": float("nan"), "plus_minus": float("inf"), "mean_mb": statistics.fmean(memory)}
    fitted = statistics.linear_regression(hours, memory)
    left = sum((y - fitted.slope * x - fitted.intercept) ** 2 for x, y in zip(hours, memory, strict=True))
    spread = sum((x - statistics.fmean(hours)) ** 2 for x in hours)
    error = (left / (len(pieces) - 2) / spread) ** 0.5
    quantile = 2.15 if len(pieces) >= 16 else 4.3  # of Student's t, 14 and 2 degrees of freedom
    return {
        "mb_per_h": round(fitted.slope, 1),
        "plus_minus": round(quantile * error, 1),
        "mean_mb": round(statistics.fmean(memory), 1),
    }


def capacity(place: WorkerPlace, worker: Worker, accounts: int) -> float:
    """Events a second of a worker that drains ``accounts`` first events."""
    reader = Consumer({"bootstrap.servers": place.settings.bootstrap_servers, "group.id": "ends", "log_level": 0})
    places = [TopicPartition(place.requests, number) for number in range(PARTITIONS)]
    ends = sum(reader.get_watermark_offsets(one, timeout=10)[1] for one in places)
    reader.close()
    assert ends == accounts

    def done() -> float:
        worker.check()
        labels = (("topic", place.requests),)
        return worker.metrics().get(("events_total", labels), 0.0)

    wait_for("the first tenth", lambda: done() > ends / 10, 180, pause_s=0.1)
    first, began = done(), time.perf_counter()
    wait_for("the first events", lambda: done() >= 0.95 * ends, 600, pause_s=0.1)
    return (done() - first) / (time.perf_counter() - began)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rate", type=float, help="events a second; without it half of the measured capacity")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    options = ["--accounts", str(chosen.accounts), "--texts", str(chosen.texts)]
    with tempfile.TemporaryDirectory() as folder, broker() as cluster:
        place = WorkerPlace(cluster.bootstrap_servers, "soak")
        arrived(place.settings, *options)
        worker = Worker(place.settings, worker_policy(Path(folder), account_limit=100_000))
        found["capacity_events_per_s"] = round(capacity(place, worker, chosen.accounts))
        rate = chosen.rate or found["capacity_events_per_s"] / 2
        diary, started = [], time.perf_counter()
        with load(place.settings, *options, "--rate", f"{rate:.0f}", "--seed", "2"):
            while time.perf_counter() - started < 60 * chosen.minutes:
                time.sleep(max(0.0, chosen.every - (time.perf_counter() - started) % chosen.every))
                diary.append(sample(worker, place, cluster, started))
                print(diary[-1], file=sys.stderr, flush=True)
        worker.stop()
    found |= judged(diary) | {"rate": round(rate), "accounts": chosen.accounts, "texts": chosen.texts, "diary": diary}
    report("soak", __doc__, found, [_summary(found), _diary(diary)], save=chosen.save)


def judged(diary: list[dict[str, float]]) -> dict[str, Any]:
    """What the samples say."""
    first, last = diary[len(diary) // 2], diary[-1]
    events = last["events"] - first["events"]
    found = {
        "memory": slope(diary),
        "events": round(last["events"] - diary[0]["events"]),
        "events_per_s": round(events / (last["s"] - first["s"])),
        "cpu_us_per_event": round((last["cpu_s"] - first["cpu_s"]) / events * 1e6, 1),
        "changelog_bytes_per_event": round((last["image_bytes_total"] - first["image_bytes_total"]) / events),
        "worst": {name: max(entry[name] for entry in diary) for name in ("rss_mb", *_GAUGES, "changelog_mb")},
        "minutes": round((last["s"] - diary[0]["s"]) / 60, 1),
    }
    memory = found["memory"]
    allowed = FLAT_SHARE_PER_H * memory["mean_mb"]
    found["flat"] = bool(memory["mb_per_h"] - memory["plus_minus"] <= allowed and memory["mb_per_h"] <= allowed)
    # A short run cannot tell: then the interval is wider than what it would have to exclude.
    found["sure"] = bool(memory["plus_minus"] <= allowed)
    return found


def _summary(found: dict[str, Any]) -> Table:
    memory, worst = found["memory"], found["worst"]
    rows = [
        ("minutes", found["minutes"]),
        ("events", found["events"]),
        ("events/s (capacity measured before)", f"{found['events_per_s']:,} ({found['capacity_events_per_s']:,})"),
        ("CPU us an event, images included", found["cpu_us_per_event"]),
        ("changelog bytes an event", found["changelog_bytes_per_event"]),
        ("growth of memory, MB/h", f"{memory['mb_per_h']} +- {memory['plus_minus']} at {memory['mean_mb']} MB"),
        ("flat", f"{'yes' if found['flat'] else 'no'}{'' if found['sure'] else ', but too short to be sure'}"),
        *((f"worst {name}", value) for name, value in worst.items()),
    ]
    note = (
        f"{found['accounts']:,} accounts, {found['texts']:,} texts. Flat: growth of at most {FLAT_SHARE_PER_H:.0%} of "
        "the memory an hour."
    )
    return Table(("", "figure"), rows, note)


def _diary(diary: list[dict[str, float]]) -> Table:
    names = ("rss_mb", "tracked_keys", "lag_records", "unsaved_chunks", "queue_records", "changelog_mb")
    chosen = diary[:: max(1, len(diary) // 20)]
    return Table(("minute", *names), [(round(e["s"] / 60, 1), *(e[name] for name in names)) for e in chosen])


if __name__ == "__main__":
    main()
