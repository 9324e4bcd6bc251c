"""Changing texts word by word: paraphrase, translation into made-up languages, invisible and look-alike letters.

Works on any text, built-in or real, and leaves layout, punctuation and escapes alone. A paraphrase replaces words
independently by random ones: the worst case of the theory, and no substitute for what a language model rewrites. A
translation maps each word to one of the other language; a free one picks among many for most words, so that no two
renderings of a sentence share a phrase of any length.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from streamdetect.traffic.draws import Integers, Keys, mixed, reduced
from streamdetect.traffic.language import Language
from streamdetect.traffic.texts import Bytes, Texts, copied, text_column

_NOBODY: Final = np.zeros(0, np.uint64)
_FNV_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_FNV_PRIME: Final = np.uint64(0x100000001B3)
_HIDDEN: Final = np.frombuffer("\u200b".encode(), np.uint8).copy()
# Latin letters and the Cyrillic ones that look like them.
_LATIN: Final = np.frombuffer(b"aceopxy", np.uint8).copy()
_CYRILLIC: Final = np.frombuffer("\u0430\u0441\u0435\u043e\u0440\u0445\u0443".encode(), np.uint8).copy()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words to replace others by, in blocks of equally many."""

    words: Texts
    block: int

    @classmethod
    def of(cls, words: Texts) -> "Vocabulary":
        """Return a vocabulary of one block."""
        return cls(words, len(words))

    @classmethod
    def foreign(cls, language: Language) -> "Vocabulary":
        """Return the words of the foreign languages, a block each."""
        return cls(language.foreign, language.foreign_words)


def paraphrased(
    texts: Texts, keys: Keys, percent: Integers, vocabulary: Vocabulary, *, kept: "Kept | None" = None
) -> Texts:
    """Replace each word with probability ``percent[i]`` by one of the vocabulary, other words at each key."""
    blocks, free = np.zeros(len(texts), np.int64), np.full(len(texts), 1000, np.int64)
    return _reworded(texts, keys, percent * 10, free, blocks, vocabulary, kept)


def translated(
    texts: Texts, keys: Keys, languages: Integers, vocabulary: Vocabulary, *, free_percent: int = 0
) -> Texts:
    """Translate into block ``languages[i]``; negative leaves as it is. ``free_percent`` of the words vary by key."""
    share = np.where(languages < 0, 0, 1000)
    free = np.full(len(texts), free_percent * 10, np.int64)
    return _reworded(texts, keys, share, free, np.maximum(languages, 0), vocabulary, None)


def disguised(texts: Texts, keys: Keys, percent: int) -> Texts:
    """Put a zero-width character into some words, and letters of another alphabet that look the same into others."""
    whole = texts.flat()
    out = np.empty(int(whole.lengths.sum()) * 4, np.uint8)
    starts, lengths = np.empty(len(texts), np.int64), np.empty(len(texts), np.int64)
    used = _disguise(whole.buffer, whole.starts, whole.lengths, keys, percent, out, starts, lengths)
    return text_column(out[:used].copy(), starts, lengths)


@dataclass(frozen=True, slots=True)
class Kept:
    """Words that must not change, by group: sorted hashes end to end, and the group of each row."""

    hashes: Keys
    group_ends: Integers
    groups: Integers


def word_hashes(text: bytes) -> Keys:
    """Return the hash of each word of a text, as ``Kept`` wants them, repeats left out."""
    raw = np.frombuffer(text + b" ", np.uint8).copy()
    found = np.empty(len(raw), np.uint64)
    return np.unique(found[: _hash_words(raw, len(text), found)])


