"""Accounts: tiers, sign-ups, payers, sites and the time they are in use, as columns.

All cohorts are made by this one module and differ in a ``Profile`` and a ``Life`` only, so an account looks the same
whoever owns it. An account is a function of (seed, cohort, number): more accounts, or a longer run, leave the first
ones as they are. Memory: about 80 bytes an account; what an event says of its account is written when it is sent.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from streamdetect.traffic import clients
from streamdetect.traffic.addresses import COUNTRIES, COUNTRY_WEIGHTS
from streamdetect.traffic.clients import Clients
from streamdetect.traffic.draws import Integers, Keys, below, blocks, chosen, drawn, lognormal_table, mix, salted
from streamdetect.traffic.texts import Texts, decimals, hexadecimals, joined, texts_of

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
FOREVER_MS: Final = 1 << 46

_UNKNOWN: Final = "unknown"
# First and last day of age at the start (the last excluded) and what account_tier says, one of them at random.
# Of an unknown account the gateway is told neither.
_STANDINGS: Final[dict[str, tuple[int, int, tuple[str, ...]]]] = {
    "new": (0, 7, ("paid", "paid", "unpaid")),
    "recent": (7, 28, ("paid", "paid", "verified")),
    "unpaid": (30, 900, ("unpaid",)),
    "settled": (32, 600, ("paid",)),
    "verified": (95, 1400, ("verified", "enterprise")),
    "free": (0, 3, ("unpaid",)),
    "aged": (45, 120, ("paid",)),
    _UNKNOWN: (30, 900, ("paid",)),
}
_TIERS: Final = ("unpaid", "paid", "verified", "enterprise")
# Ages of all kinds, 15 % young: new, recent, or old and unpaid.
EVERYBODY: Final = (("new", 4), ("recent", 6), ("unpaid", 5), ("settled", 45), ("verified", 33), (_UNKNOWN, 7))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Runs of accounts that belong together: a household, firm, class or campus. Sizes are lognormal."""

    median: float = 1.0
    sigma: float = 0.0
    limit: int = 1
    org_percent: int = 0  # of the sites are one organisation
    card_percent: int = 0  # of the sites pay with one card


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What sets a cohort's accounts apart. Weights are relative."""

    standings: tuple[tuple[str, int], ...] = EVERYBODY
    sign_up_days: int = 0  # above 0: all sign up evenly over these days before the start, whatever the standing
    sites: Sites = field(default_factory=Sites)
    clients: Clients = clients.EVERYBODY
    models: tuple[int, ...] = (35, 40, 25, 0)
    accounts_per_card: int = 1  # one card for each so many accounts, beside the cards of sites
    foreign_card_percent: int = 6
    marketplace_percent: int = 0  # come through a marketplace that hides network, client and payment
    system_percent: int = 100  # how many keep the habit of a system prompt at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """When accounts are in use: all of the time unless told otherwise.

    ``starts``: ``at once``; over ``ramp_days`` evenly (``linear``), in the shape of an S (``logistic``), most at first
    (``spike``); or one lesson a site at daytime of its country on one of those days (``lesson``). ``life_days``
    from and to, of which the accounts of the beginning have used up a part if ``churning``. ``arrivals_per_day`` more
    accounts a day at scale 1, from ``arrivals_from_day`` on. Who begins during the run signed up ``lead_days`` before,
    at most.
    """

    starts: str = "at once"
    ramp_days: float = 0.0
    life_days: tuple[float, float] = (0.0, 0.0)  # 0: for ever
    churning: bool = False
    arrivals_per_day: float = 0.0
    arrivals_percent_per_day: float = 0.0  # of the accounts of the beginning
    arrivals_from_day: float = 0.0
    lead_days: float = 3.0


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of one cohort. Times are relative to the start of the run."""

    keys: Keys  # the account's id, and the seed of all else
    sites: Keys
    orgs: Keys  # 0: none
    cards: Keys
    tiers: NDArray[np.int8]  # index in tiers; -1: the gateway is told neither tier nor age
    created_ms: Integers
    homes: NDArray[np.int8]  # index in COUNTRIES
    clients: NDArray[np.int8]
    hidden: NDArray[np.bool_]  # marketplace
    starts_ms: Integers
    ends_ms: Integers
    client_members: Texts

    def __len__(self) -> int:
        return len(self.keys)

    def first(self, count: int) -> Self:
        """Return the first accounts."""
        columns = {
            entry.name: getattr(self, entry.name)[:count] for entry in fields(self) if entry.name != "client_members"
        }
        return replace(self, **columns)


