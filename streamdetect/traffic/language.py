"""The built-in language: sentence frames filled from word lists, as ready-to-send JSON fragments.

Texts are a function of a 64-bit key, so they do not depend on how a run is cut into batches. Frames repeat and words
do not: two people share openings such as real people do, and nothing longer. Costs about 10 ns a word. It does not try
to make sense to a reader; other languages (``foreign``) are made-up words in their letters. A data pack gives real
texts.
"""

import string
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
import orjson
from numba import njit

from streamdetect.traffic.draws import Integers, Keys, below, mixed, reduced, salted
from streamdetect.traffic.texts import Texts, joined, sequences, texts_of

_COINED: Final = 12_000
_FOREIGN_WORDS: Final = 3_000
_SAME_THROUGHOUT: Final = "subject"
_PARTS: Final = ("onset", "vowel", "coda")


def fragment(text: str) -> bytes:
    """Escape a text as the inside of a JSON string."""
    return orjson.dumps(text)[1:-1]


@dataclass(frozen=True, slots=True)
class Frames:
    """One group of frames: ``tokens[starts[i]:starts[i + 1]]`` is frame i; -1 - c stands for a word of list c."""

    starts: Integers
    tokens: Integers


@dataclass(frozen=True, slots=True)
class Layout:
    """How a task sets off what it is asked about: the rows of two columns belong together."""

    before: Texts
    after: Texts


@dataclass(frozen=True, slots=True)
class Language:
    """Word lists and frames. ``pieces`` holds every literal and word as a JSON fragment, ``words`` the words alone."""

    pieces: Texts
    word_starts: Integers
    word_counts: Integers
    constant: int
    frames: dict[str, Frames]
    lines: dict[str, Texts]
    layout: Layout
    foreign: Texts  # ``FOREIGN`` blocks of equally many words
    foreign_names: tuple[str, ...]

    @property
    def words(self) -> Texts:
        """Return every word of every list."""
        return self.pieces.take(slice(0, int(self.word_starts[-1] + self.word_counts[-1])))

    @property
    def foreign_words(self) -> int:
        """Return how many words each foreign language has."""
        return len(self.foreign) // len(self.foreign_names)

    def write(self, group: str, keys: Keys, sentences: Integers) -> Texts:
        """Write ``sentences[i]`` sentences of a group for each key; a count of zero gives an empty text."""
        frames = self.frames[group]
        lengths = np.empty(len(keys), np.int64)
        pieces = self.pieces
        sizes = pieces.parts[0].lengths
        shape = (frames.starts, frames.tokens, self.word_starts, self.word_counts, self.constant)
        sentences = np.ascontiguousarray(sentences, np.int64)
        tokens = np.empty(_count(keys, sentences, frames.starts), np.int64)
        total = _compose(keys, salted(keys, 1), sentences, *shape, sizes, tokens, lengths)
        return sequences(pieces, tokens, lengths, total)


@cache
def built_in() -> Language:
    """Return the shipped language, read once."""
    raw = tomllib.loads(files(__package__).joinpath("language.toml").read_text("utf-8"))
    words = {name: text.split() for name, text in raw["words"].items()}
    words["subject"] = [word.replace("-", " ") for word in words["subject"]]
    words["coined"] = _coined(raw["sounds"], _COINED)
    words["number"] = [str(number) for number in (*range(2, 60), *range(60, 1000, 7), *range(1000, 90_000, 890))]
    pieces = [fragment(word) for listed in words.values() for word in listed]
    counts = np.array([len(listed) for listed in words.values()], np.int64)
    names = list(words)
    frames = {group: _parsed(texts, names, pieces) for group, texts in raw["frames"].items()}
    foreign = [_coined(sounds, _FOREIGN_WORDS) for sounds in raw["foreign"].values()]
    common = min(map(len, foreign))
    return Language(
        pieces=texts_of(pieces),
        word_starts=np.cumsum(counts) - counts,
        word_counts=counts,
        constant=names.index(_SAME_THROUGHOUT),
        frames=frames,
        lines={group: texts_of([fragment(line) for line in texts]) for group, texts in raw["lines"].items()},
        layout=_layout(raw["layouts"]),
        foreign=texts_of([fragment(word) for listed in foreign for word in listed[:common]]),
        foreign_names=tuple(raw["foreign"]),
    )


