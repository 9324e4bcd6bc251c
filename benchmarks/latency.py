"""From an event appended to a decision that a gateway can act on, at half of the worker's measured capacity.

First the capacity: events per second of wall clock while the worker drains a backlog on this machine, with broker and
load on the same cores. Then background at half that rate with planted accounts: (a) ones that hammer, whose own window
crosses a limit at a known event; (b) fresh groups of young accounts with one text each, whose twentieth member
completes the evidence. Time runs from the acknowledgement of that event (and from its hand-over to the producer, for
the share of the producer) to the moment a ``GatewayClient`` on another connection answers with the decision.
"""

import asyncio
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from broker import WorkerPlace, broker, produce, worker_policy
from confluent_kafka import Producer
from corpus import MINUTE_MS, PARTITIONS, corpus
from measure import Table, arguments, cpu_s, machine, percentile, report

from streamdetect.enforcer.client import GatewayClient, GatewayRequest
from streamdetect.kafka.fold import Record
from streamdetect.kafka.follower import Follower
from streamdetect.kafka.plan import ENFORCEMENT
from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.murmur2 import key_partitions
from streamdetect.settings import Settings

LIMIT = 20  # requests a minute; bursts send one more
GROUP = 20  # young accounts with one text, as the shipped policy has it
_SLICE_S = 0.005
SINCE = ("from_append", "from_hand_over")


class Times:
    """When each planted account's deciding event was handed over and appended, and when its decision was readable."""

    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self.appended: dict[str, float] = {}
        self.readable: dict[str, float] = {}

    def milliseconds(self, prefix: str, start: dict[str, float]) -> list[float]:
        return [
            1000 * (at - start[account])
            for account, at in self.readable.items()
            if account.startswith(prefix) and account in start
        ]


class Gateway:
    """A ``GatewayClient`` fed by a follower of its own, asked for every account that a record names."""

    def __init__(self, settings: Settings, times: Times) -> None:
        self._client, self._times = GatewayClient(settings), times
        self.follower = Follower(settings, settings.topic(ENFORCEMENT), self._take)

    def _take(self, record: Record) -> None:
        self._client.take_enforcement(record)
        account = record.key.decode().removeprefix("account:")
        if account in self._times.sent and account not in self._times.readable:
            verdict = self._client.check(GatewayRequest(account_id=account))
            if verdict.cause == "decision":
                self._times.readable[account] = time.perf_counter()


def _event(account: str, number: int, at_ms: int, prompt: str) -> bytes:
    return orjson.dumps(
        {
            "event_id": f"{account}-{number}",
            "occurred_at": at_ms,
            "account_id": account,
            "client_ip": f"203.{len(account)}.{sum(account.encode()) % 250}.9",
            "prompt": prompt,
            "account_created_at": at_ms - 2 * 86_400_000,
            "account_tier": "paid",
            "input_tokens": 100,
            "output_tokens": 200,
        }
    )


def planted(samples: int, seconds: float) -> list[tuple[float, str, int, str, bool]]:
    """(second, account, number, prompt, whether it decides), in order of time."""
    found = []
    words = np.random.default_rng(5).permutation(200_000)
    for sample in range(samples):
        begin = (seconds - 6) * sample / samples
        for number in range(LIMIT + 1):
            text = f"hello {sample} {number}"
            found.append((begin + 5 * number / LIMIT, f"hammer-{sample}", number, text, number == LIMIT))
        prompt = " ".join(f"w{word}" for word in words[90 * sample : 90 * sample + 90].tolist())
        for number in range(GROUP):
            last = number == GROUP - 1
            account = f"group-{sample}" if last else f"member-{sample}-{number}"
            found.append((begin + 5 * number / GROUP, account, 0, prompt, last))
    return sorted(found)


