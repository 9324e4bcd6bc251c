"""Worker processes for benchmarks that start, kill and watch them, and the load they are under."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from streamdetect.settings import Settings

LOAD = Path(__file__).with_name("load.py")
_ADDRESS = re.compile(rb"metrics on (http\S+)/metrics")
_VALUE = re.compile(r"^(streamdetect_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Worker:
    """``streamdetect worker`` as it ships, in mode live on the event clock, which no brake holds back."""

    def __init__(self, settings: Settings, policy: Path, **environment: str) -> None:
        given = {
            **os.environ,
            "STREAMDETECT_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "STREAMDETECT_TOPIC_PREFIX": settings.topic_prefix,
            "STREAMDETECT_GROUP_ID": settings.group_id,
            "STREAMDETECT_CLOCK": "event",
            "STREAMDETECT_METRICS_PORT": "0",
            **environment,
        }
        command = [sys.executable, "-m", "streamdetect", "worker", "--mode", "live", "--policy", str(policy)]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        command += ["--log-level", "info"]
        self._process = subprocess.Popen(command, env=given, stdout=self._log, stderr=self._log)
        self.pid = self._process.pid

    def check(self) -> None:
        """Raise when it has ended by itself."""
        if self._process.poll() is not None:
            raise SystemExit(f"a worker ended by itself:\n{self.said()[-3000:]}")

    def said(self) -> str:
        """What it wrote."""
        self._log.seek(0)
        return self._log.read().decode()

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Values by name (without prefix) and labels; nothing before it serves them."""
        page = self._asked("/metrics")
        return {
            (name.removeprefix("streamdetect_"), tuple(sorted(_LABEL.findall(labels or "")))): float(value)
            for name, labels, value in _VALUE.findall(page or "")
        }

    def owned(self, topic: str) -> set[int]:
        """The partitions of a request topic that it reports about."""
        found = set()
        for name, labels in self.metrics():
            told = dict(labels)
            if name == "lag_records" and told["topic"] == topic:
                found.add(int(told["partition"]))
        return found

    def ready(self) -> bool:
        """Whether its partitions are restored."""
        self.check()
        return self._asked("/ready") is not None

    def kill(self) -> float:
        """SIGKILL; returns when, by ``time.perf_counter``."""
        self._process.send_signal(signal.SIGKILL)
        at = time.perf_counter()
        self._process.wait(10)
        self._log.close()
        return at

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)
            self._log.close()

    def _asked(self, path: str) -> str | None:
        told = _ADDRESS.search(self.said().encode())
        if told is None:
            return None
        try:
            with urllib.request.urlopen(told[1].decode() + path, timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, TimeoutError):
            return None


@contextlib.contextmanager
def load(settings: Settings, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """``load.py`` on the request topic, until the end of the block."""
    command = [sys.executable, str(LOAD), settings.bootstrap_servers, settings.request_topics[0], *options]
    running = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(60)


def arrived(settings: Settings, *options: str) -> None:
    """Send one event of every account; returns when all are acknowledged."""
    with load(settings, "--arrive", *options) as running:
        assert running.stdout is not None
        if running.stdout.readline() != b"arrived\n":
            raise SystemExit("the load generator ended by itself")


def wait_for(what: str, met: Callable[[], bool], limit_s: float, *, pause_s: float = 0.02) -> None:
    """Look until something is so."""
    until = time.monotonic() + limit_s
    while not met():
        if time.monotonic() > until:
            raise SystemExit(f"{what}: not within {limit_s:g} s")
        time.sleep(pause_s)
