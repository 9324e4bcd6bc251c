"""What a source of texts can be asked for. Every text is a function of its key; ``key`` seeds what a cohort shares."""

from dataclasses import dataclass
from typing import Protocol

from streamdetect.traffic.draws import Integers, Keys
from streamdetect.traffic.texts import Texts
from streamdetect.traffic.wording import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The part of a task that changes: its length in words, and whether it stands anywhere in the task."""

    words_median: float = 35.0
    words_sigma: float = 0.6
    words_limit: int = 200
    anywhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPrompt:
    """A popular program that puts one long text before everybody's words; a new release every week.

    ``number`` says which program: equal numbers are the same program in every cohort.
    """

    number: int = 1
    sentences: int = 45
    changed_percent: int = 12  # of the sentences, from release to release
    inline_percent: int = 0  # of the accounts, whose client sends instructions in front of the user's own words
    inline_sentences: int = 9
    tool_percent: int = 0  # of later turns are what a tool returned


class Tasks(Protocol):
    """Task templates of one cohort."""

    def __len__(self) -> int:
        """Return the number of templates."""
        ...

    def filled(self, template: Integers, keys: Keys) -> Texts:
        """Fill template ``template[i]`` with fresh words for key i."""
        ...

    def rewritten(self, template: Integers, keys: Keys) -> Texts:
        """Say the same in other words: the layout of the template stays, hardly any phrase does."""
        ...


class AgentTexts(Protocol):
    """A program's texts by release; neighbouring releases differ in a few sentences."""

    def system(self, release: int) -> bytes:
        """Return the system prompt of a release."""
        ...

    def inline(self, release: int) -> bytes:
        """Return the shorter instructions that some clients put in front of the user's words."""
        ...


class Material(Protocol):
    """A source of texts for every kind of voice."""

    @property
    def name(self) -> str:
        """Return what the manifest calls it."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Return words to replace others by."""
        ...

    def people(self, keys: Keys, turns: Integers) -> Texts:
        """Write what ordinary people say in the given turn of a conversation."""
        ...

    def public(self) -> Texts:
        """Return prompts that many people copy, the most popular first."""
        ...

    def passages(self) -> Texts:
        """Return texts that many people paste, the most popular first."""
        ...

    def system_lines(self) -> Texts:
        """Return system prompts that many accounts send."""
        ...

    def systems(self, keys: Keys) -> Texts:
        """Write one system prompt of its own for each key."""
        ...

    def documents(self, keys: Keys) -> Texts:
        """Write one document for each key: what colleagues paste."""
        ...

    def tasks(self, count: int, key: int, slots: Slots) -> Tasks:
        """Return at most ``count`` task templates."""
        ...

    def owned(self, templates: Keys, keys: Keys, framework_percent: int) -> Texts:
        """Fill an honest program's own template, or a library's: one program for each key of ``templates``."""
        ...

    def agent(self, spec: AgentPrompt) -> AgentTexts:
        """Return the texts of a popular program."""
        ...

    def tool_results(self, keys: Keys) -> Texts:
        """Write what tools return to an agent."""
        ...

    def questions(self, keys: Keys) -> Texts:
        """Return bare questions of a question bank."""
        ...

    def items(self, keys: Keys) -> Texts:
        """Return prompts of a public benchmark, a fixed one for each key."""
        ...

    def rubrics(self, graders: Keys, keys: Keys) -> Texts:
        """Write a request to grade an answer: the rubric follows from ``graders``, the rest from ``keys``."""
        ...
