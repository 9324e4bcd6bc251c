"""What is known of the attackers themselves, read from the files that ``simulate`` leaves: reactions and templates.

All of it is optional. A campaign nobody says anything about stops: an account that was refused once is given up and
not replaced.
"""

from dataclasses import dataclass, field, replace
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

_SECOND_MS: Final = 1_000
_HOUR_MS: Final = 3_600_000

STOP: Final = Reaction(gives_up_after=1)
# What a campaign can be told to do instead of what its scenario says. Each is one idea; scenarios mix them.
MODELS: Final[dict[str, Reaction]] = {
    "none": Reaction(),
    "stop": STOP,
    "retry": Reaction(retries=3, retry_delay_ms=60 * _SECOND_MS, gives_up_after=20),
    "fail-over": Reaction(fail_overs=3, fail_over_delay_ms=_SECOND_MS, taken_over_per_day=100, gives_up_after=5),
    "respawn": Reaction(gives_up_after=1, respawn_delay_ms=_HOUR_MS, respawns_per_day=2_000),
    "change-template": Reaction(
        gives_up_after=1,
        respawn_delay_ms=_HOUR_MS,
        respawns_per_day=2_000,
        template_losses=3,
        template_delay_ms=6 * _HOUR_MS,
    ),
}
NO_TEMPLATE: Final = -1
_NOT_A_LINE: Final = (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError)


@dataclass(frozen=True, slots=True)
class Attack:
    """How campaigns answer refusals, and which template each exchange was written from.

    ``reactions`` is by campaign id, ``otherwise`` for the rest. ``requests`` (``uint64[n]``, ascending) and
    ``template`` (``int32[n]``) say which of ``templates`` templates an exchange has. ``spares`` are, by campaign,
    prompts of each template that it keeps back. ``scale`` is that of the run, for what is stated at scale 1.
    """

    reactions: dict[str, Reaction] = field(default_factory=dict)
    otherwise: Reaction = STOP
    scale: float = 1.0
    requests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    template: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    templates: int = 0
    spares: dict[str, list[list[bytes]]] = field(default_factory=dict)

    def of(self, campaign: str) -> Reaction:
        """The reaction of a campaign."""
        return self.reactions.get(campaign, self.otherwise)

    def template_of(self, requests: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The template of each exchange: ``int32[n]``, -1 where none is known."""
        if not len(self.requests):
            return np.full(len(requests), NO_TEMPLATE, np.int32)
        places = np.minimum(np.searchsorted(self.requests, requests), len(self.requests) - 1)
        return np.where(self.requests[places] == requests, self.template[places], np.int32(NO_TEMPLATE))


def read_attack(manifest: Path | None, exchanges: Path | None = None, spares: Path | None = None) -> Attack:
    """Read a manifest, a list of exchanges with their templates, and prompts of spare templates; each if there is one.

    Raises ``BadDataError`` for a file that cannot be read or does not say what it should.
    """
    said: dict[str, Any] = {} if manifest is None else _read_manifest(manifest)
    told, scale = said.get("reactions", {}), said.get("scale", 1.0)
    if not isinstance(told, dict) or not isinstance(scale, int | float) or scale <= 0:
        raise BadDataError(f"{manifest}: reactions is no object, or scale no positive number")
    attack = Attack(
        {name: _reaction(value, f"{manifest}: reaction of {name}") for name, value in told.items()},
        scale=float(scale),
        spares={} if spares is None else _read_spares(spares),
    )
    return attack if exchanges is None else _with_templates(attack, exchanges)


def told_to(attack: Attack, model: str) -> Attack:
    """The same campaigns, all answering as a model of ``MODELS`` says."""
    return replace(attack, reactions={}, otherwise=MODELS[model])


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        said = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise BadDataError(f"{path}: {error}") from error
    if not isinstance(said, dict):
        raise BadDataError(f"{path}: no manifest")
    return said


def _reaction(value: Any, where: str) -> Reaction:
    try:
        return Reaction.model_validate(value)
    except ValidationError as error:
        raise BadDataError(f"{where}: {error.errors()[0]['msg']}") from error


def _with_templates(attack: Attack, path: Path) -> Attack:
    numbers: dict[tuple[str, int], int] = {}
    hashes, templates = [], []
    for chunk in read_chunks([str(path)]):
        names: list[tuple[bytes, bytes]] = []
        for record in range(len(chunk)):
            try:
                line = orjson.loads(chunk.value(record) or b"")
                if line.get("template") is None:
                    continue
                names.append((line["account_id"].encode(), line["event_id"].encode()))
                named = str(line.get("campaign_id")), int(line["template"])
            except _NOT_A_LINE as error:
                place = int(chunk.offsets[record]) + 1
                raise BadDataError(f"{path}:{place}: no event_id, account_id and template") from error
            templates.append(numbers.setdefault(named, len(numbers)))
        hashes.append(request_hashes(names))
    if not templates:
        return attack
    found, first = np.unique(np.concatenate(hashes), return_index=True)
    return replace(
        attack, requests=found, template=np.array(templates, np.int32)[first], templates=len(numbers)
    )  # fmt: skip


def _read_spares(path: Path) -> dict[str, list[list[bytes]]]:
    """Prompts by campaign and template, in the order of the file."""
    found: dict[str, dict[int, list[bytes]]] = {}
    for chunk in read_chunks([str(path)]):
        for record in range(len(chunk)):
            try:
                line = orjson.loads(chunk.value(record) or b"")
                prompts = found.setdefault(str(line["campaign_id"]), {}).setdefault(int(line["template"]), [])
                prompts.append(line["prompt"].encode())
            except _NOT_A_LINE as error:
                place = int(chunk.offsets[record]) + 1
                raise BadDataError(f"{path}:{place}: no campaign_id, template and prompt") from error
    return {name: list(templates.values()) for name, templates in found.items()}
