"""The built-in language: sentence frames filled from word lists, as ready-to-send JSON fragments.

Texts are a function of a 64-bit key, so they do not depend on how a run is cut into batches. Frames repeat and words
do not: two people share openings such as real people do, and nothing longer. Costs about 50 ns a word. It does not try
to make sense to a reader, and it is English only; a data pack (``material``) gives real texts.
"""

import string
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from streamdetect.traffic.draws import Integers, Keys, below, mix, salted, skewed_below

_COINED: Final = 12_000
_SAME_THROUGHOUT: Final = "subject"


def fragment(text: str) -> bytes:
    """Escape a text as the inside of a JSON string."""
    return orjson.dumps(text)[1:-1]


@dataclass(frozen=True, slots=True)
class Frames:
    """One group of frames: ``tokens[starts[i]:starts[i + 1]]`` is frame i; -1 - c stands for a word of list c."""

    starts: Integers
    tokens: Integers


@dataclass(frozen=True, slots=True)
class Language:
    """Word lists and frames. ``pieces`` holds every literal and word as a JSON fragment."""

    pieces: NDArray[np.object_]
    word_starts: Integers
    word_counts: Integers
    constant: int
    frames: dict[str, Frames]
    lines: dict[str, tuple[bytes, ...]]

    def write(self, group: str, keys: Keys, sentences: Integers) -> list[bytes]:
        """Write ``sentences[i]`` sentences of a group for each key; a count of zero gives an empty text."""
        frames = self.frames[group]
        owner = np.repeat(np.arange(len(keys)), sentences)
        position = _ramp(sentences)
        sentence_keys = mix(keys[owner] + position.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        frame = below(sentence_keys, len(frames.starts) - 1)
        lengths = frames.starts[frame + 1] - frames.starts[frame]
        inside = _ramp(lengths)
        tokens = frames.tokens[np.repeat(frames.starts[frame], lengths) + inside]
        slots = np.flatnonzero(tokens < 0)
        sentence_of = np.repeat(np.arange(len(frame)), lengths)
        tokens[slots] = self._words(
            -1 - tokens[slots],
            mix(sentence_keys[sentence_of[slots]] ^ (inside[slots].astype(np.uint64) << np.uint64(48))),
            salted(keys, 1)[owner[sentence_of[slots]]],
        )
        per_text = np.bincount(owner, weights=lengths, minlength=len(keys)).astype(np.int64)
        bounds = np.concatenate(([0], np.cumsum(per_text))).tolist()
        words = self.pieces[tokens].tolist()
        return [b"".join(words[first:last]) for first, last in pairwise(bounds)]

    def _words(self, lists: Integers, own: Keys, shared: Keys) -> Integers:
        keys = np.where(lists == self.constant, shared, own)
        return self.word_starts[lists] + skewed_below(keys, self.word_counts[lists])


@cache
def built_in() -> Language:
    """Return the shipped language, read once."""
    raw = tomllib.loads(files(__package__).joinpath("language.toml").read_text("utf-8"))
    words = {name: text.split() for name, text in raw["words"].items()}
    words["subject"] = [word.replace("-", " ") for word in words["subject"]]
    words["coined"] = _coined([raw["sounds"][part].split() for part in ("onset", "vowel", "coda")])
    words["number"] = [str(number) for number in (*range(2, 60), *range(60, 1000, 7), *range(1000, 90_000, 890))]
    pieces = [fragment(word) for listed in words.values() for word in listed]
    counts = np.array([len(listed) for listed in words.values()], np.int64)
    names = list(words)
    frames = {group: _parsed(texts, names, pieces) for group, texts in raw["frames"].items()}
    table = np.empty(len(pieces), object)
    table[:] = pieces
    return Language(
        pieces=table,
        word_starts=np.cumsum(counts) - counts,
        word_counts=counts,
        constant=names.index(_SAME_THROUGHOUT),
        frames=frames,
        lines={group: tuple(fragment(line) for line in texts) for group, texts in raw["lines"].items()},
    )


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


def _coined(sounds: list[list[str]]) -> list[str]:
    """Make up names of two or three syllables, duplicates left out: the long tail of words that few people share."""
    keys = np.arange(_COINED, dtype=np.uint64)
    syllables = []
    for syllable in range(3):
        columns = [
            below(salted(keys, 3 * syllable + part + 11), len(choice)).tolist() for part, choice in enumerate(sounds)
        ]
        rows = zip(*columns, strict=True)
        syllables.append(["".join(choice[at] for choice, at in zip(sounds, row, strict=True)) for row in rows])
    longer = (below(salted(keys, 99), 3) == 0).tolist()
    names = (a + b + (c if long else "") for a, b, c, long in zip(*syllables, longer, strict=True))
    return list(dict.fromkeys(names))


def _ramp(lengths: Integers) -> Integers:
    """Count 0 to n - 1 for each length n, end to end."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)
