"""Real texts: a folder of gzipped JSON lines, of which one side of the split, or all, is used.

``organic`` (honest prompts), ``templates*`` (rows that share ``source`` and ``template`` are one campaign's task),
``traps`` (honest texts that many people send, by ``kind``), ``banks`` (questions of benchmarks). Files are read whole
and once, when they are first needed; texts are cut at 20,000 characters.

A pack has some ten thousand rows and a run draws millions of prompts, so rows are varied word by word: most of what
people say, and of a template the words that are not in nine tenths of its rows. Without that, honest accounts would be
alike only because the pack is small. Of what a pack lacks, and what no public source has, the built-in language is
used: tool results, documents of colleagues, an agent's weekly changes.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from streamdetect.errors import BadDataError
from streamdetect.traffic.draws import Integers, Keys, below, chosen, drawn, generator, lognormal_table, salted
from streamdetect.traffic.language import fragment
from streamdetect.traffic.material.source import AgentPrompt, AgentTexts, Slots, Tasks
from streamdetect.traffic.material.written import Written, WrittenAgent, WrittenTasks
from streamdetect.traffic.split import Side, family_of, side_of
from streamdetect.traffic.texts import Texts, empty, joined, texts_of
from streamdetect.traffic.wording import Kept, Vocabulary, paraphrased, word_hashes

_TEXT_CHARACTERS_MAX: Final = 20_000
_ROWS_OF_A_TEMPLATE_MIN: Final = 20
_VOCABULARY_WORDS: Final = 30_000
_TOGETHER: Final = 0.9  # a word in so many of a template's rows belongs to the template
_ROWS_COMPARED: Final = 60
_VERBATIM_PERCENT: Final = 10
_VARIED_PERCENT: Final = 35
_SHORT_BYTES: Final = 24
_LONG_WORDS: Final = 150  # about a published prompt
_ALSO_TRAPS: Final = "awesome-chatgpt-prompts"  # in two files; taken from the traps


class Pack:
    """The texts of a folder. Raises ``BadDataError`` as soon as a file that is needed cannot be used."""

    name = "pack"

    def __init__(self, folder: Path, side: Side | None) -> None:
        self._folder, self._side = folder, side
        self._written = Written()
        self._trap_texts: dict[str, Texts | None] = {}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Return words as frequent as in the honest prompts."""
        words: list[bytes] = []
        organic = self._organic.tolist()
        for row in generator(7).permutation(len(organic)).tolist():
            words += [word for word in organic[row].split() if word.isalpha() and word.isascii()]
            if len(words) >= _VOCABULARY_WORDS:
                break
        return Vocabulary.of(texts_of(words)) if words else self._written.vocabulary

    def people(self, keys: Keys, turns: Integers) -> Texts:  # noqa: ARG002  # a pack's texts know no turn
        """Return honest prompts: some as they are, most with other words, some of two texts."""
        organic, ends = self._organic, self._source_ends
        first = organic.take(_picked(salted(keys, 800), ends))
        second = organic.take(_picked(salted(keys, 801), ends))
        both = (below(salted(keys, 802), 100) < 30) & (first.lengths >= _SHORT_BYTES)
        verbatim = (below(salted(keys, 803), 100) < _VERBATIM_PERCENT) | (first.lengths < _SHORT_BYTES)
        percent = np.where(verbatim, 0, _VARIED_PERCENT)
        texts = joined(first, joined(b"\\n", second).where(both & ~verbatim))
        return paraphrased(texts, salted(keys, 804), percent, self.vocabulary)

    def public(self) -> Texts:
        """Return prompts that many people copy."""
        return self._trap("popular-public-prompt") or self._written.public()

    def passages(self) -> Texts:
        """Return texts that many people paste: the published prompts again, and rules for agents."""
        return self._trap("agent-rules") or self._written.passages()

    def system_lines(self) -> Texts:
        """Return system prompts that many accounts send."""
        return self._written.system_lines()

    def systems(self, keys: Keys) -> Texts:
        """Return a published prompt for each key, with words of its own."""
        public = self.public()
        texts = public.take(below(salted(keys, 805), len(public)))
        return paraphrased(texts, salted(keys, 806), np.full(len(keys), 10, np.int64), self.vocabulary)

    def documents(self, keys: Keys) -> Texts:
        """Write one document for each key."""
        return self._written.documents(keys)

    def tasks(self, count: int, key: int, slots: Slots) -> Tasks:
        """Return at most ``count`` of the pack's templates; where they are too few, made-up ones around its texts."""
        usable = self._templates
        if not usable:
            raise BadDataError(
                f"{self._folder}: no templates*.jsonl.gz with {_ROWS_OF_A_TEMPLATE_MIN} rows of a template"
            )
        order = generator(key).permutation(len(usable))[:count].tolist()
        rest = WrittenTasks(count=count - len(order), seed_key=key, slots=slots) if count > len(order) else None
        return PackTasks([usable[index] for index in order], self, slots, rest)

    def owned(self, templates: Keys, keys: Keys, framework_percent: int) -> Texts:
        """Fill an honest program's own prompt, or a library's."""
        frameworks = self._trap("framework-filled")
        if frameworks is None:
            return self._written.owned(templates, keys, framework_percent)
        public = self.public()
        library = below(salted(templates, 660), 100) < framework_percent
        users = self.people(salted(keys, 666), np.zeros(len(keys), np.int64))
        filled = frameworks.take(below(salted(keys, 807), len(frameworks)))
        kept = Kept(self._framework_words, np.array([len(self._framework_words)]), np.zeros(len(keys), np.int64))
        percent = np.where(library, _VARIED_PERCENT, 0)
        return joined(
            paraphrased(filled, salted(keys, 808), percent, self.vocabulary, kept=kept).where(library),
            joined(public.take(below(salted(templates, 809), len(public))), b"\\n\\n", users).where(~library),
        )

    def agent(self, spec: AgentPrompt) -> AgentTexts:
        """Return one real system prompt and one set of rules, each with the built-in agent's weekly changes."""
        systems, rules = self._trap("agent-system-prompt"), self._trap("agent-rules")
        if systems is None or rules is None:
            return self._written.agent(spec)
        longest = sorted(systems.tolist(), key=len)[-1 - spec.number % min(4, len(systems))]
        return PackAgent(longest, rules.tolist()[spec.number * 7 % len(rules)], WrittenAgent(spec))

    def tool_results(self, keys: Keys) -> Texts:
        """Write what tools return to an agent."""
        return self._written.tool_results(keys)

    def questions(self, keys: Keys) -> Texts:
        """Return bare questions of the banks, most with other words: a campaign's bank is larger than a pack's."""
        banks = self._banks
        if not banks:
            return self._written.questions(keys)
        share = np.full(len(keys), _VARIED_PERCENT, np.int64)
        return paraphrased(banks.take(below(salted(keys, 810), len(banks))), salted(keys, 812), share, self.vocabulary)

    def items(self, keys: Keys) -> Texts:
        """Return prompts of public benchmarks with their examples."""
        items = self._trap("few-shot-harness") or self._trap("harness-instruct")
        return items.take(below(salted(keys, 811), len(items))) if items else self._written.items(keys)

    def rubrics(self, graders: Keys, keys: Keys) -> Texts:
        """Write a request to grade an answer."""
        return self._written.rubrics(graders, keys)

    @cached_property
    def _organic(self) -> Texts:
        rows = [(source, text) for source, text in self._kinds("organic.jsonl.gz") if source != _ALSO_TRAPS]
        if not rows:
            raise BadDataError(f"{self._folder / 'organic.jsonl.gz'}: holds no texts")
        rows.sort(key=lambda row: row[0])  # stable: sources together
        counts = Counter(source for source, _ in rows)
        self._source_ends = np.cumsum([counts[source] for source in sorted(counts)])
        return texts_of([text for _, text in rows])

    @cached_property
    def _templates(self) -> list["Template"]:
        groups: dict[tuple[str, str], list[bytes]] = {}
        for path in sorted(self._folder.glob("templates*.jsonl.gz")):
            for row in self._rows(path):
                name = str(row.get("source")), str(row.get("template"))
                groups.setdefault(name, []).append(_text(row))
        usable = [groups[name] for name in sorted(groups) if len(groups[name]) >= _ROWS_OF_A_TEMPLATE_MIN]
        return [Template.of(rows) for rows in usable]

    @cached_property
    def _traps(self) -> dict[str, list[bytes]]:
        kinds: dict[str, list[bytes]] = {}
        for row in self._rows(self._folder / "traps.jsonl.gz"):
            kinds.setdefault(str(row.get("kind")), []).append(_text(row))
        return kinds

    @cached_property
    def _banks(self) -> Texts | None:
        rows = [text for _, text in self._kinds("banks.jsonl.gz")]
        return texts_of(rows) if rows else None

    @cached_property
    def _framework_words(self) -> Keys:
        return _words_together(self._traps.get("framework-filled", []), 0.3)

    def _trap(self, kind: str) -> Texts | None:
        if kind not in self._trap_texts:
            rows = self._traps.get(kind)
            self._trap_texts[kind] = texts_of(rows) if rows else None
        return self._trap_texts[kind]

    def _kinds(self, name: str) -> list[tuple[str, bytes]]:
        return [(str(row.get("source")), _text(row)) for row in self._rows(self._folder / name)]

    def _rows(self, path: Path) -> Iterator[dict[str, object]]:
        for row in read_rows(path):
            if self._side is None or side_of(family_of(str(row.get("source")))) == self._side:
                yield row


