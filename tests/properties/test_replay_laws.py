"""Replay gives the same bytes whatever the batches, blocks, partitions and order of its input; and leaks no text."""

import gc
from random import Random

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_reference import ASK, DAY_MS, HOUR_MS, START, cut, event, lines, low_policy

from streamdetect.kernels.chunk import chunk_of
from streamdetect.pipeline.accept.dead_letters import dead_letter_of
from streamdetect.pipeline.accept.decode import decode_requests
from streamdetect.pipeline.accounts.sharing import pack_shared
from streamdetect.pipeline.accounts_node import AccountsNode, facts_of
from streamdetect.pipeline.associations.links import pack_findings, unpack_links
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.replay.driver import Options, Replay, replay_files

compiled = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32)
BORN = (START - DAY_MS, START - 3 * DAY_MS, START - 20 * DAY_MS, START - 200 * DAY_MS, None)


def traffic(seed, count=120):
    """Draw events of 14 accounts in two bursts a few hours apart, with everything that can be shared."""
    random = Random(seed)
    born = {f"a{n}": random.choice(BORN if n % 3 else BORN[:2]) for n in range(14)}
    stream = []
    for number in range(count):
        account = random.choice(sorted(born))
        at = START + random.randrange(90_000) + random.choice((0, 0, 0, 3 * HOUR_MS))
        fields = {
            "outcome": random.choice(("served", "served", "served", "served", "rate_limited", "failed")),
            "client_ip": random.choice(("192.0.2.7", "198.51.100.9", "2001:db8:0:1::5", "2001:db8:0:2::6")),
            "org_id": random.choice((None, "org-a", "org-b")),
            "api_key_id": random.choice((None, "key-a")),
            "payment_id": random.choice((None, "card-a", "card-b")),
            "account_created_at": born[account],
            "account_tier": random.choice((None, "paid")) if born[account] else None,
            "prompt": random.choice((f"{ASK} {number}", f"{account} has a question of its own about {number} " * 6)),
            "system_prompt": random.choice((None, f"you are an agent and will {ASK}")),
            "input_tokens": random.randrange(500),
        }
        stream.append(
            event(number, account, at, **{name: value for name, value in fields.items() if value is not None})
        )
        if random.random() < 0.1:
            stream.append({"event_id": f"e{number}", "account_id": account, "occurred_at": at + 5_000,
                           "kind": "completion", "output_tokens": 77})  # fmt: skip
        if random.random() < 0.05:
            stream.append(stream[-1])  # a repeat
    return sorted(stream, key=lambda one: one["occurred_at"])


def replayed(pieces, policy=None, **options):
    replay, decisions = Replay(policy or low_policy(), Options(**options)), []
    for piece in pieces:
        for some in replay.push(lines(piece)):
            decisions += some
    for some in replay.finish():
        decisions += some
    return [decision.to_bytes() for decision in decisions], replay


@compiled
@given(
    seed=seeds, batch=st.integers(1, 200), places=st.lists(st.integers(0, 300), max_size=5), hold=st.integers(1, 200)
)
def test_batches_and_blocks_do_not_show(seed, batch, places, hold):
    stream = traffic(seed)
    expected, _ = replayed([stream])

    found, _ = replayed(cut(stream, places), batch_events=batch, lateness_ms=60_000, hold_events=hold)

    assert found == expected


@compiled
@given(seed=seeds, partitions=st.sampled_from([2, 3, 4]), batch=st.sampled_from([7, 2000]))
def test_partitions_do_not_show(seed, partitions, batch):
    stream = traffic(seed)

    expected, alone = replayed([stream])
    found, split = replayed([stream], partitions=partitions, batch_events=batch)

    assert found == expected
    assert split.rounds.counters == alone.rounds.counters


@compiled
@given(seed=seeds, places=st.lists(st.integers(0, 300), max_size=5), data=st.data())
def test_order_within_the_lateness_does_not_show(seed, places, data):
    stream = traffic(seed)
    lateness_ms = data.draw(st.sampled_from([1_000, 60_000, 4 * HOUR_MS]))
    random = Random(seed)
    shuffled = sorted(stream, key=lambda one: one["occurred_at"] + random.uniform(0, lateness_ms))

    expected, _ = replayed([stream])
    found, replay = replayed(cut(shuffled, places), lateness_ms=lateness_ms, hold_events=1)

    assert replay.feed.overtaken == 0
    assert found == expected


def test_most_of_these_replays_decide_on_every_scope():
    decisions = [orjson.loads(one) for seed in range(5) for one in replayed([traffic(seed)])[0]]

    assert {d["subject"]["scope"] for d in decisions} == {"account", "subnet", "api_key", "org"}
    assert {d["action"] for d in decisions} >= {"observe", "rate_limit", "verify"}
    assert {d["simulated"] for d in decisions} == {True, False}


def test_two_runs_write_the_same_files(tmp_path):
    for name in ("one", "other"):
        replay_files(iter([lines(traffic(7))]), tmp_path / name, low_policy(), Options())

    one, other = ((tmp_path / name / "decisions.jsonl").read_bytes() for name in ("one", "other"))
    assert one == other
    assert one.count(b"\n") > 5


