"""What every voice is asked and answers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamdetect.traffic.draws import Integers, Keys
from streamdetect.traffic.texts import Texts


@dataclass(frozen=True, slots=True)
class Turns:
    """The exchanges to find words for: a key each, who speaks, and which turn of the conversation it is."""

    words: Keys
    accounts: Keys  # the account's key
    sites: Keys
    users: Keys  # 0: the account itself
    turns: Integers
    weeks: Integers  # since the epoch
    days: Integers  # since the start of the run

    def __len__(self) -> int:
        return len(self.words)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Turns":
        """Return the rows that an index array or mask names."""
        return Turns(
            self.words[rows], self.accounts[rows], self.sites[rows], self.users[rows], self.turns[rows],
            self.weeks[rows], self.days[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """The newest user turn and the system prompt (or nothing) of each exchange, and its task template (-1: none)."""

    prompts: Texts
    systems: Texts
    templates: Integers


class Voice(Protocol):
    """How a stream speaks."""

    def say(self, batch: Turns) -> Said:
        """Find words for some exchanges."""
        ...
