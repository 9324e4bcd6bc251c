"""What campaigns send: task templates, changed in all the ways that are meant to hide them, or texts without any."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from streamdetect.traffic.draws import Integers, Keys, below, popularity, ranked, salted
from streamdetect.traffic.language import built_in
from streamdetect.traffic.material.source import AgentPrompt, Material, Slots
from streamdetect.traffic.speech.people import AccountSystems, People, PeopleVoice
from streamdetect.traffic.speech.programs import Agent, AgentVoice
from streamdetect.traffic.speech.voice import Said, Turns
from streamdetect.traffic.texts import Texts, joined, scattered
from streamdetect.traffic.wording import Vocabulary, disguised, paraphrased, translated

_WORDS_A_SENTENCE: Final = 11
_GRADERS: Final = 5
_EDITIONS: Final = 40  # of each template, where they change


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """A campaign that fills task templates. ``skew_percent`` is the exponent of their popularity, in 1/100."""

    count: int
    skew_percent: int = 70
    slots: Slots = field(default_factory=Slots)
    paraphrase_percent: int = 0  # of the words are replaced, independently in every request
    rewritten: bool = False  # every request is worded anew
    languages: int = 0  # of which each template or request uses one
    free_translation: bool = False  # every request is translated anew
    padding_words: tuple[int, int] = (0, 0)  # of ordinary text, before and behind together
    disguise_percent: int = 0  # of the words get invisible or look-alike letters
    grading_percent: int = 0  # of the requests let the model grade answers
    rotation_days: int = 0  # above 0: each template is replaced by a new one after so many days
    inside: AgentPrompt | None = None  # sent by a popular program's own client, behind its prompt
    system_percent: int = 40  # of the accounts send a system prompt as honest ones do


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """A campaign that sends the bare questions of a bank: nothing in common but the matter."""

    system_percent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A campaign that sends prompts of honest people, recorded elsewhere; each text some few times."""

    texts: int


class TemplatesVoice:
    """How a campaign with templates speaks. ``key`` seeds the templates."""

    def __init__(self, spec: Templates, material: Material, key: int, scale: float) -> None:
        self._spec, self._material = spec, material
        self.count = max(1, round(spec.count * scale))
        editions = _EDITIONS if spec.rotation_days else 1
        self._tasks = material.tasks(self.count * editions, key, spec.slots)
        self._edges = popularity(min(self.count, len(self._tasks)), spec.skew_percent)
        self._foreign = Vocabulary.foreign(built_in())
        self._systems = AccountSystems(material, spec.system_percent)
        self._agent = AgentVoice(Agent(prompt=spec.inside), material, key) if spec.inside else None

    def say(self, batch: Turns) -> Said:
        """Fill templates."""
        templates = self._chosen(batch)
        prompts = self.worded(templates, batch.words)
        grading = below(salted(batch.words, 780), 100) < self._spec.grading_percent
        rows = np.flatnonzero(grading)
        if len(rows):
            graders = below(salted(batch.words[rows], 781), _GRADERS)
            rubrics = self._material.rubrics(graders.astype(np.uint64), batch.words[rows])
            prompts = joined(scattered(len(batch), [(rows, rubrics)]), prompts.where(~grading))
            templates[rows] = len(self._tasks) + graders
        if self._agent is not None:
            systems, inline = self._agent.instructions(batch)
            return Said(joined(inline, prompts), systems, templates)
        return Said(prompts, self._systems.of(batch.accounts), templates)

    @property
    def templates(self) -> int:
        """Return how many templates there are, those of later days too."""
        return len(self._tasks)

    def worded(self, templates: Integers, keys: Keys) -> Texts:
        """Return template ``templates[i]`` with the words of key i, hidden as the campaign hides it."""
        spec = self._spec
        texts = (self._tasks.rewritten if spec.rewritten else self._tasks.filled)(templates, keys)
        if spec.paraphrase_percent:
            percent = np.full(len(keys), spec.paraphrase_percent, np.int64)
            texts = paraphrased(texts, salted(keys, 771), percent, self._material.vocabulary)
        if spec.languages:
            # One of them is English, which stays as it is.
            languages = below(salted(keys, 772), spec.languages) - 1
            free = 65 if spec.free_translation else 0
            texts = translated(texts, salted(keys, 773), languages, self._foreign, free_percent=free)
        if spec.padding_words[1]:
            texts = self._padded(texts, keys)
        if spec.disguise_percent:
            texts = disguised(texts, salted(keys, 776), spec.disguise_percent)
        return texts

    def _chosen(self, batch: Turns) -> Integers:
        rank = ranked(salted(batch.words, 630), self._edges)
        days = self._spec.rotation_days
        if not days:
            return rank
        # Each template is replaced on a day of its own.
        edition = (batch.days + rank % days) // days
        return (rank + edition * self.count) % len(self._tasks)

    def _padded(self, texts: Texts, keys: Keys) -> Texts:
        low, high = (words // _WORDS_A_SENTENCE for words in self._spec.padding_words)
        sentences = low + below(salted(keys, 774), high - low + 1)
        before = below(salted(keys, 775), sentences + 1)
        write = built_in().write
        return joined(
            write("prose", salted(keys, 777), before), texts, write("prose", salted(keys, 778), sentences - before)
        )


class QuestionsVoice:
    """How a campaign with bare questions speaks."""

    def __init__(self, spec: Questions, material: Material) -> None:
        self._material, self._systems = material, AccountSystems(material, spec.system_percent)

    def say(self, batch: Turns) -> Said:
        """Send questions."""
        prompts = self._material.questions(batch.words)
        return Said(prompts, self._systems.of(batch.accounts), np.zeros(len(batch), np.int64))


class ReplayedVoice:
    """How a campaign with recorded prompts speaks."""

    def __init__(self, spec: Replayed, material: Material, key: int) -> None:
        self._spec, self._people = spec, PeopleVoice(People(), material, key)

    def say(self, batch: Turns) -> Said:
        """Send recorded prompts."""
        recorded = salted(below(salted(batch.words, 790), self._spec.texts).astype(np.uint64), 791)
        said = self._people.say(Turns(recorded, recorded, recorded, batch.users, batch.turns, batch.weeks, batch.days))
        return Said(said.prompts, said.systems, np.zeros(len(batch), np.int64))
