"""A Kafka-protocol cluster without Java: librdkafka's mock cluster in a process of its own.

Produce, consume, groups, transactions and the Faust worker work. There is no controller: no admin calls; always 4
partitions a topic, about 5 MB kept of each; no compaction, no retention, no index of timestamps; nothing outlives it.
Run as ``python -m streamdetect.sandbox.mock`` it prints its address and serves until SIGTERM or Ctrl-C.
"""

import argparse
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from streamdetect.errors import UnreachableError
from streamdetect.sandbox.places import RunFolder, cache_root, claim_run_folder
from streamdetect.sandbox.process import SupervisedProcess, package_environment, tail
from streamdetect.sandbox.ready import Deadline, wait_until

START_LIMIT_S = 30.0
_ADDRESS = "address"
_OUTPUT = "output.log"


@dataclass(frozen=True, slots=True)
class MockCluster:
    """A running mock cluster."""

    bootstrap_servers: str
    run: RunFolder
    _process: SupervisedProcess = field(repr=False)

    @property
    def alive(self) -> bool:
        """True while its process runs."""
        return self._process.alive

    @property
    def pid(self) -> int:
        """The process that holds the cluster."""
        return self._process.pid

    def close(self) -> None:
        """End the cluster; all it held is gone."""
        self._process.stop()
        self.run.remove()


def start_mock(*, nodes: int = 1, limit_s: float = START_LIMIT_S, root: Path | None = None) -> MockCluster:
    """Start a mock cluster in a process of its own and wait for its address (about 0.3 s).

    Raises ``UnreachableError`` when it does not start, for instance without the ``confluent-kafka`` wheel.
    """
    root = cache_root() if root is None else root
    root.mkdir(parents=True, exist_ok=True)
    run = claim_run_folder(root)
    try:
        process = _start_process(run, nodes)
    except BaseException:
        run.remove()
        raise
    try:
        return MockCluster(_wait_for_address(run, process, Deadline.after(limit_s)), run, process)
    except BaseException:
        process.stop()
        run.remove()
        raise


def _start_process(run: RunFolder, nodes: int) -> SupervisedProcess:
    address_file = str(run.path / _ADDRESS)
    command = [sys.executable, "-m", "streamdetect.sandbox.mock", "--nodes", str(nodes), "--address-file", address_file]
    process = SupervisedProcess(command, output=run.path / _OUTPUT, grace_s=2.0, environment=package_environment())
    run.note_pid("mock", process.pid)
    return process


def _wait_for_address(run: RunFolder, process: SupervisedProcess, deadline: Deadline) -> str:
    address = run.path / _ADDRESS
    wait_until(lambda: address.exists() or not process.alive, deadline=deadline, what="the mock cluster")
    if not address.exists():
        raise UnreachableError(f"the mock cluster ended while starting:\n{tail(run.path / _OUTPUT)}")
    return address.read_text(encoding="ascii")


def main(arguments: list[str] | None = None) -> int:
    """Hold a mock cluster until SIGTERM or Ctrl-C; the address goes to standard output and the address file."""
    from confluent_kafka import Producer  # noqa: PLC0415 - an extra, not a dependency

    parser = argparse.ArgumentParser(prog="python -m streamdetect.sandbox.mock", description="A mock Kafka cluster.")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--address-file", type=Path)
    options = parser.parse_args(arguments)
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked before librdkafka makes its threads, so that none of them takes the signal instead of sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    holder = Producer({"test.mock.num.brokers": options.nodes, "bootstrap.servers": "unused", "log_level": 3})
    brokers = holder.list_topics(timeout=START_LIMIT_S).brokers.values()
    address = ",".join(sorted(f"{broker.host}:{broker.port}" for broker in brokers))
    if options.address_file is not None:
        draft = options.address_file.with_suffix(".part")
        draft.write_text(address, encoding="ascii")
        draft.rename(options.address_file)
    print(address, flush=True)  # noqa: T201 - its interface
    signal.sigwait(ends)
    return 0


if __name__ == "__main__":
    sys.exit(main())
