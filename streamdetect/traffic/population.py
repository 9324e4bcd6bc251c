"""Accounts: tiers, sign-ups, payers, keys, lines and habits, as columns, with one JSON fragment each.

All cohorts are made by this one module and differ in a ``Profile`` only, so an account looks the same whoever owns it.
Ages are relative to the start of the run, and everybody signs up before it. Memory: about 500 bytes an account.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from streamdetect.traffic import networks
from streamdetect.traffic.draws import Integers, Keys, below, chosen, drawn, lognormal_table, mix, salted
from streamdetect.traffic.language import built_in
from streamdetect.traffic.networks import COUNTRIES, Exits, Lines

DAY_MS: Final = 86_400_000

_UNKNOWN: Final = "unknown"
# First and last day of age at the start (the last excluded) and what account_tier says, one of them at random.
# Of an unknown account the gateway is told neither.
_STANDINGS: Final[dict[str, tuple[int, int, tuple[str, ...]]]] = {
    "new": (0, 7, ("paid", "paid", "unpaid")),
    "recent": (7, 28, ("paid", "paid", "verified")),
    "unpaid": (30, 900, ("unpaid",)),
    "settled": (32, 600, ("paid",)),
    "verified": (95, 1400, ("verified", "enterprise")),
    _UNKNOWN: (30, 900, ("paid",)),
}
_AGENTS: Final = (  # user agent, weight; the fingerprint follows from it
    ("openai-python/1.59.6", 16), ("openai-python/1.54.0", 8), ("openai-node/4.77.0", 12),
    ("anthropic-python/0.42.0", 10),
    ("anthropic-typescript/0.33.1", 8), ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0", 18),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1", 9), ("python-httpx/0.28.1", 6), ("curl/8.11.0", 2),
    ("langchain/0.3.14", 5), ("litellm/1.56.2", 4), ("okhttp/4.12.0", 2),
)  # fmt: skip
_MODELS: Final = (("large-2", 35), ("medium-2", 40), ("small-2", 25))
_ORG_SIZE: Final = 12
_OWN_SYSTEM_PERCENT: Final = 20
_COMMON_SYSTEM_PERCENT: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What sets a cohort's accounts apart. Weights are relative; rates are exchanges an account and day."""

    standings: tuple[tuple[str, int], ...]
    sign_up_days: int = 0  # above 0: all sign up evenly over these days before the start, whatever the standing
    rate_median: float = 6.0
    rate_sigma: float = 1.4
    rate_limit: int = 300
    agents: tuple[tuple[str, int], ...] = _AGENTS
    org_percent: int = 45
    shared_card_percent: int = 3
    accounts_per_shared_card: int = 4
    foreign_card_percent: int = 6
    exits_per_account: float = 0.0  # above 0: a rotating pool of residential exits instead of lines
    system_percent: int = 100  # how many keep the habit of a system prompt at all


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of one cohort."""

    ids: list[bytes]
    keys: Keys
    rates: Integers  # thousandths of an exchange a day
    offsets_ms: Integers  # of local time from UTC
    created_ms: Integers
    members: list[bytes]  # JSON members that do not change
    systems: list[bytes]  # the system prompt's JSON member with its comma, or nothing
    places: tuple[Lines | Exits, Lines | Exits]
    second_percent: Integers  # of conversations that use the second place

    def __len__(self) -> int:
        return len(self.ids)


def populate(profile: Profile, *, count: int, cohort: int, seed_key: int, start_ms: int) -> Accounts:
    """Make the accounts of cohort number ``cohort`` (0-127). Equal arguments give equal accounts."""
    index = np.arange(count, dtype=np.uint64)
    unique = mix(index + np.uint64(cohort << 48) + np.full(count, seed_key, np.uint64))
    keys = salted(unique, 500)
    standing = chosen(salted(keys, 501), [weight for _, weight in profile.standings])
    names = [name for name, _ in profile.standings]
    created_ms = _sign_ups(profile, keys, standing, names, start_ms)
    orgs = _organisations(profile, keys)
    places = _places(profile, keys, orgs)
    ids = [b"acct_%016x" % value for value in unique.tolist()]
    first = places[0]
    homes = (
        networks.country_of(first.providers)
        if isinstance(first, Lines)
        else chosen(salted(keys, 503), [weight for _, weight, _ in COUNTRIES])
    )
    return Accounts(
        ids=ids,
        keys=keys,
        rates=drawn(
            salted(keys, 502),
            lognormal_table(median=profile.rate_median, sigma=profile.rate_sigma, limit=profile.rate_limit, scale=1000),
        ),
        offsets_ms=np.array([minutes * 60_000 for _, _, minutes in COUNTRIES], np.int64)[homes],
        created_ms=created_ms,
        members=_members(profile, keys=keys, ids=ids, orgs=orgs, homes=homes, created_ms=created_ms, standing=standing),
        systems=_systems(profile, keys),
        places=places,
        second_percent=np.where(below(salted(keys, 504), 100) < 40, 35, 0),
    )


def _sign_ups(profile: Profile, keys: Keys, standing: Integers, names: list[str], start_ms: int) -> Integers:
    if profile.sign_up_days:
        oldest = np.full(len(keys), profile.sign_up_days * DAY_MS // 1000, np.int64)
        youngest = np.zeros(len(keys), np.int64)
    else:
        bounds = np.array([_STANDINGS[name][:2] for name in names], np.int64)[standing] * (DAY_MS // 1000)
        youngest, oldest = bounds[:, 0], bounds[:, 1]
    return start_ms - (youngest + 1 + below(salted(keys, 510), oldest - youngest - 1)) * 1000


def _organisations(profile: Profile, keys: Keys) -> Keys:
    """Return a key per organisation; 0 for accounts that belong to none."""
    belongs = below(salted(keys, 520), 100) < profile.org_percent
    count = max(1, int(np.count_nonzero(belongs)) // _ORG_SIZE)
    # A seed of the cohort's own, so that organisations of two cohorts never coincide.
    group = salted(below(salted(keys, 521), count).astype(np.uint64) + keys[:1], 522)
    return np.where(belongs, group, np.zeros_like(keys))


def _places(profile: Profile, keys: Keys, orgs: Keys) -> tuple[Lines | Exits, Lines | Exits]:
    if profile.exits_per_account:
        size = max(1, round(len(keys) * profile.exits_per_account))
        pool = mix(np.arange(size, dtype=np.uint64) + salted(keys[:1], 530))
        return Exits(keys, pool), Exits(salted(keys, 531), pool)
    home = chosen(salted(keys, 532), (60, 25, 0, 15))
    other = chosen(salted(keys, 533), (10, 75, 0, 15))
    at_work = (orgs != 0) & (below(salted(keys, 534), 100) < 50)
    first = networks.lines_for(keys, np.where(at_work, networks.OFFICE, home), orgs)
    return first, networks.lines_for(salted(keys, 535), other, orgs)


def _members(
    profile: Profile,
    *,
    keys: Keys,
    ids: list[bytes],
    orgs: Keys,
    homes: Integers,
    created_ms: Integers,
    standing: Integers,
) -> list[bytes]:
    names = [name for name, _ in profile.standings]
    agents = chosen(salted(keys, 540), [weight for _, weight in profile.agents]).tolist()
    models = chosen(salted(keys, 541), [weight for _, weight in _MODELS]).tolist()
    tiers = below(salted(keys, 542), 1 << 20).tolist()
    cards = _cards(profile, keys, orgs).tolist()
    foreign = below(salted(keys, 543), 100) < profile.foreign_card_percent
    billed = np.where(foreign, chosen(salted(keys, 544), [weight for _, weight, _ in COUNTRIES]), homes).tolist()
    rows = zip(ids, salted(keys, 545).tolist(), orgs.tolist(), created_ms.tolist(), standing.tolist(), strict=True)
    members = []
    for row, (name, api_key, org, created, code) in enumerate(rows):
        offered = _STANDINGS[names[code]][2]
        tier = offered[tiers[row] % len(offered)]
        agent = profile.agents[agents[row]][0]
        parts = [f'"account_id":"{name.decode()}","api_key_id":"key_{api_key:016x}"']
        if org:
            parts.append(f'"org_id":"org_{org:016x}"')
        if tier != "unpaid":
            parts.append(f'"payment_id":"pay_{cards[row]:016x}","payment_country":"{COUNTRIES[billed[row]][0]}"')
        if names[code] != _UNKNOWN:
            parts.append(f'"account_created_at":{created},"account_tier":"{tier}"')
        parts.append(f'"user_agent":"{agent}","client_fingerprint":"{_fingerprint(agent)}"')
        parts.append(f'"model":"{_MODELS[models[row]][0]}","operation":"chat"')
        members.append(",".join(parts).encode())
    return members


def _cards(profile: Profile, keys: Keys, orgs: Keys) -> Keys:
    """Return one payment key per account: the organisation's, a shared card, or the account's own."""
    shared = below(salted(keys, 550), 100) < profile.shared_card_percent
    cards = max(1, int(np.count_nonzero(shared)) // profile.accounts_per_shared_card)
    common = salted(below(salted(keys, 551), cards).astype(np.uint64) + keys[:1], 552)
    own = np.where(shared, common, salted(keys, 553))
    return np.where(orgs != 0, salted(orgs, 554), own)


def _systems(profile: Profile, keys: Keys) -> list[bytes]:
    """Give each account the system prompt it always sends: none, a common one, or its own."""
    language = built_in()
    common = language.lines["system"]
    habit = below(salted(keys, 560), 100)
    kept = below(salted(keys, 561), 100) < profile.system_percent
    own = kept & (habit < _OWN_SYSTEM_PERCENT)
    sentences = np.where(own, 2 + below(salted(keys, 562), 4), 0)
    written = language.write("system", salted(keys, 563), sentences)
    lines = below(salted(keys, 564), len(common)).tolist()
    shared = (kept & ~own & (habit < _COMMON_SYSTEM_PERCENT)).tolist()
    texts = [text or (common[line] if use else b"") for text, line, use in zip(written, lines, shared, strict=True)]
    return [b'"system_prompt":"%s",' % text if text else b"" for text in texts]


def _fingerprint(agent: str) -> str:
    """Return the handshake fingerprint of a client: a function of its software alone."""
    key = int.from_bytes(agent.encode()[-8:], "big")
    return f"t13d{mix(np.array([key], np.uint64))[0]:012x}"[:16]
