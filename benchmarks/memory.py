"""Bytes per account and per typed key at a million accounts, and memory over event-days, without a broker.

Both nodes of one partition, each part in a process of its own. ``young``: accounts two days old with one prompt of
their own each; ``trusted``: verified accounts 200 days old in organisations of ten. ``keys``: typed keys by how many
use them. ``time``: the same accounts say something new every event-day, and no bound is reached. ``turnover``: all
accounts change every day and the bounds are low. In both memory must stop growing. Arrays grow by half; bytes are
given as used and as held, spare room included (which the system does not back before it is used).
"""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from measure import Table, arguments, machine, memory_mb, report

from streamdetect.kernels.chunk import chunk_of, spans_of
from streamdetect.kernels.members import YOUNG
from streamdetect.pipeline.accept.columns import AccountTier, RequestColumns
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accounts.sharing import KeyType, pack_shared
from streamdetect.pipeline.accounts.state import AccountsState
from streamdetect.pipeline.accounts_node import AccountsNode, facts_of
from streamdetect.pipeline.associations.links import Links, pack_findings, unpack_links
from streamdetect.pipeline.associations.state import AssociationsState
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.pipeline.decisions.policy import default_policy
from streamdetect.pipeline.warm import warm
from streamdetect.traffic.draws import mix

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
BATCH = 500  # as the worker takes them: room is made for the worst that a batch can bring
_WORDS = 30


class Nodes:
    """Accounts and associations of one partition, wired together."""

    def __init__(self, accounts: AccountsState, associations: AssociationsState) -> None:
        policy = default_policy()
        self.accounts = AccountsNode(policy, "shadow", 1, state=accounts)
        self.associations = AssociationsNode(policy, "shadow", state=associations)
        self._offset = 0

    def take(self, columns: RequestColumns) -> None:
        """A batch, all the way to the evidence it leads to."""
        output = self.accounts.events(columns)
        assert output.shared is not None
        assert output.observed is not None
        offsets = self._offset + np.arange(len(columns))
        self._offset += len(columns)
        for record in pack_shared(output.shared, columns, output.observed, offsets, 0).values():
            links, _ = unpack_links(self.associations.state, record, 1)
            found = self.associations.links(links).findings
            for evidence in pack_findings(
                found, 0, offsets[links.outer_index[found["source_row"]]], found["source_row"]
            ).values():
                about, facts, *_ = facts_of(evidence)
                self.accounts.evidence(about, facts)


