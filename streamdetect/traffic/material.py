"""Where prompts come from: the built-in language, or a folder of real prompt texts.

A pack is a folder of gzipped JSON lines: ``organic`` (honest prompts), ``templates*`` (rows that share ``source`` and
``template`` are one campaign's task), ``traps`` (honest texts that many people send). Only the files a run needs are
read, whole and once; texts are cut at 20,000 characters.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import orjson

from streamdetect.errors import BadDataError
from streamdetect.traffic.draws import Integers, Keys, below, generator, salted
from streamdetect.traffic.language import fragment
from streamdetect.traffic.population import Accounts
from streamdetect.traffic.prompts import (
    AgentTexts,
    AgentVoice,
    CampaignVoice,
    Honest,
    PlainVoice,
    TaskSource,
    Voice,
    WrittenAgent,
    WrittenHonest,
    WrittenTemplates,
)
from streamdetect.traffic.scenarios import AgentPrompt, Templates

_TEXT_CHARACTERS_MAX = 20_000
_ROWS_OF_A_TEMPLATE_MIN = 20


class Material(Protocol):
    """A source of texts for every kind of voice. ``key`` seeds what a cohort has in common."""

    def honest(self) -> Honest:
        """Return the source of ordinary prompts."""
        ...

    def tasks(self, count: int, key: int) -> TaskSource:
        """Return at most ``count`` task templates."""
        ...

    def agent(self, spec: AgentPrompt, key: int) -> AgentTexts:
        """Return the texts of a popular program."""
        ...


def opened(folder: Path | None) -> Material:
    """Return the built-in material, or a pack's. Raises ``BadDataError`` if the folder is no pack."""
    return _Written() if folder is None else _Pack(folder)


def voice_of(
    speech: Templates | AgentPrompt | None, accounts: Accounts, *, material: Material, scale: float, key: int
) -> Voice:
    """Return the voice of a cohort."""
    plain = PlainVoice(material.honest(), accounts.systems)
    match speech:
        case Templates():
            return CampaignVoice(speech, material.tasks(max(1, round(speech.count * scale)), key), plain)
        case AgentPrompt():
            return AgentVoice(speech, material.agent(speech, key), plain, accounts.keys)
        case None:
            return plain


class _Written:
    def honest(self) -> Honest:
        return WrittenHonest()

    def tasks(self, count: int, key: int) -> TaskSource:
        return WrittenTemplates(count=count, seed_key=key)

    def agent(self, spec: AgentPrompt, key: int) -> AgentTexts:
        return WrittenAgent(spec, seed_key=key)


class _Pack:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._honest: Honest | None = None

    def honest(self) -> Honest:
        if self._honest is None:
            self._honest = _PackHonest(_texts(self._folder / "organic.jsonl.gz"))
        return self._honest

    def tasks(self, count: int, key: int) -> TaskSource:
        groups: dict[tuple[str, str], list[bytes]] = {}
        for path in sorted(self._folder.glob("templates*.jsonl.gz")):
            for row in _rows(path):
                name = str(row.get("source")), str(row.get("template"))
                groups.setdefault(name, []).append(fragment(str(row["text"])[:_TEXT_CHARACTERS_MAX]))
        usable = [groups[name] for name in sorted(groups) if len(groups[name]) >= _ROWS_OF_A_TEMPLATE_MIN]
        if not usable:
            raise BadDataError(
                f"{self._folder}: no templates*.jsonl.gz with {_ROWS_OF_A_TEMPLATE_MIN} rows of a template"
            )
        order = generator(key).permutation(len(usable))[:count].tolist()
        return _PackTemplates([usable[index] for index in order])

    def agent(self, spec: AgentPrompt, key: int) -> AgentTexts:
        path = self._folder / "traps.jsonl.gz"
        kinds: dict[str, list[bytes]] = {"agent-system-prompt": [], "agent-rules": []}
        for row in _rows(path):
            if row.get("kind") in kinds:
                kinds[str(row["kind"])].append(fragment(str(row["text"])[:_TEXT_CHARACTERS_MAX]))
        if not all(kinds.values()):
            raise BadDataError(f"{path}: needs rows of the kinds {' and '.join(kinds)}")
        return _PackAgent(kinds["agent-system-prompt"], kinds["agent-rules"], WrittenAgent(spec, seed_key=key), key)


class _PackHonest:
    def __init__(self, texts: list[bytes]) -> None:
        self._texts = texts

    def prompts(self, keys: Keys, turns: Integers) -> list[bytes]:  # noqa: ARG002  # a pack's texts know no turn
        return [self._texts[row] for row in below(salted(keys, 800), len(self._texts)).tolist()]


class _PackTemplates:
    def __init__(self, groups: list[list[bytes]]) -> None:
        self._groups = groups
        self._sizes = np.array([len(group) for group in groups], np.int64)

    def __len__(self) -> int:
        return len(self._groups)

    def filled(self, template: Integers, keys: Keys) -> list[bytes]:
        rows = below(salted(keys, 801), self._sizes[template]).tolist()
        return [self._groups[group][row] for group, row in zip(template.tolist(), rows, strict=True)]


class _PackAgent:
    """One real prompt of each kind; the part that changes from release to release is the built-in agent's."""

    def __init__(self, systems: list[bytes], rules: list[bytes], changing: AgentTexts, key: int) -> None:
        self._system = max(systems, key=len)
        self._rules = rules[key % len(rules)]
        self._changing = changing

    def system(self, release: int) -> bytes:
        return self._system + b"\\n" + self._changing.inline(release)

    def inline(self, release: int) -> bytes:
        return self._rules + b"\\n" + self._changing.inline(release)


def _texts(path: Path) -> list[bytes]:
    texts = [fragment(str(row["text"])[:_TEXT_CHARACTERS_MAX]) for row in _rows(path)]
    if not texts:
        raise BadDataError(f"{path}: holds no texts")
    return texts


def _rows(path: Path) -> Iterator[dict[str, object]]:
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
