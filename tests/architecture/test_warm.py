"""After ``warm()`` no kernel is compiled for another type, whatever the live detector then meets.

Runs in a process of its own: here other tests have long called the kernels with types of theirs.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from numba.core.dispatcher import Dispatcher

import streamdetect.kernels
import streamdetect.pipeline

START_MS = 1_767_225_600_000
BATCHES = (1, 7, 2, 64, 3, 1300, 5)


def kernels():
    """Find every compiled function of kernels and pipeline: full name -> dispatcher."""
    found = {}
    for package in (streamdetect.kernels, streamdetect.pipeline):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for value in vars(importlib.import_module(info.name)).values():
                if isinstance(value, Dispatcher):
                    found[f"{value.py_func.__module__}.{value.py_func.__qualname__}"] = value
    return found


def compiled():
    """Give every type each kernel is ready for."""
    return {name: Counter(map(str, dispatcher.signatures)) for name, dispatcher in kernels().items()}


def events(first, count):
    """Make events that differ in what they have: addresses, texts, owners, ages, kinds, outcomes, lengths, times."""
    for number in range(first, first + count):
        event = {
            "event_id": f"e{number}" + "-long" * 12 * (number % 5 == 0),
            "occurred_at": START_MS + number * 700 - 90_000_000 * (number % 97 == 96),
            "account_id": f"a{number % 1500}",
            "kind": "completion" if number % 11 == 10 else "request",
            "outcome": "blocked" if number % 13 == 12 else "served",
            "client_ip": ("192.0.2.7", "2001:db8::7", "198.51.100.9")[number % 3],
            "account_created_at": START_MS - 86_400_000 * (1 + number % 200),
            "account_tier": ("unpaid", "paid", "verified", "enterprise")[number % 4],
            "org_id": f"o{number % 3}",
            "api_key_id": f"k{number % 50}",
            "payment_id": f"p{number % 60}",
            "prompt": "Summarise the report of the quarter, in a table, with every number that it names " * 2,
            "system_prompt": f"You are assistant number {number % 4} and answer every question in one paragraph only.",
            "input_tokens": number,
            "output_tokens": 3,
        }
        for name in ("client_ip", "org_id", "prompt", "system_prompt", "account_created_at", "api_key_id"):
            if number % 7 == len(name) % 7:
                del event[name]
        yield event


def override(key):
    """Make an allow of the subject with this key."""
    from streamdetect.messages.decision import Subject
    from streamdetect.messages.override import Override

    subject = Subject.from_key(key)
    return Override(override_id="o", subject=subject, effect="allow", actor="a", reason="r", created_at=START_MS)


def gained():
    """Warm up, then run the live detector over batches of many sizes; what was compiled only then, by kernel."""
    from streamdetect.kernels.chunk import chunk_of
    from streamdetect.kernels.images import decode, encode
    from streamdetect.pipeline.decisions.policy import default_policy
    from streamdetect.pipeline.warm import warm
    from streamdetect.worker.detector import Detector

    warm()
    before = compiled()
    detector = Detector(default_policy(), "live", ("requests",), 2)
    first, facts, offsets = 0, 0, Counter()

    def chunk(topic, partition, values, **more):
        start = offsets[topic, partition]
        offsets[topic, partition] += len(values)
        return chunk_of(topic, partition, values, offsets=range(start, start + len(values)), **more)

    records = [{"account_id": f"a{number}", "tier": "verified", "created_at": START_MS} for number in range(40)]
    detector.account_records(chunk("accounts", 0, [json.dumps(record).encode() for record in records]))
    for round_, size in enumerate(BATCHES * 2):
        for shard in detector.shards.values():
            for allow in (*(f"account:a{number}" for number in range(0, 1500, 50)), "subnet:192.0.2.0/24", "org:o1"):
                told = (allow, override(allow) if round_ % 2 else None)
                shard.accounts.overrides([told])
                shard.associations.overrides([told])
        batch = list(events(first, size))
        first += size
        if round_ == len(BATCHES):  # from here on there is no room
            shards = detector.shards.values()
            for node in (node for shard in shards for node in (shard.accounts, shard.associations)):
                for bound in ("accounts_max", "keys_max", "singles_max"):
                    if hasattr(node.state, bound):
                        setattr(node.state, bound, 700)
        keys = [event["account_id"].encode() for event in batch]
        values = [json.dumps(event).encode() for event in batch]
        requests = detector.requests(chunk("requests", round_ % 2, values, keys=keys))
        for partition, packed in requests.links:
            links = detector.links(chunk("links", partition, [packed]))
            for owner, evidence in links.evidence:
                facts += detector.evidence(chunk("evidence", owner, [evidence])).counters.facts
    assert facts
    assert detector.evicted
    for partition in list(detector.shards):
        image = decode(encode(detector.shards[partition].capture(0)))
        detector.shards[partition] = detector.new_shard()
        detector.shards[partition].restore([image])
        batch = list(events(first, 64))
        keys = [event["account_id"].encode() for event in batch]
        values = [json.dumps(event).encode() for event in batch]
        assert detector.requests(chunk("requests", partition, values, keys=keys)).counters.events
    after = compiled()
    return {name: sorted(after[name] - before[name]) for name in after if after[name] - before[name]}


def test_nothing_compiles_after_the_warm_up():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, __file__],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


def test_the_kernels_are_found():
    assert {
        "streamdetect.kernels.index.find",
        "streamdetect.pipeline.associations.absorb.absorb_rows",
    } <= kernels().keys()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(gained()))
