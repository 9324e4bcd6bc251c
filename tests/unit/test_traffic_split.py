"""The two sides of a data pack: no family on both, the same everywhere, and enough on each."""

import gzip
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import orjson
import pytest

from streamdetect.errors import BadDataError
from streamdetect.traffic.draws import mix
from streamdetect.traffic.material.pack import Pack, read_rows
from streamdetect.traffic.material.source import Slots
from streamdetect.traffic.simulation import Simulation, Spec
from streamdetect.traffic.split import SIDES, family_of, side_of

PACK = Path(os.environ.get("STREAMDETECT_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
FILES = ("organic", "templates", "templates_t0", "traps", "banks")
needs_pack = pytest.mark.skipif(
    not (PACK / "organic.jsonl.gz").exists(), reason="no test data: set STREAMDETECT_TEST_DATA"
)


def test_sources_of_one_original_are_one_family():
    for sources in (
        ("t0-paws", "promptsource/paws/labeled_swap", "promptsource/paws-x/en"),
        ("humaneval", "promptsource/openai_humaneval"),
        ("bbh", "bbh/navigate"),
        ("t0-imdb", "t0-rotten_tomatoes", "t0-app_reviews"),
        ("curator-stratos", "skythought"),
        ("aider", "aider-history"),
    ):
        assert len({family_of(source) for source in sources}) == 1, sources
    assert family_of("t0-qasc") != family_of("t0-sciq")


def test_a_family_stays_on_its_side():
    # A moved family would mix what was fitted with what is reported: these are recorded on purpose.
    known = {"paws": "fit", "reviews": "report", "bbh": "fit", "humaneval": "report", "clinc150": "report"}
    assert {family: side_of(family) for family in known} == known
    assert {side_of(f"family {number}") for number in range(40)} == set(SIDES)


@needs_pack
def test_no_family_is_on_both_sides_and_each_side_has_enough():
    sides, rows = defaultdict(set), Counter()
    for name in FILES:
        for row in read_rows(PACK / f"{name}.jsonl.gz"):
            side = side_of(family_of(row["source"]))
            sides[row["source"], row.get("template")].add(side)
            rows[name, side] += 1
    assert all(len(found) == 1 for found in sides.values())
    for name in FILES:
        total = sum(rows[name, side] for side in SIDES)
        assert min(rows[name, side] for side in SIDES) >= 0.2 * total, name


@needs_pack
def test_the_words_of_templates_are_not_on_both_sides():
    # Whatever the names say: what repeats from prompt to prompt of a template must not turn up on the other side.
    phrases = {side: Counter() for side in SIDES}
    for name in ("templates", "templates_t0"):
        groups = defaultdict(list)
        for row in read_rows(PACK / f"{name}.jsonl.gz"):
            groups[row["source"], row["template"]].append(row["text"])
        for (source, _), texts in groups.items():
            counts = Counter(phrase for text in texts[::4][:40] for phrase in _phrases(text))
            usual = {phrase for phrase, count in counts.items() if count >= 0.8 * len(texts[::4][:40])}
            phrases[side_of(family_of(source))].update(usual)
    shared = set(phrases["fit"]) & set(phrases["report"])
    smaller = min(len(set(found)) for found in phrases.values())
    assert smaller > 500
    assert len(shared) < 0.01 * smaller, sorted(shared)[:5]


def _phrases(text, size=8):
    words = text.split()
    return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}


@needs_pack
@pytest.mark.parametrize("side", SIDES)
def test_a_run_uses_texts_of_its_side_alone(side):
    texts = {name: set() for name in SIDES}
    for row in read_rows(PACK / "organic.jsonl.gz"):
        if len(row["text"]) >= 25:
            texts[side_of(family_of(row["source"]))].add(row["text"])
    mine, theirs = texts[side] - texts[_not(side)], texts[_not(side)] - texts[side]
    simulation = Simulation(Spec(scenarios="C2", seed=4, scale=0.004, days=0.5, data=PACK, split=side))
    prompts = [orjson.loads(line)["prompt"] for batch in simulation.batches() for line in batch.lines]
    assert sum(prompt in mine for prompt in prompts) > 50
    assert not any(prompt in theirs for prompt in prompts)
    assert simulation.manifest()["split"] == side


def _not(side):
    return next(name for name in SIDES if name != side)


@needs_pack
@pytest.mark.parametrize("side", SIDES)
def test_tasks_of_the_two_sides_differ(side):
    texts = Pack(PACK, side).tasks(30, 5, Slots()).filled(np.arange(30), mix(np.arange(30, dtype=np.uint64)))
    others = Pack(PACK, _not(side)).tasks(300, 5, Slots())
    rest = others.filled(np.arange(90), mix(np.arange(90, dtype=np.uint64)))
    mine = set().union(*(_phrases(text.decode()) for text in texts.tolist()))
    theirs = set().union(*(_phrases(text.decode()) for text in rest.tolist()))
    assert len(mine) > 300
    assert len(mine & theirs) < 0.01 * len(mine)


def test_a_side_without_templates_is_an_error(tmp_path):
    for name, rows in {
        "organic": [{"source": "clinc150", "text": f"what {i} is"} for i in range(9)],
        "templates": [{"source": "t0-paws", "template": "t", "text": f"task {i}"} for i in range(40)],
        "traps": [],
    }.items():
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(b"".join(orjson.dumps(row) + b"\n" for row in rows)))
    with pytest.raises(BadDataError, match="templates"):
        Simulation(Spec(scenarios="C2", seed=1, scale=0.001, data=tmp_path, split="report"))
    with pytest.raises(BadDataError, match="organic"):
        list(Simulation(Spec(scenarios="C2", seed=1, scale=0.001, days=0.2, data=tmp_path, split="fit")).batches())
