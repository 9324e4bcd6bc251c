"""The address space: providers, their countries, and the networks each announces; made up by rule, or from tables.

The built-in providers stand for no real network. A folder of tables (routing tables with origin AS, names of ASes,
hosting ASes) gives real ones, as of the day of the tables. Either way a provider is a small number.
"""

import csv
import gzip
import ipaddress
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from streamdetect.errors import BadDataError
from streamdetect.traffic.draws import Integers, Keys, below, chosen, salted
from streamdetect.traffic.texts import Texts, texts_of

# Country, weight, offset from UTC in minutes (one zone a country is close enough for day and night).
COUNTRIES: Final = (
    ("US", 28, -360), ("IN", 14, 330), ("BR", 6, -180), ("DE", 6, 60), ("GB", 6, 0), ("JP", 5, 540), ("FR", 4, 60),
    ("CA", 4, -300), ("ID", 4, 420), ("VN", 3, 420), ("PH", 3, 480), ("KR", 3, 540), ("MX", 3, -360), ("ES", 2, 60),
    ("IT", 2, 60), ("PL", 2, 60), ("TR", 2, 180), ("NG", 1, 60), ("EG", 1, 120), ("AU", 2, 600), ("NL", 1, 60),
    ("SE", 1, 60), ("UA", 1, 120), ("ZA", 1, 120),
)  # fmt: skip
COUNTRY_WEIGHTS: Final = tuple(weight for _, weight, _ in COUNTRIES)
_PROVIDERS: Final = 900
_CLOUDS: Final = 5
_BLOCKS: Final = 8  # /16 blocks of a made-up provider
# First octets that hold no private, reserved or documentation range.
_OCTETS: Final = np.array([*range(24, 39), *range(40, 56), *range(77, 99)], np.int64)
_TABLE_PROVIDERS: Final = 900
_TABLE_CLOUDS: Final = 12


@dataclass(frozen=True, slots=True)
class Space:
    """Providers and their networks; the first ``clouds`` providers rent servers, the others give access.

    A network is a start address and a prefix length, 22 or shorter for IPv4; the networks of provider p are
    ``bounds[p]:bounds[p + 1]``. ``six`` is the first 32 bits of a provider's IPv6 addresses.
    """

    clouds: int
    countries: Integers  # index in COUNTRIES
    starts: Integers
    sizes: Integers  # /24 networks in each
    bounds: Integers
    six: Integers
    members: Texts  # country and AS as JSON members, with the comma in front

    def access(self, keys: Keys) -> Integers:
        """Pick an access provider for each key."""
        return self.clouds + below(keys, len(self.countries) - self.clouds)

    def hosting(self, keys: Keys) -> Integers:
        """Pick a provider of servers for each key."""
        return below(keys, self.clouds)

    def prefix(self, providers: Integers, keys: Keys) -> Integers:
        """Pick a /24 of the provider for each key, as the address with host number 0."""
        first = self.bounds[providers]
        network = first + below(salted(keys, 402), self.bounds[providers + 1] - first)
        address: Integers = self.starts[network] + (below(salted(keys, 403), self.sizes[network]) << 8)
        return address

    def wide(self, providers: Integers, keys: Keys) -> Keys:
        """Pick a /48 of the provider for each key, as the upper 64 bits of an address with subnet number 0."""
        return (self.six[providers].astype(np.uint64) << np.uint64(32)) | (
            (1 + below(salted(keys, 404), 65_535)).astype(np.uint64) << np.uint64(16)
        )


@cache
def made_up() -> Space:
    """Return the built-in address space."""
    providers = np.arange(_PROVIDERS)
    block = np.arange(_PROVIDERS * _BLOCKS)
    countries = chosen(salted(providers.astype(np.uint64), 401), COUNTRY_WEIGHTS)
    return Space(
        clouds=_CLOUDS,
        countries=countries,
        starts=(_OCTETS[block // 256 % len(_OCTETS)] << 24) | (block % 256 << 16),
        sizes=np.full(len(block), 256, np.int64),
        bounds=np.arange(_PROVIDERS + 1) * _BLOCKS,
        six=((0x2A00 + (providers >> 6)) << 16) | (0x100 + providers),
        members=_members(countries, 2000 + 37 * providers),
    )


def read_tables(folder: Path) -> Space:
    """Return the address space of a folder of tables. Raises ``BadDataError`` for a file that cannot be used.

    The 900 origin ASes that announce most, hosting ASes and those of unknown country left out, give access; the largest
    hosting ASes of the list rent servers.
    """
    countries = {code: index for index, (code, _, _) in enumerate(COUNTRIES)}
    hosting = {int(row[0]) for row in _rows(folder / "hosting_asns.csv.gz", "asn") if row[1] == "datacenter"}
    names = {int(row[0]): row[1][-2:] for row in _rows(folder / "asn_names_2016.csv.gz", "asn")}
    four: dict[int, list[tuple[int, int]]] = {}
    for row in _rows(folder / "asn_ipv4_20140513.csv.gz", "prefix"):
        address, _, length = row[0].partition("/")
        if int(length) <= 22:
            four.setdefault(int(row[1]), []).append((_four(address), 1 << 24 - int(length)))
    six: dict[int, int] = {}
    for row in _rows(folder / "asn_ipv6_20151101.csv.gz", "prefix"):
        start = int(ipaddress.IPv6Network(row[0]).network_address) >> 96
        if int(row[0].partition("/")[2]) <= 32 and start & 0xFFFF and start >> 16:
            six.setdefault(int(row[1]), start)
    usable = [asn for asn in four if asn in six and names.get(asn) in countries]
    usable.sort(key=lambda asn: (-sum(size for _, size in four[asn]), asn))
    clouds = [asn for asn in usable if asn in hosting][:_TABLE_CLOUDS]
    access = [asn for asn in usable if asn not in hosting][:_TABLE_PROVIDERS]
    if not clouds or not access:
        raise BadDataError(f"{folder}: the tables name no hosting AS or no access AS that announces anything")
    chosen_asns = clouds + access
    home = np.array([countries[names[asn]] for asn in chosen_asns], np.int64)
    networks = [network for asn in chosen_asns for network in four[asn]]
    return Space(
        clouds=len(clouds),
        countries=home,
        starts=np.array([start for start, _ in networks], np.int64),
        sizes=np.array([size for _, size in networks], np.int64),
        bounds=np.cumsum([0, *(len(four[asn]) for asn in chosen_asns)]),
        six=np.array([six[asn] for asn in chosen_asns], np.int64),
        members=_members(home, np.array(chosen_asns, np.int64)),
    )


def has_tables(folder: Path) -> bool:
    """Tell whether a folder holds routing tables."""
    return (folder / "asn_ipv4_20140513.csv.gz").exists()


def _members(countries: Integers, asns: Integers) -> Texts:
    rows = zip(countries.tolist(), asns.tolist(), strict=True)
    return texts_of([b',"client_country":"%s","client_asn":%d' % (COUNTRIES[c][0].encode(), asn) for c, asn in rows])


def _four(address: str) -> int:
    a, b, c, d = map(int, address.split("."))
    return a << 24 | b << 16 | c << 8 | d


def _rows(path: Path, first_column: str) -> Iterator[list[str]]:
    """Yield the rows of a gzipped table whose first column has the name told, without its header."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            if next(rows, [""])[0] != first_column:
                raise BadDataError(f"{path}: the first column is not {first_column}")
            yield from rows
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path}: cannot be read as a gzipped table ({type(error).__name__})") from error
