"""The catalogue of scenarios, as data: who takes part, how they are spread over the day, what they say.

A scenario is one cohort; several are mixed with ``+``. ``number`` fixes its random draws, so a cohort is the same
whatever it is mixed with. Numbers 1-40 are campaigns, 65-80 look-alikes, 127 the honest background.
"""

from dataclasses import dataclass
from typing import Final

from streamdetect.errors import UsageError
from streamdetect.traffic.cadence import Cadence
from streamdetect.traffic.population import Profile

# 15 % young: new, recent, or old and unpaid.
_EVERYBODY: Final = (("new", 4), ("recent", 6), ("unpaid", 5), ("settled", 45), ("verified", 33), ("unknown", 7))


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """A campaign that fills task templates. ``skew_percent`` is the exponent of the templates' popularity, in 1/100."""

    count: int
    skew_percent: int
    cover_percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPrompt:
    """A popular program that puts one long text before everybody's words; a new release every week."""

    sentences: int
    changed_percent: int  # of the sentences, from release to release
    inline_percent: int  # of the accounts, whose client sends instructions in front of the user's own words
    inline_sentences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One cohort. ``accounts`` is its size at scale 1."""

    name: str
    number: int
    summary: str
    campaign: bool
    accounts: int
    profile: Profile
    cadence: Cadence
    speech: Templates | AgentPrompt | None = None


BACKGROUND: Final = Scenario(
    name="background",
    number=127,
    summary="honest accounts of all tiers",
    campaign=False,
    accounts=0,
    profile=Profile(standings=_EVERYBODY),
    cadence=Cadence(),
)

CATALOGUE: Final = (
    Scenario(
        name="C2",
        number=2,
        summary="hydra: light accounts behind residential proxies share task templates, 26 exchanges a day each",
        campaign=True,
        accounts=25_000,
        profile=Profile(
            standings=(("new", 1),),
            sign_up_days=20,
            rate_median=26.0,
            rate_sigma=0.15,
            rate_limit=60,
            agents=(("openai-python/1.54.0", 55), ("python-httpx/0.28.1", 25), ("openai-node/4.77.0", 20)),
            org_percent=0,
            shared_card_percent=15,
            accounts_per_shared_card=8,
            foreign_card_percent=70,
            exits_per_account=1.6,
            system_percent=40,
        ),
        cadence=Cadence(hours="flat", turns_median=1.0, turns_sigma=0.0, weekend=False),
        speech=Templates(count=200, skew_percent=70, cover_percent=10),
    ),
    Scenario(
        name="L5",
        number=69,
        summary="IDE agent: honest accounts of all tiers send one long public prompt, released weekly",
        campaign=False,
        # As large as the reference campaign; the million accounts of a leading agent are --scale 40.
        accounts=25_000,
        profile=Profile(standings=_EVERYBODY, system_percent=0),
        cadence=Cadence(turns_median=5.0, turns_sigma=0.9),
        speech=AgentPrompt(sentences=45, changed_percent=12, inline_percent=30, inline_sentences=9),
    ),
)


def named(text: str) -> tuple[Scenario, ...]:
    """Return the scenarios of a name such as ``C2+L5``, in the order of the catalogue.

    Raises ``UsageError`` for an unknown or repeated name.
    """
    known = {scenario.name: scenario for scenario in CATALOGUE}
    names = text.split("+")
    for name in names:
        if name not in known:
            raise UsageError(f"no scenario {name!r}; there are {', '.join(known)}, and they are joined with +")
        if names.count(name) > 1:
            raise UsageError(f"scenario {name!r} is named twice; use --scale to enlarge it")
    return tuple(scenario for scenario in CATALOGUE if scenario.name in names)
