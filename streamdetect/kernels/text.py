"""Sketches of many texts in one compiled pass: bytes to tokens, shingles, MinHash signature and digest.

Profile ``sd-mh1``, which stored signatures name and which no change may alter under the same name:

1. *Cap*: the first ``cap_bytes`` bytes, cut back to a code point boundary. Invalid UTF-8 counts as U+FFFD.
2. *Fold* (``codepoints``): invisible characters and combining marks are dropped, letters lower-cased and stripped of
   accents in Latin, Greek and Cyrillic, full-width and mathematical letters, curly quotes and dashes made ASCII.
3. *Tokens*: a run of letters is a word; a run of digits is the number token, whatever the number; a CJK, kana or hangul
   character is a token each; a punctuation character is a token, once per run of the same. A maximal run of letters and
   digits that has at least 8 characters, all hexadecimal and at least one a digit, is one number token, together with
   the ``-xxxx`` groups (4 or more hexadecimal characters each) that follow it directly. ``http://`` or ``https://``,
   where the scheme is a whole word, is one URL token up to white space, a CJK character or one of ``<>"``.
4. *Token hash*: FNV-1a 32 over code points, then ``fmix32``; the masks are the hashes of ``0`` and ``://``.
5. *Shingles*: every 3 tokens in a row, one of what there is for 1 or 2 tokens, none for 0; polynomial, then ``fmix32``.
6. *Signature*: minimum over shingles of ``a * fmix32(h) + b mod 2^32``, datasketch 2.0's "affine32" bit for bit.
   0xFFFFFFFF everywhere where there is no shingle: keep such rows out of any index, they are all alike.

Costs about 3 us for 590 bytes and 128 permutations, and no more than the cap for any text. Not done here: full NFKC,
look-alike letters, stemming, word breaking of scripts without spaces (a phrase of Thai is one word).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels import codepoints
from streamdetect.kernels.chunk import Bytes, Ints
from streamdetect.kernels.hashing import Hashes, fmix32, fmix64

Words = NDArray[np.uint32]

CAP_BYTES: Final = 8192
SHINGLE_TOKENS: Final = 3
EMPTY_SLOT: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SketchProfile:
    """Everything that fixes the values of a signature; stored with it, because the values carry no trace of it."""

    name: str
    num_perm: int = 128
    seed: int = 1
    scheme: str = "affine32"
    normaliser_version: int = 1
    shingle_tokens: int = SHINGLE_TOKENS
    cap_bytes: int = CAP_BYTES


SD_MH1: Final = SketchProfile(name="sd-mh1")


@dataclass(frozen=True, slots=True)
class Sketches:
    """Sketches of n texts.

    ``signatures`` ``uint32[n, num_perm]``; ``shingles`` ``int32[n]``, repeats counted; ``digest`` ``uint64[n]`` of the
    whole normalised token stream, 0 without tokens. Texts alike up to the cap and the masks share a digest.
    """

    signatures: Words
    shingles: NDArray[np.int32]
    digest: Hashes

    def __len__(self) -> int:
        return len(self.shingles)


_KINDS: Final = codepoints.kinds()
_FOLDS: Final = codepoints.folds()
_DROP, _SPACE, _PUNCT = codepoints.DROP, codepoints.SPACE, codepoints.PUNCT
_CJK, _DIGIT, _HEX, _LETTER = codepoints.CJK, codepoints.DIGIT, codepoints.HEX_LETTER, codepoints.LETTER

_FNV32_OFFSET = np.uint32(0x811C9DC5)
_FNV32_PRIME = np.uint32(0x01000193)
_SHINGLE_FACTOR = np.uint32(0x9E3779B1)  # odd, so that no bit of an earlier token is lost
_DIGEST_FACTOR = np.uint64(0x9E3779B97F4A7C15)

_REPLACEMENT = 0xFFFD
_SLASH, _COLON, _DASH, _QUOTE, _LESS, _GREATER = (ord(mark) for mark in '/:-"<>')
_FIRST_LETTER, _LAST_HEX, _LAST_LETTER, _CASE_BIT = ord("a"), ord("f"), ord("z"), np.uint8(0x20)
_NO_RUN, _WORD, _NUMBER = 0, 1, 2
_NO_MARK = np.int64(-1)
_HEX_MIN, _HEX_GROUP_MIN = 8, 4


@njit(cache=True, nogil=True)
def _step(state: np.uint32, code: int) -> np.uint32:
    """One step of FNV-1a 32, over a code point instead of a byte."""
    return np.uint32(np.uint32(state ^ np.uint32(code)) * _FNV32_PRIME)


@njit(cache=True, nogil=True)
def _token(code: int) -> np.uint32:
    """Hash of the token that is one code point."""
    token: np.uint32 = fmix32(_step(_FNV32_OFFSET, code))
    return token


@njit(cache=True, nogil=True)
def _decode(data: Bytes, position: int, end: int) -> tuple[np.int64, int]:
    """Code point at ``position`` and its length in bytes; U+FFFD and 1 where the bytes are not valid UTF-8."""
    lead = np.int64(data[position])
    code, width, smallest = lead, 1, 0
    if lead < 0x80:
        return lead, 1
    if 0xC2 <= lead <= 0xDF:
        width, code, smallest = 2, lead & 0x1F, 0x80
    elif 0xE0 <= lead <= 0xEF:
        width, code, smallest = 3, lead & 0x0F, 0x800
    elif 0xF0 <= lead <= 0xF4:
        width, code, smallest = 4, lead & 0x07, 0x10000
    if width == 1 or position + width > end:
        return np.int64(_REPLACEMENT), 1
    for offset in range(1, width):
        byte = np.int64(data[position + offset])
        if byte & 0xC0 != 0x80:
            return np.int64(_REPLACEMENT), 1
        code = code << 6 | byte & 0x3F
    if code < smallest or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        return np.int64(_REPLACEMENT), 1
    return code, width


@njit(cache=True, nogil=True)
def _fold_astral(code: np.int64) -> tuple[np.int64, np.int64]:
    """Folded code point and kind of a code point from U+10000 up."""
    if 0x1D400 <= code <= 0x1D6A3:  # mathematical alphabets, 26 capitals and 26 small letters each
        letter = _FIRST_LETTER + (code - 0x1D400) % 26
        return letter, np.int64(_HEX if letter <= _LAST_HEX else _LETTER)
    if 0x1D7CE <= code <= 0x1D7FF:
        return ord("0") + (code - 0x1D7CE) % 10, np.int64(_DIGIT)
    if 0xE0000 <= code <= 0xE0FFF:  # tags and variation selectors: invisible
        return code, np.int64(_DROP)
    if 0x20000 <= code <= 0x3FFFF or 0x1AFF0 <= code <= 0x1B16F:
        return code, np.int64(_CJK)
    if 0x1F000 <= code <= 0x1FAFF:  # emoji and other pictures
        return code, np.int64(_PUNCT)
    return code, np.int64(_LETTER)


@njit(cache=True, nogil=True)
def _capped_end(data: Bytes, start: int, end: int, cap_bytes: int) -> int:
    """End of the part that is read: at most the cap, moved back so that no code point is cut."""
    end = min(end, len(data))
    if end - start <= cap_bytes:
        return end
    cut = start + max(cap_bytes, 0)
    for _ in range(3):
        if cut > start and data[cut] & 0xC0 == 0x80:
            cut -= 1
    return cut


@njit(cache=True, nogil=True)
def _tokenise(data: Bytes, start: int, end: int, kinds: Bytes, folds: NDArray[np.uint16], tokens: Words) -> int:
    """Write the token hashes of ``data[start:end]`` to ``tokens``, return their number.

    ``tokens`` must hold ``end - start`` values: every token takes at least one byte.
    """
    number, http, https = _token(ord("0")), _FNV32_OFFSET, _FNV32_OFFSET
    url = fmix32(_step(_step(_step(_FNV32_OFFSET, _COLON), _SLASH), _SLASH))
    for letter in (ord("h"), ord("t"), ord("t"), ord("p")):
        http = _step(http, letter)
    https = fmix32(_step(http, ord("s")))
    http = fmix32(http)

    count = 0
    state = _FNV32_OFFSET  # of the word being read
    part = _NO_RUN  # what the letters or digits being read belong to
    run_first, run_length, run_kinds = 0, 0, 0  # the run of letters and digits: first token, size, kinds seen
    run_in_chain = False  # it follows a masked hexadecimal group and one dash
    chain = 0  # 1: a masked group has just ended; 2: and a dash followed
    scheme = 0  # 1: "http:" has just been read; 2: "http:/"
    last_mark = _NO_MARK  # the punctuation just read
    in_url = False

    position = start
    while position <= end:
        if position == end:  # a space behind the text closes what is open
            code, kind = np.int64(0x20), np.int64(_SPACE)
            position += 1
        else:
            code, width = _decode(data, position, end)
            position += width
            if code < 0x10000:
                code = np.int64(folds[code])
                kind = np.int64(kinds[code])
            else:
                code, kind = _fold_astral(code)
        if kind == _DROP:
            continue
        if in_url:
            if kind not in (_SPACE, _CJK) and code not in (_LESS, _GREATER, _QUOTE):
                continue
            in_url = False

        if kind >= _DIGIT:
            if part == _NO_RUN:
                run_first, run_length, run_kinds = count, 0, 0
                run_in_chain = chain == 2
                chain, scheme, last_mark = 0, 0, _NO_MARK
            run_length += 1
            run_kinds |= 1 << int(kind)
            if kind == _DIGIT:
                if part == _WORD:
                    tokens[count] = fmix32(state)
                    count += 1
                if part != _NUMBER:
                    tokens[count] = number
                    count += 1
                part = _NUMBER
            else:
                if part != _WORD:
                    state = _FNV32_OFFSET
                part = _WORD
                state = _step(state, code)
                while position < end:  # most bytes of most prompts: the rest of an ASCII word
                    code = np.int64(data[position] | _CASE_BIT)
                    if code < _FIRST_LETTER or code > _LAST_LETTER:
                        break
                    state = _step(state, code)
                    run_length += 1
                    run_kinds |= 1 << (_LETTER if code > _LAST_HEX else _HEX)
                    position += 1
            continue

        chain_before = chain
        chain = 0
        after_scheme = False
        if part != _NO_RUN:
            if part == _WORD:
                tokens[count] = fmix32(state)
                count += 1
                after_scheme = tokens[count - 1] == http or tokens[count - 1] == https
            part = _NO_RUN
            if run_kinds & (1 << _LETTER) == 0:
                if run_in_chain and run_length >= _HEX_GROUP_MIN:
                    count = run_first - 1  # the dash goes too
                    chain_before = 1
                elif run_length >= _HEX_MIN and run_kinds & (1 << _DIGIT) != 0:
                    tokens[run_first] = number
                    count = run_first + 1
                    chain_before = 1
                else:
                    chain_before = 0

        if kind == _PUNCT:
            if code == _DASH and chain_before == 1:
                chain = 2
            if code == _SLASH and scheme == 2:
                count -= 3  # the scheme, ":" and "/"
                tokens[count] = url
                count += 1
                in_url = True
                scheme, last_mark = 0, _NO_MARK
                continue
            if code == _COLON and after_scheme:
                scheme = 1
            elif code == _SLASH and scheme == 1:
                scheme = 2
            else:
                scheme = 0
            if code != last_mark:
                tokens[count] = _token(code)
                count += 1
            last_mark = code
            continue
        scheme, last_mark = 0, _NO_MARK
        if kind == _CJK:
            tokens[count] = _token(code)
            count += 1
    return count


@njit(cache=True, nogil=True)
def _shingle(tokens: Words, count: int) -> int:
    """Turn token hashes into shingle hashes in place, return their number."""
    if 0 < count < SHINGLE_TOKENS:
        state = np.uint32(count)
        for index in range(count):
            state = np.uint32(np.uint32(state * _SHINGLE_FACTOR) + tokens[index])
        tokens[0] = fmix32(state)
        return 1
    for index in range(count - SHINGLE_TOKENS + 1):
        state = np.uint32(np.uint32(SHINGLE_TOKENS) * _SHINGLE_FACTOR) + tokens[index]
        state = np.uint32(np.uint32(np.uint32(state) * _SHINGLE_FACTOR) + tokens[index + 1])
        state = np.uint32(np.uint32(state * _SHINGLE_FACTOR) + tokens[index + 2])
        tokens[index] = fmix32(state)
    return max(count - SHINGLE_TOKENS + 1, 0)


@njit(cache=True, nogil=True)
def _digest(tokens: Words, count: int) -> np.uint64:
    """Order-dependent 64-bit hash of a token stream; 0 for an empty one and for no other."""
    if count == 0:
        return np.uint64(0)
    state = np.uint64(count)
    for index in range(count):
        state = (state ^ np.uint64(tokens[index])) * _DIGEST_FACTOR
        state ^= state >> np.uint64(32)
    return max(fmix64(state), np.uint64(1))


@njit(cache=True, nogil=True)
def _minima(shingles: Words, count: int, a: Words, b: Words, row: Words) -> None:
    """Lower ``row`` to the minimum of every permutation over the shingles."""
    for index in range(count):
        mixed = fmix32(shingles[index])
        for slot in range(len(row)):
            value = np.uint32(np.uint32(a[slot] * mixed) + b[slot])
            row[slot] = min(row[slot], value)


@njit(cache=True, nogil=True)
def _sketch_rows(
    data: Bytes,
    start: Ints,
    end: Ints,
    a: Words,
    b: Words,
    cap_bytes: int,
    kinds: Bytes,
    folds: NDArray[np.uint16],
    signatures: Words,
    shingles: NDArray[np.int32],
    digest: Hashes,
) -> None:
    """Fill the rows of the outputs, which come in as for empty texts."""
    longest = 0
    for row in range(len(start)):
        longest = max(longest, min(end[row], len(data)) - start[row])
    tokens = np.empty(min(longest, max(cap_bytes, 0)), np.uint32)
    for row in range(len(start)):
        if start[row] < 0:
            continue
        stop = _capped_end(data, start[row], end[row], cap_bytes)
        count = _tokenise(data, start[row], stop, kinds, folds, tokens)
        digest[row] = _digest(tokens, count)
        count = _shingle(tokens, count)
        shingles[row] = count
        _minima(tokens, count, a, b, signatures[row])


def sketch(texts: Bytes, start: Ints, end: Ints, a: Words, b: Words, cap_bytes: int = CAP_BYTES) -> Sketches:
    """Sketch n spans of one UTF-8 buffer; ``a``, ``b`` ``uint32[num_perm]`` come from ``minhash.permutations``.

    Absent spans (start -1) give an empty sketch, like texts without a token. No Python object per text.
    """
    if len(start) != len(end) or len(a) != len(b):
        raise ValueError(f"unequal columns: {len(start)} starts, {len(end)} ends, {len(a)} and {len(b)} permutations")
    signatures = np.full((len(start), len(a)), EMPTY_SLOT, np.uint32)
    shingles = np.zeros(len(start), np.int32)
    digest = np.zeros(len(start), np.uint64)
    _sketch_rows(_read_only(texts), start, end, a, b, cap_bytes, _KINDS, _FOLDS, signatures, shingles, digest)
    return Sketches(signatures, shingles, digest)


def tokens_of(text: bytes, cap_bytes: int = CAP_BYTES) -> Words:
    """Token hashes of one text, ``uint32[tokens]``, for explanations and tests."""
    data = np.frombuffer(text, np.uint8)
    tokens = np.empty(min(len(data), max(cap_bytes, 0)), np.uint32)
    stop = _capped_end(data, 0, len(data), cap_bytes)
    return tokens[: _tokenise(data, 0, stop, _KINDS, _FOLDS, tokens)]


def shingles_of(text: bytes, cap_bytes: int = CAP_BYTES) -> Words:
    """Shingle hashes of one text in order, ``uint32[shingles]``: what ``sketch`` takes the minima of."""
    tokens = tokens_of(text, cap_bytes)
    return tokens[: _shingle(tokens, len(tokens))]


def _read_only(data: Bytes) -> Bytes:
    """The same array as an array over ``bytes`` would be, so that only one variant is compiled."""
    view = data.view()
    view.flags.writeable = False
    return view
