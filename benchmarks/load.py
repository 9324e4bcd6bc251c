"""Sends traffic to a request topic at a steady rate, in a process of its own, until it is ended or has sent enough.

``people.py`` says who sends what. What cannot be sent in time is sent late, not left out. Prints one line when the
first events of all accounts (``--arrive``) are acknowledged.
"""

import argparse
import signal
import sys
import time

import numpy as np
from confluent_kafka import Producer
from people import People, Sent

_SLICE_S = 0.05
_ARRIVING = 5_000


def producer_of(bootstrap: str) -> Producer:
    """As a gateway would send: lz4, all acknowledged."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "lz4",
            "linger.ms": 5,
            "acks": "all",
            "queue.buffering.max.messages": 500_000,
            "log_level": 0,
        }
    )


def send(producer: Producer, topic: str, sent: Sent) -> None:
    """Hand over events, waiting where the queue is full."""
    for value, key, partition in zip(sent.values, sent.keys, sent.partition.tolist(), strict=True):
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.1)
    producer.poll(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--texts", type=int, help="how many texts begin conversations; without it each is new")
    parser.add_argument("--rate", type=float, default=0, help="events a second; 0: none after the first ones")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--arrive", action="store_true", help="begin with one event of every account, at full speed")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    people = People(chosen.accounts, int(time.time() * 1000), texts=chosen.texts, seed=chosen.seed)
    producer = producer_of(chosen.bootstrap)
    if chosen.arrive:
        for account in people.arrivals(_ARRIVING):
            send(producer, chosen.topic, people.first_events(account, np.full(len(account), int(time.time() * 1000))))
        producer.flush(120)
        print("arrived", flush=True)
    started, sent = time.perf_counter(), 0
    while chosen.rate and (now := time.perf_counter() - started) < chosen.seconds:
        due = int(now * chosen.rate) - sent
        if due > 0:
            send(producer, chosen.topic, people.events(np.full(due, int(time.time() * 1000))))
            sent += due
        time.sleep(max(0.0, _SLICE_S - (time.perf_counter() - started - now)))
    producer.flush(120)


if __name__ == "__main__":
    main()
