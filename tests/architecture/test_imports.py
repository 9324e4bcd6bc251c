"""The import contracts of ``pyproject.toml`` hold, name what they should, and would notice a breach."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "streamdetect"
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}

# One breach for each contract: the module it is planted in, and what it must not import there.
BREACHES = {
    "one-way": ("kafka/planted.py", "import streamdetect.pipeline.topology\nimport streamdetect.worker.transport\n"),
    "way-of-an-event": ("pipeline/accept/planted.py", "import streamdetect.pipeline.enforcement.standing\n"),
    "far-end": ("enforcer/planted.py", "import streamdetect.traffic.draws\nimport numpy\n"),
    "faust": ("telemetry/planted.py", "import faust\n"),
    "pure": ("pipeline/associations/planted.py", "def now():\n    import time\n\n    return time.time()\n"),
    "plain-messages": ("messages/planted.py", "from numpy.typing import NDArray\n"),
}


def _lint(folder: Path) -> tuple[int, dict[str, str]]:
    """Run the contracts on the package in ``folder``; (exit code, contract name -> KEPT or BROKEN)."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as lint; lint()"]
    command += ["--config", str(folder / "pyproject.toml"), "--no-cache"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    verdicts = re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE)
    assert len(CONTRACTS) == len(verdicts), done.stdout + done.stderr
    return done.returncode, dict(verdicts)


def test_every_import_contract_is_kept():
    code, verdicts = _lint(ROOT)
    assert [name for name, verdict in verdicts.items() if verdict != "KEPT"] == []
    assert code == 0


def test_a_breach_of_each_contract_is_found(tmp_path):
    assert CONTRACTS.keys() == BREACHES.keys()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(PACKAGE, tmp_path / "streamdetect", ignore=shutil.ignore_patterns("__pycache__"))
    for place, source in BREACHES.values():
        (tmp_path / "streamdetect" / place).write_text(source)
    code, verdicts = _lint(tmp_path)
    assert {contract["name"]: "BROKEN" for contract in CONTRACTS.values()} == verdicts
    assert code == 1


def test_all_parts_but_the_worker_are_kept_from_faust():
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    kept_from = {name.removeprefix("streamdetect.") for name in CONTRACTS["faust"]["source_modules"]}
    assert parts - {"__init__", "worker"} == kept_from


def test_only_imports_that_exist_are_excused():
    for contract in CONTRACTS.values():
        assert contract.get("unmatched_ignore_imports_alerting", "error") == "error"
    excused = [line for contract in CONTRACTS.values() for line in contract.get("ignore_imports", [])]
    assert excused == ["streamdetect.pipeline.accept.gather -> socket"]


def test_modules_are_imported_by_name_only_where_a_package_may_be_absent():
    """Contracts read import statements and see nothing else."""
    dynamic = re.compile(r"\bimport_module\(|\b__import__\(")
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if dynamic.search(path.read_text())}
    assert found <= {"sandbox/resolve.py"}


def test_no_pure_module_asks_what_time_it_is():
    asks = re.compile(r"\b(datetime|date)\.(now|utcnow|today)\b|\btime\.(time|monotonic|perf_counter)\b")
    pure = [path for part in ("kernels", "messages", "pipeline") for path in (PACKAGE / part).rglob("*.py")]
    assert [path.name for path in pure if asks.search(path.read_text())] == []