class Template:
    """One published task: its rows, and the hashes of the words they have in common."""

    def __init__(self, rows: list[bytes], kept: Keys) -> None:
        self.rows, self.kept = rows, kept

    @classmethod
    def of(cls, rows: list[bytes]) -> "Template":
        """Find out what a template's rows share."""
        return cls(rows, _words_together(rows, _TOGETHER))


class PackTasks:
    """A campaign's templates: real ones first, then made-up ones."""

    def __init__(self, templates: Sequence[Template], pack: Pack, slots: Slots, rest: WrittenTasks | None) -> None:
        self._pack, self._slots, self._rest = pack, slots, rest
        self._rows = texts_of([row for template in templates for row in template.rows])
        self._counts = np.array([len(template.rows) for template in templates], np.int64)
        self._first = np.cumsum(self._counts) - self._counts
        self._kept = np.concatenate([template.kept for template in templates])
        self._kept_ends = np.cumsum([len(template.kept) for template in templates]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._counts) + (len(self._rest) if self._rest else 0)

    def filled(self, template: Integers, keys: Keys) -> Texts:
        """Take a row of the template and vary what is not the template's own."""
        return self._written(template, keys, _VARIED_PERCENT, keep=True)

    def rewritten(self, template: Integers, keys: Keys) -> Texts:
        """Take a row of the template and replace two words in three, the template's own too."""
        return self._written(template, keys, 66, keep=False)

    def _written(self, template: Integers, keys: Keys, percent: int, *, keep: bool) -> Texts:
        real = np.minimum(template, len(self._counts) - 1)
        rows = self._first[real] + below(salted(keys, 820), self._counts[real])
        kept = Kept(self._kept, self._kept_ends, real) if keep else None
        share = np.full(len(keys), percent, np.int64)
        texts = paraphrased(self._rows.take(rows), salted(keys, 821), share, self._pack.vocabulary, kept=kept)
        if self._slots.words_median >= _LONG_WORDS:
            texts = self._with_long_slots(texts, keys)
        if self._rest is None:
            return texts
        made_up = template >= len(self._counts)
        other = self._rest.filled(np.maximum(template - len(self._counts), 0), keys)
        return joined(texts.where(~made_up), other.where(made_up))

    def _with_long_slots(self, texts: Texts, keys: Keys) -> Texts:
        """Put some published texts, in other words, before or behind; the slots of real templates are short."""
        slots, public = self._slots, self._pack.public()
        table = lognormal_table(median=slots.words_median, sigma=slots.words_sigma, limit=slots.words_limit)
        pieces = 1 + drawn(salted(keys, 840), table) // _LONG_WORDS
        long = empty(len(keys))
        for number in range(int(pieces.max()) if len(pieces) else 0):
            piece = public.take(below(salted(keys, 841 + number), len(public))).where(number < pieces)
            long = joined(long, b"\\n", piece)
        share = np.full(len(keys), _VARIED_PERCENT, np.int64)
        long = paraphrased(long, salted(keys, 842), share, self._pack.vocabulary)
        before = below(salted(keys, 843), 2) == 0
        return joined(long.where(before), b"\\n", texts, long.where(~before))