def events(accounts: np.ndarray, at_ms: np.ndarray, serial: int, *, trusted: bool) -> RequestColumns:
    """One event of each of ``accounts``: a text of its own, 20 accounts a subnet; ``serial`` numbers the events."""
    count = len(accounts)
    parts: list[bytes] = []
    for row, number in enumerate(accounts.tolist()):
        account, organisation = b"account-%012d" % number, b"organisation-%d" % (number // 10) if trusted else b""
        parts += [account, b"event-%012d" % (serial + row), organisation, account]
    identifiers, spans = spans_of(parts)
    # Words of letters alone: the normaliser takes a word with digits for a number, and all prompts for one.
    letters = np.random.default_rng(serial).integers(ord("a"), ord("z") + 1, (count, _WORDS, 7), np.uint8)
    letters[:, :, 6] = ord(" ")
    texts, prompts = spans_of([row.tobytes() for row in letters])
    one = decode_requests(
        chunk_of("one", 0, [orjson.dumps({"event_id": "e", "occurred_at": START_MS, "account_id": "a"})])
    )[0]
    columns = one.take(np.zeros(count, np.int64))
    column = lambda place: type(spans)(spans.start[place::4].copy(), spans.end[place::4].copy())  # noqa: E731
    return replace(
        columns,
        record=np.arange(count),
        occurred_at=at_ms,
        account_created_at=at_ms - (200 if trusted else 2) * DAY_MS,
        account_tier=np.full(count, AccountTier.VERIFIED if trusted else AccountTier.PAID, np.uint8),
        input_tokens=np.full(count, 100),
        output_tokens=np.full(count, 300),
        address_family=np.full(count, 4, np.uint8),
        address_low=(((11 << 24) + (accounts // 20 << 8) + accounts % 20) & 0xFFFFFFFF).astype(np.uint64),
        identifiers=np.frombuffer(identifiers, np.uint8),
        account_id=column(0),
        event_id=column(1),
        org_id=column(2) if trusted else columns.org_id,
        api_key_id=column(3),
        texts=np.frombuffer(texts, np.uint8),
        prompt=prompts,
    )


def held(accounts: AccountsState, associations: AssociationsState) -> dict[str, dict[str, float]]:
    """Bytes by structure: held, spare room included, and of what is in use with its share of marks and index."""
    seen, ids, names = accounts.seen.tables, len(accounts.ids), len(associations.names)
    whole = {
        "remembered events": (int(accounts.seen.state[1]), seen.nbytes + accounts.seen.dirty.nbytes),
        "ids of accounts": (accounts.table.count, ids),
        "names of keys": (associations.table.count, names),
    }
    parts = {
        name: {"count": count, "held_bytes": size, "used_bytes": size, "each": size / max(1, count)}
        for name, (count, size) in whole.items()
    }
    tables: dict[str, Any] = {
        "account rows": accounts.table,
        "account activities": accounts.activities,
        "account subnets": accounts.subnets,
        "key rows": associations.table,
        "lone content keys": associations.singles,
        "members": associations.members,
        "crowds": associations.crowds,
    }
    for name, table in tables.items():
        rows = table.rows
        slots = table.slots.nbytes / len(rows) if hasattr(table, "slots") else 0.0
        each = rows.dtype.itemsize + 1 + slots
        parts[name] = {
            "count": table.count,
            "held_bytes": table.memory_bytes,
            "used_bytes": table.count * each,
            "each": each,
        }
    return parts


_OF_ACCOUNTS = ("account rows", "account activities", "account subnets", "remembered events", "ids of accounts")


def fill(kind: str, count: int) -> dict[str, Any]:
    """Bytes per account after one event each within an hour."""
    warm()
    nodes = Nodes(AccountsState(), AssociationsState())
    before = memory_mb(field="VmRSS")
    for first in range(0, count, BATCH):
        rows = np.arange(first, min(first + BATCH, count))
        nodes.take(events(rows, START_MS + rows * 3_600_000 // count, first, trusted=kind == "trusted"))
    accounts, associations = nodes.accounts.state, nodes.associations.state
    parts = held(accounts, associations)

    def each(names: tuple[str, ...], field: str) -> int:
        return round(sum(parts[name][field] for name in names) / count)

    of_keys = tuple(name for name in parts if name not in _OF_ACCOUNTS)
    rss_mb = memory_mb(field="VmRSS")
    return {
        "accounts": accounts.table.count,
        "account_bytes_each_used": each(_OF_ACCOUNTS, "used_bytes"),
        "account_bytes_each_held": each(_OF_ACCOUNTS, "held_bytes"),
        "key_bytes_per_account_used": each(of_keys, "used_bytes"),
        "key_bytes_per_account_held": each(of_keys, "held_bytes"),
        "all_bytes_per_account_used": each(tuple(parts), "used_bytes"),
        "all_bytes_per_account_held": each(tuple(parts), "held_bytes"),
        "keys_per_account": round((associations.table.count + associations.singles.count) / count, 1),
        "rss_growth_bytes_per_account": round((rss_mb - before) * 2**20 / count),
        "bytes_per_account_at_rest_used": _at_rest(nodes, count, parts, trusted=kind == "trusted"),
        "parts": parts,
    }


def _at_rest(nodes: Nodes, count: int, active: dict[str, dict[str, float]], *, trusted: bool) -> int:
    """What each of ``count`` accounts still takes when as many others have come three days later and need the room."""
    others = count
    for first in range(0, others, BATCH):
        rows = np.arange(first, min(first + BATCH, others))
        at_ms = START_MS + 3 * DAY_MS + rows * 3_600_000 // others
        nodes.take(events(count + rows, at_ms, count + first, trusted=trusted))
    used = sum(part["used_bytes"] for part in held(nodes.accounts.state, nodes.associations.state).values())
    of_others = sum(part["used_bytes"] for part in active.values()) / count * others
    return round((used - of_others) / count)


# Keys by how they are used: type, members each (0: all rows are of one key).
KEYS = {
    "lone content key": (KeyType.TEMPLATE, 1),
    "lone payment": (KeyType.PAYMENT, 1),
    "lone API key": (KeyType.API_KEY, 1),
    "subnet of 20": (KeyType.SUBNET_24, 20),
    "content key of 20": (KeyType.TEMPLATE, 20),
    "one hot content key": (KeyType.TEMPLATE, 0),
}


def keys(rows: int) -> dict[str, Any]:
    """Bytes of typed keys, by how many use them: one row for each (key, member)."""
    warm()
    found = {}
    for name, (key_type, members) in KEYS.items():
        node = AssociationsNode(default_policy(), "shadow")
        for first in range(0, rows, BATCH):
            number = np.arange(first + 1, min(first + BATCH, rows) + 1)
            key = (number - 1) // members + 1 if members else np.ones_like(number)
            node.links(_rows(number.astype(np.uint64), key.astype(np.uint64), key_type, START_MS + number))
        parts = held(AccountsState(), node.state)
        used = sum(part["used_bytes"] for structure, part in parts.items() if structure not in _OF_ACCOUNTS)
        count = rows // members if members else 1
        found[name] = {"keys": count, "bytes_each": round(used / count), "bytes_a_member": round(used / rows, 1)}
    return found


def _rows(member: np.ndarray, key: np.ndarray, key_type: KeyType, at_ms: np.ndarray) -> Links:
    count = len(member)
    names = [b"account-%012d" % number for number in member.tolist()] if key_type == KeyType.API_KEY else []
    return Links(
        source=np.zeros(count, np.uint16),
        occurred_at=at_ms,
        account=member,
        member=member,
        event=member,
        member_kind=np.full(count, YOUNG, np.uint8),
        outer_index=np.arange(count, dtype=np.uint32),
        key_type=np.full(count, key_type, np.uint8),
        key=key if key_type == KeyType.SUBNET_24 else mix(key),
        name_length=np.full(count, len(names[0]) if names else 0, np.int64),
        names=b"".join(names),
    )


def flat(days: int, accounts_a_day: int, *, turnover: bool) -> dict[str, Any]:
    """Memory at the end of each event-day.

    With ``turnover`` all accounts are new every day and the bounds are half a day's accounts and keys. Without it the
    same accounts say something new every day, and no bound is reached: what makes room is the time.
    """
    warm()
    bound = accounts_a_day // 2
    accounts, associations = AccountsState(), AssociationsState()
    if turnover:
        accounts = AccountsState(accounts_max=bound)
        associations = AssociationsState(keys_max=bound, singles_max=8 * bound)
    nodes = Nodes(accounts, associations)
    rss, arrays, counts = [], [], []
    for day in range(days):
        for first in range(0, accounts_a_day, BATCH):
            rows = np.arange(first, min(first + BATCH, accounts_a_day))
            at_ms = START_MS + day * DAY_MS + rows * DAY_MS // accounts_a_day
            serial = day * accounts_a_day + first
            nodes.take(events(rows + day * accounts_a_day * turnover, at_ms, serial, trusted=False))
        rss.append(round(memory_mb(field="VmRSS"), 1))
        arrays.append(round((accounts.memory_bytes + associations.memory_bytes) / 2**20, 1))
        counts.append(accounts.table.count + associations.table.count + associations.singles.count)
    half = days // 2
    return {
        "days": days,
        "accounts_a_day": accounts_a_day,
        "bound": bound if turnover else None,
        "rss_mb": rss,
        "array_mb": arrays,
        "rows": counts,
        "evicted": accounts.evicted + associations.evicted,
        "rss_growth_second_half_percent": round((rss[-1] / rss[half - 1] - 1) * 100, 1),
    }


PARTS = ("young", "trusted", "keys", "time", "turnover")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--accounts-a-day", type=int, default=40_000)
    parser.add_argument("--part", choices=PARTS, help="one part, in this process")
    chosen = parser.parse_args()
    if chosen.part is not None:
        if chosen.part == "keys":
            part = keys(max(20, chosen.accounts // 5))
        elif chosen.part in ("young", "trusted"):
            part = fill(chosen.part, chosen.accounts)
        else:
            part = flat(chosen.days, chosen.accounts_a_day, turnover=chosen.part == "turnover")
        print(orjson.dumps(part).decode())
        return
    found: dict[str, Any] = {"machine": machine()}
    for part in PARTS:
        done = subprocess.run([sys.executable, *sys.argv, "--part", part], stdout=subprocess.PIPE, check=True)
        found[part] = orjson.loads(done.stdout)
    tables = [_sizes(found), _parts(found), _keys(found["keys"]), _days(found["time"]), _days(found["turnover"])]
    report("memory", __doc__, found, tables, save=chosen.save)


def _keys(found: dict[str, Any]) -> Table:
    rows = [(name, part["keys"], part["bytes_each"], part["bytes_a_member"]) for name, part in found.items()]
    return Table(("typed key", "keys", "bytes a key, used", "bytes a member"), rows)


def _sizes(found: dict[str, Any]) -> Table:
    kinds = [kind for kind in ("young", "trusted") if kind in found]
    names = {
        "accounts": "accounts",
        "keys_per_account": "typed keys an account",
        "account_bytes_each_used": "bytes an account, used",
        "account_bytes_each_held": "bytes an account, held",
        "key_bytes_per_account_used": "bytes of its keys, used",
        "key_bytes_per_account_held": "bytes of its keys, held",
        "all_bytes_per_account_used": "bytes an account with all its keys, used",
        "all_bytes_per_account_held": "bytes an account with all its keys, held",
        "rss_growth_bytes_per_account": "growth of the process an account, bytes",
        "bytes_per_account_at_rest_used": "bytes an account silent for three days, used",
    }
    rows = [(text, *(found[kind][name] for kind in kinds)) for name, text in names.items()]
    return Table(("", *(f"{kind} accounts" for kind in kinds)), rows)


def _parts(found: dict[str, Any]) -> Table:
    rows = [
        (
            f"{kind}: {name}",
            part["count"],
            round(part["each"], 1),
            round(part["used_bytes"] / found[kind]["accounts"]),
            round(part["held_bytes"] / 2**20, 1),
        )
        for kind in ("young", "trusted")
        for name, part in found[kind]["parts"].items()
    ]
    return Table(("structure", "entries", "bytes each", "bytes an account, used", "MB held"), rows)


def _days(flat: dict[str, Any]) -> Table:
    rows = list(zip(range(1, flat["days"] + 1), flat["rows"], flat["array_mb"], flat["rss_mb"], strict=True))
    if flat["bound"] is None:
        what = f"The same {flat['accounts_a_day']:,} accounts every day, no bound reached"
    else:
        what = f"{flat['accounts_a_day']:,} new accounts a day, at most {flat['bound']:,} kept"
    note = (
        f"{what}, {flat['evicted']:,} rows evicted; the process grew by {flat['rss_growth_second_half_percent']} % in "
        "the second half."
    )
    return Table(("end of day", "rows of accounts and keys", "MB of arrays", "MB of the process"), rows, note)


if __name__ == "__main__":
    main()
