"""Request events for tests of the baselines, and definitions to hold them against."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import orjson

from streamdetect.kernels.chunk import chunk_of
from streamdetect.pipeline.accept.decode import decode_requests

START_MS = 1_767_571_200_000
DAY_MS = 86_400_000


def columns_of(events):
    """Decode (account, at, fields) in order of time."""
    lines = [
        orjson.dumps({"event_id": f"e{number}", "account_id": account, "occurred_at": START_MS + at, **fields})
        for number, (account, at, fields) in enumerate(events)
    ]
    columns, rejects = decode_requests(chunk_of("requests", 0, lines))
    assert not rejects
    return columns


def run(detector, columns, *, rounds=1):
    """Give the columns to a detector in so many rounds; returns all decisions."""
    edges = [len(columns) * number // rounds for number in range(rounds + 1)]
    decisions = []
    for first, last in pairwise(edges):
        if last > first:
            decisions += detector.round(columns.take(np.arange(first, last)), int(columns.occurred_at[first]))
    return decisions + detector.finish()


def first_hits(decisions):
    """When each subject was first decided about, from the start."""
    times = {}
    for decision in decisions:
        times.setdefault(decision.subject.value, decision.issued_at - START_MS)
    return times


def times_of_meeting(visits, window_ms, enough):
    """By the definition: when each account has met ``enough`` others on common keys within the window.

    ``visits`` are (account, at, keys) in order of time. Two accounts meet at t when one of them visits a key at t that
    the other visited in (t - window_ms, t].
    """
    found, met, last = {}, defaultdict(dict), defaultdict(dict)
    for account, at, keys in visits:
        for key in keys:
            for other, seen in last[key].items():
                if other != account and seen > at - window_ms:
                    met[account][other] = met[other][account] = at
            last[key][account] = at
        for one in met:
            recent = sum(seen > at - window_ms for seen in met[one].values())
            if recent >= enough:
                found.setdefault(one, at)
    return found
