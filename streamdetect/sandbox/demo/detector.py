"""The real worker as a child process: ``python -m streamdetect worker --mode live``, on the demo's own broker.

Its settings are the ones given here: ``STREAMDETECT_*`` of the caller's environment do not reach it. Its output goes to
a file, whose end is shown when it fails.
"""

import asyncio
import contextlib
import re
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

from streamdetect.errors import GateError, UnreachableError
from streamdetect.sandbox.process import SupervisedProcess, package_environment, tail
from streamdetect.settings import ENV_PREFIX, Settings

START_LIMIT_S: Final = 240.0
# Longer than loading compiled kernels from the cache takes, so a wait beyond it means that they are being compiled.
COMPILING_AFTER_S: Final = 8.0
GRACE_S: Final = 3.0
_POLL_S: Final = 0.1
_TOLD_EVERY_S: Final = 10.0
_ASK_S: Final = 2.0
_LINES: Final = 12
_METRICS: Final = re.compile(r"metrics on (http://\S+)/metrics")
_READY: Final = "kernels ready"


class DetectorProcess:
    """One running worker. ``policy`` is a file, or the shipped policy without one."""

    def __init__(self, settings: Settings, folder: Path, *, policy: Path | None) -> None:
        command = [sys.executable, "-m", "streamdetect", "worker", "--mode", "live"]
        command += ["--policy", str(policy.absolute())] if policy is not None else []
        self._output = folder / "detector.log"
        self._process = SupervisedProcess(
            command, output=self._output, grace_s=GRACE_S, environment=_environment(settings)
        )

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    async def until_ready(self, on_wait: Callable[[str], None]) -> None:
        """Wait until the worker owns its partitions; ``on_wait`` is told, now and then, what takes so long.

        Raises ``GateError`` when it ends, ``UnreachableError`` when it takes longer than ``START_LIMIT_S``.
        """
        began = time.monotonic()
        told = COMPILING_AFTER_S
        while not await asyncio.to_thread(self._is_ready):
            self.check()
            waited = time.monotonic() - began
            if waited > START_LIMIT_S:
                raise UnreachableError(f"the detector was not ready within {START_LIMIT_S:g} s:\n{self.last_lines()}")
            if waited > told:
                told += _TOLD_EVERY_S
                on_wait(self._doing(waited))
            await asyncio.sleep(_POLL_S)

    async def until_ended(self) -> None:
        """Wait for the worker to end by itself, which it should not; then raise ``GateError``."""
        while True:
            self.check()
            await asyncio.sleep(_POLL_S)

    def check(self) -> None:
        """Raise ``GateError`` with the last log lines if the worker has ended."""
        if not self._process.alive:
            raise GateError(f"the detector ended by itself; its last lines:\n{self.last_lines()}")

    def last_lines(self) -> str:
        """The end of the worker's log."""
        return "\n".join(tail(self._output).splitlines()[-_LINES:]) or "(it wrote nothing)"

    def stop(self) -> None:
        """End the worker: SIGTERM, after the grace SIGKILL. Harmless when repeated."""
        self._process.stop()

    def _is_ready(self) -> bool:
        found = _METRICS.search(self._said())
        if found is None:
            return False
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{found[1]}/ready", timeout=_ASK_S):  # noqa: S310 - the address is our own child's
            return True
        return False

    def _doing(self, waited: float) -> str:
        if _READY in self._said():
            return f"joining the broker's consumer group ({waited:.0f} s)"
        return f"compiling kernels, once on this machine ({waited:.0f} s)"

    def _said(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")


def _environment(settings: Settings) -> dict[str, str]:
    inherited = {name: value for name, value in package_environment().items() if not name.startswith(ENV_PREFIX)}
    return inherited | {
        ENV_PREFIX + "BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        ENV_PREFIX + "TOPIC_ADMIN": str(settings.topic_admin).lower(),
        ENV_PREFIX + "CLOCK": settings.clock,
        ENV_PREFIX + "METRICS_PORT": "0",
        "PYTHONUNBUFFERED": "1",
    }
