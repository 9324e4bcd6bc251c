"""Texts in the built-in language, made from keys alone."""

from functools import cached_property
from typing import Final

import numpy as np

from streamdetect.traffic.draws import Integers, Keys, below, chosen, drawn, lognormal_table, mix, salted
from streamdetect.traffic.language import Language, built_in, sentences_of
from streamdetect.traffic.material.source import AgentPrompt, AgentTexts, Slots, Tasks
from streamdetect.traffic.texts import Texts, joined, texts_of
from streamdetect.traffic.wording import Vocabulary, paraphrased

_WORDS_A_SENTENCE: Final = 11
# Median 40 words, one prompt in ten above 150.
_SENTENCES: Final = np.maximum(1, lognormal_table(median=40.0, sigma=1.031, limit=600) // _WORDS_A_SENTENCE)
_SHORT, _CODE, _TASK, _PROSE = range(4)
_FIRST_TURN: Final = (5, 18, 8, 69)
_LATER_TURN: Final = (24, 20, 3, 53)
_BEFORE, _BETWEEN, _BEHIND = range(3)  # where the changing part stands
_PUBLIC: Final = 300
_PASSAGES: Final = 3_000
_BENCHMARK: Final = 0xBE_4C4A
_REPLACED_PERCENT: Final = 40  # where frames must not be what texts have in common


class Written:
    """The built-in material."""

    name = "built-in"

    def __init__(self) -> None:
        self._language = built_in()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Return words to replace others by."""
        return Vocabulary.of(self._language.words)

    def people(self, keys: Keys, turns: Integers) -> Texts:
        """Write what ordinary people say: greetings, questions, code, tasks."""
        language = self._language
        kinds = np.where(turns == 0, chosen(salted(keys, 600), _FIRST_TURN), chosen(salted(keys, 600), _LATER_TURN))
        sentences = drawn(salted(keys, 601), _SENTENCES)
        prose = np.select([kinds == _SHORT, kinds == _CODE, kinds == _TASK], [0, 1, 1 + sentences // 8], sentences)
        short = language.lines["short"]
        code, task = kinds == _CODE, kinds == _TASK
        return joined(
            short.take(below(salted(keys, 604), len(short))).where(kinds == _SHORT),
            language.write("instruction", salted(keys, 603), np.where(task, sentences, 0)),
            language.write("prose", salted(keys, 602), prose),
            joined(b"\\n", language.write("code", salted(keys, 605), np.where(code, sentences, 0))).where(code),
        )

    def public(self) -> Texts:
        """Return the prompts that many people copy."""
        return self._public

    def passages(self) -> Texts:
        """Return the texts that many people paste."""
        return self._passages

    def system_lines(self) -> Texts:
        """Return system prompts that many accounts send."""
        return self._language.lines["system"]

    def systems(self, keys: Keys) -> Texts:
        """Write one system prompt of its own for each key."""
        return self._language.write("system", salted(keys, 563), 2 + below(salted(keys, 562), 4))

    def documents(self, keys: Keys) -> Texts:
        """Write one document for each key."""
        return self._language.write("prose", salted(keys, 606), 5 + below(salted(keys, 607), 12))

    def tasks(self, count: int, key: int, slots: Slots) -> Tasks:
        """Return ``count`` task templates."""
        return WrittenTasks(count=count, seed_key=key, slots=slots)

    def owned(self, templates: Keys, keys: Keys, framework_percent: int) -> Texts:
        """Fill an honest program's own template, or a library's."""
        language = self._language
        library = below(salted(templates, 660), 100) < framework_percent
        frames = language.lines["framework"]
        which = below(salted(templates, 661), len(frames))
        own = np.where(library, 0, 2 + below(salted(templates, 662), 5))
        return joined(
            frames.take(which).where(library),
            language.write("role", salted(templates, 663), np.minimum(own, 1)),
            language.write("instruction", salted(templates, 664), own),
            _set_off(language, salted(templates, 665), self.people(salted(keys, 666), np.zeros(len(keys), np.int64))),
            language.write("instruction", salted(templates, 667), np.minimum(own, 1)),
        )

    def agent(self, spec: AgentPrompt) -> AgentTexts:
        """Return the texts of a popular program."""
        return WrittenAgent(spec)

    def tool_results(self, keys: Keys) -> Texts:
        """Write what tools return to an agent."""
        return self._language.write("tool", salted(keys, 670), 2 + below(salted(keys, 671), 12))

    def questions(self, keys: Keys) -> Texts:
        """Write bare questions. Frames are few, so some of their words are replaced: no phrase must give them away."""
        written = self._language.write("question", salted(keys, 672), 1 + below(salted(keys, 673), 4))
        return paraphrased(written, salted(keys, 677), np.full(len(keys), _REPLACED_PERCENT, np.int64), self.vocabulary)

    def items(self, keys: Keys) -> Texts:
        """Write prompts of a public benchmark: the same examples, then a question."""
        suites = salted(below(salted(keys, 674), 8).astype(np.uint64), _BENCHMARK)
        language = self._language
        return joined(
            sentences_of(language, "rubric", salted(suites, 675), 1),
            b"\\n\\nQ: ",
            sentences_of(language, "question", salted(suites, 676), 4),
            b"\\nA: ",
            sentences_of(language, "prose", salted(suites, 677), 3),
            b"\\n\\nQ: ",
            self.questions(salted(keys, _BENCHMARK)),
            b"\\nA: ",
        )

    def rubrics(self, graders: Keys, keys: Keys) -> Texts:
        """Write a request to grade an answer."""
        language = self._language
        return joined(
            sentences_of(language, "rubric", salted(graders, 680), 4),
            b"\\n\\nQuestion: ",
            self.questions(salted(keys, 681)),
            b"\\nAnswer: ",
            language.write("prose", salted(keys, 682), 2 + below(salted(keys, 683), 6)),
        )

    @cached_property
    def _public(self) -> Texts:
        keys = mix(np.arange(_PUBLIC, dtype=np.uint64) + np.uint64(0x9B11C))
        rest = joined(
            sentences_of(self._language, "role", keys, 1),
            self._language.write("instruction", salted(keys, 608), 2 + below(salted(keys, 609), 9)),
        )
        return texts_of([*self._language.lines["public"].tolist(), *rest.tolist()])

    @cached_property
    def _passages(self) -> Texts:
        return self.documents(mix(np.arange(_PASSAGES, dtype=np.uint64) + np.uint64(0x9A55A)))


class WrittenTasks:
    """Task templates of 60-140 fixed words around a domain, a question and a constraint."""

    def __init__(self, *, count: int, seed_key: int, slots: Slots | None = None) -> None:
        self._language, self._slots = built_in(), slots or Slots()
        keys = mix(np.arange(count, dtype=np.uint64) + np.full(count, seed_key, np.uint64))
        self._keys = keys
        self._heads = self._head(keys, keys).settled()
        self._tails = self._tail(keys, keys)
        self._places = chosen(salted(keys, 614), (10, 60, 30))
        table = lognormal_table(
            median=self._slots.words_median, sigma=self._slots.words_sigma, limit=self._slots.words_limit
        )
        self._sentences = np.maximum(1, (table + _WORDS_A_SENTENCE // 2) // _WORDS_A_SENTENCE)

    def __len__(self) -> int:
        return len(self._keys)

    def filled(self, template: Integers, keys: Keys) -> Texts:
        """Fill template ``template[i]`` with fresh words for key i."""
        return self._around(template, keys, self._heads.take(template), self._tails.take(template))

    def rewritten(self, template: Integers, keys: Keys) -> Texts:
        """Write head and tail anew: as many sentences in the same places, other frames, and other words in these."""
        shapes = self._keys[template]
        texts = self._around(
            template, keys, self._head(shapes, salted(keys, 615)), self._tail(shapes, salted(keys, 616))
        )
        share = np.full(len(keys), _REPLACED_PERCENT, np.int64)
        return paraphrased(texts, salted(keys, 613), share, Vocabulary.of(self._language.words))

    def _around(self, template: Integers, keys: Keys, heads: Texts, tails: Texts) -> Texts:
        places = below(salted(keys, 617), 3) if self._slots.anywhere else self._places[template]
        language = self._language
        slots = joined(
            language.write("domain", salted(keys, 620), below(salted(keys, 625), 2)),
            language.write("prose", salted(keys, 621), drawn(salted(keys, 622), self._sentences)),
            language.write("constraint", salted(keys, 623), below(salted(keys, 624), 3)),
        )
        return joined(
            heads.where(places != _BEFORE),
            tails.where(places == _BEHIND),
            _set_off(language, salted(self._keys[template], 618), slots),
            heads.where(places == _BEFORE),
            tails.where(places != _BEHIND),
        )

    def _head(self, shapes: Keys, words: Keys) -> Texts:
        return joined(
            self._language.write("role", salted(words, 609), below(salted(shapes, 619), 2)),
            self._language.write("instruction", salted(words, 610), 3 + below(salted(shapes, 611), 4)),
            self._language.write("reasoning", salted(words, 607), below(salted(shapes, 608), 2)),
        )

    def _tail(self, shapes: Keys, words: Keys) -> Texts:
        return self._language.write("instruction", salted(words, 612), 1 + below(salted(shapes, 613), 3))


class WrittenAgent:
    """An agent's texts in the built-in language. Sentence i is rewritten in some releases, each at its own time."""

    def __init__(self, spec: AgentPrompt) -> None:
        self._spec, self._texts = spec, dict[tuple[int, int], bytes]()

    def system(self, release: int) -> bytes:
        """Return the system prompt of a release."""
        return self._text(release, self._spec.sentences)

    def inline(self, release: int) -> bytes:
        """Return the shorter instructions that some clients put in front of the user's words."""
        return self._text(release, self._spec.inline_sentences)

    def _text(self, release: int, sentences: int) -> bytes:
        if (release, sentences) not in self._texts:  # one entry per week of the run, so it stays small
            number = np.arange(sentences, dtype=np.uint64)
            keys = mix(number + np.full(sentences, (self._spec.number << 20) + sentences, np.uint64))
            # Sentence i changes every ``period`` releases, at a phase of its own.
            period = 100 // self._spec.changed_percent if self._spec.changed_percent else 1 << 30
            edition = (np.int64(release) + below(salted(keys, 650), period)) // period
            lines = sentences_of(built_in(), "agent", salted(keys, 651) + edition.astype(np.uint64), 1)
            self._texts[release, sentences] = lines.packed()
        return self._texts[release, sentences]


def _set_off(language: Language, keys: Keys, slots: Texts) -> Texts:
    """Put what stands before and after it around the changing part; the layout follows from the key."""
    layout = language.layout
    which = below(keys, len(layout.before))
    return joined(layout.before.take(which), slots, layout.after.take(which))