class PackAgent:
    """One real prompt of each kind; the part that changes from release to release is the built-in agent's."""

    def __init__(self, system: bytes, rules: bytes, changing: AgentTexts) -> None:
        self._system, self._rules, self._changing = system, rules, changing

    def system(self, release: int) -> bytes:
        """Return the system prompt of a release."""
        return self._system + b"\\n" + self._changing.inline(release)

    def inline(self, release: int) -> bytes:
        """Return the shorter instructions."""
        return self._rules + b"\\n" + self._changing.inline(release)


def read_rows(path: Path) -> Iterator[dict[str, object]]:
    """Yield the objects of a gzipped file of JSON lines that have a text."""
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                row = orjson.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                    raise BadDataError(f"{path}:{number}: no object with a text")
                yield row
    except (OSError, EOFError, zlib.error, orjson.JSONDecodeError) as error:
        raise BadDataError(f"{path}: cannot be read as gzipped JSON lines ({type(error).__name__})") from error


def _text(row: dict[str, object]) -> bytes:
    return fragment(str(row["text"])[:_TEXT_CHARACTERS_MAX])


def _picked(keys: Keys, ends: Integers) -> Integers:
    """Pick rows: every source as often as the root of its size, so that the largest does not drown the others."""
    sizes = np.diff(ends, prepend=0)
    weights = [int(size) for size in np.sqrt(sizes * 100).astype(np.int64)]
    source = chosen(salted(keys, 830), weights)
    return ends[source] - sizes[source] + below(salted(keys, 831), sizes[source])


def _words_together(rows: list[bytes], share: float) -> Keys:
    """Return the hashes of the words that at least this share of the rows have."""
    step = max(1, len(rows) // _ROWS_COMPARED)
    compared = [word_hashes(row) for row in rows[::step]]
    if not compared:
        return np.zeros(0, np.uint64)
    words, counts = np.unique(np.concatenate(compared), return_counts=True)
    return words[counts >= share * len(compared)]
