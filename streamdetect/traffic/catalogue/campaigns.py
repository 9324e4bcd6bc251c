"""The campaigns, C1 to C22, and two without any template, X1 and X2.

Most are the reference campaign C2 with one thing changed, so that a figure can be put down to that thing.
"""

from dataclasses import replace
from typing import Final

from streamdetect.messages.reaction import Reaction
from streamdetect.traffic import clients, reactions
from streamdetect.traffic.cadence import Bursts, Cadence, Relay
from streamdetect.traffic.catalogue.model import Exchanges, Group, Scenario, Speech
from streamdetect.traffic.material.source import AgentPrompt, Slots
from streamdetect.traffic.networks import Crowd, Exits, Hopping, Lines, Network, Rack
from streamdetect.traffic.population import Life, Profile
from streamdetect.traffic.speech.campaign import Questions, Replayed, Templates
from streamdetect.traffic.speech.people import People

_PROFILE: Final = Profile(
    standings=(("new", 1),),
    sign_up_days=20,
    clients=clients.RELAYED,
    models=(85, 15, 0, 0),
    accounts_per_card=8,
    foreign_card_percent=70,
    marketplace_percent=5,
)
_CADENCE: Final = Cadence(
    rate_median=25.4, rate_sigma=0.15, rate_limit=60, hours="flat", turns_median=1.0, turns_sigma=0.0, weekend=False
)
_SPEECH: Final = Templates(count=200)
_NETWORK: Final = Exits(per_account=1.6)
_LIFE: Final = Life()
_REPLY_TOKENS: Final = 900
# One exchange in ten is something else, so that an account is not its templates alone.
_COVER: Final = Exchanges(
    cadence=replace(_CADENCE, rate_median=2.8, rate_sigma=0.5), speech=People(system_percent=40), cover=True
)


def _streams(cadence: Cadence, speech: Speech, cover: tuple[Exchanges, ...], pivot: int) -> tuple[Exchanges, ...]:
    task = Exchanges(cadence=cadence, speech=speech, reply_tokens=_REPLY_TOKENS, pivot_percent=pivot)
    return (task, *cover)


def _campaign(
    name: str,
    number: int,
    summary: str,
    *,
    accounts: int = 25_000,
    profile: Profile = _PROFILE,
    life: Life = _LIFE,
    network: Network = _NETWORK,
    cadence: Cadence = _CADENCE,
    speech: Speech = _SPEECH,
    cover: tuple[Exchanges, ...] = (_COVER,),
    pivot: int = 0,
    reaction: Reaction = reactions.HYDRA,
) -> Scenario:
    group = Group(
        label="campaign", profile=profile, life=life, network=network, streams=_streams(cadence, speech, cover, pivot)
    )
    return Scenario(name=name, number=number, summary=summary, accounts=accounts, groups=(group,), reaction=reaction)


def _customers(rate_median: float) -> Exchanges:
    """Unwitting customers of a reseller, served by the same accounts."""
    cadence = Cadence(rate_median=rate_median, rate_sigma=1.2, rate_limit=1000, relay=Relay(), users=40)
    return Exchanges(cadence=cadence, speech=People(system_percent=60), cover=True)


_RESOLD: Final = replace(_PROFILE, accounts_per_card=4)
_STOLEN: Final = Scenario(
    name="C15",
    number=24,
    summary="stolen keys: long-standing accounts, whose owners go on as usual, used for 3 to 10 days",
    accounts=2_000,
    groups=(
        Group(
            label="campaign",
            profile=Profile(standings=(("settled", 55), ("verified", 45)), models=(60, 30, 10, 0)),
            network=Lines(),
            streams=(
                Exchanges(
                    cadence=replace(_CADENCE, rate_median=80.0, rate_sigma=0.5, rate_limit=200),
                    speech=_SPEECH,
                    network=Exits(per_account=5.0, every="request", known_percent=80),
                    life=Life(starts="spike", ramp_days=6.0, life_days=(3.0, 10.0)),
                    reply_tokens=_REPLY_TOKENS,
                ),
                Exchanges(cadence=Cadence(), speech=People(), cover=True),
            ),
        ),
    ),
    reaction=reactions.STOLEN,
)
_AGED: Final = Scenario(
    name="C9",
    number=16,
    summary="aged accounts: 40 % are 45 to 120 days old and send some ordinary prompts before they begin",
    accounts=25_000,
    groups=(
        Group(
            percent=60,
            label="campaign",
            profile=_PROFILE,
            network=_NETWORK,
            streams=_streams(_CADENCE, _SPEECH, (_COVER,), 0),
        ),
        Group(
            percent=40,
            label="campaign",
            profile=replace(_PROFILE, standings=(("aged", 1),), sign_up_days=0, accounts_per_card=2),
            network=_NETWORK,
            streams=(
                Exchanges(
                    cadence=_CADENCE,
                    speech=_SPEECH,
                    reply_tokens=_REPLY_TOKENS,
                    life=Life(starts="linear", ramp_days=2.0),
                ),
                Exchanges(cadence=Cadence(rate_median=2.0, rate_sigma=0.4), speech=People(), cover=True),
            ),
        ),
    ),
    reaction=reactions.HYDRA,
)

