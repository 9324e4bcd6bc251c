"""Bytes per account and per typed key at a million accounts, and memory over event-days of turnover, without a broker.

Both nodes of one partition in this process. First parts, each in a process of its own: ``young``, accounts two days old
with one prompt of their own each, and ``trusted``, verified accounts 200 days old in organisations of ten. Then
``flat``: all accounts change every event-day and the bounds are low, so memory must stop growing. Arrays double as
they grow; bytes are given as held (spare room included) and as used.
"""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from measure import Table, arguments, machine, memory_mb, report

from streamdetect.kernels.chunk import chunk_of, spans_of
from streamdetect.pipeline.accept.columns import AccountTier, RequestColumns
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accounts.sharing import pack_shared
from streamdetect.pipeline.accounts.state import AccountsState
from streamdetect.pipeline.associations.links import pack_findings, unpack_links
from streamdetect.pipeline.associations.state import AssociationsState
from streamdetect.pipeline.decisions.policy import default_policy
from streamdetect.pipeline.topology import AccountsNode, AssociationsNode, facts_of
from streamdetect.pipeline.warm import warm

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
BATCH = 5_000
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


def events(first: int, count: int, at_ms: np.ndarray, *, trusted: bool) -> RequestColumns:
    """One event each of accounts ``first ...``: a text of its own, 20 accounts a subnet."""
    numbers = range(first, first + count)
    ids = [b"account-%012d" % number for number in numbers]
    parts: list[bytes] = []
    for number, account in zip(numbers, ids, strict=True):
        parts += [account, b"event-%012d" % number, b"organisation-%d" % (number // 10) if trusted else b"", account]
    identifiers, spans = spans_of(parts)
    # Words of letters alone: the normaliser takes a word with digits for a number, and all prompts for one.
    letters = np.random.default_rng(first).integers(ord("a"), ord("z") + 1, (count, _WORDS, 7), np.uint8)
    letters[:, :, 6] = ord(" ")
    texts, prompts = spans_of([row.tobytes() for row in letters])
    one = decode_requests(
        chunk_of("one", 0, [orjson.dumps({"event_id": "e", "occurred_at": START_MS, "account_id": "a"})])
    )[0]
    columns = one.take(np.zeros(count, np.int64))
    column = lambda place: type(spans)(spans.start[place::4].copy(), spans.end[place::4].copy())  # noqa: E731
    rows = np.arange(first, first + count)
    return replace(
        columns,
        record=np.arange(count),
        occurred_at=at_ms,
        account_created_at=at_ms - (200 if trusted else 2) * DAY_MS,
        account_tier=np.full(count, AccountTier.VERIFIED if trusted else AccountTier.PAID, np.uint8),
        input_tokens=np.full(count, 100),
        output_tokens=np.full(count, 300),
        address_family=np.full(count, 4, np.uint8),
        address_low=(((11 << 24) + (rows // 20 << 8) + rows % 20) & 0xFFFFFFFF).astype(np.uint64),
        identifiers=np.frombuffer(identifiers, np.uint8),
        account_id=column(0),
        event_id=column(1),
        org_id=column(2) if trusted else columns.org_id,
        api_key_id=column(3),
        texts=np.frombuffer(texts, np.uint8),
        prompt=prompts,
    )


def held(nodes: Nodes) -> dict[str, Any]:
    """Bytes by structure: held, and used by what is in them."""
    accounts, associations = nodes.accounts.state, nodes.associations.state
    tables = {
        "account rows": accounts.table,
        "account subnets": accounts.subnets,
        "keys": associations.table,
        "lone content keys": associations.singles,
        "members": associations.members,
    }
    parts = {}
    for name, table in tables.items():
        rows = table.entries if hasattr(table, "entries") else table.rows
        parts[name] = {
            "count": table.count,
            "held_mb": round(table.memory_bytes / 2**20, 1),
            "used_bytes_each": rows.dtype.itemsize + round(table.slots.nbytes / max(1, len(rows))),
        }
    return parts


def fill(kind: str, count: int) -> dict[str, Any]:
    """Bytes per account after one event each within an hour."""
    warm()
    nodes = Nodes(AccountsState(), AssociationsState())
    before = memory_mb(field="VmRSS")
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        at_ms = START_MS + (first + np.arange(size)) * 3_600_000 // count
        nodes.take(events(first, size, at_ms, trusted=kind == "trusted"))
    accounts, associations = nodes.accounts.state, nodes.associations.state
    keys = associations.table.count + associations.singles.count
    parts = held(nodes)
    used = {name: part["count"] * part["used_bytes_each"] for name, part in parts.items()}
    of_accounts = used["account rows"] + used["account subnets"] + len(accounts.ids) + accounts.seen.tables.nbytes
    of_keys = used["keys"] + used["lone content keys"] + used["members"] + len(associations.names)
    return {
        "accounts": accounts.table.count,
        "typed_keys": keys,
        "account_bytes_each_held": round(accounts.memory_bytes / accounts.table.count),
        "account_bytes_each_used": round(of_accounts / accounts.table.count),
        "key_bytes_each_held": round(associations.memory_bytes / keys),
        "key_bytes_each_used": round(of_keys / keys),
        "all_bytes_per_account_held": round((accounts.memory_bytes + associations.memory_bytes) / accounts.table.count),
        "all_bytes_per_account_used": round((of_accounts + of_keys) / accounts.table.count),
        "keys_per_account": round(keys / accounts.table.count, 1),
        "rss_growth_bytes_per_account": round((memory_mb(field="VmRSS") - before) * 2**20 / accounts.table.count),
        "parts": parts,
    }


def flat(days: int, accounts_a_day: int) -> dict[str, Any]:
    """Memory at the end of each event-day, with bounds of half a day's accounts and keys."""
    warm()
    bound = accounts_a_day // 2
    nodes = Nodes(AccountsState(accounts_max=bound), AssociationsState(keys_max=bound, singles_max=8 * bound))
    rss, arrays = [], []
    for day in range(days):
        for first in range(0, accounts_a_day, BATCH):
            size = min(BATCH, accounts_a_day - first)
            at_ms = START_MS + day * DAY_MS + (first + np.arange(size)) * DAY_MS // accounts_a_day
            nodes.take(events(day * accounts_a_day + first, size, at_ms, trusted=False))
        rss.append(round(memory_mb(field="VmRSS"), 1))
        state = nodes.accounts.state.memory_bytes + nodes.associations.state.memory_bytes
        arrays.append(round(state / 2**20, 1))
    half = days // 2
    return {
        "days": days,
        "accounts_a_day": accounts_a_day,
        "accounts_max": bound,
        "rss_mb": rss,
        "array_mb": arrays,
        "evicted": nodes.accounts.state.evicted + nodes.associations.state.evicted,
        "rss_growth_second_half_percent": round((rss[-1] / rss[half - 1] - 1) * 100, 1),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--accounts-a-day", type=int, default=40_000)
    parser.add_argument("--part", choices=("young", "trusted", "flat"), help="one part, in this process")
    chosen = parser.parse_args()
    if chosen.part is not None:
        part = flat(chosen.days, chosen.accounts_a_day) if chosen.part == "flat" else fill(chosen.part, chosen.accounts)
        print(orjson.dumps(part).decode())
        return
    found: dict[str, Any] = {"machine": machine()}
    for part in ("young", "trusted", "flat"):
        done = subprocess.run([sys.executable, *sys.argv, "--part", part], stdout=subprocess.PIPE, check=True)
        found[part] = orjson.loads(done.stdout)
    report("memory", __doc__, found, [_sizes(found), _parts(found), _days(found["flat"])], save=chosen.save)


def _sizes(found: dict[str, Any]) -> Table:
    kinds = [kind for kind in ("young", "trusted") if kind in found]
    names = {
        "accounts": "accounts",
        "keys_per_account": "typed keys an account",
        "account_bytes_each_used": "bytes an account, used",
        "account_bytes_each_held": "bytes an account, held",
        "key_bytes_each_used": "bytes a typed key with its members, used",
        "key_bytes_each_held": "bytes a typed key with its members, held",
        "all_bytes_per_account_used": "bytes an account with all its keys, used",
        "all_bytes_per_account_held": "bytes an account with all its keys, held",
        "rss_growth_bytes_per_account": "growth of the process an account, bytes",
    }
    rows = [(text, *(found[kind][name] for kind in kinds)) for name, text in names.items()]
    return Table(("", *(f"{kind} accounts" for kind in kinds)), rows)


def _parts(found: dict[str, Any]) -> Table:
    rows = [
        (f"{kind}: {name}", part["count"], part["used_bytes_each"], part["held_mb"])
        for kind in ("young", "trusted")
        for name, part in found[kind]["parts"].items()
    ]
    return Table(("structure", "entries", "bytes each, used", "MB held"), rows)


def _days(flat: dict[str, Any]) -> Table:
    rows = [(day, *sizes) for day, sizes in enumerate(zip(flat["array_mb"], flat["rss_mb"], strict=True), 1)]
    note = (
        f"{flat['accounts_a_day']:,} new accounts a day, at most {flat['accounts_max']:,} kept, {flat['evicted']:,} "
        f"entries evicted; the process grew by {flat['rss_growth_second_half_percent']} % in the second half."
    )
    return Table(("end of day", "MB of arrays", "MB of the process"), rows, note)


if __name__ == "__main__":
    main()
