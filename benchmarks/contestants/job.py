"""The job every contestant does, in plain Python and datasketch: also importable without streamdetect.

Counts a tumbling minute per account and per subnet (a decision when a count passes its limit) and looks for near
duplicates: 128-permutation MinHash (affine32, xxh32 of word 3-grams), LSH of 25 bands of 5 rows over the last 20 s of
event time; a decision when a prompt meets three other accounts' prompts, once an account and minute.
"""

import argparse
import sys
from collections import deque

import orjson
import xxhash
from datasketch import MinHash, MinHashLSH

MINUTE_MS = 60_000
HORIZON_MS = 20_000
OTHERS = 3


def arguments() -> argparse.Namespace:
    """What the runner tells a contestant."""
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "topic", "out", "group", "state"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--marks", required=True, help="event counts to tell the runner of, comma separated")
    parser.add_argument("--account-limit", type=int, required=True)
    parser.add_argument("--subnet-limit", type=int, required=True)
    return parser.parse_args()


class Progress:
    """Tells the runner, by a line on standard output, that so many events were processed."""

    def __init__(self, marks: str) -> None:
        self._marks = deque(map(int, marks.split(",")))
        self._count = 0

    def add(self, events: int = 1) -> None:
        self._count += events
        while self._marks and self._count >= self._marks[0]:
            print("processed", self._marks.popleft(), flush=True)
            sys.stdout.flush()


def subnet_of(event: dict) -> str:
    return event["client_ip"].rpartition(".")[0] + ".0/24"


def decision(kind: str, key: str, at_ms: int) -> bytes:
    return orjson.dumps({"kind": kind, "key": key, "minute": at_ms // MINUTE_MS})


class MinuteCounts:
    """Counts per (key, minute) in a dictionary; keeps five minutes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._newest = limit, 0
        self._counts: dict[int, dict[str, int]] = {}

    def crossed(self, key: str, at_ms: int) -> bool:
        minute = at_ms // MINUTE_MS
        counts = self._counts.get(minute)
        if counts is None:
            counts = self._counts[minute] = {}
            if minute > self._newest:
                self._newest = minute
                for old in [known for known in self._counts if known < minute - 5]:
                    del self._counts[old]
        count = counts[key] = counts.get(key, 0) + 1
        return count == self._limit + 1


class NearDuplicates:
    """LSH over the horizon; what is older is taken out."""

    def __init__(self) -> None:
        self._lsh = MinHashLSH(num_perm=128, params=(25, 5))
        first = MinHash(num_perm=128, seed=1, scheme="affine32", hashfunc=xxhash.xxh32_intdigest)
        self._permutations = first.permutations
        self._kept: deque[tuple[int, tuple[str, str]]] = deque()
        self._told: dict[str, int] = {}

    def found(self, account: str, event_id: str, at_ms: int, prompt: str) -> bool:
        words = prompt.lower().split()
        grams = {" ".join(words[first : first + 3]).encode() for first in range(max(len(words) - 2, 1))}
        sketch = MinHash(
            num_perm=128,
            seed=1,
            scheme="affine32",
            hashfunc=xxhash.xxh32_intdigest,
            permutations=self._permutations,
        )
        sketch.update_batch(list(grams))
        while self._kept and self._kept[0][0] < at_ms - HORIZON_MS:
            self._lsh.remove(self._kept.popleft()[1])
        others = {other for other, _ in self._lsh.query(sketch) if other != account}
        key = (account, event_id)
        self._lsh.insert(key, sketch, check_duplication=False)
        self._kept.append((at_ms, key))
        minute = at_ms // MINUTE_MS
        if len(others) < OTHERS or self._told.get(account) == minute:
            return False
        if len(self._told) > 100_000:
            self._told.clear()
        self._told[account] = minute
        return True
