"""Call every compiled kernel of the live detector once, before a process takes traffic: nothing compiles under load.

The first call on a machine compiles (tens of seconds) and leaves a cache; later ones load it (about a second). What
only a full or crowded detector reaches (growth, eviction, sweeps) is reached here by tiny bounds. Replay adds variants
of its own, for its texts lie in writable memory, and compiles them on first use: nobody waits for its decisions.
"""

import numpy as np
import orjson

from streamdetect.kernels.chunk import chunk_of
from streamdetect.kernels.hashing import hash_spans
from streamdetect.kernels.images import Image, decode, encode
from streamdetect.kernels.kafka_records import Batches, records_of
from streamdetect.kernels.murmur2 import key_partitions
from streamdetect.kernels.seen import SeenHashes
from streamdetect.messages.account import AccountRecord
from streamdetect.messages.decision import Subject
from streamdetect.messages.override import Override
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accept.watermark import Watermark
from streamdetect.pipeline.accounts.features import WIDTH
from streamdetect.pipeline.accounts.sharing import pack_shared
from streamdetect.pipeline.accounts_node import AccountsNode, facts_of
from streamdetect.pipeline.associations.links import joined_links, pack_findings, unpack_links
from streamdetect.pipeline.associations.state import CROWD, count_alone
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.pipeline.decisions.policy import default_policy
from streamdetect.pipeline.enforcement.pardons import Pardon

_ACCOUNTS = 40  # enough young ones behind one template to make it suspect under the shipped policy
_FIRST_MS = 1_700_000_000_000


def warm() -> None:
    """Send synthetic events, a suspect template among them, through both nodes, then make both run out of room."""
    policy = default_policy()
    accounts, associations = AccountsNode(policy, "shadow", 1), AssociationsNode(policy, "shadow")
    accounts.records([("account-0", AccountRecord(account_id="account-0", created_at=_FIRST_MS))])
    columns = _events()
    output = accounts.events(columns)
    assert output.shared is not None
    assert output.observed is not None
    for record in pack_shared(output.shared, columns, output.observed, columns.record, 0).values():
        links, _ = unpack_links(associations.state, record, 1)
        findings = associations.links(joined_links([links, links])).findings
        for found in pack_findings(findings, 0, findings["at"], findings["source_row"]).values():
            about, facts, *_ = facts_of(found)
            accounts.evidence(about, facts)
    _pardon(accounts, associations)
    _save_and_restore(accounts, associations)
    _run_out_of_room(accounts, associations)


def _pardon(accounts: AccountsNode, associations: AssociationsNode) -> None:
    """Find subjects by their names, and look at evidence without what was pardoned."""
    for key in ("account:account-0", "org:org", "subnet:192.0.2.0/24"):
        told = Override(
            override_id="warm", subject=Subject.from_key(key), effect="allow", actor="warm", reason="",
            created_at=_FIRST_MS,
        )  # fmt: skip
        accounts.overrides([(key, told)])
        associations.overrides([(key, told)])
    keys = associations.state
    count_alone(np.zeros(CROWD["distinct"].shape, np.uint32), keys.members.rows, keys.table.rows[0])
    facts, features = accounts.state.ledgers[0], np.zeros(WIDTH, np.int64)
    Pardon(facts=((0, 0, 0),)).left_of(features, facts, "account", at=_FIRST_MS, windows_at=_FIRST_MS)


def _events() -> RequestColumns:
    text = " ".join(f"word{number}" for number in range(40))
    names = [f"account-{number}".encode() for number in range(_ACCOUNTS)]
    events = [
        orjson.dumps(
            {
                "event_id": f"event-{number}",
                "occurred_at": _FIRST_MS + number * 1000,
                "account_id": names[number].decode(),
                "account_created_at": _FIRST_MS - 100_000_000,
                "client_ip": "2001:db8::1" if number % 2 else "192.0.2.1",
                "org_id": "org",
                "api_key_id": "key",
                "payment_id": "card",
                "prompt": text,
                "system_prompt": text,
                "input_tokens": 5,
                "output_tokens": 5,
            }
        )
        for number in range(_ACCOUNTS)
    ]
    chunk = chunk_of("warm", 0, events, keys=names)
    nothing = np.zeros(0, np.int64)
    records_of(Batches(np.frombuffer(b"", np.uint8), nothing, nothing, nothing, nothing, nothing, nothing), 0)
    key_partitions(np.frombuffer(chunk.buffer, np.uint8), chunk.keys.start, chunk.keys.end, 1)
    columns, _ = decode_requests(chunk)
    ids = columns.account_id
    Watermark(1).judge(columns.occurred_at, hash_spans(columns.identifiers, ids.start, ids.end, np.uint64(0)))
    return columns


def _save_and_restore(accounts: AccountsNode, associations: AssociationsNode) -> None:
    image = decode(encode(Image({**accounts.capture(0), **associations.capture(0)})))
    for node in (AccountsNode(accounts.policy, "shadow", 1), AssociationsNode(accounts.policy, "shadow")):
        node.restore([image])


def _run_out_of_room(accounts: AccountsNode, associations: AssociationsNode) -> None:
    """Grow every table, rotate what is remembered of repeats, and forget the silent."""
    seen = SeenHashes(generation=4096)
    seen.reserve(4096)
    accounts.state.accounts_max = associations.state.keys_max = associations.state.singles_max = _ACCOUNTS
    accounts.state.reserve(2 * len(accounts.state.table.rows))
    associations.state.reserve(2 * len(associations.state.table.rows))