def account_keys(count: int, *, cohort: int, seed_key: int) -> Keys:
    """Return the keys of the first ``count`` accounts of a cohort (0-4095)."""
    return mix(np.arange(count, dtype=np.uint64) + np.uint64(cohort << 48) + np.full(count, seed_key, np.uint64))


def site_keys(profile: Profile, keys: Keys) -> Keys:
    """Return the site of each account of a cohort."""
    sites = profile.sites
    table = lognormal_table(median=sites.median, sigma=sites.sigma, limit=sites.limit)
    number = blocks(len(keys), table, int(keys[0]))
    return mix(number.astype(np.uint64) + salted(keys[:1], 520))


def populate(profile: Profile, life: Life, *, keys: Keys, homes: Integers, base: int, scale: float) -> Accounts:
    """Make the accounts with these keys, of which the first ``base`` are there from the beginning."""
    sites = site_keys(profile, keys)
    orgs = np.where(below(salted(sites, 521), 100) < profile.sites.org_percent, salted(sites, 522), np.uint64(0))
    starts_ms, ends_ms = lives(life, keys, sites, homes, base, scale)
    standing = chosen(salted(keys, 501), [weight for _, weight in profile.standings])
    names = [name for name, _ in profile.standings]
    tiers = np.array([[_TIERS.index(t) for t in (_STANDINGS[name][2] * 6)[:6]] for name in names], np.int8)
    known = np.array([name != _UNKNOWN for name in names])
    return Accounts(
        keys=keys,
        sites=sites,
        orgs=orgs,
        cards=_cards(profile, keys, sites),
        tiers=np.where(known[standing], tiers[standing, below(salted(keys, 542), 6)], -1).astype(np.int8),
        created_ms=_sign_ups(profile, life, keys, standing, names, starts_ms),
        homes=homes.astype(np.int8),
        clients=chosen(salted(keys, 540), [weight for _, weight in profile.clients]).astype(np.int8),
        hidden=below(salted(keys, 543), 100) < profile.marketplace_percent,
        starts_ms=starts_ms,
        ends_ms=ends_ms,
        client_members=clients.client_members(profile.clients),
    )


def identities(accounts: Accounts, rows: Integers, start_ms: int, foreign_percent: int) -> Texts:
    """Return what an event says of its account, as JSON members from ``account_id`` to the client."""
    keys, orgs, tiers = accounts.keys[rows], accounts.orgs[rows], accounts.tiers[rows]
    hidden = accounts.hidden[rows]
    foreign = below(salted(keys, 544), 100) < foreign_percent
    billed = np.where(foreign, chosen(salted(keys, 545), COUNTRY_WEIGHTS), accounts.homes[rows].astype(np.int64))
    payer = joined(b',"payment_id":"pay_', hexadecimals(accounts.cards[rows]), b'"', _BILLED.take(billed))
    created = decimals(np.maximum(start_ms + accounts.created_ms[rows], 0))
    standing = joined(b',"account_created_at":', created, _TIER_MEMBERS.take(tiers))
    return joined(
        b'"account_id":"acct_', hexadecimals(keys), b'","api_key_id":"key_', hexadecimals(salted(keys, 546)), b'"',
        joined(b',"org_id":"org_', hexadecimals(orgs), b'"').where(orgs != 0),
        payer.where((tiers != 0) & ~hidden),
        standing.where(tiers >= 0),
        accounts.client_members.take(accounts.clients[rows]).where(~hidden),
    )  # fmt: skip


