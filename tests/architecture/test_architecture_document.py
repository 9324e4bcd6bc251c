"""docs/ARCHITECTURE.md and the README say what the code says: stages, import order, files, settings."""

import re
from pathlib import Path

import pytest

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