def _reworded(
    texts: Texts,
    keys: Keys,
    share: Integers,
    free: Integers,
    blocks: Integers,
    vocabulary: Vocabulary,
    kept: Kept | None,
) -> Texts:
    whole, words, none = texts.flat(), vocabulary.words.flat(), np.zeros(0, np.int64)
    hashes, ends, groups = (kept.hashes, kept.group_ends, kept.groups) if kept else (_NOBODY, none, none)
    # Room for the worst case, every other byte a word of its own. Memory that is never written to costs nothing.
    total, longest = int(whole.lengths.sum()), int(words.lengths.max()) if len(words.lengths) else 0
    out = np.empty(total + (total + len(texts)) // 2 * longest, np.uint8)
    lengths = np.empty(len(texts), np.int64)
    used = _reword(
        whole.buffer, whole.starts, whole.lengths, keys, share, free, blocks, vocabulary.block,
        words.buffer, words.starts, words.lengths, hashes, ends, groups, out, lengths,
    )  # fmt: skip
    return text_column(out[:used], np.cumsum(lengths) - lengths, lengths)


@njit(cache=True, nogil=True)
def _is_letter(byte: int) -> bool:
    return 97 <= byte <= 122 or 65 <= byte <= 90 or byte >= 128


@njit(cache=True, nogil=True)
def _escape_length(buffer: Bytes, at: int) -> int:
    return 6 if buffer[at + 1] == 117 else 2


@njit(cache=True, nogil=True)
def _word_end(buffer: Bytes, at: int, end: int) -> int:
    while at < end and _is_letter(buffer[at]):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _hash(buffer: Bytes, start: int, end: int) -> np.uint64:
    state = _FNV_OFFSET
    for at in range(start, end):
        state = (state ^ np.uint64(buffer[at])) * _FNV_PRIME
    found: np.uint64 = mixed(state)
    return found


@njit(cache=True, nogil=True)
def _hash_words(buffer: Bytes, end: int, found: Keys) -> int:
    at, count = 0, 0
    while at < end:
        if buffer[at] == 92:
            at += _escape_length(buffer, at)
        elif _is_letter(buffer[at]):
            stop = _word_end(buffer, at, end)
            found[count] = _hash(buffer, at, stop)
            count += 1
            at = stop
        else:
            at += 1
    return count


@njit(cache=True, nogil=True)
def _is_kept(word: np.uint64, hashes: Keys, first: int, end: int) -> bool:
    while first < end:
        middle = (first + end) // 2
        if hashes[middle] < word:
            first = middle + 1
        else:
            end = middle
    return first < len(hashes) and hashes[first] == word


@njit(cache=True, nogil=True)
def _reword(
    buffer: Bytes,
    starts: Integers,
    sizes: Integers,
    keys: Keys,
    share: Integers,
    free: Integers,
    blocks: Integers,
    block: int,
    word_buffer: Bytes,
    word_starts: Integers,
    word_sizes: Integers,
    kept: Keys,
    kept_ends: Integers,
    groups: Integers,
    out: Bytes,
    lengths: Integers,
) -> int:
    """Write the new texts end to end and return the length of all. ``share`` and ``free`` are in thousandths."""
    to = 0
    for row in range(len(starts)):
        at, end, first, number = starts[row], starts[row] + sizes[row], to, np.uint64(0)
        begun = at
        while share[row] > 0 and at < end:
            if buffer[at] == 92:
                at += _escape_length(buffer, at)
                continue
            if not _is_letter(buffer[at]):
                at += 1
                continue
            stop = _word_end(buffer, at, end)
            number += np.uint64(1)
            draw = mixed(keys[row] + number * np.uint64(0x9E3779B97F4A7C15))
            replaced = reduced(draw, 1000) < share[row]
            if replaced and len(kept):
                group = groups[row]
                word = _hash(buffer, at, stop)
                replaced = not _is_kept(word, kept, kept_ends[group - 1] if group else 0, kept_ends[group])
            if replaced:
                draw = mixed(draw)
                source = mixed(draw) if reduced(draw, 1000) < free[row] else _hash(buffer, at, stop)
                chosen = blocks[row] * block + reduced(source, block)
                to = copied(buffer, begun, at - begun, out, to)
                to = copied(word_buffer, word_starts[chosen], word_sizes[chosen], out, to)
                begun = stop
            at = stop
        to = copied(buffer, begun, end - begun, out, to)
        lengths[row] = to - first
    return int(to)


@njit(cache=True, nogil=True)
def _disguise(
    buffer: Bytes,
    starts: Integers,
    sizes: Integers,
    keys: Keys,
    percent: int,
    out: Bytes,
    at: Integers,
    lengths: Integers,
) -> int:
    to = 0
    for row in range(len(starts)):
        position, end, number = starts[row], starts[row] + sizes[row], np.uint64(0)
        at[row] = to
        while position < end:
            if buffer[position] == 92:
                size = _escape_length(buffer, position)
                to = copied(buffer, position, size, out, to)
                position += size
                continue
            if not _is_letter(buffer[position]):
                to = copied(buffer, position, 1, out, to)
                position += 1
                continue
            stop = _word_end(buffer, position, end)
            number += np.uint64(1)
            draw = mixed(keys[row] + number * np.uint64(0x9E3779B97F4A7C15))
            changed = reduced(draw, 100) < percent
            hidden = changed and draw & np.uint64(1) == np.uint64(0)
            for byte in range(position, stop):
                letter = buffer[byte]
                look_alike = -1
                if changed and not hidden:
                    for index in range(len(_LATIN)):
                        if _LATIN[index] == letter:
                            look_alike = index
                if look_alike >= 0:
                    to = copied(_CYRILLIC, 2 * look_alike, 2, out, to)
                else:
                    to = copied(buffer, byte, 1, out, to)
                # Between two ASCII letters, so that no character is torn.
                if hidden and byte == position and letter < 128:
                    to = copied(_HIDDEN, 0, 3, out, to)
            position = stop
        lengths[row] = to - at[row]
    return to