def sentences_of(language: Language, group: str, keys: Keys, sentences: Integers | int) -> Texts:
    """Write the same number of sentences for each key, or one number each."""
    return language.write(group, keys, np.broadcast_to(np.asarray(sentences, np.int64), keys.shape).copy())


def _layout(rows: Sequence[Sequence[str]]) -> Layout:
    return Layout(texts_of([fragment(before) for before, _ in rows]), texts_of([fragment(after) for _, after in rows]))


def _parsed(texts: list[str], names: list[str], pieces: list[bytes]) -> Frames:
    """Cut frames into literals, appended to ``pieces``, and references to word lists."""
    starts, tokens = [0], []
    for text in texts:
        for literal, name, _, _ in string.Formatter().parse(text):
            if literal:
                tokens.append(len(pieces))
                pieces.append(fragment(literal))
            if name:
                tokens.append(-1 - names.index(name))
        starts.append(len(tokens))
    return Frames(np.array(starts, np.int64), np.array(tokens, np.int64))


def _coined(sounds: dict[str, Any], count: int) -> list[str]:
    """Make up names of two or three syllables, duplicates left out: the long tail of words that few people share."""
    keys = np.arange(count, dtype=np.uint64)
    parts = [sounds[part].split() for part in _PARTS]
    syllables = []
    for syllable in range(3):
        columns = [
            texts_of([sound.encode() for sound in choice]).take(
                below(salted(keys, 3 * syllable + part + 11), len(choice))
            )
            for part, choice in enumerate(parts)
        ]
        syllables.append(joined(*columns))
    longer = below(salted(keys, 99), 3) == 0
    names = joined(syllables[0], syllables[1], syllables[2].where(longer)).tolist()
    return [name.decode() for name in dict.fromkeys(names)]


@njit(cache=True, nogil=True)
def _sentence_key(key: np.uint64, sentence: int) -> np.uint64:
    step: np.uint64 = np.uint64(sentence) * np.uint64(0x9E3779B97F4A7C15)
    mixed_key: np.uint64 = mixed(key + step)
    return mixed_key


@njit(cache=True, nogil=True)
def _count(keys: Keys, sentences: Integers, frame_starts: Integers) -> int:
    """Count the pieces of all texts."""
    count = 0
    for row in range(len(keys)):
        for sentence in range(sentences[row]):
            frame = reduced(_sentence_key(keys[row], sentence), len(frame_starts) - 1)
            count += frame_starts[frame + 1] - frame_starts[frame]
    return count


@njit(cache=True, nogil=True)
def _compose(
    keys: Keys,
    shared: Keys,
    sentences: Integers,
    frame_starts: Integers,
    frame_tokens: Integers,
    word_starts: Integers,
    word_counts: Integers,
    constant: int,
    piece_lengths: Integers,
    tokens: Integers,
    lengths: Integers,
) -> int:
    """Name the pieces of each text, measure the texts and return the sum."""
    at, total = 0, 0
    for row in range(len(keys)):
        length = 0
        for sentence in range(sentences[row]):
            key = _sentence_key(keys[row], sentence)
            frame = reduced(key, len(frame_starts) - 1)
            first, end = frame_starts[frame], frame_starts[frame + 1]
            for inside in range(end - first):
                token = frame_tokens[first + inside]
                if token < 0:
                    listed = -1 - token
                    word = shared[row] if listed == constant else mixed(key ^ (np.uint64(inside) << np.uint64(48)))
                    # The square of a uniform draw: the first words of a list are far more frequent.
                    uniform = word >> np.uint64(44)
                    skewed = (uniform * uniform >> np.uint64(20)) * np.uint64(word_counts[listed]) >> np.uint64(20)
                    token = word_starts[listed] + np.int64(skewed)
                tokens[at] = token
                length += piece_lengths[token]
                at += 1
        lengths[row] = length
        total += length
    return total
