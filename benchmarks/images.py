"""What images of the state cost: a stall of the event loop, CPU of another thread, and bytes of the changelog.

A detector that knows many accounts (``population.py``) takes in traffic at half load, and each partition is saved once
an interval, as the worker does it. Everything is measured on the worker's own code, without a broker: ``recovery.py``
says what sending adds. What could have been done instead is computed on the same states: other ways to pack, other
numbers of stripes, and writing whole every bucket of 64 neighbouring rows in which one has changed.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import cramjam
import numpy as np
from corpus import PARTITIONS
from measure import Table, arguments, machine, percentile, report
from population import Population

from streamdetect.kernels.images import STRIPE_ROWS, STRIPES, Image, encode
from streamdetect.pipeline.warm import warm
from streamdetect.worker.shard import Shard

BUCKET_ROWS = 64  # 1 M accounts in 16 k buckets
PACKINGS = {
    "none": lambda data: data,
    "lz4": cramjam.lz4.compress_block,
    "zstd 1": lambda data: cramjam.zstd.compress(data, level=1),
    "zstd 3": lambda data: cramjam.zstd.compress(data, level=3),
}


@dataclass(slots=True)
class Cost:
    """Figures of the images of one interval."""

    events: int = 0
    capture_ms: list[float] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    raw: int = 0
    packed: int = 0
    changed: int = 0  # bytes of rows that changed, of those in ``raw``
    bucketed: int = 0  # bytes of all buckets in which a row changed
    sections: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))

    def figures(self, interval_s: float) -> dict[str, Any]:
        images = len(self.capture_ms)
        spent_us = 1000 * (sum(self.capture_ms) + sum(self.encode_ms))
        return {
            "images": images,
            "capture_ms_p50": round(percentile(self.capture_ms, 0.5), 1),
            "capture_ms_p99": round(percentile(self.capture_ms, 0.99), 1),
            "encode_ms_p50": round(percentile(self.encode_ms, 0.5), 1),
            "us_per_event": round(spent_us / self.events, 2),
            "raw_mb_each": round(self.raw / images / 1e6, 2),
            "packed_mb_each": round(self.packed / images / 1e6, 2),
            "bytes_per_event": round(self.packed / self.events),
            "packed_mb_per_s": round(self.packed / images * PARTITIONS / interval_s / 1e6, 2),
            "changed_share_of_raw": round(self.changed / self.raw, 2),
            "whole_buckets_raw_mb_per_s": round(self.bucketed / images * PARTITIONS / interval_s / 1e6, 1),
            "sections": {
                name: {
                    "rows": rows // images,
                    "raw_mb": round(raw / images / 1e6, 2),
                    "mb": round(packed / images / 1e6, 2),
                }
                for name, (rows, raw, packed) in sorted(self.sections.items(), key=lambda entry: -entry[1][1])
            },
        }


def marked(shard: Shard) -> dict[str, tuple[np.ndarray, int]]:
    """Marks and bytes a row of each array, as they are before an image."""
    accounts, keys = shard.accounts.state, shard.associations.state
    tables = {
        "accounts": (accounts.table.dirty[: accounts.table.count], accounts.table.rows.itemsize),
        "activities": (accounts.activities.dirty[: accounts.activities.count], accounts.activities.rows.itemsize),
        "subnets": (accounts.subnets.dirty[: accounts.subnets.count], accounts.subnets.rows.itemsize),
        "facts": (accounts.ledgers_dirty[: accounts.ledger_count].reshape(-1), accounts.ledgers.itemsize),
        "seen_0": (accounts.seen.dirty[0], 8),
        "seen_1": (accounts.seen.dirty[1], 8),
        "keys": (keys.table.dirty[: keys.table.count], keys.table.rows.itemsize),
        "singles": (keys.singles.dirty[: keys.singles.count], keys.singles.rows.itemsize),
        "members": (keys.members.dirty[: keys.members.count], keys.members.rows.itemsize),
        "crowds": (keys.crowds.dirty[: keys.crowds.count], keys.crowds.rows.itemsize),
    }
    return {name: (marks != 0, size) for name, (marks, size) in tables.items()}


def take(shard: Shard, number: int, cost: Cost) -> Image:
    """One image, measured."""
    for marks, size in marked(shard).values():
        cost.changed += int(np.count_nonzero(marks)) * size
        whole = np.add.reduceat(marks, np.arange(0, len(marks), BUCKET_ROWS)) if len(marks) else marks
        cost.bucketed += int(np.count_nonzero(whole)) * BUCKET_ROWS * size
    started = time.perf_counter()
    image = shard.capture(number)
    captured = time.perf_counter()
    payload = encode(image)
    cost.capture_ms.append(1000 * (captured - started))
    cost.encode_ms.append(1000 * (time.perf_counter() - captured))
    cost.packed += len(payload)
    for stage in image.stages.values():
        for name, section in stage.rows.items():
            raw = len(section.index) + len(section.rows)
            cost.raw += raw
            entry = cost.sections[name]
            packed = sum(len(cramjam.lz4.compress_block(part)) for part in (section.index, section.rows))
            for place, value in enumerate((section.taken, raw, packed)):
                entry[place] += value
    return image


def interval(people: Population, rate: int, interval_s: float, rounds: int, first: int) -> tuple[Cost, Image]:
    """``rounds`` images of each partition, ``interval_s`` of event time apart."""
    cost = Cost()
    for number in range(first, first + rounds):
        events = int(rate * interval_s)
        people.go_on(events, int(1000 * interval_s))
        cost.events += events
        for shard in people.detector.shards.values():
            image = take(shard, number, cost)
    return cost, image


def packings(image: Image) -> dict[str, dict[str, float]]:
    """Bytes and milliseconds of ways to pack the rows of one image, and to unpack them."""
    blocks = [bytes(section.rows) for stage in image.stages.values() for section in stage.rows.values()]
    unpack = {"lz4": cramjam.lz4.decompress_block, "zstd 1": cramjam.zstd.decompress, "zstd 3": cramjam.zstd.decompress}
    found = {}
    for name, pack in PACKINGS.items():
        started = time.perf_counter()
        packed = [bytes(pack(block)) for block in blocks]
        middle = time.perf_counter()
        for block in packed if name in unpack else ():
            unpack[name](block)
        found[name] = {
            "mb": round(sum(map(len, packed)) / 1e6, 2),
            "pack_ms": round(1000 * (middle - started), 1),
            "unpack_ms": round(1000 * (time.perf_counter() - middle), 1),
        }
    return found


def stripes(people: Population, cost: Cost, interval_s: float) -> dict[int, dict[str, float]]:
    """Bytes that a number of stripes would cost: written, kept in the ring, and read at a recovery; packed, estimated.

    A row is taken to pack equally well whether it changed or not.
    """
    images = len(cost.capture_ms)
    shards = people.detector.shards.values()
    state = sum(len(marks) * size for shard in shards for marks, size in marked(shard).values())
    ratio, changed = cost.packed / cost.raw, cost.changed / images * PARTITIONS
    found = {}
    for count in (4, 8, 16, 32, 64):
        each = (changed + state / count * (1 - changed / state)) * ratio
        found[count] = {
            "mb_per_s": round(each / interval_s / 1e6, 2),
            "ring_mb": round(each * (count + 8) / 1e6),
            "chain_mb": round(each * count / 1e6),
        }
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=10_000, help="events a second, all partitions together")
    parser.add_argument("--rounds", type=int, default=6, help="images of each partition and interval")
    parser.add_argument("--intervals", default="5,10,30", help="seconds between images of a partition")
    parser.add_argument("--skew", type=float, default=3.0, help="1: all accounts are equally busy")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    warm()
    people = Population(chosen.accounts, skew=chosen.skew)
    people.arrive()
    first = 0
    for _ in range(2):  # the first holds everything, and arrays grow once more
        interval(people, chosen.rate, 1.0, 1, first)
        first += 1
    found |= {"accounts": chosen.accounts, "rate": chosen.rate, "skew": chosen.skew, "intervals": {}}
    for seconds in map(float, chosen.intervals.split(",")):
        cost, image = interval(people, chosen.rate, seconds, chosen.rounds, first)
        first += chosen.rounds
        found["intervals"][f"{seconds:g}"] = cost.figures(seconds) | {"stripes": stripes(people, cost, seconds)}
        if seconds == 10 or len(found["intervals"]) == 1:
            found["packings"] = packings(image)
    found["stripe_rows"], found["stripes"] = STRIPE_ROWS, STRIPES
    report("images", __doc__, found, tables(found), save=chosen.save)


def tables(found: dict[str, Any]) -> list[Table]:
    """By interval, section, packing and number of stripes."""
    columns = {
        "capture_ms_p50": "capture ms, p50",
        "capture_ms_p99": "p99",
        "encode_ms_p50": "encode ms, p50",
        "us_per_event": "us an event",
        "bytes_per_event": "bytes an event",
        "packed_mb_each": "MB an image",
        "packed_mb_per_s": "MB/s",
        "whole_buckets_raw_mb_per_s": "MB/s, whole buckets, not packed",
    }
    rows = [(f"{name} s", *(figures[key] for key in columns)) for name, figures in found["intervals"].items()]
    note = (
        f"{found['accounts']:,} accounts in {PARTITIONS} partitions, {found['rate']:,} events/s, "
        f"skew {found['skew']:g}. The event loop stands still while it captures; encoding is another thread's."
    )
    by_interval = Table(("interval", *columns.values()), rows, note)
    chosen = found["intervals"].get("10") or next(iter(found["intervals"].values()))
    sections = Table(
        ("part of an image", "rows", "MB", "MB, lz4"),
        [(name, part["rows"], part["raw_mb"], part["mb"]) for name, part in chosen["sections"].items()],
    )
    packed = Table(
        ("packing", "MB an image", "pack ms", "unpack ms"),
        [(name, part["mb"], part["pack_ms"], part["unpack_ms"]) for name, part in found["packings"].items()],
    )
    by_stripes = Table(
        ("stripes", "MB/s", "MB in the ring", "MB read at a recovery"),
        [(str(count), *part.values()) for count, part in chosen["stripes"].items()],
        "Computed from rows changed and rows there; both as lz4 packs them.",
    )
    return [by_interval, sections, packed, by_stripes]


if __name__ == "__main__":
    main()
