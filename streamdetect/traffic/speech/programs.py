"""Honest programs: applications with a template of their own, popular agents, benchmark runs."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from streamdetect.traffic.draws import Integers, Keys, below, chosen, salted
from streamdetect.traffic.material.source import AgentPrompt, Material
from streamdetect.traffic.speech.people import AccountSystems, People, PeopleVoice
from streamdetect.traffic.speech.voice import Said, Turns
from streamdetect.traffic.texts import Texts, joined, scattered, texts_of

_RELEASES_BEHIND: Final = (70, 22, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A program of one owner: templates of the site around what its users say, or a system prompt before it."""

    templates: int = 2
    percent: int = 100  # of first turns use a template; the rest is people's
    framework_percent: int = 30  # of the templates are a library's
    system: bool = False  # the site's own system prompt before everything
    foreign_percent: int = 14  # of the users


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A popular program's users: its long prompt before everybody's words, in the release their client has by then."""

    prompt: AgentPrompt
    people: People = field(default_factory=lambda: People(system_percent=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Public benchmark prompts, the same for all who run it."""

    items: int


class ApplicationVoice:
    """How an owner's program speaks."""

    def __init__(self, spec: Application, material: Material, key: int) -> None:
        self._spec, self._material = spec, material
        people = People(foreign_percent=spec.foreign_percent, library_percent=0, passage_percent=0)
        self._people = PeopleVoice(people, material, key)
        self._systems = AccountSystems(material, 100)

    def say(self, batch: Turns) -> Said:
        """Fill the site's templates."""
        spec = self._spec
        filled = (batch.turns == 0) & (below(salted(batch.words, 740), 100) < spec.percent)
        rows, rest = np.flatnonzero(filled), np.flatnonzero(~filled)
        number = below(salted(batch.words[rows], 741), max(1, spec.templates)).astype(np.uint64)
        templates = salted(batch.sites[rows] + number, 742)
        texts = scattered(
            len(batch),
            [
                (rows, self._material.owned(templates, salted(batch.words[rows], 743), spec.framework_percent)),
                (rest, self._people.prompts(batch.take(rest))),
            ],
        )
        own = spec.system
        systems = self._material.systems(salted(batch.sites, 744)) if own else self._systems.of(batch.sites)
        return Said(texts, systems, np.full(len(batch), -1, np.int64))


class AgentVoice:
    """How the users of a popular program speak."""

    def __init__(self, spec: Agent, material: Material, key: int) -> None:
        self._spec, self._material = spec, material
        self._texts = material.agent(spec.prompt)
        self._people = PeopleVoice(spec.people, material, key)

    def say(self, batch: Turns) -> Said:
        """Find words for users, behind the program's instructions where the client sends them inline."""
        prompt = self._spec.prompt
        texts = self._people.prompts(batch)
        results = (batch.turns > 0) & (below(salted(batch.words, 750), 100) < prompt.tool_percent)
        rows = np.flatnonzero(results)
        if len(rows):
            returned = scattered(len(batch), [(rows, self._material.tool_results(batch.words[rows]))])
            texts = joined(returned, texts.where(~results))
        systems, inline = self.instructions(batch)
        return Said(joined(inline, texts), systems, np.full(len(batch), -1, np.int64))

    def instructions(self, batch: Turns) -> tuple[Texts, Texts]:
        """Return what the program sends as system prompt, and in front of the user's words."""
        releases = batch.weeks - chosen(salted(batch.accounts, 641), _RELEASES_BEHIND)
        inline = below(salted(batch.accounts, 640), 100) < self._spec.prompt.inline_percent
        known, back = np.unique(releases, return_inverse=True)
        systems = texts_of([self._texts.system(release) for release in known.tolist()]).take(back)
        lines = texts_of([self._texts.inline(release) + b"\\n\\n" for release in known.tolist()]).take(back)
        return systems.where(~inline), lines.where(inline & (batch.turns == 0))


class BenchmarkVoice:
    """How a benchmark run speaks: a fixed list of items."""

    def __init__(self, spec: Benchmark, material: Material) -> None:
        self._spec, self._material = spec, material

    def say(self, batch: Turns) -> Said:
        """Send items of the list."""
        items = below(salted(batch.words, 760), self._spec.items).astype(np.uint64)
        prompts = self._material.items(items)
        return Said(prompts, prompts.where(np.zeros(len(batch), np.bool_)), nothing(batch.words))


def nothing(keys: Keys) -> Integers:
    """Return the template numbers of exchanges without a template."""
    return np.full(len(keys), -1, np.int64)
