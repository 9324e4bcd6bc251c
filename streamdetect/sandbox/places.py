"""Where the sandbox keeps files: downloaded jars, and one folder a running cluster.

A cluster's folder is owned through a file lock held as long as its process lives, so a later run tells an abandoned
folder from one in use without guessing at process ids, ends what still runs from it, and removes it.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "STREAMDETECT_CACHE"
_LOCK = "owner.lock"
_PID_SUFFIX = ".pid"


def cache_root(environment: Mapping[str, str] | None = None) -> Path:
    """Return the cache folder: ``STREAMDETECT_CACHE`` or ``~/.cache/streamdetect``. Not created here."""
    chosen = (os.environ if environment is None else environment).get(CACHE_VARIABLE, "")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "streamdetect"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` against other processes and other callers in this one; waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one running cluster, and the descriptor whose lock says that it is in use."""

    path: Path
    lock: int

    def note_pid(self, name: str, pid: int) -> None:
        """Record a process that lives in this folder, for a later run to end if this one cannot."""
        (self.path / (name + _PID_SUFFIX)).write_text(str(pid))

    def remove(self) -> None:
        """Delete the folder and give up the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def claim_run_folder(root: Path) -> RunFolder:
    """Clear away what dead runs left under ``root``/run, then make and lock a new folder there."""
    runs = root / "run"
    with locked(root / "run.lock"):
        runs.mkdir(exist_ok=True)
        for left in sorted(runs.iterdir()):
            _reap(left)
        path = Path(tempfile.mkdtemp(prefix="kafka-", dir=runs))
        lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return RunFolder(path, lock)


def _reap(folder: Path) -> None:
    """End the processes of an abandoned folder and remove it; leave a folder in use alone."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        for note in folder.glob("*" + _PID_SUFFIX):
            _end_recorded(note, folder)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _end_recorded(note: Path, folder: Path) -> None:
    text = note.read_text().strip()
    # The number may belong to someone else by now: only a command line that names the folder is ours.
    if text.isdigit() and str(folder) in _command_line(int(text)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(text), signal.SIGKILL)


def _command_line(pid: int) -> str:
    """Return a process's command line, empty when there is no such process."""
    if Path("/proc/self/cmdline").exists():
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    with contextlib.suppress(OSError):
        asked = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return ""
