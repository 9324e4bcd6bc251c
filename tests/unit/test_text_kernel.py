"""Profile sd-mh1 by example: what the tokens of a text are."""

# ruff: noqa: RUF001 - look-alike letters are what is tested

import string
import unicodedata
import zlib

import numpy as np
import pytest
from sketch_reference import token_hash, token_texts

from streamdetect.kernels import codepoints
from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.minhash import permutations
from streamdetect.kernels.text import EMPTY_SLOT, SD_MH1, sketch, tokens_of

NUMBER, URL = "0", "://"
UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!!", ["hello", ",", "world", "!"]),
        ("! !", ["!", "!"]),
        ("room 12, gpt4", ["room", NUMBER, ",", "gpt", NUMBER]),
        ("id " + UUID + ".", ["id", NUMBER, "."]),
        ("DEADBEEF01 deadbeef ab12", [NUMBER, "deadbeef", "ab", NUMBER]),
        ("deadbeef01-ab deadbeef01--abcd", [NUMBER, "-", "ab", NUMBER, "-", "abcd"]),
        ("deadbeef01-abcd-x", [NUMBER, "-", "x"]),
        ("12345678x", [NUMBER, "x"]),
        ("see HTTPS://a.b/c?d=1#e now", ["see", URL, "now"]),
        ('<a href="http://x.y">http://z</a>', ["<", "a", "href", "=", '"', URL, '"', ">", URL, "<", "/", "a", ">"]),
        ("xhttp://a http:/b http ://c", ["xhttp", ":", "/", "a", "http", ":", "/", "b", "http", ":", "/", "c"]),
        ("http:a//b http:/c/d", ["http", ":", "a", "/", "b", "http", ":", "/", "c", "/", "d"]),
        ("看http://a.b看", ["看", URL, "看"]),
        ("日本 ご한국", ["日", "本", "ご", "한", "국"]),
        ("Café cafe\u0301 CAFÉ", ["cafe", "cafe", "cafe"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδοσ"]),
        ("Ещё ещe", ["еще", "ещe"]),  # the last letter of the second word is Latin: look-alikes stay apart
        ("st\u200bep\ufeff s\u00adtep", ["step", "step"]),
        ("ｓｔｅｐ　１２ 𝐬𝐭𝐞𝐩 𝟏", ["step", NUMBER, "step", NUMBER]),
        ("“it’s” — so…", ['"', "it", "'", "s", '"', "-", "so", "."]),
        ("\U0001f600\U0001f600 ok\u00a0ok", ["\U0001f600", "ok", "ok"]),
        ("\t\r\n \u3000", []),
    ],
)
def test_tokens_of(text, expected):
    assert expected == token_texts(text)
    assert [token_hash(token) for token in expected] == tokens_of(text.encode()).tolist()


def test_masks_are_what_the_profile_says():
    assert [token_hash("0"), token_hash("://")] == tokens_of(b"7 http://a").tolist()


def test_invisible_texts_have_no_sketch():
    texts = ["", "\u200b\u200d\ufeff", "\u0301\u0302\u036f", " \u00ad\U000e0041 ", None]
    buffer, spans = spans_of([None if text is None else text.encode() for text in texts])

    sketches = sketch(np.frombuffer(buffer, np.uint8), spans.start, spans.end, *permutations(SD_MH1))

    assert sketches.shingles.tolist() == [0] * 5
    assert sketches.digest.tolist() == [0] * 5
    assert (sketches.signatures == EMPTY_SLOT).all()


def test_short_texts_have_one_shingle():
    buffer, spans = spans_of([b"one", b"one two", b"one two three", b"one two three four"])

    sketches = sketch(np.frombuffer(buffer, np.uint8), spans.start, spans.end, *permutations(SD_MH1))

    assert sketches.shingles.tolist() == [1, 1, 1, 2]
    assert len(set(sketches.digest.tolist())) == 4
    assert len({row.tobytes() for row in sketches.signatures}) == 4


def test_unequal_columns_are_refused():
    empty = np.zeros(0, np.uint8)
    with pytest.raises(ValueError, match="unequal columns"):
        sketch(empty, np.zeros(1, np.int64), np.zeros(2, np.int64), *permutations(SD_MH1))


def test_kinds_agree_with_the_unicode_database():
    kinds, folds = codepoints.kinds(), codepoints.folds()
    for mark in string.punctuation:
        assert kinds[folds[ord(mark)]] == codepoints.PUNCT
    for code in range(0xD800):
        character, kind = chr(code), kinds[folds[code]]
        category = unicodedata.category(character)
        if category in ("Zs", "Zl", "Zp", "Cc"):
            assert kind == codepoints.SPACE, hex(code)
        elif unicodedata.name(character, "").startswith(("CJK UNIFIED", "HIRAGANA LETTER", "HANGUL SYLLABLE")):
            assert kind == codepoints.CJK, hex(code)
        elif code < 0x1000 and category[0] == "L":
            assert kind in (codepoints.LETTER, codepoints.HEX_LETTER), hex(code)


def test_tables_are_frozen():
    # Stored signatures depend on these tables: another value means another profile, not another number here.
    assert (zlib.crc32(codepoints.kinds().tobytes()), zlib.crc32(codepoints.folds().tobytes())) == (
        1833072605,
        3067033757,
    )
