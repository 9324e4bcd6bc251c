"""docs/ARCHITECTURE.md and the README say what the code says: stages, files, settings, examples."""

import ast
import importlib
import re
import shlex
import textwrap
from dataclasses import fields
from pathlib import Path

import orjson
import pytest
from cyclopts import CycloptsError

from streamdetect.cli import app
from streamdetect.enforcer.client import GatewayClient
from streamdetect.enforcer.requests import Verdict
from streamdetect.kernels.chunk import chunk_of
from streamdetect.messages.request import RequestEvent
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.topology import STAGES
from streamdetect.settings import Settings

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/ARCHITECTURE.md").read_text()
README = (ROOT / "README.md").read_text()
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
# Where a path in a text may start: the project, the package, the pipeline, the tests of laws.
STARTS = ("", "streamdetect", "streamdetect/pipeline", "tests/properties", "docs")


def test_the_stage_table_is_the_one_of_the_code():
    begins = ARCHITECTURE.index("| stage | keyed by | keeps | gives |")
    rows = ARCHITECTURE[begins:].partition("\n\n")[0].splitlines()[2:]
    cells = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    assert [(stage.name, stage.keyed_by, stage.keeps, stage.gives) for stage in STAGES] == cells


@pytest.mark.parametrize("page", PAGES)
def test_files_named_exist(page):
    named = set(re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|toml|yml|md)|test_\w+\.py)`", (ROOT / page).read_text()))
    missing = [name for name in named if not any((ROOT / start / name).is_file() for start in STARTS)]
    assert missing == []


def test_settings_named_in_the_readme_exist():
    begins = README.index("**Settings**")
    named = re.findall(r"`(?!STREAMDETECT_)([A-Z][A-Z_]+)`", README[begins : README.index("\n\n", begins)])
    assert len(named) > 10
    assert [name for name in named if name.lower() not in Settings.model_fields] == []


def test_pages_are_short_enough_to_be_read():
    assert README.count("\n") < 150
    assert ARCHITECTURE.count("\n") < 250


def _blocks(language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)


def _example_commands():
    lines = [shlex.split(part, comments=True) for block in _blocks("sh") for part in re.split(r"\n|&&", block)]
    return [words[1:] for words in lines if words and words[0] == "streamdetect"]


def test_there_are_example_commands():
    assert len(_example_commands()) > 5


@pytest.mark.parametrize("words", _example_commands(), ids=" ".join)
def test_example_commands_in_the_readme_are_understood(words):
    assert _misunderstood(words) == []


def _misunderstood(words):
    """Give the options that nobody takes; where many files are allowed, one more is taken for a file."""
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return [word for word in bound.args if isinstance(word, str) and word.startswith("--")]


def test_a_wrong_option_would_be_noticed():
    with pytest.raises(CycloptsError):
        _misunderstood(["topics", "--prnt", "text"])
    assert _misunderstood(["replay", "x.jsonl", "--output", "out", "--polcy", "p"]) == ["--polcy"]


def test_the_event_in_the_readme_is_accepted():
    (event,) = _blocks("json")
    columns, rejects = decode_requests(chunk_of("readme", 0, [event.encode()]))
    assert rejects == []
    assert len(columns) == 1
    named = set(orjson.loads(event))
    assert named <= set(RequestEvent.model_fields)


def test_the_gateway_example_in_the_readme_names_what_there_is():
    (code,) = _blocks("python")
    tree = ast.parse(f"async def main():\n{textwrap.indent(code, '    ')}")
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in imported:
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)
    assert all(hasattr(GatewayClient, name) for name in re.findall(r"client\.(\w+)\(", code))
    comment = code.partition("verdict.denied:")[2]
    used = {"denied", *re.findall(r"(?:verdict)?\.(\w+)", comment)}
    assert used <= {field.name for field in fields(Verdict)}
