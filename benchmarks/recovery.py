"""How long a worker needs to be what another one was: the state of many accounts, restored from a real Kafka.

One process fills a detector (``population.py``), saves it with the worker's own ``Saver`` more often than a ring of
images has places, with traffic between the images, and ends with a digest of every array. Then fresh processes,
with nothing but the broker's address, restore all partitions with the worker's own ``Recovery`` and ``TopicReader``
and must reach the same digest. Time runs from the call to the last shard ready for its first chunk; kernels are
compiled and loaded before (``cold_start.py`` measures that). The broker shares the machine, and its page cache holds
the changelog.
"""

import asyncio
import cProfile
import pstats
import subprocess
import sys
import time
from typing import Any

import orjson
from broker import broker
from corpus import PARTITIONS
from measure import Table, arguments, machine, memory_mb, report
from population import Population, digest, new_detector, sizes

from streamdetect.kafka.outbox import Outbox
from streamdetect.kafka.plan import CHANGELOG, DECISIONS, full_name
from streamdetect.kafka.reader import TopicReader
from streamdetect.kafka.topics import create_and_check
from streamdetect.kernels.image_records import Term
from streamdetect.kernels.images import STRIPES
from streamdetect.pipeline.warm import warm
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.worker.recovery import Recovery
from streamdetect.worker.saver import Lineage, Saver
from streamdetect.worker.work import input_topics

INTERVAL_S = 10.0


def settings_of(bootstrap: str) -> Settings:
    """The worker's settings, as both sides have them."""
    return Settings(bootstrap_servers=bootstrap, topic_prefix="recovery.", group_id="recovery")


async def write(settings: Settings, people: Population, images: int, events: int) -> dict[str, Any]:
    """Save ``images`` times, with ``events`` of traffic before each; returns what that cost."""
    topic = full_name(CHANGELOG, settings)
    await create_and_check(settings)
    metrics, saving, cpu = Metrics(), 0.0, 0.0
    async with Outbox(settings, compression=None) as outbox:
        saver = Saver(people.detector, outbox, topic, interval_s=INTERVAL_S, bytes_per_s=1e9, metrics=metrics)
        term = Term(1, 1)
        for partition in people.detector.shards:
            saver.begin(partition, Lineage(term, term, 0, 0, 0))
        for _ in range(images):
            people.go_on(events, int(INTERVAL_S * 1000))
            started, spent = time.perf_counter(), time.process_time()
            for partition in people.detector.shards:
                await saver.save(partition, anyway=True)
            saving, cpu = saving + time.perf_counter() - started, cpu + time.process_time() - spent
    written = metrics.counter("image_bytes")._value.get()
    return {
        "images": images * PARTITIONS,
        "image_bytes_each": round(written / images / PARTITIONS),
        "save_seconds_each": round(saving / images / PARTITIONS, 3),
        "cpu_us_per_event": round(cpu / images / events * 1e6, 2),
        "bytes_per_event": round(written / images / events),
    }


async def restore(settings: Settings) -> dict[str, Any]:
    """Restore everything in this process."""
    detector = new_detector()
    reads: list[int] = []
    reader = _counting(reads)
    recovery = Recovery(
        detector,
        lambda: reader(settings),
        changelog=full_name(CHANGELOG, settings),
        decisions=settings.topic(DECISIONS),
        inputs=sorted(input_topics(settings)),
        metrics=Metrics(),
    )
    before, started, cpu = memory_mb(field="VmRSS"), time.perf_counter(), time.process_time()
    found = await recovery.restore(range(PARTITIONS), 2)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak, after = memory_mb(), memory_mb(field="VmRSS")
    for restored in found:
        detector.shards[restored.partition] = restored.shard
    accounts = detector.tracked_accounts
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "accounts": accounts,
        "accounts_per_s": round(accounts / seconds),
        "read_mb": round(sum(reads) / 1e6, 1),
        "read_mb_per_s": round(sum(reads) / 1e6 / seconds, 1),
        "state_mb": round(sum(part["bytes"] for part in sizes(detector).values()) / 1e6, 1),
        "rss_mb_before": round(before),
        "rss_mb_after": round(after),
        "rss_mb_peak": round(peak),
        "digest": digest(detector),
    }


