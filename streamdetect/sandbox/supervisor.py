"""Runs one child process and never lets it outlive the process that asked for it.

Started as a script (``python -I -S supervisor.py GRACE_S COMMAND ...``) in a session of its own, standard library only.
It prints the child's process id, then waits. The child is ended, SIGTERM first and SIGKILL after the grace, as soon as
standard input closes or the asking process is gone, by SIGKILL too. On Linux the kernel kills the child when the
supervisor itself is killed. Costs one idle interpreter (about 9 MB) a child.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

POLL_S = 0.1
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> Callable[[], None] | None:
    """Return what asks Linux to kill the child when this process dies; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    # Looked up before the fork: nothing but the call itself may run between fork and exec.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def _asked_to_end(parent: int) -> bool:
    """Wait up to ``POLL_S``; True when standard input closed or the parent is gone."""
    readable, _, _ = select.select([0], [], [], POLL_S)
    # The parent id is the backstop: a process the parent forked may hold the other end of the pipe open.
    return (bool(readable) and not os.read(0, 1)) or os.getppid() != parent


def main(arguments: list[str]) -> int:
    """Run the command in ``arguments[1:]`` and return its exit code, 128 + signal when a signal ended it."""
    parent = os.getppid()
    grace_s = float(arguments[0])
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    child = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL, stdout=2, preexec_fn=_die_with_parent())  # noqa: PLW1509 - one thread only
    print(child.pid, flush=True)  # noqa: T201 - the hand-over to the parent
    while child.poll() is None and not stopped:
        with contextlib.suppress(InterruptedError):
            if _asked_to_end(parent):
                break
    _end(child, grace_s)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
