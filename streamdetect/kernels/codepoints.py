"""What each code point counts as in a sketch, and what it is folded to: two tables over the basic plane.

Fixed ranges, not the Unicode database, so that a newer Python gives the same signatures; the one exception, canonical
decomposition of Latin, Greek and Cyrillic letters, is stable by Unicode's own policy and pinned by a test. This is not
NFKC: ligatures, superscripts, circled letters and look-alikes of other scripts stay what they are.
"""

import unicodedata
from typing import Final

import numpy as np
from numpy.typing import NDArray

DROP: Final = 0  # invisible: as if it were not there
SPACE: Final = 1  # separates
PUNCT: Final = 2  # a token of its own, once per run of the same
CJK: Final = 3  # a token of its own, every time
DIGIT: Final = 4
HEX_LETTER: Final = 5  # a-f
LETTER: Final = 6  # everything not named below is a letter

_SIGMA, _FINAL_SIGMA = 0x3C3, 0x3C2

_RANGES: Final[dict[int, tuple[tuple[int, int], ...]]] = {
    SPACE: (
        *((0x00, 0x20), (0x7F, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
        *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
    ),
    PUNCT: (
        *((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
        *((0xA1, 0xA9), (0xAB, 0xAC), (0xAE, 0xB1), (0xB4, 0xB4), (0xB6, 0xB8), (0xBB, 0xBB), (0xBF, 0xBF)),
        *((0xD7, 0xD7), (0xF7, 0xF7), (0x55A, 0x55F), (0x589, 0x58A), (0x5BE, 0x5BE), (0x60C, 0x60D)),
        *((0x61B, 0x61B), (0x61D, 0x61F), (0x66A, 0x66D), (0x6D4, 0x6D4), (0x964, 0x965)),
        *((0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20CF), (0x2190, 0x2BFF), (0x2E00, 0x2E7F)),
        *((0x3001, 0x3004), (0x3008, 0x3030), (0x303D, 0x303F), (0xFE10, 0xFE6F), (0xFF5F, 0xFF65), (0xFFE0, 0xFFFD)),
    ),
    CJK: (
        *((0x1100, 0x11FF), (0x2E80, 0x2FFF), (0x3005, 0x3007), (0x3031, 0x303C), (0x3040, 0x9FFF)),
        *((0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFF66, 0xFFDF)),
    ),
    DIGIT: ((0x30, 0x39),),
    HEX_LETTER: ((0x61, 0x66),),
    DROP: (
        *((0xAD, 0xAD), (0x300, 0x36F), (0x61C, 0x61C), (0x180B, 0x180F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF)),
        *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x20D0, 0x20FF), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F)),
        (0xFEFF, 0xFEFF),
    ),
}

# Editors and keyboards swap these for ASCII on their own; an ellipsis is a run of full stops.
_PLAIN: Final = {
    "'": (*range(0x2018, 0x201C), 0x2032),
    '"': (*range(0x201C, 0x2020), 0x2033),
    "-": (*range(0x2010, 0x2016), 0x2212),
    ".": (0x2026,),
}
_DECIMAL_ZEROS: Final = (0x660, 0x6F0, 0x966)  # Arabic-Indic, extended Arabic-Indic, Devanagari
_DECOMPOSED: Final = ((0x00, 0x530), (0x1E00, 0x2000))  # Latin, Greek, Cyrillic, and their extensions
_FULLWIDTH: Final = (0xFF01, 0xFF5F)


def kinds() -> NDArray[np.uint8]:
    """``uint8[65536]``: the kind of every folded code point below U+10000."""
    table = np.full(0x10000, LETTER, np.uint8)
    for kind, ranges in _RANGES.items():
        for first, last in ranges:
            table[first : last + 1] = kind
    return table


def folds() -> NDArray[np.uint16]:
    """``uint16[65536]``: lower case, base letter without marks, plain ASCII forms; itself where nothing applies."""
    table = np.arange(0x10000, dtype=np.uint16)
    for first, end in _DECOMPOSED:
        for code in range(first, end):
            table[code] = _base_letter(code)
    table[_FINAL_SIGMA] = _SIGMA
    for plain, codes in _PLAIN.items():
        table[list(codes)] = ord(plain)
    for zero in _DECIMAL_ZEROS:
        table[zero : zero + 10] = np.arange(ord("0"), ord("9") + 1)
    for code in range(*_FULLWIDTH):
        table[code] = table[code - 0xFEE0]
    return table


def _base_letter(code: int) -> int:
    """First code point of the canonical decomposition of the lower case.

    >>> chr(_base_letter(ord("É"))), chr(_base_letter(ord("Й")))
    ('e', 'и')
    """
    return ord(unicodedata.normalize("NFD", chr(code).lower())[0])
