"""One stream of a cohort, ready to speak: who, when, where from, in what words."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from streamdetect.traffic.addresses import Space
from streamdetect.traffic.cadence import Stream, stream_of
from streamdetect.traffic.catalogue.model import Exchanges, Group, Scenario
from streamdetect.traffic.draws import Integers, lognormal_table
from streamdetect.traffic.material.source import Material
from streamdetect.traffic.networks import Network, People, home_countries
from streamdetect.traffic.population import Accounts, account_keys, arrivals, lives, populate, site_keys
from streamdetect.traffic.recorded import Recorded
from streamdetect.traffic.speech import campaign, people, programs
from streamdetect.traffic.speech.voice import Voice
from streamdetect.traffic.texts import Texts, hexadecimals, joined

PER_SCENARIO: Final = 16  # numbers of groups and of streams
_REPLY_TOKENS_MAX: Final = 8_000


@dataclass(frozen=True, slots=True)
class World:
    """What all cohorts of a run share."""

    seed: int
    start_ms: int
    scale: float
    days: float
    account_key: int
    text_key: int
    material: Material
    space: Space
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class Cohort:
    """The accounts of one group. ``base`` of them are there from the beginning."""

    scenario: Scenario
    group: Group
    number: int
    base: int
    accounts: Accounts

    @property
    def name(self) -> str:
        """Return what labels call it."""
        return self.group.label if self.group.label == "other_abuse" else self.scenario.name

    def account_ids(self) -> Texts:
        """Return the accounts' ids."""
        return joined(b"acct_", hexadecimals(self.accounts.keys))


@dataclass(frozen=True, slots=True)
class Strand:
    """One stream of a cohort."""

    cohort: Cohort
    exchanges: Exchanges
    stream: Stream
    voice: Voice
    network: Network
    replies: Integers
    key: int  # of what the cohort's network has in common

    @property
    def number(self) -> int:
        """Return the stream's number, unique in the catalogue."""
        return self.stream.number


def cohort_of(scenario: Scenario, index: int, base: int, world: World) -> Cohort:
    """Make the accounts of group ``index`` of a scenario."""
    group = scenario.groups[index]
    number = scenario.number * PER_SCENARIO + index
    count = base + arrivals(group.life, base, world.scale, world.days)
    keys = account_keys(max(1, count), cohort=number, seed_key=world.account_key)
    sites = site_keys(group.profile, keys)
    homes = home_countries(group.network, People(keys, sites, np.arange(len(keys))), world.space)
    accounts = populate(group.profile, group.life, keys=keys, homes=homes, base=base, scale=world.scale)
    return Cohort(scenario, group, number, base, accounts.first(count))


def strands_of(cohort: Cohort, first: int, world: World) -> list[Strand]:
    """Return the streams of a cohort, numbered from ``first`` on within the scenario."""
    return [
        _strand(cohort, exchanges, cohort.scenario.number * PER_SCENARIO + first + offset, world)
        for offset, exchanges in enumerate(cohort.group.streams)
    ]


def _strand(cohort: Cohort, exchanges: Exchanges, number: int, world: World) -> Strand:
    accounts, recorded = cohort.accounts, world.recorded
    agent = isinstance(exchanges.speech, programs.Agent)
    spans = None
    if exchanges.life is not None:
        spans = lives(exchanges.life, accounts.keys, accounts.sites, accounts.homes, cohort.base, world.scale)
    stream = stream_of(
        number,
        accounts,
        exchanges.cadence,
        seed=world.seed,
        start_ms=world.start_ms,
        spans=spans,
        gaps_ms=recorded.agent_pauses_ms if agent else None,
        law=recorded.program_hours if isinstance(exchanges.speech, programs.Application) else None,
    )
    replies = recorded.agent_replies if agent else recorded.chat_replies
    if replies is None or cohort.scenario.campaign:
        replies = lognormal_table(median=float(exchanges.reply_tokens), sigma=1.1, limit=_REPLY_TOKENS_MAX)
    key = world.text_key + cohort.scenario.number
    return Strand(
        cohort, exchanges, stream, _voice(exchanges, world, key), exchanges.network or cohort.group.network, replies,
        world.account_key ^ (cohort.number << 16),
    )  # fmt: skip


def _voice(exchanges: Exchanges, world: World, key: int) -> Voice:
    material = world.material
    match exchanges.speech:
        case people.People() as spec:
            return people.PeopleVoice(spec, material, key)
        case programs.Application() as spec:
            return programs.ApplicationVoice(spec, material, key)
        case programs.Agent() as spec:
            return programs.AgentVoice(spec, material, key)
        case programs.Benchmark() as spec:
            return programs.BenchmarkVoice(spec, material)
        case campaign.Templates() as spec:
            return campaign.TemplatesVoice(spec, material, key, world.scale)
        case campaign.Questions() as spec:
            return campaign.QuestionsVoice(spec, material)
        case campaign.Replayed() as spec:
            return campaign.ReplayedVoice(spec, material, key)
