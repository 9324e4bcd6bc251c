"""A child process with a supervisor: signals, an orderly end, and no orphans.

Output goes to a file, whose last lines an error message shows; it is never a pipe, so a chatty child does not block.
Not thread-safe: one owner starts and stops a process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamdetect.errors import UnreachableError

TAIL_BYTES = 4_000
_START_LIMIT_S = 20.0


def tail(path: Path, *, bytes_max: int = TAIL_BYTES) -> str:
    """Return the end of a log file, empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - bytes_max))
            return log.read(bytes_max).decode(errors="replace")
    except OSError:
        return ""


def package_environment() -> dict[str, str]:
    """Return this process's environment, with this package importable in the child however it was found here."""
    package_parent = str(Path(__file__).parents[2])
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package_parent, known)))}


class SupervisedProcess:
    """One running child. ``pid`` is the child itself, so signals reach it and not its supervisor."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: Path,
        grace_s: float = 10.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command, self.output, self.grace_s = tuple(command), output, grace_s
        script = Path(__file__).with_name("supervisor.py")
        with output.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env=None if environment is None else dict(environment),
            )
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        assert self._supervisor.stdout is not None
        limit = threading.Timer(_START_LIMIT_S, self._supervisor.kill)
        limit.start()
        try:
            line = self._supervisor.stdout.readline()
        finally:
            limit.cancel()
            self._supervisor.stdout.close()
        if not line.strip().isdigit():
            self.stop()
            message = f"cannot start {self.command[0]}; its output ends with:\n{tail(self.output)}"
            raise UnreachableError(message)
        return int(line)

    @property
    def alive(self) -> bool:
        """True while the child runs (a paused child runs)."""
        return self._supervisor.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child; nothing happens when it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the child with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._close()

    def stop(self) -> None:
        """End the child in order: SIGTERM, after the grace SIGKILL. Harmless when repeated."""
        self._close()

    def ask_to_stop(self) -> None:
        """Begin the orderly end without waiting, so several processes can end at once; call ``stop`` after."""
        if self._supervisor.stdin is not None:
            self._supervisor.stdin.close()

    def _close(self) -> None:
        self.ask_to_stop()
        try:
            self._supervisor.wait(self.grace_s + 10)
        except subprocess.TimeoutExpired:  # the supervisor was stopped by a signal of someone else
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._supervisor.pid, signal.SIGKILL)
            self._supervisor.wait()
