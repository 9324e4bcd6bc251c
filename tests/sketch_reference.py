"""Profile sd-mh1 in plain Python, over strings and regular expressions, to hold the compiled kernel against."""

import re
import unicodedata

INVISIBLE = (
    "\u00ad\u0300-\u036f\u061c\u180b-\u180f\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\U000e0000-\U000e0fff"
)
SPACE = "\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CJK = (
    "\u1100-\u11ff\u2e80-\u2fff\u3005-\u3007\u3031-\u303c\u3040-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uffdf\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
PUNCT = (
    r"!-/:-@\[-`{-~"
    "\u00a1-\u00a9\u00ab\u00ac\u00ae-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u055a-\u055f\u0589\u058a\u05be"
    "\u060c\u060d\u061b\u061d-\u061f\u066a-\u066d\u06d4\u0964\u0965\u2010-\u2027\u2030-\u205e\u20a0-\u20cf"
    "\u2190-\u2bff\u2e00-\u2e7f\u3001-\u3004\u3008-\u3030\u303d-\u303f\ufe10-\ufe6f\uff5f-\uff65\uffe0-\ufffd"
    "\U0001f000-\U0001faff"
)
PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        "\u2026": ".",
        "\u03c2": "\u03c3",
    }
)
DIGITS_OF = ("\u0660", "\u06f0", "\u0966")
FOLDED_CASE = re.compile("[\u0000-\u052f\u1e00-\u1fff]")

invisible = re.compile(f"[{INVISIBLE}]")
run_of_letters_and_digits = re.compile(f"[^{SPACE}{CJK}{PUNCT}]+")
same_marks = re.compile(f"([{PUNCT}])\\1*")
cjk = re.compile(f"[{CJK}]")
url_tail = re.compile(f'[^{SPACE}{CJK}<>"]*')
hex_groups = re.compile(f"(?:-[0-9a-f]{{4,}}(?![^{SPACE}{CJK}{PUNCT}]))*")


def fold_character(character: str) -> str:
    code = ord(character)
    if 0x1D400 <= code <= 0x1D6A3:
        return "abcdefghijklmnopqrstuvwxyz"[(code - 0x1D400) % 26]
    if 0x1D7CE <= code <= 0x1D7FF:
        return "0123456789"[(code - 0x1D7CE) % 10]
    if 0xFF01 <= code <= 0xFF5E:
        return chr(code - 0xFEE0).lower()
    for zero in DIGITS_OF:
        if ord(zero) <= code <= ord(zero) + 9:
            return str(code - ord(zero))
    if FOLDED_CASE.match(character):
        character = unicodedata.normalize("NFD", character.lower())[0]
    return character.translate(PLAIN)


def fold(text: str) -> str:
    return "".join(fold_character(character) for character in invisible.sub("", text))


def token_texts(text: str) -> list[str]:
    """Tokens as text; ``0`` stands for a number, ``://`` for a URL."""
    folded, tokens, position = fold(text), [], 0
    while position < len(folded):
        if run := run_of_letters_and_digits.match(folded, position):
            parts = re.findall("[0-9]+|[^0-9]+", run[0])
            words = ["0" if part[0] in "0123456789" else part for part in parts]
            position = run.end()
            if parts[-1] in ("http", "https") and folded.startswith("://", position):
                tokens += [*words[:-1], "://"]
                position = url_tail.match(folded, position + 3).end()
            elif re.fullmatch("[0-9a-f]{8,}", run[0]) and re.search("[0-9]", run[0]):
                tokens.append("0")
                position = hex_groups.match(folded, position).end()
            else:
                tokens += words
        elif marks := same_marks.match(folded, position):
            tokens.append(marks[1])
            position = marks.end()
        elif character := cjk.match(folded, position):
            tokens.append(character[0])
            position += 1
        else:
            position += 1
    return tokens


def capped(data: bytes, cap_bytes: int) -> bytes:
    if len(data) <= cap_bytes:
        return data
    cut = cap_bytes
    while cut > max(cap_bytes - 3, 0) and 0x80 <= data[cut] < 0xC0:
        cut -= 1
    return data[:cut]


def fmix32(value: int) -> int:
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def token_hash(token: str) -> int:
    state = 0x811C9DC5
    for character in token:
        state = (state ^ ord(character)) * 0x01000193 & 0xFFFFFFFF
    return fmix32(state)


def tokens(data: bytes, cap_bytes: int = 8192) -> list[int]:
    return [token_hash(token) for token in token_texts(capped(data, cap_bytes).decode("utf-8", "replace"))]


def shingles(data: bytes, cap_bytes: int = 8192) -> list[int]:
    hashes = tokens(data, cap_bytes)
    size = min(len(hashes), 3)
    result = []
    for first in range(len(hashes) - size + 1 if hashes else 0):
        state = size
        for value in hashes[first : first + size]:
            state = (state * 0x9E3779B1 + value) & 0xFFFFFFFF
        result.append(fmix32(state))
    return result
