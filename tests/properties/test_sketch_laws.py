"""Laws of the sketch: equal to plain Python and to datasketch, blind to everything outside a span, cut as you like."""

# ruff: noqa: RUF001 - look-alike letters are what is tested

import json
import random

import datasketch
import numpy as np
import pytest
import sketch_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.kernels.chunk import chunk_of, spans_of
from streamdetect.kernels.minhash import band_keys, estimate_jaccard, permutations, to_datasketch
from streamdetect.kernels.text import SD_MH1, SketchProfile, shingles_of, sketch, tokens_of
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accept.sketch import BANDS, ROWS_PER_BAND, Sketcher

compiled = settings(deadline=None)  # the first call compiles
A, B = permutations(SD_MH1)
FRAGMENTS = (
    *("http", "https", "://", ":", "/", "//", "-", "--", "<", '"', " ", "\u200b", "\u0301", "\u3000", "\x00"),
    *(
        "deadbeef",
        "1",
        "2024",
        "abcd",
        "12ab34cd",
        "-e29b",
        "G",
        "Z",
        "é",
        "e\u0301",
        "İ",
        "ß",
        "Ω",
        "Я",
        "漢",
        "か",
        "한",
    ),
    *("ｗｉｄｅ", "𝐛", "𝟗", "“", "—", "…", "!", "!!", "٣", "😀", "\ufffd", "\U000e0041", "ไทย"),
)
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)
texts = st.text(max_size=60) | fragments
encoded = texts.map(str.encode)
# Valid text torn apart and noise: overlong forms, surrogates and cut sequences come up often.
noise = st.lists(st.sampled_from([b"\xe0\x80", b"\xed\xa0\x80", b"\xf4\x90", b"\xc3", b"\x80", b"a", b"\xe6\xbc"])).map(
    b"".join
)
broken = st.binary(max_size=60) | noise


def sketch_of(parts, cap_bytes=8192):
    buffer, spans = spans_of(parts)
    return sketch(np.frombuffer(buffer, np.uint8), spans.start, spans.end, A, B, cap_bytes)


def reference_minhash(hashes):
    made = datasketch.MinHash(num_perm=128, seed=1, scheme="affine32", hashfunc=lambda value: value)
    if hashes:
        made.update_batch(hashes)
    return made


@settings(deadline=None, max_examples=400)
@given(data=encoded | broken, cap_bytes=st.integers(0, 80))
def test_tokens_and_shingles_equal_the_reference(data, cap_bytes):
    assert tokens_of(data, cap_bytes).tolist() == reference.tokens(data, cap_bytes)
    assert shingles_of(data, cap_bytes).tolist() == reference.shingles(data, cap_bytes)


@compiled
@given(parts=st.lists(st.none() | encoded, max_size=6))
def test_signatures_are_datasketch_bit_for_bit(parts):
    sketches = sketch_of(parts)

    for row, part in enumerate(parts):
        shingles = reference.shingles(part or b"")
        assert sketches.shingles[row] == len(shingles)
        assert (sketches.digest[row] == 0) == (not shingles)
        assert sketches.signatures[row].tolist() == reference_minhash(shingles).hashvalues.tolist()


@pytest.mark.parametrize(("num_perm", "seed"), [(128, 1), (64, 7), (256, 2**31)])
def test_permutations_are_those_of_datasketch(num_perm, seed):
    drawn = permutations(SketchProfile("other", num_perm=num_perm, seed=seed))

    expected = datasketch.MinHash(num_perm=num_perm, seed=seed, scheme="affine32").permutations

    assert np.array_equal(np.array(drawn), expected)
    assert np.array(drawn).dtype == expected.dtype


def test_other_schemes_are_refused():
    with pytest.raises(ValueError, match="legacy"):
        permutations(SketchProfile("old", scheme="legacy"))


@compiled
@given(parts=st.lists(st.none() | encoded | broken, max_size=8), cut=st.integers(0, 8))
def test_cutting_a_batch_changes_nothing(parts, cut):
    whole, first, second = sketch_of(parts), sketch_of(parts[:cut]), sketch_of(parts[cut:])

    assert np.array_equal(whole.signatures, np.concatenate([first.signatures, second.signatures]))
    assert np.array_equal(whole.shingles, np.concatenate([first.shingles, second.shingles]))
    assert np.array_equal(whole.digest, np.concatenate([first.digest, second.digest]))


@compiled
@given(before=broken, data=encoded | broken, after=broken, cap_bytes=st.integers(0, 30))
def test_bytes_outside_the_span_do_not_matter(before, data, after, cap_bytes):
    alone = sketch_of([data], cap_bytes)
    buffer = np.frombuffer(before + data + after, np.uint8)
    start = np.array([len(before)])

    within = sketch(buffer, start, start + len(data), A, B, cap_bytes)

    assert np.array_equal(alone.signatures, within.signatures)
    assert alone.digest.tolist() == within.digest.tolist()


@compiled
@given(data=broken, start=st.integers(-3, 90), end=st.integers(-3, 2**40))
def test_spans_beyond_the_buffer_are_cut_to_it(data, start, end):
    got = sketch(np.frombuffer(data, np.uint8), np.array([start]), np.array([end]), A, B)

    assert got.digest.tolist() == sketch_of([data[start:end] if 0 <= start <= end else b""]).digest.tolist()


@pytest.mark.parametrize("character", ["é", "漢", "😀"])
def test_a_code_point_cut_by_the_span_is_not_completed_from_behind_it(character):
    whole = ("ab " + character).encode()
    for missing in range(1, len(character.encode())):
        stop = len(whole) - missing

        got = sketch(np.frombuffer(whole, np.uint8), np.array([0]), np.array([stop]), A, B)

        assert got.digest.tolist() == sketch_of([whole[:stop]]).digest.tolist()
        assert got.digest.tolist() == sketch_of(["ab \ufffd".encode()]).digest.tolist()


