"""Where requests come from: synthetic providers, home lines, shared gateways, offices, servers and proxy exits.

Providers, their /16 blocks and countries are made up by rule and stand for no real network. An account has two fixed
lines and uses the second for some conversations; rotating exits change every day instead. Addresses are a function of
(line, day), so nothing is kept per event.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdetect.traffic.draws import Integers, Keys, below, chosen, mix, salted

PROVIDERS: Final = 900
_CLOUDS: Final = 5  # the first providers rent servers
_BLOCKS: Final = 8  # /16 blocks of a provider
# First octets that hold no private, reserved or documentation range.
_OCTETS: Final = (*range(24, 39), *range(40, 56), *range(77, 99))
# Country, weight, offset from UTC in minutes (one zone a country is close enough for day and night).
COUNTRIES: Final = (
    ("US", 28, -360), ("IN", 14, 330), ("BR", 6, -180), ("DE", 6, 60), ("GB", 6, 0), ("JP", 5, 540), ("FR", 4, 60),
    ("CA", 4, -300), ("ID", 4, 420), ("VN", 3, 420), ("PH", 3, 480), ("KR", 3, 540), ("MX", 3, -360), ("ES", 2, 60),
    ("IT", 2, 60), ("PL", 2, 60), ("TR", 2, 180), ("NG", 1, 60), ("EG", 1, 120), ("AU", 2, 600), ("NL", 1, 60),
    ("SE", 1, 60), ("UA", 1, 120), ("ZA", 1, 120),
)  # fmt: skip

HOME, SHARED, OFFICE, SERVER = range(4)
_LEASE_DAYS: Final = np.array([7, 1, 3650, 3650], np.int64)  # how long a line of each kind keeps its host number
_SHARED_GROUP: Final = 60  # accounts behind one carrier-grade NAT /24, where there are so many
_SERVER_GROUP: Final = 25


def provider_of(keys: Keys) -> Integers:
    """Pick an access provider for each key."""
    return _CLOUDS + below(keys, PROVIDERS - _CLOUDS)


def country_of(providers: Integers) -> Integers:
    """Return the index in ``COUNTRIES`` of each provider."""
    return chosen(salted(providers.astype(np.uint64), 401), [weight for _, weight, _ in COUNTRIES])


def prefix_of(providers: Integers, keys: Keys) -> Integers:
    """Pick a /24 of the provider for each key, as the address with host number 0."""
    block = providers * _BLOCKS + below(salted(keys, 402), _BLOCKS)
    octet: Integers = np.asarray(_OCTETS, np.int64)[block // 256 % len(_OCTETS)]
    return (octet << 24) | (block % 256 << 16) | (below(salted(keys, 403), 256) << 8)


@dataclass(frozen=True, slots=True)
class Lines:
    """One line per row: provider, /24, kind, the key of its host numbers, and whether it speaks IPv6."""

    providers: Integers
    prefixes: Integers
    kinds: Integers
    keys: Keys
    six: NDArray[np.bool_]

    def fragments(self, rows: Integers, day: int) -> list[bytes]:
        """Return address, country and origin AS of each row on a day, as JSON members."""
        lease = day // _LEASE_DAYS[self.kinds[rows]]
        hosts = 1 + below(mix(self.keys[rows] + lease.astype(np.uint64)), 254)
        return _members(self.providers[rows], self.prefixes[rows] + hosts, self.keys[rows], self.six[rows])


def lines_for(keys: Keys, kinds: Integers, sites: Keys) -> Lines:
    """Give each key a line of its kind; equal ``sites`` share an office address."""
    groups = np.where(kinds == SHARED, _group(keys, kinds, SHARED, _SHARED_GROUP, 410), keys)
    groups = np.where(kinds == SERVER, _group(keys, kinds, SERVER, _SERVER_GROUP, 411), groups)
    groups = np.where(kinds == OFFICE, sites, groups)
    providers = np.where(kinds == SERVER, below(salted(groups, 412), _CLOUDS), provider_of(salted(groups, 413)))
    six = (kinds == HOME) & (below(salted(keys, 414), 100) < 16)
    host_keys = np.where(kinds == OFFICE, sites, salted(keys, 415))
    return Lines(providers, prefix_of(providers, salted(groups, 416)), kinds, host_keys, six)


@dataclass(frozen=True, slots=True)
class Exits:
    """A pool of residential addresses; an account leaves through another one every day."""

    keys: Keys
    pool: Keys

    def fragments(self, rows: Integers, day: int) -> list[bytes]:
        """Return address, country and origin AS of each row on a day, as JSON members."""
        exit_keys = self.pool[below(mix(salted(self.keys[rows], 420) + np.uint64(day)), len(self.pool))]
        providers = provider_of(salted(exit_keys, 413))
        hosts = 1 + below(salted(exit_keys, 421), 254)
        six = below(salted(exit_keys, 414), 100) < 6
        return _members(providers, prefix_of(providers, exit_keys) + hosts, exit_keys, six)


def _group(keys: Keys, kinds: Integers, kind: int, size: int, salt: int) -> Keys:
    """Spread the rows of a kind over as many groups as give each about ``size`` members."""
    groups = max(1, int(np.count_nonzero(kinds == kind)) // size)
    return salted(below(salted(keys, salt), groups).astype(np.uint64), salt)


def _members(providers: Integers, addresses: Integers, keys: Keys, six: NDArray[np.bool_]) -> list[bytes]:
    countries = [COUNTRIES[index][0] for index in country_of(providers).tolist()]
    tails = below(salted(keys, 430), 1 << 31).tolist()
    return [
        b'"client_ip":"%s","client_country":"%s","client_asn":%d'
        % (_six(provider, tail) if v6 else _four(address), country.encode(), 2000 + 37 * provider)
        for provider, address, country, tail, v6 in zip(
            providers.tolist(), addresses.tolist(), countries, tails, six.tolist(), strict=True
        )
    ]


def _four(address: int) -> bytes:
    return b"%d.%d.%d.%d" % (address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255)


def _six(provider: int, tail: int) -> bytes:
    """Return an address in a /64 of the provider's /32; zero groups are avoided, so the text is canonical."""
    return b"2a%02x:%x:%x:%x::%x" % (
        provider >> 6,
        0x100 + provider,
        1 + (tail >> 16),
        1 + (tail & 0xFF),
        16 + (tail & 0xFFF),
    )
