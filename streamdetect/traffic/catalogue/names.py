"""Scenarios by name."""

from typing import Final

from streamdetect.errors import UsageError
from streamdetect.traffic.catalogue.campaigns import CAMPAIGNS
from streamdetect.traffic.catalogue.look_alikes import LOOK_ALIKES
from streamdetect.traffic.catalogue.model import Scenario

CATALOGUE: Final = (*CAMPAIGNS, *LOOK_ALIKES)
ALIASES: Final = {"C4": "C4a"}


def named(text: str) -> tuple[Scenario, ...]:
    """Return the scenarios of a name such as ``C2+L5``, in the order of the catalogue.

    Raises ``UsageError`` for an unknown or repeated name.
    """
    known = {scenario.name: scenario for scenario in CATALOGUE}
    names = [ALIASES.get(name, name) for name in text.split("+")]
    for name in names:
        if name not in known:
            raise UsageError(f"no scenario {name!r}; there are {', '.join(known)}, and they are joined with +")
        if names.count(name) > 1:
            raise UsageError(f"scenario {name!r} is named twice; use --scale to enlarge it")
    return tuple(scenario for scenario in CATALOGUE if scenario.name in names)