def test_account_records_are_known_where_the_account_lives_and_nowhere_else():
    records = chunk_of("accounts", 0, [orjson.dumps({"account_id": f"a{n}", "created_at": START}) for n in range(8)])
    replay = Replay(low_policy(), Options(partitions=4))
    replay.learn(records)

    assert sum(node.state.table.count for node in replay.rounds.accounts) == 8


@pytest.mark.parametrize("partitions", [1, 3])
def test_packed_records_say_what_replay_hands_over(partitions):
    """Two nodes that talk in packed records decide what replay decides."""
    stream = [{**one, "occurred_at": START + n} for n, one in enumerate(traffic(3))]  # one round
    expected, _ = replayed([stream], partitions=1)
    columns = decode_requests(lines(stream))[0]
    accounts = AccountsNode(low_policy(), "live", partitions)
    keys = [AssociationsNode(low_policy(), "live") for _ in range(partitions)]

    output = accounts.events(columns)
    decisions, found = list(output.decisions), []
    for partition, record in pack_shared(output.shared, columns, output.observed, columns.record, 0).items():
        links, skipped = unpack_links(keys[partition].state, record, 1)
        answer = keys[partition].links(links)
        assert skipped == 0
        assert unpack_links(keys[partition].state, record, 1)[1] == len(links.key)  # all of it was taken in before
        decisions += answer.decisions
        packed = pack_findings(answer.findings, partition, answer.findings["at"], answer.findings["source_row"])
        found += [facts_of(evidence)[:2] for evidence in packed.values()]
    about, facts = np.concatenate([a for a, _ in found]), np.concatenate([f for _, f in found])
    order = np.lexsort((about, facts["key"], facts["event"], facts["at"]))
    decisions += accounts.evidence(np.ascontiguousarray(about[order]), np.ascontiguousarray(facts[order])).decisions

    assert sorted(decision.to_bytes() for decision in decisions) == sorted(expected)


CANARY = "zqxcanaryjvk"
SECRET = f"{CANARY} {ASK} {CANARY}"
BAD_RECORDS = [
    orjson.dumps({"event_id": "b1", "account_id": "a", "occurred_at": SECRET, "prompt": SECRET}),
    orjson.dumps({"event_id": "b2", "occurred_at": START, "prompt": SECRET, "system_prompt": SECRET}),
    orjson.dumps({"event_id": "b3", "account_id": "a", "occurred_at": START, "prompt": {"text": SECRET}}),
    orjson.dumps({"event_id": "b4", "account_id": "a", "occurred_at": START, "client_ip": SECRET}),
    orjson.dumps({"event_id": "b5", "account_id": "a", "occurred_at": START, "prompt": SECRET})[:-9],
    f'{{"event_id": "b6", "prompt": "{SECRET}'.encode() + b"\xff\xfe",
    orjson.dumps([SECRET]),
    SECRET.encode(),
]


def everything_held_by(thing, seen):
    """All bytes reachable from an object of ours: arrays, byte strings and texts."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing
    if isinstance(thing, np.ndarray):
        yield thing.tobytes()
    elif isinstance(thing, str):
        yield thing.encode()
    elif isinstance(thing, bytes | bytearray):
        yield bytes(thing)
    elif type(thing).__module__.startswith("streamdetect") or isinstance(thing, dict | list | tuple | set):
        for other in gc.get_referents(thing):
            if not isinstance(other, type):
                yield from everything_held_by(other, seen)


def test_no_text_of_a_prompt_survives(tmp_path):
    stream = [{**one, "prompt": f"{one.get('prompt', '')} {SECRET}", "system_prompt": SECRET} for one in traffic(5)]
    chunk = chunk_of("requests", 0, [*map(orjson.dumps, stream), *BAD_RECORDS])
    columns, rejects = decode_requests(chunk)
    assert len(rejects) == len(BAD_RECORDS)
    letters = [dead_letter_of(reject, chunk).to_bytes() for reject in rejects]

    decisions, replay = replayed([stream])
    assert decisions
    replay_files(iter([chunk]), tmp_path, low_policy(), Options())
    node = AccountsNode(low_policy(), "live", 2)
    output = node.events(columns)
    packed = pack_shared(output.shared, columns, output.observed, columns.record, 0)
    keys = AssociationsNode(low_policy(), "live")
    findings = keys.links(unpack_links(keys.state, packed[0], 1)[0]).findings
    found = pack_findings(findings, 0, findings["at"], findings["source_row"])
    assert found
    held = list(everything_held_by([replay.rounds, replay.feed.dead_letters, node, keys], {}))
    assert len(held) > 50
    assert any(b"key-a" in text for text in held)  # the search does reach what is kept

    files = [path.read_bytes() for path in tmp_path.iterdir()]
    for text in [*held, *files, *decisions, *letters, *packed.values(), *found.values()]:
        assert CANARY.encode() not in text.lower()
