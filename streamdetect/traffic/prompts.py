"""What is said: honest prompts, filled task templates, and a popular agent's instructions in front of honest ones.

Each voice turns keys into prompts as JSON fragments; texts depend on the key alone. ``Honest`` is the material's way to
write an ordinary prompt: the built-in language here, real texts in ``material``.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from streamdetect.traffic.draws import Integers, Keys, below, chosen, drawn, lognormal_table, mix, salted
from streamdetect.traffic.language import Language, built_in
from streamdetect.traffic.scenarios import AgentPrompt, Templates

_WORDS_A_SENTENCE: Final = 11
# Median 40 words, one prompt in ten above 150.
_SENTENCES: Final = np.maximum(1, lognormal_table(median=40.0, sigma=1.031, limit=600) // _WORDS_A_SENTENCE)
_SHORT, _PUBLIC, _CODE, _TASK, _PROSE = range(5)
_FIRST_TURN: Final = (6, 5, 17, 8, 64)
_LATER_TURN: Final = (24, 1, 20, 3, 52)


@dataclass(frozen=True, slots=True)
class Turns:
    """The exchanges to find words for: one key each, who speaks, and which turn of the conversation it is."""

    keys: Keys
    accounts: Integers
    turns: Integers
    week: int


class Honest(Protocol):
    """A source of ordinary prompts."""

    def prompts(self, keys: Keys, turns: Integers) -> list[bytes]:
        """Return one prompt per key."""
        ...


class Voice(Protocol):
    """How a cohort speaks."""

    def prompts(self, batch: Turns) -> list[bytes]:
        """Return the newest user turn of each exchange."""
        ...

    def systems(self, batch: Turns) -> list[bytes]:
        """Return the system prompt of each exchange as a JSON member with its comma, or nothing."""
        ...

    def cover(self, keys: Keys) -> NDArray[np.bool_]:
        """Tell which exchanges of a campaign are cover traffic."""
        ...


class WrittenHonest:
    """Ordinary prompts in the built-in language: greetings, questions, code, tasks, public prompts."""

    def __init__(self) -> None:
        self._language = built_in()

    def prompts(self, keys: Keys, turns: Integers) -> list[bytes]:
        """Return one prompt per key."""
        kinds = np.where(turns == 0, chosen(salted(keys, 600), _FIRST_TURN), chosen(salted(keys, 600), _LATER_TURN))
        sentences = drawn(salted(keys, 601), _SENTENCES)
        prose = np.select([kinds == _SHORT, kinds == _CODE, kinds == _TASK], [0, 1, 1 + sentences // 8], sentences)
        write = self._language.write
        texts = write("prose", salted(keys, 602), prose)
        for kind, group in ((_CODE, "code"), (_TASK, "instruction")):
            rows = np.flatnonzero(kinds == kind)
            added = write(group, salted(keys[rows], 603), sentences[rows])
            for row, text in zip(rows.tolist(), added, strict=True):
                texts[row] = texts[row] + b"\\n" + text if kind == _CODE else text + texts[row]
        self._lines("short", np.flatnonzero(kinds == _SHORT), keys, texts)
        self._lines("public", np.flatnonzero(kinds == _PUBLIC), keys, texts)
        return texts

    def _lines(self, group: str, rows: Integers, keys: Keys, texts: list[bytes]) -> None:
        lines = self._language.lines[group]
        for row, line in zip(rows.tolist(), below(salted(keys[rows], 604), len(lines)).tolist(), strict=True):
            texts[row] = lines[line] + texts[row]


@dataclass(frozen=True, slots=True)
class PlainVoice:
    """Honest people: their own words and the system prompt their account always sends."""

    honest: Honest
    account_systems: list[bytes]

    def prompts(self, batch: Turns) -> list[bytes]:
        """Return ordinary prompts."""
        return self.honest.prompts(batch.keys, batch.turns)

    def systems(self, batch: Turns) -> list[bytes]:
        """Return each account's own system prompt."""
        return [self.account_systems[row] for row in batch.accounts.tolist()]

    def cover(self, keys: Keys) -> NDArray[np.bool_]:
        """Honest people have nothing to cover."""
        return np.zeros(len(keys), np.bool_)


class TaskSource(Protocol):
    """Where a campaign's filled templates come from."""

    def __len__(self) -> int:
        """Return the number of templates."""
        ...

    def filled(self, template: Integers, keys: Keys) -> list[bytes]:
        """Fill template ``template[i]`` with fresh words for key i."""
        ...