def lives(
    life: Life, keys: Keys, sites: Keys, homes: NDArray[np.integer], base: int, scale: float
) -> tuple[Integers, Integers]:
    """Return when each account's use begins and ends."""
    ramp_ms = round(life.ramp_days * DAY_MS)
    if life.starts == "lesson":
        days = max(1, round(life.ramp_days))
        offsets = np.array([minutes for _, _, minutes in COUNTRIES], np.int64)[homes] * 60_000
        lesson = (8 + below(salted(sites, 571), 6)) * HOUR_MS + below(salted(sites, 572), 4) * (HOUR_MS // 4)
        starts = below(salted(sites, 570), days) * DAY_MS + (lesson - offsets) % DAY_MS
    elif life.starts == "at once":
        starts = np.zeros(len(keys), np.int64)
    else:
        starts = drawn(salted(keys, 573), _RAMPS[life.starts]) * ramp_ms // 1_000_000
    per_day = arrivals_per_day(life, base, scale)
    later = np.arange(len(keys)) - base
    first_ms = round(life.arrivals_from_day * DAY_MS)
    arrivals = first_ms + (later + 1) * DAY_MS * 1000 // max(1, round(per_day * 1000))
    starts = np.where(later >= 0, arrivals, starts)
    if not life.life_days[1]:
        return starts, np.full(len(keys), FOREVER_MS, np.int64)
    shortest, longest = (round(days * DAY_MS) for days in life.life_days)
    lasting = shortest + below(salted(keys, 574), longest - shortest + 1)
    left = below(salted(keys, 575), lasting) if life.churning else lasting
    return starts, starts + np.where(later < 0, left, lasting)


def arrivals_per_day(life: Life, base: int, scale: float) -> float:
    """Return how many accounts come in addition a day."""
    return life.arrivals_per_day * scale + life.arrivals_percent_per_day * base / 100


def arrivals(life: Life, base: int, scale: float, days: float) -> int:
    """Return how many accounts come in addition during a run."""
    return max(0, int((days - life.arrivals_from_day) * arrivals_per_day(life, base, scale)))


def _sign_ups(
    profile: Profile, life: Life, keys: Keys, standing: Integers, names: list[str], starts_ms: Integers
) -> Integers:
    if profile.sign_up_days:
        youngest = np.zeros(len(keys), np.int64)
        oldest = np.full(len(keys), profile.sign_up_days * DAY_MS // 1000, np.int64)
    else:
        bounds = np.array([_STANDINGS[name][:2] for name in names], np.int64)[standing] * (DAY_MS // 1000)
        youngest, oldest = bounds[:, 0], bounds[:, 1]
    before = (youngest + 1 + below(salted(keys, 510), oldest - youngest - 1)) * 1000
    lead = 1000 * (1 + below(salted(keys, 511), round(life.lead_days * DAY_MS) // 1000))
    young = profile.sign_up_days > 0 or life.arrivals_per_day > 0 or life.arrivals_percent_per_day > 0
    return np.where((starts_ms > 0) & young, starts_ms - lead, -before)


def _cards(profile: Profile, keys: Keys, sites: Keys) -> Keys:
    """Return one payment key per account: its site's, one of several accounts', or its own."""
    card = np.arange(len(keys), dtype=np.uint64) // np.uint64(profile.accounts_per_card)
    own = mix(card + salted(keys[:1], 552))
    of_site = (below(salted(sites, 554), 100) < profile.sites.card_percent) & (profile.sites.limit > 1)
    return np.where(of_site, salted(sites, 555), own)


def _ramps() -> dict[str, Integers]:
    """Quantiles of starts in millionths of the ramp."""
    steps = np.arange(4096)
    s_shape = np.sort(np.array([round(1_000_000 * _inverse_s((step + 0.5) / 4096)) for step in range(4096)], np.int64))
    # The square piles the starts up at the beginning.
    return {"linear": steps * 1_000_000 // 4096, "spike": steps * steps * 1_000_000 >> 24, "logistic": s_shape}


def _inverse_s(share: float) -> float:
    """Return where 3x^2 - 2x^3 reaches a share: the S without the tails of a logistic."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * middle * (3 - 2 * middle) < share else (low, middle)
    return low


_RAMPS: Final = _ramps()
_BILLED: Final = texts_of([b',"payment_country":"%s"' % code.encode() for code, _, _ in COUNTRIES])
_TIER_MEMBERS: Final = texts_of([b',"account_tier":"%s"' % tier.encode() for tier in _TIERS])
