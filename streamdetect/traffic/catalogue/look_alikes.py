"""The look-alikes, L1 to L14: honest accounts that share texts, networks, cards or hours as campaigns do."""

from typing import Final

from streamdetect.traffic import clients
from streamdetect.traffic.cadence import Cadence
from streamdetect.traffic.catalogue.model import Exchanges, Group, Scenario, Speech
from streamdetect.traffic.material.source import AgentPrompt
from streamdetect.traffic.networks import Campus, Crowd, Gateways, Lines, Network
from streamdetect.traffic.population import Life, Profile, Sites
from streamdetect.traffic.speech.campaign import Templates
from streamdetect.traffic.speech.people import People
from streamdetect.traffic.speech.programs import Agent, Application, Benchmark

_TRUSTED: Final = (("settled", 40), ("verified", 60))
_ONCE: Final = Sites(org_percent=100, card_percent=100)
_SERVERS: Final = Lines(first=(2, 0, 0, 98, 0), second_percent=0)
_LIFE: Final = Life()
_LINES: Final = Lines()


def _look_alike(
    name: str,
    number: int,
    summary: str,
    *,
    accounts: int,
    profile: Profile,
    cadence: Cadence,
    speech: Speech,
    life: Life = _LIFE,
    network: Network = _LINES,
    names_users: bool = False,
) -> Scenario:
    stream = Exchanges(cadence=cadence, speech=speech, names_users=names_users)
    group = Group(label="legit", profile=profile, life=life, network=network, streams=(stream,))
    return Scenario(name=name, number=number, summary=summary, accounts=accounts, groups=(group,))


