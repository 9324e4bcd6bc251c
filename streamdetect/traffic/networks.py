"""Where requests come from: home lines, carriers, offices, campuses, servers, VPN exits and proxy pools.

A network is a rule from (account, site, conversation, day, exchange) to an address; nothing is kept per account or
event. Carrier gateways, VPN exits, racks of servers and the known part of the proxy pool are the same for every cohort,
so attackers and honest people meet there as they do in life.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.traffic.addresses import COUNTRY_WEIGHTS, Space
from streamdetect.traffic.draws import Integers, Keys, below, chosen, mix, salted
from streamdetect.traffic.texts import Bytes, Texts, joined, text_column

HOME, CARRIER, SITE, SERVER, TUNNEL = range(5)
_LEASE_DAYS: Final = np.array([7, 1, 3650, 3650, 1], np.int64)  # how long a line of each kind keeps its host number
_CARRIER_ACCOUNTS: Final = 180  # of a cohort's accounts behind one /24, of which about a third use it
_SERVER_ACCOUNTS: Final = 40
_TUNNEL_EXITS: Final = 400  # of all commercial VPNs and relays, ten in a /24
_TUNNELS: Final = 0x7E11_57A8
_CARRIERS: Final = 0xC4_2210
_SERVERS: Final = 0x5E_4BE4
_KNOWN_EXITS: Final = 60_000
_KNOWN: Final = 0x9A_0C51
_HOST_MAX: Final = 39  # characters of the longest address


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Honest people and firms: one or two fixed places each. Weights of home, carrier, site, server and VPN."""

    first: tuple[int, int, int, int, int] = (56, 30, 0, 6, 8)
    second: tuple[int, int, int, int, int] = (10, 72, 0, 8, 10)
    second_percent: int = 40  # of the accounts use a second place, for 35 % of their conversations
    six_percent: int = 30  # of home lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """A pool of residential proxy exits. ``known_percent`` of it is on sale to everybody."""

    per_account: float
    every: str = "day"  # another exit every day or request
    known_percent: int = 60
    six_percent: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """Servers in a few /24 networks, or in one IPv6 /48 with a /64 an account."""

    subnets: int
    six: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """Everybody of a site leaves through one of its few exits, and takes it home at night now and then."""

    exits_min: int
    exits_max: int
    away_percent: int = 10  # of the conversations come from home


@dataclass(frozen=True, slots=True, kw_only=True)
class Campus:
    """Everybody of a site has an address in its /24 networks or its /48."""

    per_subnet: int  # accounts of a /24
    six_percent: int = 30  # of the sites
    away_percent: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Hopping:
    """A new IPv6 /64 for every request, inside the /48 networks of some providers."""

    providers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Every user of an account has a home or carrier line of their own."""

    six_percent: int = 20


Network = Lines | Exits | Rack | Gateways | Campus | Hopping | Crowd


@dataclass(frozen=True, slots=True)
class People:
    """Who is asked for: keys of account and site, and the account's number in its cohort. One row each."""

    keys: Keys
    sites: Keys
    numbers: Integers


@dataclass(frozen=True, slots=True)
class Moments:
    """One exchange per row: its conversation, user, own key, and day since the start."""

    conversations: Keys
    users: Keys
    keys: Keys
    days: Integers


@dataclass(frozen=True, slots=True)
class Places:
    """One place per row: provider, and either an IPv4 address or the upper half of an IPv6 address with its end."""

    providers: Integers
    four: Integers
    wide: Keys
    ends: Integers
    six: NDArray[np.bool_]

    def members(self, space: Space) -> Texts:
        """Return address, country and origin AS as JSON members."""
        out = np.empty(len(self.providers) * _HOST_MAX, np.uint8)
        starts, lengths = np.arange(len(self.providers)) * _HOST_MAX, np.empty(len(self.providers), np.int64)
        _write_addresses(self.four, self.wide, self.ends, self.six, out, lengths)
        return joined(b'"client_ip":"', text_column(out, starts, lengths), b'"', space.members.take(self.providers))


def home_countries(network: Network, people: People, space: Space) -> Integers:
    """Return the country (index) each account lives in: that of its first place, where it has one of its own."""
    if isinstance(network, Lines):
        kinds = chosen(salted(people.keys, 532), network.first)
        kinds = np.where((kinds == SERVER) | (kinds == TUNNEL), HOME, kinds)
        return space.countries[
            _fixed(space, kinds, people, salted(people.keys, 536), np.zeros_like(kinds), 0).providers
        ]
    if isinstance(network, Gateways | Campus):
        return space.countries[space.access(salted(people.sites, 537))]
    return chosen(salted(people.keys, 503), COUNTRY_WEIGHTS)