def send(
    settings: Settings, topic: str, rate: float, plan: list[tuple[float, str, int, str, bool]], times: Times
) -> float:
    """Background at ``rate`` and the planted events, on time; returns the rate that was reached."""
    seconds = plan[-1][0]
    start_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    background = corpus(int(rate * (seconds + 1)), start_ms, seed=9, bursts=False)
    keys = [account.encode() for _, account, *_ in plan]
    buffer, spans = spans_of(keys)
    partitions = key_partitions(np.frombuffer(buffer, np.uint8), spans.start, spans.end, PARTITIONS).tolist()
    producer = Producer(
        {"bootstrap.servers": settings.bootstrap_servers, "compression.type": "lz4", "linger.ms": 2, "acks": "all"}
    )
    rows = zip(background.values, background.keys, background.partition, strict=True)
    started, sent, due = time.perf_counter(), 0, 0
    while due < len(plan):
        now = time.perf_counter() - started
        while sent < now * rate and (row := next(rows, None)) is not None:
            producer.produce(topic, row[0], row[1], row[2])
            sent += 1
        while due < len(plan) and plan[due][0] <= now:
            _, account, number, prompt, decides = plan[due]
            told = None
            if decides:
                times.sent[account] = time.perf_counter()
                told = _stamp(times, account)
            value = _event(account, number, int(time.time() * 1000), prompt)
            producer.produce(topic, value, keys[due], partitions[due], on_delivery=told)
            due += 1
        producer.poll(_SLICE_S)
    reached = sent / (time.perf_counter() - started)
    producer.flush(30)
    return reached


def _stamp(times: Times, account: str) -> Any:
    def appended(error: object, _message: object) -> None:
        if error is None:
            times.appended[account] = time.perf_counter()

    return appended


async def _follow(settings: Settings, times: Times, sending: threading.Thread, wanted: int) -> None:
    gateway = Gateway(settings, times)
    async with gateway.follower as follower:
        await follower.until_ready()
        sending.start()
        until = None
        while len(times.readable) < wanted:
            await asyncio.sleep(0.05)
            if not sending.is_alive():
                until = until or time.monotonic() + 15
                if time.monotonic() > until:
                    break


def _figures(values: list[float]) -> dict[str, float]:
    return {
        "samples": len(values),
        "p50_ms": round(percentile(values, 0.5), 1),
        "p99_ms": round(percentile(values, 0.99), 1),
        "max_ms": round(max(values), 1),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--backlog", type=int, default=100_000, help="events to measure the capacity with")
    parser.add_argument("--rate", type=float, default=0, help="events a second; half the capacity unless told")
    chosen = parser.parse_args()
    before = machine()
    times, reached = Times(), [0.0]
    with tempfile.TemporaryDirectory() as folder, broker() as cluster:
        place = WorkerPlace(cluster.bootstrap_servers, "latency")
        start_ms = (int(time.time() * 1000) // MINUTE_MS - 10) * MINUTE_MS
        produce(
            cluster.bootstrap_servers, place.requests, corpus(5_000, start_ms - 2 * MINUTE_MS, seed=2, bursts=False)
        )
        policy = worker_policy(Path(folder), account_limit=LIMIT)
        backlog = corpus(chosen.backlog, start_ms, seed=3, bursts=False)
        with place.process(policy) as worker:
            worker.wait(120)
            started, cpu = time.perf_counter(), cpu_s(worker.pid)
            produce(cluster.bootstrap_servers, place.requests, backlog)
            capacity = chosen.backlog / (worker.wait(120) - started)
            cpu_us = (cpu_s(worker.pid) - cpu) / chosen.backlog * 1e6
            rate = chosen.rate or capacity / 2
            plan = planted(chosen.samples, chosen.seconds)
            thread = threading.Thread(
                target=lambda: reached.__setitem__(0, send(place.settings, place.requests, rate, plan, times)),
                daemon=True,
            )
            asyncio.run(_follow(place.settings, times, thread, 2 * chosen.samples))
            thread.join(60)
    result: dict[str, Any] = {
        "machine": before,
        "kafka": cluster.describe(),
        "capacity_events_per_s": round(capacity),
        "cpu_us_under_capacity": round(cpu_us, 1),
        "rate_events_per_s": round(reached[0]),
        "seconds": chosen.seconds,
    }
    rows = []
    for name, prefix in (("own window", "hammer-"), ("shared template", "group-")):
        result[name] = {
            "planted": chosen.samples,
            "from_append": _figures(times.milliseconds(prefix, times.appended)),
            "from_hand_over": _figures(times.milliseconds(prefix, times.sent)),
        }
        rows += [(f"{name}, {since.replace('_', ' ')}", *result[name][since].values()) for since in SINCE]
    columns = ("rule, counted from", "decisions", "p50 ms", "p99 ms", "most ms")
    note = (
        f"{result['rate_events_per_s']:,} events a second, half of the capacity of {result['capacity_events_per_s']:,} "
        f"that was measured first, for {chosen.seconds:g} s; {chosen.samples} planted accounts of each kind."
    )
    report("latency", __doc__, result, [Table(columns, rows, note)], save=chosen.save)


if __name__ == "__main__":
    main()