def _counting(reads: list[int]) -> type[TopicReader]:
    class Counting(TopicReader):
        """Notes how many bytes of values came."""

        async def read(self, *args: Any, **options: Any) -> Any:
            async for records in super().read(*args, **options):
                reads.append(sum(len(record.value or b"") for record in records))
                yield records

    return Counting


def child(bootstrap: str, *, profile: bool) -> None:
    """The restoring process: one line of JSON."""
    warm()
    if not profile:
        print(orjson.dumps(asyncio.run(restore(settings_of(bootstrap)))).decode())
        return
    profiler = cProfile.Profile()
    profiler.enable()
    asyncio.run(restore(settings_of(bootstrap)))
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=2 * STRIPES + 4, help="of each partition")
    parser.add_argument("--events", type=int, default=100_000, help="between two images of a partition, all together")
    parser.add_argument("--skew", type=float, default=3.0, help="1: all accounts are equally busy")
    parser.add_argument("--repeats", type=int, default=3, help="restores, each in a process of its own")
    parser.add_argument("--profile", action="store_true", help="print where a restore spends its time, and no result")
    parser.add_argument("--restore", metavar="BOOTSTRAP", help="only restore, from a changelog that is there")
    chosen = parser.parse_args()
    if chosen.restore:
        child(chosen.restore, profile=chosen.profile)
        return
    where = machine()
    warm()
    people = Population(chosen.accounts, skew=chosen.skew)
    people.arrive()
    with broker() as cluster:
        settings = settings_of(cluster.bootstrap_servers)
        written = asyncio.run(write(settings, people, chosen.images, chosen.events))
        wanted, held = digest(people.detector), sizes(people.detector)
        subjects = sum(
            len(s.accounts.standings) + len(s.associations.standings) for s in people.detector.shards.values()
        )
        del people
        runs = []
        command = [sys.executable, __file__, "--restore", cluster.bootstrap_servers]
        for _ in range(chosen.repeats):
            done = subprocess.run([*command, *["--profile"] * chosen.profile], stdout=subprocess.PIPE, check=True)
            if chosen.profile:
                print(done.stdout.decode())
                return
            runs.append(orjson.loads(done.stdout))
            if runs[-1].pop("digest") != wanted:
                raise SystemExit("the restored state is not the one that was saved")
    runs.sort(key=lambda run: run["seconds"])
    found = {
        "machine": where,
        "kafka": "one node of Apache Kafka on the same cores",
        "accounts": chosen.accounts,
        "partitions": PARTITIONS,
        "events_between_images": chosen.events,
        "skew": chosen.skew,
        "subjects": subjects,
        "state": held,
        "written": written,
        "median": runs[len(runs) // 2],
        "runs": runs,
        "equal": True,
    }
    report("recovery", __doc__, found, tables(found), save=chosen.save)


def tables(found: dict[str, Any]) -> list[Table]:
    """The restores, what was written, and the state."""
    median = found["median"]
    names = {
        "seconds": "seconds",
        "cpu_seconds": "CPU seconds",
        "accounts_per_s": "accounts/s",
        "read_mb": "MB read",
        "read_mb_per_s": "MB/s",
        "state_mb": "MB of state",
        "rss_mb_after": "MB of the process after",
        "rss_mb_peak": "MB at the peak",
    }
    runs = [(f"run {number}", *(run[name] for name in names)) for number, run in enumerate(found["runs"], 1)]
    note = (
        f"{median['accounts']:,} accounts in {found['partitions']} partitions, {found['subjects']:,} subjects with "
        f"decisions; {found['events_between_images']:,} events between two images, skew {found['skew']:g}."
    )
    restores = Table(("restore", *names.values()), [*runs, ("median", *(median[name] for name in names))], note)
    written = Table(
        ("writing", "figure"), [(name.replace("_", " "), value) for name, value in found["written"].items()]
    )
    state = Table(
        ("array", "rows", "MB"), [(name, part["rows"], part["bytes"] / 1e6) for name, part in found["state"].items()]
    )
    return [restores, written, state]


if __name__ == "__main__":
    main()