class WrittenTemplates:
    """Task templates of 60-140 fixed words around a domain, a question of 10-60 words and a constraint."""

    def __init__(self, *, count: int, seed_key: int, language: Language | None = None) -> None:
        self._language = language or built_in()
        keys = mix(np.arange(count, dtype=np.uint64) + np.full(count, seed_key, np.uint64))
        write = self._language.write
        self._heads = write("instruction", salted(keys, 610), 3 + below(salted(keys, 611), 4))
        self._tails = write("instruction", salted(keys, 612), 1 + below(salted(keys, 613), 3))

    def __len__(self) -> int:
        return len(self._heads)

    def filled(self, template: Integers, keys: Keys) -> list[bytes]:
        """Fill template ``template[i]`` with fresh words for key i."""
        write, once = self._language.write, np.ones(len(keys), np.int64)
        slots = zip(
            template.tolist(),
            write("domain", salted(keys, 620), once),
            write("prose", salted(keys, 621), 1 + below(salted(keys, 622), 5)),
            write("constraint", salted(keys, 623), below(salted(keys, 624), 3)),
            strict=True,
        )
        return [
            b"%s\\nDomain: %s\\n\\nQuestion: %s\\n\\n%s%s"
            % (self._heads[row], domain, question, self._tails[row], limits)
            for row, domain, question, limits in slots
        ]


class CampaignVoice:
    """A campaign: templates by popularity, and some ordinary prompts as cover."""

    def __init__(self, spec: Templates, tasks: TaskSource, plain: PlainVoice) -> None:
        self._tasks, self._plain, self._cover_percent = tasks, plain, spec.cover_percent
        self._weights = [round(1_000_000 / (rank + 1) ** (spec.skew_percent / 100)) for rank in range(len(tasks))]

    def prompts(self, batch: Turns) -> list[bytes]:
        """Return filled templates, and ordinary prompts where ``cover`` says so."""
        cover = self.cover(batch.keys)
        keys = batch.keys[~cover]
        tasks = iter(self._tasks.filled(chosen(salted(keys, 630), self._weights), keys))
        plain = iter(self._plain.honest.prompts(batch.keys[cover], batch.turns[cover]))
        return [next(plain) if hidden else next(tasks) for hidden in cover.tolist()]

    def systems(self, batch: Turns) -> list[bytes]:
        """Return each account's own system prompt."""
        return self._plain.systems(batch)

    def cover(self, keys: Keys) -> NDArray[np.bool_]:
        """Tell which exchanges are cover traffic."""
        return below(salted(keys, 631), 100) < self._cover_percent


class AgentVoice:
    """Users of one program: its long prompt before everybody's words, in the release their client has by then."""

    def __init__(self, spec: AgentPrompt, agent: "AgentTexts", plain: PlainVoice, account_keys: Keys) -> None:
        self._agent, self._plain = agent, plain
        self._inline = below(salted(account_keys, 640), 100) < spec.inline_percent
        self._behind = chosen(salted(account_keys, 641), (70, 22, 8))  # releases behind the newest

    def prompts(self, batch: Turns) -> list[bytes]:
        """Return honest prompts, behind the agent's instructions for accounts whose client sends them inline."""
        texts = self._plain.prompts(batch)
        inline = self._inline[batch.accounts] & (batch.turns == 0)
        for row, release in zip(np.flatnonzero(inline).tolist(), self._releases(batch)[inline].tolist(), strict=True):
            texts[row] = self._agent.inline(release) + b"\\n\\n" + texts[row]
        return texts

    def systems(self, batch: Turns) -> list[bytes]:
        """Return the agent's system prompt, or nothing where it is sent inline."""
        rows = zip(self._inline[batch.accounts].tolist(), self._releases(batch).tolist(), strict=True)
        return [b"" if inline else b'"system_prompt":"%s",' % self._agent.system(release) for inline, release in rows]

    def cover(self, keys: Keys) -> NDArray[np.bool_]:
        """Honest people have nothing to cover."""
        return np.zeros(len(keys), np.bool_)

    def _releases(self, batch: Turns) -> Integers:
        return batch.week - self._behind[batch.accounts]


class AgentTexts(Protocol):
    """A program's texts by release; neighbouring releases differ in a few sentences."""

    def system(self, release: int) -> bytes:
        """Return the system prompt of a release."""
        ...

    def inline(self, release: int) -> bytes:
        """Return the shorter instructions that some clients put in front of the user's words."""
        ...


class WrittenAgent:
    """An agent's texts in the built-in language. Sentence i is rewritten in some releases, each at its own time."""

    def __init__(self, spec: AgentPrompt, *, seed_key: int) -> None:
        self._spec, self._seed_key, self._texts = spec, seed_key, dict[tuple[int, int], bytes]()

    def system(self, release: int) -> bytes:
        """Return the system prompt of a release."""
        return self._text(release, self._spec.sentences)

    def inline(self, release: int) -> bytes:
        """Return the shorter instructions that some clients put in front of the user's words."""
        return self._text(release, self._spec.inline_sentences)

    def _text(self, release: int, sentences: int) -> bytes:
        if (release, sentences) not in self._texts:  # one entry per week of the run, so it stays small
            number = np.arange(sentences, dtype=np.uint64)
            keys = mix(number + np.full(sentences, self._seed_key + sentences, np.uint64))
            # Sentence i changes every ``period`` releases, at a phase of its own.
            period = max(1, 100 // self._spec.changed_percent)
            edition = (np.int64(release) + below(salted(keys, 650), period)) // period
            lines = built_in().write(
                "agent", salted(keys, 651) + edition.astype(np.uint64), np.ones(sentences, np.int64)
            )
            self._texts[release, sentences] = b"".join(lines)
        return self._texts[release, sentences]
