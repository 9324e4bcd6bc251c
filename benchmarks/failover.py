"""From the SIGKILL of a worker to the first record processed in its place, under load, on a real Kafka.

``restart``: one worker, and another one is started the moment it is killed, as a supervisor would. ``survivor``: two
workers, one is killed, the other one takes its partitions over. An observer reads ``links.v1``, where each record
names the request partition and the offsets it was made from. A partition is *back* at the first record made of its
requests after the kill. It has *caught up* when all requests that were there at the kill are processed: after what was
processed but not saved, and then what came meanwhile. Figures are of the slowest partition of the dead worker; decided
by the session timeout of the group, the start of a process, the restore of its partitions, in this order.
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from broker import WorkerPlace, broker, worker_policy
from confluent_kafka import Consumer, TopicPartition
from corpus import PARTITIONS
from measure import Table, arguments, machine, report
from workers import Worker, arrived, load, wait_for

from streamdetect.kafka.plan import LINKS
from streamdetect.kernels.packed import LINKS as LINKS_KIND
from streamdetect.kernels.packed import unpack
from streamdetect.worker.engine import SESSION_S

LIMIT_S = 180.0
_KEPT = 200_000
_IN_FLIGHT_S = 1.0  # what the dead one had handed over may come in so long; nobody takes over that soon


class Observer:
    """What was processed when, by what came of it: (time, request partition, newest request offset)."""

    def __init__(self, place: WorkerPlace) -> None:
        self._seen: list[tuple[float, int, int]] = []
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._requests = place.requests
        self._consumer = Consumer(
            {
                "bootstrap.servers": place.settings.bootstrap_servers,
                "group.id": "observer",
                "fetch.wait.max.ms": 20,
                "enable.auto.commit": False,
            }
        )
        # One that reads must not be asked for ends by another thread: it hung there for good.
        self._asked = Consumer({"bootstrap.servers": place.settings.bootstrap_servers, "group.id": "ends"})
        topic = place.settings.topic(LINKS)
        self._consumer.assign([TopicPartition(topic, one, end) for one, end in self._ends_of(topic).items()])
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._ending.set()
        self._thread.join(10)
        self._consumer.close()
        self._asked.close()

    def ends(self) -> dict[int, int]:
        """Offset after the newest request of each partition."""
        return self._ends_of(self._requests)

    def since(self, start: float) -> list[tuple[float, int, int]]:
        """What was seen from a time on."""
        with self._lock:
            return [entry for entry in self._seen if entry[0] >= start]

    def reached(self, start: float, ends: dict[int, int]) -> bool:
        """Whether requests up to ``ends`` were processed after a time."""
        newest: dict[int, int] = {}
        for _, partition, offset in self.since(start):
            newest[partition] = max(offset, newest.get(partition, -1))
        return all(newest.get(partition, -1) >= end - 1 for partition, end in ends.items())

    def _ends_of(self, topic: str) -> dict[int, int]:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return {place.partition: self._asked.get_watermark_offsets(place, timeout=10)[1] for place in places}

    def _watch(self) -> None:
        while not self._ending.is_set():
            for message in self._consumer.consume(500, timeout=0.02):
                if message.error() is None and message.value():
                    now, record = time.perf_counter(), unpack(LINKS_KIND, message.value())
                    offset = int(record.columns["source_offset"].max())
                    with self._lock:
                        self._seen.append((now, record.source_partition % PARTITIONS, offset))
                        if len(self._seen) > 2 * _KEPT:
                            del self._seen[:_KEPT]


class Bench:
    """Topics, a policy, an observer."""

    def __init__(self, place: WorkerPlace, policy: Path, environment: dict[str, str], settle_s: float) -> None:
        self._place, self._policy, self._environment, self._settle_s = place, policy, environment, settle_s
        self._observer = Observer(place)

    def restart(self, times: int) -> list[dict[str, float]]:
        """One worker, killed and started again."""
        runs, worker = [], self._start()
        for _ in range(times):
            self._settle()
            killed = worker.kill()
            ends = self._observer.ends()
            worker = self._start()
            runs.append(self._after(killed, set(range(PARTITIONS)), ends, worker))
        worker.stop()
        return runs

    def survivor(self, times: int) -> list[dict[str, float]]:
        """Two workers, one of them killed."""
        runs, workers = [], [self._start(), self._start()]
        for _ in range(times):
            self._both(*workers)
            self._settle()
            doomed, left = workers
            lost = self._owned(doomed)
            killed = doomed.kill()
            runs.append(self._after(killed, lost, self._observer.ends(), left))
            workers = [left, self._start()]
        for worker in workers:
            worker.stop()
        return runs

    def _both(self, *workers: Worker) -> None:
        owned = lambda: all(self._owned(one) for one in workers)  # noqa: E731
        try:
            wait_for("each has partitions", owned, LIMIT_S, pause_s=0.5)
        except SystemExit as late:
            said = "\n\n".join(f"{sorted(self._owned(one))}\n{one.said()[-4000:]}" for one in workers)
            raise SystemExit(f"{late}\n{said}") from None

    def close(self) -> None:
        """Stop observing."""
        self._observer.close()

    def _start(self) -> Worker:
        return Worker(self._place.settings, self._policy, **self._environment)

    def _owned(self, worker: Worker) -> set[int]:
        worker.check()
        return worker.owned(self._place.requests)

    def _settle(self) -> None:
        """Wait until everything sent is processed, and some images more are written."""
        began, ends = time.perf_counter(), self._observer.ends()
        wait_for("steady processing", lambda: self._observer.reached(began, ends), LIMIT_S)
        time.sleep(self._settle_s)

    def _after(self, killed: float, lost: set[int], ends: dict[int, int], taker: Worker) -> dict[str, float]:
        def caught_up() -> bool:
            taker.check()
            return self._observer.reached(killed + _IN_FLIGHT_S, {one: ends[one] for one in lost})

        wait_for("caught up", caught_up, LIMIT_S)
        back: dict[int, float] = {}
        caught: dict[int, float] = {}
        for at, partition, offset in self._observer.since(killed + _IN_FLIGHT_S):
            back.setdefault(partition, at - killed)
            if offset >= ends[partition] - 1:
                caught.setdefault(partition, at - killed)
        run = {
            "back_s": round(max(back[one] for one in lost), 2),
            "first_back_s": round(min(back[one] for one in lost), 2),
            "caught_up_s": round(max(caught[one] for one in lost), 2),
            "partitions": len(lost),
        }
        print(run, file=sys.stderr, flush=True)
        return run


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=4_000, help="events a second")
    parser.add_argument("--times", type=int, default=5, help="kills in each case")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between images")
    parser.add_argument("--cases", default="restart,survivor")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    population = ["--accounts", str(chosen.accounts)]
    environment = {"STREAMDETECT_IMAGE_INTERVAL_S": f"{chosen.interval:g}"}
    with tempfile.TemporaryDirectory() as folder, broker() as cluster:
        policy = worker_policy(Path(folder), account_limit=100_000)
        for case in chosen.cases.split(","):
            place = WorkerPlace(cluster.bootstrap_servers, case)
            arrived(place.settings, *population)
            bench = Bench(place, policy, environment, 2.5 * chosen.interval)
            with load(place.settings, *population, "--rate", str(chosen.rate), "--seed", "2"):
                found[case] = getattr(bench, case)(chosen.times)
            bench.close()
    found |= {
        "accounts": chosen.accounts,
        "rate": chosen.rate,
        "interval_s": chosen.interval,
        "session_s": SESSION_S,
        "kafka": "one node of Apache Kafka on the same cores",
    }
    report("failover", __doc__, found, [_table(found, chosen.cases.split(","))], save=chosen.save)


def _table(found: dict[str, Any], cases: list[str]) -> Table:
    rows = []
    for case in cases:
        back, caught = ([run[name] for run in found[case]] for name in ("back_s", "caught_up_s"))
        rows.append((case, len(back), statistics.median(back), max(back), statistics.median(caught), max(caught)))
    note = (
        f"Session timeout {found['session_s']:g} s, an image every {found['interval_s']:g} s, "
        f"{found['accounts']:,} accounts, {found['rate']:,.0f} events/s, {PARTITIONS} partitions; "
        "one Kafka node and the load on the same cores."
    )
    columns = ("case", "kills", "back s, median", "worst", "caught up s, median", "worst")
    return Table(columns, rows, note)


if __name__ == "__main__":
    main()
