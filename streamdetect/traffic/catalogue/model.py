"""What a scenario is made of. Everything is data: shown by ``simulate --list``, printed into the manifest."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from streamdetect.messages.base import Message
from streamdetect.messages.reaction import Reaction
from streamdetect.traffic.cadence import Cadence
from streamdetect.traffic.networks import Lines, Network
from streamdetect.traffic.population import Life, Profile
from streamdetect.traffic.speech.campaign import Questions, Replayed, Templates
from streamdetect.traffic.speech.people import People
from streamdetect.traffic.speech.programs import Agent, Application, Benchmark

Label = Literal["campaign", "legit", "other_abuse"]
Speech = People | Application | Agent | Benchmark | Templates | Questions | Replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanges:
    """One stream of exchanges of a group: how often, what, from where."""

    cadence: Cadence
    speech: Speech
    cover: bool = False  # of a campaign: not what it is after
    network: Network | None = None  # the group's unless told otherwise
    life: Life | None = None  # when in the account's life, from the start of the run
    reply_tokens: int = 260  # median
    names_users: bool = False  # events carry the user behind the account
    pivot_percent: int = 0  # go to a new model within a day of its release


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Accounts of one kind. ``percent`` is of the scenario's accounts; other abuse comes on top of them."""

    percent: int = 100
    label: Label
    profile: Profile
    life: Life = field(default_factory=Life)
    network: Network = field(default_factory=Lines)
    streams: tuple[Exchanges, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A named script. ``accounts`` is its size at scale 1, at the beginning. ``number`` (1-63) seeds it."""

    name: str
    number: int
    summary: str
    accounts: int
    groups: tuple[Group, ...]
    reaction: Reaction | None = None

    @property
    def campaign(self) -> bool:
        """Tell whether the scenario is an attack."""
        return any(group.label == "campaign" for group in self.groups)

    @property
    def first(self) -> Exchanges:
        """Return the stream that the scenario is about."""
        return self.groups[0].streams[0]


def as_data(value: Any) -> Any:
    """Return parameters as plain JSON: what differs from the default, with the name of the kind where it can vary."""
    if isinstance(value, Message):
        return value.model_dump(exclude_none=True)
    if is_dataclass(value) and not isinstance(value, type):
        kind = {} if isinstance(value, Scenario | Group | Exchanges) else {"kind": type(value).__name__}
        return kind | {entry.name: as_data(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, tuple | list):
        return [as_data(item) for item in value]
    return value
