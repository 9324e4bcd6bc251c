"""The honest population, and the abuse that has nothing to do with any campaign.

Rates, tiers and the share of other abuse are those that the literature reports of such providers; the rest is a
plausible mixture: single people and households, teams in offices, coders with a popular agent, applications with users
of their own.
"""

from typing import Final

from streamdetect.traffic import clients
from streamdetect.traffic.cadence import Cadence
from streamdetect.traffic.catalogue.model import Exchanges, Group, Scenario
from streamdetect.traffic.material.source import AgentPrompt
from streamdetect.traffic.networks import Exits, Lines
from streamdetect.traffic.population import EVERYBODY, Life, Profile, Sites
from streamdetect.traffic.speech.campaign import Templates
from streamdetect.traffic.speech.people import People
from streamdetect.traffic.speech.programs import Agent, Application

_MARKETPLACE_PERCENT: Final = 9
_OFFICE: Final = Lines(first=(18, 8, 60, 6, 8), second=(50, 30, 0, 10, 10))

# Sign-ups: 1 % of the accounts a day. The population begins with the newcomers of its last weeks, so more of them come
# from the third day on. One sign-up in six is somebody who games free credits or sends spam.
_PEOPLE: Final = Group(
    percent=62,
    label="legit",
    profile=Profile(
        sites=Sites(median=1.2, sigma=0.6, limit=5, card_percent=35), marketplace_percent=_MARKETPLACE_PERCENT
    ),
    life=Life(arrivals_percent_per_day=1.6, arrivals_from_day=2.0),
    network=Lines(first=(42, 30, 14, 4, 10)),
    streams=(Exchanges(cadence=Cadence(), speech=People()),),
)
_TEAMS: Final = Group(
    percent=20,
    label="legit",
    profile=Profile(
        sites=Sites(median=5.0, sigma=1.0, limit=200, org_percent=100, card_percent=92),
        marketplace_percent=_MARKETPLACE_PERCENT,
    ),
    network=_OFFICE,
    streams=(Exchanges(cadence=Cadence(hours="office"), speech=People(document_percent=12)),),
)
_CODERS: Final = Group(
    percent=11,
    label="legit",
    profile=Profile(
        clients=clients.EDITOR,
        sites=Sites(median=3.0, sigma=1.2, limit=150, org_percent=70, card_percent=70),
        marketplace_percent=_MARKETPLACE_PERCENT,
    ),
    network=_OFFICE,
    streams=(
        Exchanges(
            cadence=Cadence(rate_median=9.0, hours="office", turns_median=6.0, turns_sigma=0.9, gap_median_s=25.0),
            speech=Agent(prompt=AgentPrompt(number=2, inline_percent=20, tool_percent=55)),
        ),
    ),
)
_PROGRAMS: Final = Group(
    percent=7,
    label="legit",
    profile=Profile(
        standings=(("recent", 6), ("settled", 37), ("verified", 50), ("unknown", 7)),
        clients=clients.PROGRAMS,
        sites=Sites(median=2.0, sigma=0.8, limit=20, org_percent=100, card_percent=100),
        marketplace_percent=25,
    ),
    network=Lines(first=(2, 0, 6, 90, 2), second=(0, 0, 0, 100, 0)),
    streams=(
        Exchanges(
            cadence=Cadence(rate_median=20.0, rate_limit=1000, turns_median=1.0, turns_sigma=0.3, users=300),
            speech=Application(),
            names_users=True,
        ),
    ),
)
_OTHER_ABUSE: Final = Group(
    percent=2,
    label="other_abuse",
    profile=Profile(
        standings=(("new", 40), ("recent", 60)), clients=clients.RELAYED, accounts_per_card=6, foreign_card_percent=50
    ),
    life=Life(arrivals_percent_per_day=10.0, arrivals_from_day=2.0),
    network=Exits(per_account=0.7, known_percent=90),
    streams=(
        Exchanges(
            cadence=Cadence(rate_median=8.0, turns_median=1.0, turns_sigma=0.3, hours="flat"),
            speech=Templates(count=60),
        ),
        Exchanges(cadence=Cadence(rate_median=3.0), speech=People()),
    ),
)

BACKGROUND: Final = Scenario(
    name="background",
    number=63,
    summary="honest accounts of all kinds and tiers, and the other abuse among the sign-ups",
    accounts=0,
    groups=(_PEOPLE, _TEAMS, _CODERS, _PROGRAMS, _OTHER_ABUSE),
)

__all__ = ["BACKGROUND", "EVERYBODY"]
