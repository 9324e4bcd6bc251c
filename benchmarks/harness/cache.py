"""Results of cells on disk, so that an evaluation that was stopped goes on and one detector can be run anew.

The key of a folder is a digest of everything a result depends on besides its cell: the code that makes the traffic,
runs and grades, versions of libraries, and the data pack. How results are shown is not part of it.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from harness.plan import Cell

_ROOT = Path(__file__).parents[2]
_CODE = (
    *(f"streamdetect/{name}" for name in ("kernels", "messages", "pipeline", "policies", "replay", "traffic")),
    "benchmarks/baselines",
    "benchmarks/harness/cells.py",
    "benchmarks/harness/plan.py",
)
_SUFFIXES = {".py", ".toml"}
_LIBRARIES = ("numpy", "numba", "scipy", "datasketch")


def fingerprint(data: Path | None) -> str:
    """Digest of what all cells depend on."""
    digest = hashlib.sha256()
    for name in _CODE:
        place = _ROOT / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in _SUFFIXES:
                digest.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    for name in _LIBRARIES:
        digest.update(f"{name} {importlib.metadata.version(name)}".encode())
    for path in sorted(data.rglob("*.gz")) if data else []:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()[:16]


class Cache:
    """One JSON file a cell."""

    def __init__(self, data: Path | None, root: Path | None = None) -> None:
        self._folder = (root or _ROOT / ".cache" / "evaluation") / fingerprint(data)

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """The result of a cell, if it is there."""
        path = self._path(cell)
        return json.loads(path.read_text()) if path.exists() else None

    def put(self, cell: Cell, result: dict[str, Any]) -> None:
        """Keep a result; a file is whole or absent."""
        path = self._path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(result))
        part.replace(path)

    def _path(self, cell: Cell) -> Path:
        task, profile = cell.task, cell.task.profile
        size = (
            f"{profile.accounts}-{profile.exchanges}-{profile.days:g}d"
            f"-b{profile.background:g}-h{profile.honest}-r{profile.round_ms}"
        )
        texts = f"pack-{task.side}" if task.data else "built-in"
        return self._folder / size / texts / f"{task.row}-{task.seed}-{cell.loop}-{cell.detector}.json"