def places(network: Network, people: People, moments: Moments, space: Space, *, accounts: int, key: int) -> Places:
    """Return where each exchange comes from. ``accounts`` is the size of the cohort, ``key`` its own."""
    match network:
        case Lines():
            return _lines(network, people, moments, space)
        case Exits():
            pool = max(1, round(accounts * network.per_account))
            turn = moments.days.astype(np.uint64) if network.every == "day" else moments.keys
            return _exits(network, below(mix(salted(people.keys, 420) + turn), pool), space, accounts, key)
        case Rack():
            return _rack(network, people, space, key)
        case Gateways() | Campus():
            return _site(network, people, moments, space)
        case Hopping():
            return _hopping(network, moments, space, key)
        case Crowd():
            kinds = np.where(below(salted(moments.users, 540), 100) < 65, HOME, CARRIER)
            guests = People(moments.users, moments.users, below(salted(moments.users, 541), 1 << 20))
            return _fixed(space, kinds, guests, moments.users, moments.days, network.six_percent)


def _lines(network: Lines, people: People, moments: Moments, space: Space) -> Places:
    uses_second = (below(salted(people.keys, 504), 100) < network.second_percent) & (
        below(salted(moments.conversations, 701), 100) < 35
    )
    kinds = np.where(
        uses_second, chosen(salted(people.keys, 533), network.second), chosen(salted(people.keys, 532), network.first)
    )
    lines = np.where(uses_second, salted(people.keys, 535), salted(people.keys, 536))
    return _fixed(space, kinds, people, lines, moments.days, network.six_percent)