def test_a_megabyte_counts_up_to_the_cap():
    long = ("漢 word, " * 120_000).encode()

    capped, cut = sketch_of([long]), sketch_of([reference.capped(long, 8192)])

    assert len(long) > 1_000_000
    assert capped.shingles[0] <= 8192
    assert capped.digest.tolist() == cut.digest.tolist()
    assert np.array_equal(capped.signatures, cut.signatures)


@compiled
@given(first=encoded, second=encoded)
def test_digests_differ_exactly_with_the_tokens(first, second):
    digests = sketch_of([first, second]).digest

    assert (digests[0] == digests[1]) == (reference.tokens(first) == reference.tokens(second))


@compiled
@given(data=st.data(), bands=st.integers(1, 8), rows=st.integers(1, 5))
def test_band_keys_are_equal_where_the_rows_are(data, bands, rows):
    # Two values only, so that equal bands in different places are common.
    slots = st.lists(st.sampled_from([0, 0xFFFFFFFF]), min_size=bands * rows, max_size=bands * rows)
    signatures = np.array(data.draw(st.lists(slots, min_size=1, max_size=5)), np.uint32)

    keys = band_keys(signatures, bands, rows)

    assert keys.shape == (len(signatures), bands)
    named = {
        (band, tuple(signatures[row, band * rows : (band + 1) * rows])): int(keys[row, band])
        for row in range(len(signatures))
        for band in range(bands)
    }
    assert 0 not in named.values()
    assert len(set(named.values())) == len(named)
    for row in range(len(signatures)):
        for band in range(bands):
            assert named[band, tuple(signatures[row, band * rows : (band + 1) * rows])] == keys[row, band]


def test_bands_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        band_keys(np.zeros((1, 128), np.uint32), 26, 5)


def test_estimates_are_as_good_as_theory_says():
    # Mean absolute error of a binomial share: sqrt(2 / pi) * sqrt(J (1 - J) / 128), at most .0353; .0275 measured.
    random_words = random.Random(5)
    errors = []
    for _ in range(300):
        words = [f"w{chr(97 + random_words.randrange(26))}x{random_words.choice('abcdefghij')}" for _ in range(90)]
        edited = [word if random_words.random() > 0.1 else "edited" for word in words]
        pair = [" ".join(words).encode(), " ".join(edited).encode()]
        first, second = (set(shingles_of(text).tolist()) for text in pair)
        signatures = sketch_of(pair).signatures
        errors.append(estimate_jaccard(*signatures) - len(first & second) / len(first | second))

    assert np.mean(np.abs(errors)) < 0.0353 * 1.1
    assert abs(np.mean(errors)) < 0.01


def test_estimates_equal_those_of_datasketch():
    rows = sketch_of([b"a b c d e f g h", b"a b c d e f x h"]).signatures
    objects = [to_datasketch(row, SD_MH1) for row in rows]

    assert estimate_jaccard(*rows) == objects[0].jaccard(objects[1])


def test_objects_of_datasketch_can_be_updated():
    row = sketch_of([b"one two three"]).signatures[0]

    made = to_datasketch(row, SD_MH1)
    made.update_batch(shingles_of(b"two three four").tolist())

    assert made == reference_minhash(reference.shingles(b"one two three") + reference.shingles(b"two three four"))
    with pytest.raises(ValueError, match="64 slots"):
        to_datasketch(row[:64], SD_MH1)


TEMPLATE = (
    "You are an impartial judge. Reason step by step about the answer below, then grade it from 1 to {number}. "
    "Task {id}, source {url} for {word}: be brief, do not repeat the question, and end with the grade alone."
)


def test_masked_slots_change_nothing():
    fillings = [
        TEMPLATE.format(number=5, id="550e8400-e29b-41d4-a716-446655440000", url="https://a.b/c?d=1", word="art"),
        TEMPLATE.format(number=1000, id="00000000-e29b-41d4-a716-44665544ffff", url="http://q.example/", word="art"),
    ]

    sketches = sketch_of([text.encode() for text in fillings])

    assert sketches.digest[0] == sketches.digest[1]
    assert estimate_jaccard(*sketches.signatures) == 1.0


def test_a_changed_word_costs_its_own_shingles():
    fillings = [TEMPLATE.format(number=5, id=7, url="http://a", word=word) for word in ("art", "chemistry")]
    parts = [text.encode() for text in fillings]
    first, second = (set(shingles_of(part).tolist()) for part in parts)

    assert len(first - second) == 3
    assert estimate_jaccard(*sketch_of(parts).signatures) == pytest.approx(
        len(first & second) / len(first | second), abs=0.09
    )


@compiled
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_content_keys_are_those_of_whole_signatures(pairs):
    events = [
        {"event_id": "e", "occurred_at": 1, "account_id": "a", "prompt": prompt, "system_prompt": system}
        for prompt, system in pairs
    ]
    columns, _ = decode_requests(chunk_of("t", 0, [json.dumps(event).encode() for event in events]))
    found = Sketcher(min_shingles=1).sketch(columns)
    prompts, systems = (sketch_of([pair[which].encode() for pair in pairs]) for which in (0, 1))
    assert np.array_equal(found.bands, band_keys(prompts.signatures, BANDS, ROWS_PER_BAND))
    for digests, whole in ((found.prompt_digest, prompts), (found.system_digest, systems)):
        assert digests.tolist() == np.where(whole.shingles > 0, whole.digest, 0).tolist()
