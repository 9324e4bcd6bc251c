"""What must come out whatever the detector: no content, no lexical recall; no truth in the labels, no skill.

A failure here says that the traffic or the grading leaks, not that a detector is good or bad.
"""

import gzip
import json
import os
from collections import Counter, defaultdict
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
from baselines.catalogue import made
from baselines.pair_lsh import bands_of
from harness.cells import rounds_of, run_cell, spec_of, traffic
from harness.plan import Cell, Profile, Task

from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.minhash import band_keys, permutations
from streamdetect.kernels.text import SD_MH1, sketch
from streamdetect.messages.request import RequestEvent
from streamdetect.replay.figures import figures
from streamdetect.replay.grade import OpenLoop, Recorded, read_truth
from streamdetect.replay.truth import CAMPAIGN, LEGIT
from streamdetect.traffic.catalogue.background import BACKGROUND
from streamdetect.traffic.catalogue.names import CATALOGUE
from streamdetect.traffic.draws import mix
from streamdetect.traffic.material.pack import Pack
from streamdetect.traffic.material.written import Written
from streamdetect.traffic.output import COVER, LABELS, REQUESTS, write_folder
from streamdetect.traffic.simulation import Simulation
from streamdetect.traffic.speech.people import People

DATA = Path(os.environ.get("STREAMDETECT_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
needs_pack = pytest.mark.skipif(
    not (DATA / "organic.jsonl.gz").exists(), reason="no test data: set STREAMDETECT_TEST_DATA to its folder"
)
# So small a campaign has one or two templates of a pack. With this seed they are of the kind that words give away; on
# others (long slots) every lexical detector fails.
SEED = 6
SMALL = Profile(
    name="small", accounts=160, exchanges=20_000, days=1, seeds=(SEED,), background=2, honest=320, round_ms=300_000
)
LEXICAL = ("lsh-0.5", "lsh-0.7", "co-share", "shipped")
MATERIALS = ("built-in", pytest.param("pack", marks=needs_pack))


@pytest.fixture(scope="module")
def lexical(tmp_path_factory):
    """Run the lexical detectors on a row, once a row and material: by detector, what was hit and how much was sent."""
    known = {}

    def run(row, material):
        if (row, material) not in known:
            task = Task(row, SEED, SMALL, DATA if material == "pack" else None)
            folder = tmp_path_factory.mktemp(f"{row}-{material}")
            traffic(task, folder)
            rounds = rounds_of(folder, SMALL.round_ms)
            known[row, material] = {name: run_cell(Cell(task, "open", name), folder, rounds) for name in LEXICAL}
        return known[row, material]

    return run


def recall(result):
    """Campaign accounts verified or suspended. Limits are the subnet rule's, which knows no content."""
    return result["figures"]["recall"]["verify"]


@pytest.mark.parametrize("material", MATERIALS)
def test_a_campaign_with_templates_is_seen_by_its_words(lexical, material):
    # The positive control: without it, the tests below would pass on detectors that find nothing.
    found = lexical("C2", material)
    assert recall(found["lsh-0.5"]) > 0.9
    assert recall(found["shipped"]) > 0.9


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("row", ["X1", "C4d"])
@pytest.mark.parametrize("detector", LEXICAL)
def test_bare_questions_and_full_rewrites_are_hardly_seen_by_their_words(lexical, row, material, detector):
    assert recall(lexical(row, material)[detector]) < 0.25


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("detector", LEXICAL)
def test_replayed_prompts_are_seen_no_more_than_those_of_the_honest(lexical, material, detector):
    # An account that sends five times as many prompts is hit by accident five times as often: compare rates a prompt.
    result = lexical("X2", material)[detector]
    evaluation, honest = result["figures"]["evaluation"], result["honest"]["background"]
    theirs = _rate(recall(result), evaluation["planned"] / evaluation["campaign_accounts"])
    # About half of the honest requests are first turns, the only ones that are looked at.
    ours = _rate(
        honest["verify"] / honest["accounts"], evaluation["honest_requests"] / evaluation["honest_accounts"] / 2
    )
    assert theirs < 2 * ours + 0.01


def _rate(share, prompts):
    """Hits a prompt, of a share of accounts hit after so many."""
    return -log(max(1 - share, 0.005)) / prompts


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A run of C2 by a detector that finds it: folder, rounds, decisions."""
    folder = tmp_path_factory.mktemp("graded")
    traffic(Task("C2", SEED, SMALL, None), folder)
    rounds = rounds_of(folder, SMALL.round_ms)
    detector = made("lsh-0.5", SMALL.round_ms)
    decisions = [one for columns, start_ms in rounds for one in detector.round(columns, start_ms)]
    return folder, rounds, decisions


def _figures(graded, truth):
    _, rounds, decisions = graded
    loop = OpenLoop(Recorded(decisions, SMALL.round_ms), truth)
    for columns, start_ms in rounds:
        loop.round(columns, start_ms)
    loop.finish()
    return figures(loop.evaluation), truth.accounts.live


def test_shuffled_labels_give_chance(graded):
    folder = graded[0]
    true, rows = _figures(graded, read_truth(folder / LABELS, folder / COVER))
    heard = rows["first_at"] > 0
    heard &= np.isin(rows["label"], [LEGIT, CAMPAIGN])
    hit = (rows["first_action_at"][:, 3] > 0) & heard
    truth = read_truth(folder / LABELS)
    places = np.flatnonzero(heard)
    order = np.random.default_rng(1).permutation(len(places))
    mixed = truth.accounts.live
    for name in ("label", "campaign", "cohort"):
        mixed[name][places] = mixed[name][places[order]]

    chance, _ = _figures(graded, truth)

    attackers, everybody = int(np.count_nonzero(rows["label"][heard] == CAMPAIGN)), int(heard.sum())
    expected, base = hit.sum() / everybody, attackers / everybody
    deviation = (expected * (1 - expected) / attackers) ** 0.5
    assert true["recall"]["suspend"] > expected + 6 * deviation
    assert chance["recall"]["suspend"] == pytest.approx(expected, abs=4 * deviation)
    assert chance["precision"]["suspend"] == pytest.approx(base, abs=4 * (base * (1 - base) / hit.sum()) ** 0.5)
    assert true["precision"]["suspend"] > 0.8


@pytest.mark.parametrize("row", [scenario.name for scenario in CATALOGUE])
def test_no_label_and_no_cohort_reaches_a_detector(tmp_path, row):
    tiny = Profile(
        name="tiny", accounts=20, exchanges=500, days=0.25, seeds=(6,), background=1, honest=20, round_ms=300_000
    )
    manifest = traffic(Task(row, 6, tiny, None), tmp_path)
    raw = gzip.decompress((tmp_path / REQUESTS).read_bytes())
    labels = [json.loads(line) for line in (tmp_path / LABELS).read_text().splitlines()]
    told = {label[name] for label in labels for name in ("label", "campaign_id", "cohort") if label.get(name)}
    fields, texts = set(RequestEvent.model_fields), ("prompt", "system_prompt")

    events = [json.loads(line) for line in raw.splitlines()]

    assert len(events) == manifest["events"] > 0
    assert told >= {row, "background", "legit"} or told >= {row, "legit"}
    for event in events:
        assert set(event) <= fields
        assert not told & {str(value) for name, value in event.items() if name not in texts}
        rest = json.dumps({name: value for name, value in event.items() if name not in texts})
        assert not any(f'"{word}' in rest or f"{word}_" in rest for word in told)


def _alike(texts, threshold):
    """Shares of the texts long enough to be sketched that meet another one, and ten others, in some band."""
    buffer, spans = spans_of(texts)
    made_of = sketch(np.frombuffer(buffer, np.uint8), spans.start, spans.end, *permutations(SD_MH1))
    keys = band_keys(made_of.signatures[made_of.shingles >= 8], *bands_of(threshold))
    meets, meets_ten = np.zeros(len(keys), bool), np.zeros(len(keys), bool)
    for band in keys.T:
        _, place, count = np.unique(band, return_inverse=True, return_counts=True)
        meets |= count[place] > 1
        meets_ten |= count[place] > 10
    return meets.mean(), meets_ten.mean()


@needs_pack
def test_honest_words_repeat_no_more_than_those_of_real_people():
    count, long = 4_000, 9
    rows = defaultdict(list)
    with gzip.open(DATA / "organic.jsonl.gz") as lines:
        for row in map(json.loads, lines):
            if row["source"] != "awesome-chatgpt-prompts" and len(row["text"].split()) >= long:
                rows[row["source"]].append(row["text"].encode())
    # As the material does: large sources by the root of their size, here without taking a row twice.
    sizes = {source: round(len(texts) ** 0.5) for source, texts in rows.items()}
    step = count / sum(sizes.values())
    real = [text for source, texts in rows.items() for text in texts[: int(sizes[source] * step)]]
    limits = {threshold: _alike(real, threshold) for threshold in (0.5, 0.7)}

    keys, turns = mix(np.arange(3 * count, dtype=np.uint64)), np.zeros(3 * count, np.int64)
    for material in (Written(), Pack(DATA, "fit"), Pack(DATA, "report")):
        texts = [json.loads(b'"' + text + b'"').encode() for text in material.people(keys, turns).tolist()]
        texts = [text for text in texts if len(text.split()) >= long][: len(real)]
        assert len(texts) == len(real)
        for threshold, (meets, meets_ten) in limits.items():
            mine = _alike(texts, threshold)
            assert mine[0] <= 1.25 * meets + 0.005, (material.name, threshold, mine, meets)
            assert mine[1] <= meets_ten + 0.002, (material.name, threshold, mine, meets_ten)
        repeated = 1 - len(set(texts)) / len(texts)
        assert repeated <= 1 - len(set(real)) / len(real) + 0.005


@pytest.mark.parametrize("material", MATERIALS)
def test_honest_accounts_are_not_suspended_for_prompts_that_the_generator_repeats(lexical, material):
    # Honest accounts do share texts (public prompts, passages, programs), each of them once in a while: in exact pairs
    # of texts, ten accounts of which hang together, hardly anybody.
    honest = lexical("X1", material)["co-share"]["honest"]["background"]
    assert honest["suspend"] <= 0.01 * honest["accounts"]


def _own_words_alone(exchanges):
    """The same stream, of people who copy nothing."""
    speech = replace(
        exchanges.speech, public_percent=0, passage_percent=0, document_percent=0, library_percent=0
    )  # fmt: skip
    return replace(exchanges, speech=speech)


@pytest.mark.parametrize("material", MATERIALS)
def test_who_copies_nothing_is_like_nobody(tmp_path, material):
    # What near-duplicate search finds among the honest is what they copy from each other, not a generator that runs out
    # of words: without the copying there is nothing to find.
    groups = [
        replace(group, streams=tuple(map(_own_words_alone, group.streams)))
        for group in BACKGROUND.groups
        if all(isinstance(exchanges.speech, People) for exchanges in group.streams)
    ]
    task = Task("X1", SEED, SMALL, DATA if material == "pack" else None)
    spec = replace(spec_of(task), population=replace(BACKGROUND, groups=tuple(groups)))
    write_folder(Simulation(spec), tmp_path, on_batch=lambda _events, _time_ms: None)
    rounds = rounds_of(tmp_path, SMALL.round_ms)
    for name in ("lsh-0.5", "lsh-0.7"):
        honest = run_cell(Cell(task, "open", name), tmp_path, rounds)["honest"]["background"]
        assert honest["accounts"] > 150
        assert honest["suspend"] <= 0.005 * honest["accounts"], name


def test_every_detector_decides_something_on_some_row(lexical):
    decided = Counter()
    for row in ("C2", "X1"):
        for name, result in lexical(row, "built-in").items():
            decided[name] += sum(result["decisions"].values())
    assert decided["lsh-0.5"] > 0
    assert decided["lsh-0.7"] > 0
    assert decided["shipped"] > 0
