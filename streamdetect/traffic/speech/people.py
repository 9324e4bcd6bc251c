"""Honest people: their own words, and what they copy from others, in the language of their account."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from streamdetect.traffic.draws import Keys, below, chosen, popularity, ranked, salted
from streamdetect.traffic.language import built_in
from streamdetect.traffic.material.source import Material
from streamdetect.traffic.speech.voice import Said, Turns
from streamdetect.traffic.texts import Texts, joined, scattered
from streamdetect.traffic.wording import Vocabulary, translated

_OWN_SYSTEM_PERCENT: Final = 20
_COMMON_SYSTEM_PERCENT: Final = 50
_PLAIN, _PUBLIC, _PASSAGE, _DOCUMENT, _LIBRARY, _SHARED = range(6)
_DOCUMENTS_OF_A_SITE: Final = 40
_SKEW_PERCENT: Final = 90

Lead = Callable[[Turns], Texts]  # what stands in front of somebody's own words


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Ordinary prompts. Percentages are of first turns, unless they are of accounts.

    ``shared`` is a prompt that everybody of the cohort sends in front of their own words: a line of a group of the
    built-in language (``quickstart``, ``ci``), ``viral`` for one long public prompt, ``homework`` for the tasks that a
    teacher sets a site.
    """

    public_percent: int = 5
    passage_percent: int = 5
    document_percent: int = 5  # a document of the account's own site
    library_percent: int = 2  # through a library's standard prompt
    foreign_percent: int = 14  # of the accounts write in another language than English
    system_percent: int = 100  # of the accounts keep the habit of system prompts at all
    shared: str = ""
    shared_percent: int = 0
    code_behind: bool = False  # code and tool output behind the shared prompt, instead of words


class PeopleVoice:
    """How people speak. ``key`` is what the cohort has in common."""

    def __init__(self, spec: People, material: Material, key: int) -> None:
        self._spec, self._material, self._key = spec, material, key
        self._foreign = Vocabulary.foreign(built_in())
        self._systems = AccountSystems(material, spec.system_percent)

    def say(self, batch: Turns) -> Said:
        """Find ordinary words."""
        return Said(self.prompts(batch), self._systems.of(batch.accounts), np.full(len(batch), -1, np.int64))

    def prompts(self, batch: Turns) -> Texts:
        """Return the user turns alone."""
        spec, words = self._spec, batch.words
        shared = [spec.public_percent, spec.passage_percent, spec.document_percent, spec.library_percent]
        kinds = chosen(salted(words, 700), [100 - sum(shared), *shared])
        kinds = np.where(below(salted(words, 701), 100) < spec.shared_percent, _SHARED, kinds)
        kinds = np.where(batch.turns == 0, kinds, _PLAIN)
        texts = self._material.people(words, batch.turns)
        if spec.code_behind:
            loop = (kinds == _SHARED) | (batch.turns > 0)
            rows = np.flatnonzero(loop)
            results = joined(b"\\n", self._material.tool_results(words[rows]))
            texts = joined(scattered(len(batch), [(rows, results)]), texts.where(~loop))
        leads = [
            (rows, lead(batch.take(rows)))
            for kind, lead in self._leads.items()
            if len(rows := np.flatnonzero(kinds == kind))
        ]
        if leads:
            texts = joined(scattered(len(batch), leads), texts)
        return self._in_own_language(batch, texts)

    def _in_own_language(self, batch: Turns, texts: Texts) -> Texts:
        people = np.where(batch.users != 0, batch.users, batch.accounts)
        elsewhere = below(salted(people, 710), 100) < self._spec.foreign_percent
        foreign = np.flatnonzero(elsewhere)
        if not len(foreign):
            return texts
        names = built_in().foreign_names
        languages = below(salted(people[foreign], 711), len(names))
        other = translated(texts.take(foreign), batch.words[foreign], languages, self._foreign)
        return joined(texts.where(~elsewhere), scattered(len(batch), [(foreign, other)]))

    @cached_property
    def _leads(self) -> dict[int, Lead]:
        return {
            _PUBLIC: _copied(self._material.public(), 720),
            _PASSAGE: _copied(self._material.passages(), 721),
            _DOCUMENT: self._document,
            _LIBRARY: self._library,
            _SHARED: self._homework if self._spec.shared == "homework" else self._prompt_of_all,
        }

    def _document(self, batch: Turns) -> Texts:
        """Paste a document of a household, firm or class."""
        number = below(salted(batch.words, 722), _DOCUMENTS_OF_A_SITE).astype(np.uint64)
        return joined(self._material.documents(salted(batch.sites + number, 723)), b"\\n\\n")

    def _library(self, batch: Turns) -> Texts:
        return joined(self._material.owned(salted(batch.accounts, 724), salted(batch.words, 725), 100), b"\\n")

    def _prompt_of_all(self, batch: Turns) -> Texts:
        if self._spec.shared == "viral":
            public = self._material.public()
            return joined(public.take(np.full(len(batch), self._key % len(public), np.int64)), b"\\n")
        lines = built_in().lines[self._spec.shared]
        return lines.take(below(salted(batch.accounts, 726), len(lines)))

    def _homework(self, batch: Turns) -> Texts:
        """Send a task of the teacher's list, as set or, by every third pupil, its question alone."""
        tasks = salted(batch.sites + below(salted(batch.words, 727), 12).astype(np.uint64), 728)
        asked = below(salted(batch.words, 730), 3) == 0
        task = self._material.documents(tasks).where(~asked)
        return joined(task, self._material.questions(salted(tasks, 729)), b" ")


def _copied(table: Texts, salt: int) -> Lead:
    """Return what copies a text that everybody knows, popular ones more often."""
    edges = popularity(len(table), _SKEW_PERCENT)
    return lambda batch: joined(table.take(ranked(salted(batch.words, salt), edges)), b"\\n\\n")


class AccountSystems:
    """The system prompt each account always sends: none, a common one, or its own."""

    def __init__(self, material: Material, percent: int) -> None:
        self._material, self._percent = material, percent

    def of(self, accounts: Keys) -> Texts:
        """Return the system prompt of each account, or nothing."""
        kept = below(salted(accounts, 561), 100) < self._percent
        habit = below(salted(accounts, 560), 100)
        own = kept & (habit < _OWN_SYSTEM_PERCENT)
        common = kept & ~own & (habit < _COMMON_SYSTEM_PERCENT)
        lines = self._material.system_lines()
        shared = lines.take(below(salted(accounts, 564), len(lines))).where(common)
        if not own.any():
            return shared
        rows = np.flatnonzero(own)
        written = scattered(len(accounts), [(rows, self._material.systems(accounts[rows]))])
        return joined(shared, written)