LOOK_ALIKES: Final = (
    _look_alike(
        "L1",
        41,
        "batch job: one firm's 12 keys send 100,000 exchanges a day of one template, day and night",
        accounts=12,
        profile=Profile(
            standings=(("verified", 1),),
            clients=clients.FIXED,
            sites=Sites(median=12.0, limit=12, org_percent=100, card_percent=100),
        ),
        cadence=Cadence(
            rate_median=8_200.0,
            rate_sigma=0.2,
            rate_limit=15_000,
            hours="even",
            turns_median=1.0,
            turns_sigma=0.0,
            weekend=False,
        ),
        speech=Application(templates=1, framework_percent=0),
        network=_SERVERS,
    ),
    _look_alike(
        "L2",
        42,
        "universities: thousands of accounts in a /24 or /48, 40 % of them young",
        accounts=20_000,
        profile=Profile(
            standings=(("new", 18), ("recent", 17), ("unpaid", 5), ("settled", 40), ("verified", 13), ("unknown", 7)),
            clients=clients.BROWSERS,
            sites=Sites(median=1_200.0, sigma=1.0, limit=5_000),
        ),
        cadence=Cadence(),
        speech=People(),
        network=Campus(per_subnet=1_200),
    ),
    _look_alike(
        "L3",
        43,
        "benchmark runs: 200 firms send the same 14,000 items within hours",
        accounts=200,
        profile=Profile(standings=(*_TRUSTED, ("recent", 8)), clients=clients.PROGRAMS, sites=_ONCE),
        cadence=Cadence(
            rate_median=56_000.0,
            rate_sigma=0.1,
            rate_limit=80_000,
            hours="even",
            turns_median=1.0,
            turns_sigma=0.0,
            weekend=False,
        ),
        speech=Benchmark(items=14_000),
        life=Life(starts="linear", ramp_days=3.0, life_days=(0.25, 0.25)),
        network=_SERVERS,
    ),
    _look_alike(
        "L4",
        44,
        "CI bots: 5,000 firms run the same action with the same prompt, on the hour, in loops",
        accounts=5_000,
        profile=Profile(
            standings=(("recent", 8), ("settled", 50), ("verified", 42)), clients=clients.RUNNER, sites=_ONCE
        ),
        cadence=Cadence(
            rate_median=40.0,
            rate_sigma=0.8,
            hours="even",
            turns_median=6.0,
            turns_sigma=0.7,
            gap_median_s=12.0,
            gap_sigma=0.6,
            on_the_hour=True,
        ),
        speech=People(
            public_percent=0,
            passage_percent=0,
            document_percent=0,
            library_percent=0,
            foreign_percent=0,
            system_percent=0,
            shared="ci",
            shared_percent=100,
            code_behind=True,
        ),
        network=_SERVERS,
    ),
    _look_alike(
        "L5",
        45,
        "IDE agent: honest accounts of all tiers send one long public prompt, released weekly",
        # As large as the reference campaign; the million accounts of a leading agent are --scale 40.
        accounts=25_000,
        profile=Profile(clients=clients.EDITOR, sites=Sites(median=2.0, sigma=1.0, limit=100, org_percent=55)),
        cadence=Cadence(turns_median=5.0, turns_sigma=0.9, gap_median_s=30.0),
        speech=Agent(prompt=AgentPrompt(inline_percent=30, tool_percent=45)),
    ),
    _look_alike(
        "L6",
        46,
        "viral prompt: 10,000 accounts, nearly half of them young, try one public prompt within two days",
        accounts=10_000,
        profile=Profile(
            standings=(("new", 22), ("recent", 17), ("unpaid", 6), ("settled", 35), ("verified", 15), ("unknown", 5)),
            sign_up_days=0,
            clients=clients.BROWSERS,
        ),
        cadence=Cadence(rate_median=4.0, rate_sigma=0.9),
        speech=People(shared="viral", shared_percent=75, public_percent=2),
        life=Life(starts="spike", ramp_days=2.0, life_days=(1.0, 2.0)),
    ),
    _look_alike(
        "L7",
        47,
        "product launch: users who bring their own key, 90 % young, behind one system prompt",
        accounts=3_000,
        profile=Profile(
            standings=(("new", 78), ("recent", 12), ("settled", 7), ("verified", 3)),
            sign_up_days=14,
            clients=(("launchpad/1.0.0", 70), ("launchpad/1.0.1", 30)),
        ),
        cadence=Cadence(rate_median=5.0, rate_sigma=1.3, turns_median=3.0),
        speech=Agent(prompt=AgentPrompt(number=3, sentences=25, changed_percent=0), people=People(system_percent=0)),
        life=Life(starts="linear", ramp_days=6.0, lead_days=2.0),
    ),
    _look_alike(
        "L8",
        48,
        "classrooms: pupils of one room, nearly all young, send the tasks of one list within a lesson",
        accounts=2_000,
        profile=Profile(
            standings=(("new", 62), ("recent", 20), ("unpaid", 8), ("settled", 10)),
            clients=clients.BROWSERS,
            sites=Sites(median=90.0, sigma=0.6, limit=300),
        ),
        cadence=Cadence(
            rate_median=90.0, rate_sigma=0.5, rate_limit=400, hours="even", turns_median=1.6, gap_median_s=100.0
        ),
        speech=People(shared="homework", shared_percent=85),
        life=Life(starts="lesson", ramp_days=2.0, life_days=(0.125, 0.125)),
        network=Gateways(exits_min=1, exits_max=1, away_percent=0),
    ),
    _look_alike(
        "L9",
        49,
        "company VPN: thousands of employees of all tiers behind two to eight exits",
        accounts=20_000,
        profile=Profile(sites=Sites(median=1_500.0, sigma=1.0, limit=20_000, org_percent=100, card_percent=100)),
        cadence=Cadence(hours="office"),
        speech=People(document_percent=15),
        network=Gateways(exits_min=2, exits_max=8),
    ),
    _look_alike(
        "L10",
        50,
        "agencies: 20 to 200 accounts on one card, half of them young, with the house's own templates",
        accounts=2_400,
        profile=Profile(
            standings=(("new", 25), ("recent", 25), ("settled", 30), ("verified", 20)),
            sites=Sites(median=60.0, sigma=0.5, limit=200, card_percent=100),
        ),
        cadence=Cadence(hours="office", rate_median=10.0),
        speech=Application(templates=6, percent=60, framework_percent=20),
        network=Lines(first=(20, 8, 62, 4, 6)),
    ),
    _look_alike(
        "L11",
        51,
        "hackathon: accounts of the last two days copy one quick-start guide over a weekend",
        accounts=2_000,
        profile=Profile(
            standings=(("new", 95), ("settled", 5)), sign_up_days=2, sites=Sites(median=4.0, sigma=0.4, limit=8)
        ),
        cadence=Cadence(rate_median=15.0, rate_sigma=1.5, weekend=False),
        speech=People(shared="quickstart", shared_percent=45),
        life=Life(starts="spike", ramp_days=1.0, life_days=(1.0, 2.5), lead_days=1.0),
        network=Gateways(exits_min=1, exits_max=2, away_percent=40),
    ),
    _look_alike(
        "L12",
        52,
        "privacy: VPN exits that change daily, cards of other countries, no hours of their own",
        accounts=2_000,
        profile=Profile(foreign_card_percent=60, system_percent=20),
        cadence=Cadence(hours="flat", weekend=False),
        speech=People(foreign_percent=25, system_percent=20),
        network=Lines(first=(0, 0, 0, 0, 1), second=(0, 0, 0, 0, 1)),
    ),
    _look_alike(
        "L13",
        53,
        "research: one lab asks for reasoning and grades answers by rubric",
        accounts=20,
        profile=Profile(
            standings=_TRUSTED,
            clients=clients.PROGRAMS,
            sites=Sites(median=20.0, limit=20, org_percent=100, card_percent=100),
        ),
        cadence=Cadence(rate_median=200.0, rate_sigma=0.8, rate_limit=2_000, hours="flat", turns_median=1.0),
        speech=Templates(count=12, grading_percent=40),
        network=_SERVERS,
    ),
    _look_alike(
        "L14",
        54,
        "application with users abroad: one key, thousands of users in many countries",
        accounts=40,
        profile=Profile(standings=_TRUSTED, clients=clients.PROGRAMS, sites=_ONCE),
        cadence=Cadence(rate_median=2_500.0, rate_sigma=0.8, rate_limit=20_000, users=3_000),
        speech=Application(percent=0, system=True, foreign_percent=70),
        network=Crowd(),
        names_users=True,
    ),
)
