"""What is known of the attackers themselves, read from the files that ``simulate`` leaves: reactions and templates.

All of it is optional. A campaign nobody says anything about stops: an account that was refused once is given up and
not replaced.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError

from streamdetect.errors import BadDataError
from streamdetect.messages.reaction import Reaction
from streamdetect.replay.sources import read_chunks
from streamdetect.replay.truth import request_hashes

STOP: Final = Reaction(gives_up_after=1)
NO_TEMPLATE: Final = -1


@dataclass(frozen=True, slots=True)
class Attack:
    """How campaigns answer refusals, and which template each exchange was written from.

    ``reactions`` is by campaign id, ``otherwise`` for the rest. ``requests`` (``uint64[n]``, ascending) and
    ``template`` (``int32[n]``) say which of ``templates`` templates an exchange has.
    """

    reactions: dict[str, Reaction] = field(default_factory=dict)
    otherwise: Reaction = STOP
    scale: float = 1.0
    requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    template: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    templates: int = 0

    def of(self, campaign: str) -> Reaction:
        """The reaction of a campaign."""
        return self.reactions.get(campaign, self.otherwise)

    def template_of(self, requests: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The template of each exchange: ``int32[n]``, -1 where none is known."""
        if not len(self.requests):
            return np.full(len(requests), NO_TEMPLATE, np.int32)
        places = np.minimum(np.searchsorted(self.requests, requests), len(self.requests) - 1)
        return np.where(self.requests[places] == requests, self.template[places], np.int32(NO_TEMPLATE))


def read_attack(manifest: Path | None, exchanges: Path | None = None, otherwise: Reaction = STOP) -> Attack:
    """Read a manifest and a list of exchanges with their templates.

    Raises ``BadDataError`` for a file that cannot be read or does not say what it should.
    """
    said: dict[str, Any] = {} if manifest is None else _read_manifest(manifest)
    reactions = {name: _reaction(value, f"{manifest}: reaction of {name}") for name, value in _reactions_in(said)}
    scale = said.get("scale", 1.0)
    if not isinstance(scale, int | float) or scale <= 0:
        raise BadDataError(f"{manifest}: scale is no positive number")
    if exchanges is None:
        return Attack(reactions, otherwise, float(scale))
    requests, template, count = _read_templates(exchanges)
    return Attack(reactions, otherwise, float(scale), requests, template, count)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        said = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise BadDataError(f"{path}: {error}") from error
    if not isinstance(said, dict):
        raise BadDataError(f"{path}: no manifest")
    return said


def _reactions_in(manifest: dict[str, Any]) -> list[tuple[str, Any]]:
    """The reaction of each campaign: cohorts carry the name of the campaign they are."""
    cohorts = manifest.get("cohorts")
    if not isinstance(cohorts, dict):
        return []
    return [(name, said["reaction"]) for name, said in cohorts.items() if isinstance(said, dict) and "reaction" in said]


def _reaction(value: Any, where: str) -> Reaction:
    try:
        return Reaction.model_validate(value)
    except ValidationError as error:
        raise BadDataError(f"{where}: {error.errors()[0]['msg']}") from error


def _read_templates(path: Path) -> tuple[NDArray[np.uint64], NDArray[np.int32], int]:
    numbers: dict[str, int] = {}
    hashes, templates = [], []
    for chunk in read_chunks([str(path)]):
        names: list[tuple[bytes, bytes]] = []
        for record in range(len(chunk)):
            try:
                line = orjson.loads(chunk.value(record) or b"")
                template = line.get("template")
                if template is None:
                    continue
                names.append((line["account_id"].encode(), line["event_id"].encode()))
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                line_number = int(chunk.offsets[record]) + 1
                raise BadDataError(f"{path}:{line_number}: no event_id and account_id") from error
            templates.append(numbers.setdefault(str(template), len(numbers)))
        hashes.append(request_hashes(names))
    if not templates:
        return np.zeros(0, np.uint64), np.zeros(0, np.int32), 0
    found, first = np.unique(np.concatenate(hashes), return_index=True)
    return found, np.array(templates, np.int32)[first], len(numbers)