CAMPAIGNS: Final = (
    _campaign(
        "C1",
        1,
        "naive burst: 500 accounts on five subnets of a hoster send 1,280 exchanges a day each",
        accounts=500,
        profile=replace(_PROFILE, sign_up_days=3, marketplace_percent=0),
        network=Rack(subnets=5),
        cadence=replace(_CADENCE, rate_median=1_265.0, rate_limit=3_000),
        speech=replace(_SPEECH, count=20),
        cover=(),
        reaction=reactions.SCRIPT,
    ),
    _campaign(
        "C2", 2, "hydra: light accounts behind residential proxies share task templates, 26 exchanges a day each"
    ),
    _campaign(
        "C3",
        3,
        "proxy rotation: another exit for every request",
        network=Exits(per_account=20.0, every="request"),
    ),
    _campaign("C4a", 4, "paraphrase: one word in five replaced", speech=replace(_SPEECH, paraphrase_percent=20)),
    _campaign("C4b", 5, "paraphrase: one word in three replaced", speech=replace(_SPEECH, paraphrase_percent=35)),
    _campaign("C4c", 6, "paraphrase: every other word replaced", speech=replace(_SPEECH, paraphrase_percent=50)),
    _campaign(
        "C4d",
        7,
        "rewritten: every request worded anew, in three languages",
        speech=replace(_SPEECH, rewritten=True, languages=3),
    ),
    _campaign(
        "C5",
        8,
        "long slots: 400 to 4,000 words around which the template stands anywhere",
        speech=replace(_SPEECH, slots=Slots(words_median=1_200.0, words_sigma=0.5, words_limit=4_000, anywhere=True)),
    ),
    _campaign(
        "C6",
        9,
        "translation: twelve languages, one text of each template in each",
        speech=replace(_SPEECH, languages=12),
    ),
    _campaign(
        "C6b",
        10,
        "translation: twelve languages, every request translated anew",
        speech=replace(_SPEECH, languages=12, free_translation=True),
    ),
    _campaign(
        "C7",
        11,
        "padding: 50 to 300 ordinary words around the task, invisible and look-alike letters",
        speech=replace(_SPEECH, padding_words=(50, 300), disguise_percent=2),
    ),
    _campaign(
        "C8",
        12,
        "reseller: 30 % of the exchanges are the campaign's, the rest unwitting customers' behind a relay",
        profile=_RESOLD,
        cover=(_customers(29.0),),
        reaction=reactions.POOL,
    ),
    _campaign(
        "C8b",
        13,
        "reseller: 10 % of the exchanges are the campaign's",
        profile=_RESOLD,
        cover=(_customers(112.0),),
        reaction=reactions.POOL,
    ),
    _campaign(
        "C8c",
        14,
        "reseller: half of the exchanges are the campaign's",
        profile=_RESOLD,
        cover=(_customers(12.5),),
        reaction=reactions.POOL,
    ),
    _AGED,
    _campaign(
        "C10",
        17,
        "staggered start: accounts begin evenly over three weeks",
        life=Life(starts="linear", ramp_days=21.0),
    ),
    _campaign(
        "C10b",
        18,
        "staggered start: few accounts at first, then many, then few, over thirty days",
        life=Life(starts="logistic", ramp_days=30.0),
    ),
    _campaign("C11", 19, "model pivot: half of the exchanges go to a new model within a day of its release", pivot=50),
    _campaign(
        "C12",
        20,
        "bursts: ten minutes at 20 times the pace every 2 to 6 hours, equal shares in turn",
        cadence=replace(_CADENCE, equal=True, rate_sigma=0.0, hours="even", bursts=Bursts()),
        cover=(),
        reaction=reactions.POOL,
    ),
    _campaign(
        "C12b",
        21,
        "bursts: the same with shares as unequal as people's",
        cadence=replace(_CADENCE, rate_median=12.5, rate_sigma=1.2, rate_limit=600, hours="even", bursts=Bursts()),
        cover=(),
        reaction=reactions.POOL,
    ),
    _campaign(
        "C13",
        22,
        "shared keys: 300 keys with 80 users each, all over the world, half of whose exchanges are the campaign's",
        accounts=300,
        profile=replace(_PROFILE, standings=(("new", 40), ("recent", 30), ("settled", 30)), sign_up_days=0),
        network=Crowd(),
        cadence=replace(_CADENCE, rate_median=630.0, rate_limit=2_000, users=80),
        cover=(
            Exchanges(
                cadence=Cadence(rate_median=560.0, rate_sigma=0.5, rate_limit=2_000, users=80),
                speech=People(system_percent=30),
                cover=True,
            ),
        ),
        reaction=reactions.POOL,
    ),
    _campaign(
        "C14",
        23,
        "free-tier farm: accounts live one to three days and use up their quota; 5,000 new ones a day",
        accounts=30_000,
        profile=replace(_PROFILE, standings=(("free", 1),), sign_up_days=3, marketplace_percent=0),
        life=Life(life_days=(1.0, 3.0), churning=True, arrivals_per_day=5_000.0, lead_days=0.1),
        network=Exits(per_account=0.5),
        cadence=replace(_CADENCE, rate_median=10.0, rate_sigma=0.0, hours="even", equal=True),
        cover=(),
        reaction=reactions.FARM,
    ),
    _STOLEN,
    _campaign(
        "C16",
        25,
        "one data centre: 800 accounts on four subnets",
        accounts=800,
        profile=replace(_PROFILE, marketplace_percent=0),
        network=Rack(subnets=4),
        cadence=replace(_CADENCE, rate_median=99.0, rate_limit=240),
        reaction=reactions.SCRIPT,
    ),
    _campaign(
        "C16b",
        26,
        "one data centre: 800 accounts in one IPv6 /48",
        accounts=800,
        profile=replace(_PROFILE, marketplace_percent=0),
        network=Rack(subnets=1, six=True),
        cadence=replace(_CADENCE, rate_median=99.0, rate_limit=240),
        reaction=reactions.SCRIPT,
    ),
    _campaign(
        "C17",
        27,
        "IPv6 hopping: a new /64 for every request, in the /48 of 30 providers",
        network=Hopping(providers=30),
    ),
    _campaign("C18", 28, "many templates: 2,000", speech=replace(_SPEECH, count=2_000)),
    _campaign("C18b", 29, "many templates: 10,000", speech=replace(_SPEECH, count=10_000)),
    _campaign("C18c", 30, "many templates: 50,000", speech=replace(_SPEECH, count=50_000, skew_percent=20)),
    _campaign(
        "C19",
        31,
        "best of eight: each prompt goes to eight accounts, and 15 % of the requests grade answers",
        cadence=replace(_CADENCE, samples=8),
        speech=replace(_SPEECH, grading_percent=15),
    ),
    _campaign(
        "C20",
        32,
        "respawn: 2,000 fresh accounts a day take over from others, templates change every three days",
        life=Life(life_days=(5.0, 20.0), churning=True, arrivals_per_day=2_000.0, lead_days=1.0),
        speech=replace(_SPEECH, rotation_days=3),
        reaction=reactions.ADAPTIVE,
    ),
    _campaign(
        "C21",
        33,
        "inside a popular agent: its own client and its public prompt, with tasks from a queue",
        profile=replace(_PROFILE, clients=clients.EDITOR),
        speech=replace(_SPEECH, inside=AgentPrompt(inline_percent=30)),
    ),
    _campaign(
        "C22",
        34,
        "small lab: 600 accounts, 35 templates",
        accounts=600,
        profile=replace(_PROFILE, sign_up_days=30, accounts_per_card=3),
        speech=replace(_SPEECH, count=35),
        reaction=reactions.POOL,
    ),
    _campaign("X1", 35, "no template: bare questions of a public bank", speech=Questions()),
    _campaign("X2", 36, "no template: recorded prompts of honest people", speech=Replayed(texts=200_000), cover=()),
)
