"""Streams of events, facts and rows that reach rules, for the property tests of both nodes."""

import numpy as np
from hypothesis import strategies as st
from pipeline_reference import ASK, DAY_MS, START, event, facts_from

from streamdetect.pipeline.accounts.records import account_hash
from streamdetect.pipeline.accounts.sharing import KeyType

cuts = st.lists(st.integers(0, 100), max_size=6)
ACCOUNTS = ["ann", "bob", "cid", "dan"]
offsets = st.one_of(
    st.integers(0, 30_000), st.integers(0, 30_000), st.integers(0, 7_200_000), st.integers(0, 3 * DAY_MS)
)

events = st.lists(
    st.builds(
        lambda number, account, offset, fields: event(number, account, START + offset, **fields),
        st.one_of(st.integers(0, 99), st.integers(0, 99).map(lambda n: "-" + str(n) + "x" * 40)),
        st.sampled_from(["ann", "ann", "ann", *ACCOUNTS]),
        offsets,
        st.fixed_dictionaries(
            {},
            optional={
                "kind": st.sampled_from(["request", "request", "request", "completion"]),
                "outcome": st.sampled_from(["served", "served", "served", "blocked"]),
                "client_ip": st.sampled_from(["10.0.1.1", "10.0.2.1", "10.0.3.1", "2001:db8::1", "2001:db8:0:1::1"]),
                "account_created_at": st.sampled_from([START, START - 8 * DAY_MS, START - 100 * DAY_MS]),
                "account_tier": st.sampled_from(["paid", "verified"]),
                "org_id": st.sampled_from(["org-a", "org-b"]),
                "api_key_id": st.just("key"),
                "payment_id": st.just("card"),
                "prompt": st.sampled_from([ASK, ASK + " one", ASK + " two hundred and twelve"]),
                "system_prompt": st.just("you are " + ASK),
                "input_tokens": st.integers(0, 1000),
            },
        ),
    ),
    min_size=12,
    max_size=40,
)
facts = st.lists(
    st.tuples(
        st.sampled_from([*ACCOUNTS, "nobody"]),
        st.integers(0, 5),  # family
        st.integers(1, 2),  # key; at most twelve facts an account ...
        st.sampled_from([START + n * 3_600_000 for n in (1, 2, 30, 40)]),
        st.integers(1, 9),  # event
        st.integers(0, 6),  # young
        st.sampled_from([0, 0, 1]),  # trusted
        st.integers(0, 9),  # members
    ),
    min_size=4,
    max_size=30,
)
few_facts = facts.map(lambda rows: [row for row in rows if row[1] < 4])  # ... and these at most eight: no room is short
rows = st.lists(
    st.builds(
        lambda offset, account, event, kind, key_type, key: (
            START + offset,
            account,
            50 + account // 3 if kind == 2 else account,  # three trusted accounts are one organisation
            event,
            kind,
            key_type,
            key,
            f"name-{key}".encode() if key_type in (KeyType.ORG, KeyType.API_KEY) else b"",
        ),
        offsets,
        st.integers(1, 9),
        st.integers(1, 2**40),
        st.sampled_from([0, 1, 1, 1, 2]),
        st.sampled_from([1, 1, 5, 6, *(int(key_type) for key_type in KeyType)]),
        st.sampled_from([1, 1, 2]),
    ),
    min_size=12,
    max_size=40,
)


def take_facts(node, told):
    hashes = np.array([account_hash(name) for name, *_ in told], np.uint64)
    return node.evidence(hashes, facts_from([fact for _, *fact in told]))
