"""Call every compiled kernel once, before a process takes traffic, so that nothing compiles under load.

The first call on a machine compiles (tens of seconds) and leaves a cache; later ones load it (about a second).
"""

import orjson

from streamdetect.kernels.chunk import chunk_of
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accept.watermark import Watermark
from streamdetect.pipeline.accounts.sharing import pack_shared
from streamdetect.pipeline.associations.absorb import pack_findings, unpack_links
from streamdetect.pipeline.decisions.policy import default_policy
from streamdetect.pipeline.topology import AccountsNode, AssociationsNode, facts_of


def warm() -> None:
    """Send a few synthetic events, a suspect template among them, through both nodes."""
    policy = default_policy()
    accounts, associations = AccountsNode(policy, "shadow", 1), AssociationsNode(policy, "shadow")
    text = " ".join(f"word{number}" for number in range(40))
    events = [
        orjson.dumps(
            {
                "event_id": f"event-{number}",
                "occurred_at": 1_700_000_000_000 + number * 1000,
                "account_id": f"account-{number}",
                "account_created_at": 1_699_900_000_000,
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
        for number in range(40)
    ]
    columns, _ = decode_requests(chunk_of("warm", 0, events))
    Watermark(1).judge(columns.occurred_at, columns.occurred_at.astype("u8"))
    output = accounts.events(columns)
    assert output.shared is not None
    assert output.observed is not None
    for record in pack_shared(output.shared, columns, output.observed, columns.record, 0).values():
        links, _ = unpack_links(associations.state, record, 1)
        for found in pack_findings(associations.links(links).findings, 0, 0).values():
            about, facts, *_ = facts_of(found)
            accounts.evidence(about, facts)