def _fixed(space: Space, kinds: Integers, people: People, lines: Keys, days: Integers, six_percent: int) -> Places:
    """Return the place of each line: its own, or the one it shares with its group."""
    lease = (days // _LEASE_DAYS[kinds]).astype(np.uint64)
    block = people.numbers.astype(np.uint64)
    groups = np.select(
        [kinds == CARRIER, kinds == SERVER, kinds == SITE, kinds == TUNNEL],
        [
            salted(block // np.uint64(_CARRIER_ACCOUNTS), _CARRIERS),
            salted(block // np.uint64(_SERVER_ACCOUNTS), _SERVERS),
            people.sites,
            salted(below(mix(lines + lease), _TUNNEL_EXITS).astype(np.uint64), _TUNNELS),
        ],
        lines,
    )
    networks = np.where(
        kinds == TUNNEL,
        salted(below(mix(lines + lease), _TUNNEL_EXITS).astype(np.uint64) // np.uint64(10), _TUNNELS),
        groups,
    )
    rented = (kinds == SERVER) | (kinds == TUNNEL)
    providers = np.where(rented, space.hosting(salted(networks, 412)), space.access(salted(networks, 537)))
    hosts = np.where((kinds == SITE) | (kinds == TUNNEL), salted(groups, 415), mix(salted(lines, 415) + lease))
    wide = space.wide(providers, lines) | (1 + below(salted(lines, 416), 255)).astype(np.uint64)
    return Places(
        providers,
        space.prefix(providers, networks) + 1 + below(hosts, 254),
        wide,
        16 + below(mix(salted(lines, 417) + days.astype(np.uint64)), 65_000),
        (kinds == HOME) & (below(salted(lines, 414), 100) < six_percent),
    )


def _exits(network: Exits, numbers: Integers, space: Space, accounts: int, key: int) -> Places:
    own = mix(numbers.astype(np.uint64) + np.full(len(numbers), key, np.uint64))
    known = below(salted(own, 422), 100) < network.known_percent
    exits = np.where(known, salted(below(salted(own, 423), _KNOWN_EXITS).astype(np.uint64), _KNOWN), own)
    # A third of residential exits are behind carriers, where honest people are too.
    behind = salted(below(salted(exits, 424), 1 + accounts // _CARRIER_ACCOUNTS).astype(np.uint64), _CARRIERS)
    carried = below(salted(exits, 425), 3) == 0
    networks = np.where(carried, behind, exits)
    providers = space.access(salted(networks, 537))
    return Places(
        providers,
        space.prefix(providers, networks) + 1 + below(salted(exits, 421), 254),
        space.wide(providers, exits) | np.uint64(1),
        16 + below(salted(exits, 426), 65_000),
        ~carried & (below(salted(exits, 414), 100) < network.six_percent),
    )


def _rack(network: Rack, people: People, space: Space, key: int) -> Places:
    count = len(people.keys)
    subnet = below(salted(people.keys, 430), network.subnets).astype(np.uint64)
    networks = mix(subnet + np.full(count, key, np.uint64))
    providers = space.hosting(np.full(count, mix(np.array([key], np.uint64))[0], np.uint64))
    whole = space.wide(providers, np.full(count, key, np.uint64))
    return Places(
        providers,
        space.prefix(providers, networks) + 1 + below(salted(people.keys, 431), 254),
        whole | (1 + below(salted(people.keys, 432), 65_535)).astype(np.uint64),
        np.full(count, 16, np.int64),
        np.full(count, network.six),
    )


def _site(network: Gateways | Campus, people: People, moments: Moments, space: Space) -> Places:
    away = below(salted(moments.conversations, 701), 100) < network.away_percent
    kinds = np.where(below(salted(people.keys, 532), 100) < 60, HOME, CARRIER)
    homes = _fixed(space, kinds, people, salted(people.keys, 536), moments.days, 30)
    providers = space.access(salted(people.sites, 537))
    if isinstance(network, Gateways):
        span = network.exits_max - network.exits_min + 1
        exits = network.exits_min + below(salted(people.sites, 440), span)
        door = below(salted(people.keys, 441), exits).astype(np.uint64)
        # Two exits of a firm are in one /24, as often as not.
        networks = mix(people.sites + door // np.uint64(2))
        hosts, six = salted(people.sites + door, 442), np.zeros(len(away), np.bool_)
    else:
        networks = mix(people.sites + (people.numbers // network.per_subnet).astype(np.uint64))
        hosts = mix(salted(people.keys, 443) + moments.days.astype(np.uint64))
        six = below(salted(people.sites, 444), 100) < network.six_percent
    own = (1 + below(salted(people.keys, 416), 255)).astype(np.uint64)
    return Places(
        np.where(away, homes.providers, providers),
        np.where(away, homes.four, space.prefix(providers, networks) + 1 + below(hosts, 254)),
        np.where(away, homes.wide, space.wide(providers, people.sites) | own),
        homes.ends,
        np.where(away, homes.six, six),
    )


def _hopping(network: Hopping, moments: Moments, space: Space, key: int) -> Places:
    provider = below(salted(moments.keys, 450), network.providers).astype(np.uint64)
    networks = mix(provider + np.full(len(provider), key, np.uint64))
    providers = space.access(networks)
    subnet = (1 + below(salted(moments.keys, 451), 65_535)).astype(np.uint64)
    return Places(
        providers,
        np.zeros(len(provider), np.int64),
        space.wide(providers, networks) | subnet,
        16 + below(salted(moments.keys, 452), 65_000),
        np.ones(len(provider), np.bool_),
    )


@njit(cache=True, nogil=True)
def _put_decimal(value: int, out: Bytes, at: int) -> int:
    if value >= 100:
        out[at] = 48 + value // 100
        at += 1
    if value >= 10:
        out[at] = 48 + value // 10 % 10
        at += 1
    out[at] = 48 + value % 10
    return at + 1


@njit(cache=True, nogil=True)
def _put_hexadecimal(value: int, out: Bytes, at: int) -> int:
    shift = 12
    while shift and value >> shift == 0:
        shift -= 4
    while shift >= 0:
        digit = value >> shift & 15
        out[at] = 48 + digit if digit < 10 else 87 + digit
        at += 1
        shift -= 4
    return at


@njit(cache=True, nogil=True)
def _write_addresses(
    four: Integers, wide: Keys, ends: Integers, six: NDArray[np.bool_], out: Bytes, lengths: Integers
) -> None:
    """Write canonical text. No group of the upper half is 0, so ``::`` stands before the last group only."""
    for row in range(len(four)):
        at = row * _HOST_MAX
        if six[row]:
            for group in range(4):
                value = np.int64(wide[row] >> np.uint64(48 - 16 * group) & np.uint64(0xFFFF))
                at = _put_hexadecimal(value, out, at)
                out[at] = 58
                at += 1
            out[at] = 58
            at = _put_hexadecimal(ends[row], out, at + 1)
        else:
            for octet in range(4):
                if octet:
                    out[at] = 46
                    at += 1
                at = _put_decimal(four[row] >> (24 - 8 * octet) & 255, out, at)
        lengths[row] = at - row * _HOST_MAX
