"""Rules every file of the project keeps."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "streamdetect"
LINES_MAX = 450
# Written in two halves, so that this file does not contain what it looks for.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
CONFLICT = re.compile(r"^(<{7} |={7}$|>{7} )")
MACHINE_PATHS = re.compile(r"(?<![\w.$}{])/(work|root|home|Users|tmp)" + r"/[\w.]")
REGISTRIES = re.compile(
    r"(pypi\.org|pythonhosted\.org|repo1?\.maven\.(org|apache\.org)|registry\.npmjs\.org|docker\.io|ghcr\.io"
    r"|index-url\s*[=:]|artifactory|nexus)"
)


@cache
def tracked():
    """Give the text files under version control: path -> text. Lock files are the tools' own."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.decode().split("\0") if name and not name.endswith(".lock")]
    texts = {}
    for path in paths:
        if path.is_file():
            try:
                texts[path.relative_to(ROOT).as_posix()] = path.read_text("utf-8")
            except UnicodeDecodeError:
                continue
    return texts


def _lines_with(pattern, texts):
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_module_is_longer_than_can_be_read():
    sizes = {name: text.count("\n") for name, text in tracked().items() if name.endswith(".py")}
    assert len(sizes) > 100
    assert {name: lines for name, lines in sizes.items() if lines > LINES_MAX} == {}


def test_nothing_is_marked_unfinished():
    assert _lines_with(UNFINISHED, tracked()) == []


def test_no_conflict_is_left():
    assert _lines_with(CONFLICT, tracked()) == []


def test_no_file_names_a_folder_of_one_machine():
    assert _lines_with(MACHINE_PATHS, tracked()) == []


def test_no_file_names_a_package_registry():
    texts = {name: text for name, text in tracked().items() if name != Path(__file__).relative_to(ROOT).as_posix()}
    assert _lines_with(REGISTRIES, texts) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (UNFINISHED, "# TO" + "DO: later"),
        (MACHINE_PATHS, 'DATA = "/wo' + 'rk/data"'),
        (REGISTRIES, "pip install --index-url=https://example.com"),
    ],
)
def test_the_patterns_find_what_they_look_for(pattern, line):
    assert pattern.search(line)


def test_every_module_says_what_it_is():
    silent = [
        name
        for name, text in tracked().items()
        if name.startswith("streamdetect/") and name.endswith(".py") and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def test_no_module_has_a_name_that_says_nothing():
    nothing = {"utils", "util", "common", "misc", "helpers", "stuff"}
    assert [path.as_posix() for path in map(Path, tracked()) if nothing & {path.stem, *path.parts}] == []


def test_ignores_name_their_rule():
    bare = re.compile(r"#\s*type:\s*ignore(?!\[)|#\s*noqa(?!:)")
    code = {name: text for name, text in tracked().items() if name.startswith("streamdetect/")}
    assert _lines_with(bare, code) == []
