"""Seeded request events for the benchmarks: background, one campaign, and accounts and subnets that hammer.

Events are about 900 bytes with prompts of about 90 words, ``RATE`` of them a second of event time. Bursts lie inside
one minute, so that tumbling minutes and a sliding minute must find the same ones; brute force over the events
(``expected``) says which those are. Every event is the first turn of a conversation with a text of its own: more
sketching and sharing than real traffic brings, for every contestant alike.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.murmur2 import key_partitions
from streamdetect.traffic.draws import Keys, below, drawn, lognormal_table, mix, salted
from streamdetect.traffic.language import built_in
from streamdetect.traffic.material.written import WrittenTasks

PARTITIONS = 4
RATE = 500  # events a second of event time
MINUTE_MS = 60_000
DAY_MS = 86_400_000
ACCOUNT_LIMIT, SUBNET_LIMIT = 60, 120  # requests a minute; more is a decision
_ACCOUNTS, _SUBNETS, _CAMPAIGN = 5_000, 2_000, 100
_ACCOUNT_BURST, _SUBNET_BURST, _BURST_MS = 80, 160, 10_000
_ACCOUNTS_A_MINUTE, _SUBNETS_A_MINUTE = 12, 4
_SENTENCES = np.maximum(1, lognormal_table(median=77.0, sigma=0.57, limit=600) // 11)
_BURST = 1 << 32  # identities of bursts start here, so that they are nobody else's


@dataclass(frozen=True, slots=True)
class Corpus:
    """Events in order of time, ready to send. ``partition`` is where the key belongs."""

    values: list[bytes]
    keys: list[bytes]
    partition: list[int]
    at_ms: list[int]
    expected: dict[str, set[tuple[str, int]]]

    def __len__(self) -> int:
        return len(self.values)


def corpus(count: int, start_ms: int, *, seed: int = 1, bursts: bool = True) -> Corpus:
    """Make ``count`` events from ``start_ms`` (a full minute) on."""
    assert start_ms % MINUTE_MS == 0
    account, network, at_ms = _who_and_when(count, start_ms, seed, bursts=bursts)
    numbers = mix(np.arange(count, dtype=np.uint64) + np.uint64(seed << 40))
    prompts = _prompts(numbers, account)
    accounts = [account_id(row) for row in account.tolist()]
    young = (account >= _ACCOUNTS) | (account % 4 == 0)
    subnets = [_subnet(row) for row in network.tolist()]
    values = lines(b"%08x" % seed, account, subnets, at_ms, prompts, young, start_ms)
    keys = [text.encode() for text in accounts]
    buffer, spans = spans_of(keys)
    partition = key_partitions(np.frombuffer(buffer, np.uint8), spans.start, spans.end, PARTITIONS)
    expected = {
        "account": _crossings(accounts, at_ms, ACCOUNT_LIMIT),
        "subnet": _crossings([subnet + ".0/24" for subnet in subnets], at_ms, SUBNET_LIMIT),
    }
    return Corpus(values, keys, partition.tolist(), at_ms.tolist(), expected)


def _crossings(keys: list[str], at_ms: np.ndarray, limit: int) -> set[tuple[str, int]]:
    counts = Counter(zip(keys, (at_ms // MINUTE_MS).tolist(), strict=True))
    return {place for place, count in counts.items() if count > limit}


def _who_and_when(count: int, start_ms: int, seed: int, *, bursts: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Account number, subnet number and time of each event."""
    burst_account, burst_network, burst_ms = [], [], []
    draw = np.random.default_rng(seed)
    seconds = count // RATE
    for minute in range(-(-seconds // 60) if bursts else 0):
        for number in range(_ACCOUNTS_A_MINUTE + _SUBNETS_A_MINUTE):
            begin = int(draw.integers(2_000, 22_000))
            if minute * 60_000 + begin + _BURST_MS > seconds * 1000:
                continue
            one = number < _ACCOUNTS_A_MINUTE
            size = _ACCOUNT_BURST if one else _SUBNET_BURST
            identity = _BURST + (minute << 16 | number << 8)
            burst_account.append(np.full(size, identity) if one else identity + np.arange(size) % 64)
            burst_network.append(np.full(size, identity))
            burst_ms.append(minute * 60_000 + begin + np.sort(draw.integers(0, _BURST_MS, size)))
    rest = count - sum(map(len, burst_ms))
    people = draw.integers(0, _ACCOUNTS, rest)
    campaign = np.flatnonzero(draw.random(rest) < 0.02)
    people[campaign] = _ACCOUNTS + draw.integers(0, _CAMPAIGN, len(campaign))
    account = np.concatenate([people, *burst_account])
    network = np.concatenate([people * 7919 % _SUBNETS, *burst_network])
    at_ms = np.concatenate([np.arange(rest) * 1000 * count // (RATE * max(rest, 1)), *burst_ms]) + start_ms
    order = np.argsort(at_ms, kind="stable")
    return account[order], network[order], at_ms[order].astype(np.int64)


def account_id(number: int) -> str:
    """The id of an account by its number."""
    return f"acct-{number:012x}"


def _subnet(number: int) -> str:
    if number >= _BURST:
        number = 50_000 + (number - _BURST >> 8)
    return f"{11 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def prose(numbers: Keys) -> list[bytes]:
    """A text of its own for each number, about 90 words on average."""
    return built_in().write("prose", salted(numbers, 1), drawn(salted(numbers, 2), _SENTENCES)).tolist()


def _prompts(numbers: Keys, account: np.ndarray) -> list[bytes]:
    texts = prose(numbers)
    templates = WrittenTasks(count=5, seed_key=99)
    rows = np.flatnonzero((account >= _ACCOUNTS) & (account < _BURST))
    filled = templates.filled(below(salted(numbers[rows], 3), 5), salted(numbers[rows], 4))
    for row, text in zip(rows.tolist(), filled.tolist(), strict=True):
        texts[row] = text
    return texts


_LINE = (
    b'{"event_id":"%s","occurred_at":%d,"account_id":"%s","kind":"request","outcome":"served","client_ip":"%s",'
    b'"prompt":"%s",%s"api_key_id":"key-%s","account_created_at":%d,"account_tier":"%s","model":"general-large-1",'
    b'"operation":"chat","conversation_id":"%s","turn":%d,"input_tokens":%d,"output_tokens":%d,'
    b'"user_agent":"sdk-python/2.11.0"}'
)


def lines(
    series: bytes,
    account: np.ndarray,
    subnets: list[str],
    at_ms: np.ndarray,
    prompts: list[bytes],
    young: np.ndarray,
    start_ms: int,
    *,
    turn: np.ndarray | None = None,
) -> list[bytes]:
    """Events as JSON. Ids are ``series`` and a number; without ``turn`` each begins a conversation.

    Young accounts are two days old and paid, the others 200 days and verified; a third of those have an organisation.
    """
    turns = [0] * len(account) if turn is None else turn.tolist()
    found = []
    for row, (number, subnet, at, prompt, new, spoken) in enumerate(
        zip(account.tolist(), subnets, at_ms.tolist(), prompts, young.tolist(), turns, strict=True)
    ):
        created = start_ms - (2 if new else 200) * DAY_MS
        tier = b"paid" if new else b"verified"
        org = b"" if new or number % 2 else b'"org_id":"org-%d",' % (number % 500)
        address = b"%s.%d" % (subnet.encode(), number % 250 + 1)
        event, name = b"%s-%012x" % (series, row), account_id(number).encode()
        found.append(
            _LINE % (event, at, name, address, prompt, org, name, created, tier, event, spoken, len(prompt) // 4,
                     200 + row % 400)
        )  # fmt: skip
    return found
