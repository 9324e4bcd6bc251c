"""Events, policies and digests that the tests of the pure pipeline share.

A digest is the content of a state in key order: two states with equal digests answer every later input alike. Places in
arrays, spare room and entries that no window covers are left out.
"""

import re
from functools import cache
from itertools import pairwise

import numpy as np
import orjson

from streamdetect.kernels.chunk import chunk_of
from streamdetect.kernels.members import TICK_MS
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accounts.evidence import FACT_MS
from streamdetect.pipeline.accounts.state import FACT
from streamdetect.pipeline.associations.links import Links
from streamdetect.pipeline.decisions.policy import default_text, load_policy

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
START = 1_767_225_600_000  # 2026-01-01, a border of every sub-bucket
ASK = "please compare the following two reports and list every difference between them in a short table number"

_MORE_RULES = """
[[rules]]
id = "watch-key"
scope = "api_key"
when = "accounts_1d >= 3"
action = "rate_limit"
params = { unit = "requests", limit = 1, period = "minute" }
ttl = "1h"
reason_code = "shared_key"

[[rules]]
id = "watch-org"
scope = "org"
when = "requests_1m > 4"
action = "observe"
ttl = "10m"
reason_code = "shared_organisation"

[[rules]]
id = "shadowed"
when = "subnets_1h >= 3"
status = "shadow"
action = "verify"
ttl = "30m"
reason_code = "policy"

[ladder]
"""


@cache
def low_policy(**caps):
    """Give the shipped policy with thresholds that a handful of events reaches, and rules for the other scopes."""
    text = default_text()
    for old, new in (
        ("requests_1m > 600", "requests_1m > 3"),
        ("_young_1d >= 200", "_young_1d >= 3"),
        ("_young_1d >= 20", "_young_1d >= 3"),
        ("_young_1d >= 5", "_young_1d >= 2"),
        ("young_accounts_1h >= 20", "young_accounts_1h >= 3"),
        ("\n[ladder]\n", _MORE_RULES),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"(?m)^(subnet|org|api_key|payment|template|system) = \d+", r"\1 = 3", text)
    for name, value in caps.items():
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        assert count == 1
    return load_policy(text)


_OTHER = (
    ("version = 1", "version = 2"),
    ("max_ahead_ms = 604_800_000", "max_ahead_ms = 3_600_000"),
    ("requests_1m > 3", "requests_1m > 1"),
    ("subnets_1h >= 3", "subnets_1h >= 2"),
    ("_young_1d >= 3", "_young_1d >= 2"),
    ("renew_fraction = 0.5", "renew_fraction = 0.95"),
    ("rate_limit_per_hour = 50_000", "rate_limit_per_hour = 2"),
    ("t0_days = 7", "t0_days = 3"),
    ("t1_days = 30", "t1_days = 5"),
    ("min_shingles = 8", "min_shingles = 17"),
    ("template = 3", "template = 2"),
    ("org = 3", "org = 2"),
)


def other_policy(effective_at=None):
    """Give a policy that differs wherever a stage reads one."""
    text = low_policy().text
    for old, new in _OTHER:
        assert old in text, old
        text = text.replace(old, new)
    return load_policy(text if effective_at is None else f"effective_at = {effective_at}\n{text}")


def event(number, account, at, **fields):
    return {"event_id": f"e{number}", "account_id": account, "occurred_at": at, **fields}


def lines(events):
    return chunk_of("requests", 0, [orjson.dumps(value) for value in events])


def columns_of(events):
    columns, rejects = decode_requests(lines(events))
    assert not rejects
    return columns


def facts_from(rows):
    """Make ``FACT[n]`` of tuples (family, key, at, event, young, trusted, members)."""
    facts = np.zeros(len(rows), FACT)
    for place, name in enumerate(("family", "key", "at", "event", "young", "trusted", "members")):
        facts[name] = [row[place] for row in rows]
    return facts


