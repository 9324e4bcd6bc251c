"""Laws of texts as columns: what compiled code puts together is what Python would, and JSON stays JSON."""

import json

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.traffic.language import built_in, fragment
from streamdetect.traffic.texts import Texts, decimals, empty, hexadecimals, joined, scattered, sequences, texts_of
from streamdetect.traffic.wording import Kept, Vocabulary, disguised, paraphrased, translated, word_hashes

columns = st.lists(st.binary(max_size=12), min_size=1, max_size=8)
prose = st.lists(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40).map(lambda text: f'Take {text} \n and "quote" it'),
    min_size=1,
    max_size=6,
)


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 63, count).astype(np.uint64)


def read(texts: Texts) -> list[str]:
    return [orjson.loads(b'"%s"' % text) for text in texts.tolist()]


@settings(deadline=None)
@given(columns, st.binary(max_size=4), st.binary(max_size=4))
def test_joining_is_putting_rows_together(rows, before, after):
    column, other = texts_of(rows), texts_of(rows[::-1])
    expected = [before + a + after + b + before for a, b in zip(rows, rows[::-1], strict=True)]
    assert joined(before, column, after, other, before).tolist() == expected
    assert joined(before, column, after, other, before).packed() == b"".join(expected)


@settings(deadline=None)
@given(columns, st.data())
def test_rows_taken_hidden_and_scattered_are_those_of_a_list(rows, data):
    column = texts_of(rows)
    picks = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=9)))
    assert column.take(picks).tolist() == [rows[pick] for pick in picks]
    assert column.take(picks).packed() == b"".join(rows[pick] for pick in picks)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    assert column.where(mask).tolist() == [row if shown else b"" for row, shown in zip(rows, mask, strict=True)]
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    back = scattered(len(rows) + 1, [(order[:2], column.take(order[:2])), (order[2:], column.take(order[2:]))])
    assert back.tolist() == [*rows, b""]
    assert empty(3).tolist() == [b"", b"", b""]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=9))
def test_numbers_are_written_as_python_writes_them(values):
    assert decimals(np.array(values)).tolist() == [b"%d" % value for value in values]
    assert hexadecimals(np.array(values, np.uint64)).tolist() == [b"%016x" % value for value in values]


@settings(deadline=None)
@given(columns, st.data())
def test_sequences_lay_pieces_end_to_end(rows, data):
    counts = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    tokens = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=sum(counts), max_size=sum(counts)))
    ends = np.cumsum(counts)
    expected = [b"".join(rows[t] for t in tokens[end - n : end]) for end, n in zip(ends, counts, strict=True)]
    lengths = np.array([len(text) for text in expected])
    found = sequences(texts_of(rows), np.array(tokens, np.int64), lengths, int(lengths.sum()))
    assert found.tolist() == expected


@settings(deadline=None, max_examples=60)
@given(prose, st.integers(0, 100), st.integers(0, 9))
def test_changed_words_leave_valid_json_and_everything_that_is_no_word(texts, percent, seed):
    column = texts_of([fragment(text) for text in texts])
    vocabulary, draws = Vocabulary.of(texts_of([b"alpha", b"be", b"gamma"])), keys(len(texts), seed)
    shares = np.full(len(texts), percent)
    changed = read(paraphrased(column, draws, shares, vocabulary))
    for before, after in zip(texts, changed, strict=True):
        assert [c for c in after if not _is_letter(c)] == [c for c in before if not _is_letter(c)]
    assert read(paraphrased(column, draws, np.zeros(len(texts), np.int64), vocabulary)) == texts
    hidden = read(disguised(column, draws, percent))
    cyrillic = str.maketrans("\u0430\u0441\u0435\u043e\u0440\u0445\u0443", "aceopxy", "\u200b")
    originals = [text.translate(cyrillic) for text in texts]
    assert [text.translate(cyrillic) for text in hidden] == originals
    json.dumps(changed)


def _is_letter(character: str) -> bool:
    return ("a" <= character.lower() <= "z" and character.isascii()) or ord(character) >= 128


@settings(deadline=None)
@given(st.integers(0, 2**62), st.integers(1, 100))
def test_words_that_must_stay_do(seed, percent):
    text = b"keep this one and change whatever else there is of it"
    column, draws = texts_of([text] * 4), keys(4, seed % 1000)
    kept = Kept(word_hashes(b"keep this one"), np.array([3]), np.zeros(4, np.int64))
    vocabulary = Vocabulary.of(texts_of([b"XX"]))
    for changed in paraphrased(column, draws, np.full(4, percent), vocabulary, kept=kept).tolist():
        assert changed.startswith(b"keep this one ")
        assert len(changed.split()) == len(text.split())


def test_paraphrase_replaces_the_share_it_is_told():
    text = texts_of([b"word " * 400] * 20)
    for percent in (20, 35, 50):
        changed = paraphrased(text, keys(20), np.full(20, percent), Vocabulary.of(texts_of([b"other"])))
        share = sum(t.count(b"other") for t in changed.tolist()) / 8000
        assert abs(share - percent / 100) < 0.03


def test_a_translation_maps_a_word_to_one_word_and_a_free_one_to_many():
    language = built_in()
    foreign = Vocabulary.foreign(language)
    text, draws = texts_of([b"the table and the chair, the end"] * 50), keys(50)
    same = {tuple(t.split()) for t in translated(text, draws, np.full(50, 3), foreign).tolist()}
    assert len(same) == 1
    assert next(iter(same))[0] == next(iter(same))[3]
    free = set(translated(text, draws, np.full(50, 3), foreign, free_percent=65).tolist())
    assert len(free) > 45
    assert translated(text, draws, np.full(50, -1), foreign).tolist() == text.tolist()