def links_from(rows):
    """Make ``Links`` of tuples (at, account, member, event, kind, key type, key, name), one row an event."""

    def column(place, dtype):
        return np.array([row[place] for row in rows], dtype)

    return Links(
        source=np.zeros(len(rows), np.uint16),
        occurred_at=column(0, np.int64),
        account=column(1, np.uint64),
        member=column(2, np.uint64),
        event=column(3, np.uint64),
        member_kind=column(4, np.uint8),
        outer_index=np.arange(len(rows), dtype=np.uint32),
        key_type=column(5, np.uint8),
        key=column(6, np.uint64),
        name_length=np.array([len(row[7]) for row in rows], np.int64),
        names=b"".join(row[7] for row in rows),
    )


def cut(sequence, places):
    """Cut a sequence into pieces at the given places, whatever their order."""
    borders = [0, *sorted({place % (len(sequence) + 1) for place in places}), len(sequence)]
    return [sequence[a:b] for a, b in pairwise(borders) if b > a]


def plain(row, names):
    return tuple(row[name].tolist() for name in names)


def live_members(members, owner_keys, newest_ticks):
    """(owner, member, newest bucket, class) of everybody some window still covers."""
    found = []
    for entry in members.live:
        newest = int(newest_ticks[entry["owner"]])
        if int(entry["tick"]) // 24 > newest // 24 - 6:
            found.append((int(owner_keys[entry["owner"]]), *plain(entry, ("member", "tick", "kind"))))
    return sorted(found)


def ledger_of(state, row):
    """Live facts of an account: (family, key, at, young, trusted, members)."""
    account = state.table.rows[row]
    if account["ledger"] < 0:
        return []
    facts = [fact for fact in state.ledgers[account["ledger"]] if fact["at"] > max(account["newest"] - FACT_MS, 0)]
    return sorted(plain(fact, ("family", "key", "at", "young", "trusted", "members")) for fact in facts)


_ACCOUNT_SIGNALS = ("key", "newest", "created_at", "tier_told")
_WINDOWS = ("requests", "input_tokens", "output_tokens", "subnets")
_KEY_SIGNALS = ("key", "raw", "newest", "key_type", "requests")
_QUIET = ("quiet_level", "quiet_until_s")


def account_signals(state):
    """What two accounts states must share when only the order of inputs differed."""
    rows = [
        (
            *plain(record, _ACCOUNT_SIGNALS),
            plain(state.activity_of(row), _WINDOWS),
            state.account_id(row),
            ledger_of(state, row),
        )
        for row, record in enumerate(state.table.live)
    ]
    live = state.table.live
    return sorted(rows), live_members(state.subnets, live["key"], live["newest"] // TICK_MS)


def accounts_digest(state):
    """Everything an accounts state remembers."""
    extra = sorted(
        (
            int(record["key"]),
            plain(record, (*_QUIET, "tier_at")),
            plain(state.activity_of(row), ("recent",)),
            state.newest_event(row),
        )
        for row, record in enumerate(state.table.live)
    )
    seen = [sorted(table[table != 0].tolist()) for table in state.seen.tables]
    return account_signals(state), extra, seen, state.seen.state.tolist(), state.newest


def key_signals(state):
    """What two associations states must share when only the order of inputs differed."""
    live = state.table.live
    rows = sorted(
        (plain(record, _KEY_SIGNALS), state.distinct(row).tolist(), state.name(row)) for row, record in enumerate(live)
    )
    waiting = [single for single in state.singles.live if not single["promoted"]]
    singles = sorted((*plain(s, ("key", "member", "kind")), int(s["newest"]) // TICK_MS) for s in waiting)
    return rows, singles, live_members(state.members, live["key"], live["newest"] // TICK_MS)


def keys_digest(state):
    """Everything an associations state remembers."""
    extra = sorted(plain(record, ("key", "suspect", *_QUIET)) for record in state.table.live)
    singles = sorted(plain(single, single.dtype.names) for single in state.singles.live)
    return key_signals(state), extra, singles, state.newest


def standings_digest(standings):
    return {
        subject: (record.revision, [str(track) for track in record.tracks], record.held, str(record.pardon))
        for subject, record in sorted(standings._subjects.items())
    }


def decided(decisions):
    return [decision.to_bytes() for decision in decisions]
