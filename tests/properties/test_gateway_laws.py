"""The gateway in arrays says what the gateway client's table and limiter say, request by request."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_reference import START, columns_of, event

from streamdetect.enforcer.limits import RateLimiter
from streamdetect.enforcer.requests import GatewayRequest
from streamdetect.enforcer.table import EnforcementTable
from streamdetect.messages.account import AccountRecord
from streamdetect.messages.decision import Decision
from streamdetect.replay.gateway import ASKS, COMPLETES, NOTHING, Asking, Gateway
from streamdetect.replay.truth import hashes_of_accounts

compiled = settings(deadline=None, max_examples=150)
LEVEL = {"pass": 0, "rate_limit": 2, "verify": 3, "suspend": 4}
SUBJECTS = [
    ("account", "a"), ("account", "b"), ("org", "o"), ("api_key", "k"), ("subnet", "192.0.2.0/24"),
    ("subnet", "2001:db8::/64"), ("subnet", "2001:db8::/56"), ("subnet", "2001:db8::/48"),
    ("subnet", "2001:db8:0:1::/64"),
]  # fmt: skip
ADDRESSES = (
    None,
    "192.0.2.9",
    "198.51.100.1",
    "2001:db8::5",
    "2001:db8:0:1::5",
    "2001:db8:0:100::5",
    "::ffff:192.0.2.3",
)
TIERS = ("unpaid", "paid", "verified", "enterprise")


def decision_of(subject, revision, action, at, lasts_ms, **more):
    return Decision.model_validate(
        {
            "decision_id": f"{subject}-{revision}",
            "revision": revision,
            "subject": {"scope": subject[0], "value": subject[1]},
            "action": action,
            "status": "released" if action == "release" else "issued",
            "mode": "live",
            "origin": "rule",
            "issued_at": at,
            "expires_at": at + lasts_ms,
            "policy": {"id": "p", "version": 1, "hash": "h"},
            "reason_code": "unusual_volume",
        }
        | more
    )


def drawn_decision(random, revision, at):
    subject = random.choice(SUBJECTS)
    action = random.choice(("rate_limit", "rate_limit", "verify", "suspend", "release"))
    limit = {
        "unit": random.choice(("requests", "requests", "input_tokens", "output_tokens")),
        "limit": random.randrange(5),
        "period": random.choice(("second", "minute")),
    }
    more = {}
    if action == "rate_limit" and random.random() < 0.9:
        more["params"] = limit
    if random.random() < 0.2 and action != "release":
        fallback = random.choice((None, limit, {"method": "captcha"}))
        more |= {"match": {"templates": ["t"], **({"fallback": fallback} if fallback else {})}}
    if subject[0] != "account" and random.random() < 0.6:
        more["applies_to"] = {
            "account_tiers": random.choice((None, random.sample(TIERS, 2))),
            "created_after": random.choice((None, START - 5_000)),
        }
    return decision_of(subject, revision, action, at, random.choice((500, 5_000, 200_000)), **more)


def drawn_request(random, number, at):
    fields = {
        "kind": "completion" if random.random() < 0.2 else "request",
        "client_ip": random.choice(ADDRESSES),
        "org_id": random.choice((None, "o")),
        "api_key_id": random.choice((None, "k")),
        "account_created_at": random.choice((None, START - 9_000, START - 1_000)),
        "account_tier": random.choice((None, *TIERS)),
        "input_tokens": random.choice((None, 0, 1, 3)),
        "output_tokens": random.choice((None, 1, 4)),
    }
    chosen = {name: value for name, value in fields.items() if value is not None}
    return event(number, random.choice("abc"), at, **chosen)


def asked_of(request):
    names = ("account_id", "org_id", "api_key_id", "client_ip", "account_tier", "account_created_at", "input_tokens")
    return GatewayRequest(**{name: request[name] for name in names if name in request})


class Client:
    """What the gateway client does with a request, with the real table and the real limiter."""

    def __init__(self):
        self.table, self.limiter = EnforcementTable(), RateLimiter()

    def take(self, decision):
        if decision.action == "release":
            self.table.clear_decision(decision.subject, decision.issued_at)
        else:
            self.table.apply_decision(decision, decision.issued_at)

    def answer(self, request, wanted):
        now, output = request["occurred_at"], request.get("output_tokens", 0)
        verdict = self.table.check(asked_of(request), now)
        level = LEVEL[verdict.action]
        if wanted == COMPLETES:
            self.limiter.charge_output(verdict.limits, now, output)
            return 0, 0
        if verdict.limits:
            if self.limiter.admit(verdict.limits, now, input_tokens=request.get("input_tokens", 0)) is not None:
                return level, level
            self.limiter.charge_output(verdict.limits, now, output)
        return (level if verdict.denied else 0), level


def both(seed, steps, cuts):
    """Run a story of decisions and requests through both; what each answered."""
    random = Random(seed)
    gateway, client = Gateway(), Client()
    expected, found, at = [], [], START
    for step in range(steps):
        if random.random() < 0.4:
            decision = drawn_decision(random, step + 1, at)
            gateway.take(decision)
            client.take(decision)
            continue
        batch = []
        for number in range(random.randrange(1, 12)):
            at += random.choice((0, 1, 400, 2_000, 30_000))
            batch.append(drawn_request(random, step * 100 + number, at))
        wanted = np.array([COMPLETES if "completion" in one["kind"] else ASKS for one in batch], np.uint8)
        wanted[[random.random() < 0.1 for _ in batch]] = NOTHING
        expected += [
            client.answer(one, want) if want != NOTHING else (0, 0) for one, want in zip(batch, wanted, strict=True)
        ]
        borders = [0, *(sorted(random.sample(range(1, len(batch)), min(cuts, len(batch) - 1)))), len(batch)]
        columns = columns_of(batch)
        for start, end in pairwise(borders):
            part = columns.between(start, end)
            asking = Asking(hashes_of_accounts(part), wanted[start:end], np.zeros(end - start))
            verdicts = gateway.judge(part, asking)
            found += zip(verdicts.denied.tolist(), verdicts.level.tolist(), strict=True)
    return expected, found


@compiled
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60), cuts=st.integers(0, 3))
def test_the_arrays_answer_as_the_client_does(seed, steps, cuts):
    expected, found = both(seed, steps, cuts)

    assert found == expected


def test_these_stories_reach_every_answer():
    answers = {answer for seed in range(40) for answer in both(seed, 60, 0)[0]}

    assert answers == {(0, 0), (0, 2), (2, 2), (3, 3), (4, 4)}


def judged(gateway, events, passes=0.0):
    columns = columns_of(events)
    count = len(columns)
    asking = Asking(hashes_of_accounts(columns), np.full(count, ASKS, np.uint8), np.full(count, passes))
    return gateway.judge(columns, asking)


@pytest.mark.parametrize("more", [{"simulated": True}, {"status": "held"}, {"status": "lapsed"}])
def test_what_is_not_enforced_is_not_in_force(more):
    gateway = Gateway()
    gateway.take(decision_of(("account", "a"), 1, "suspend", START, 1000, **more))

    assert len(gateway) == 0


def test_observe_is_seen_and_denies_nothing_nor_does_it_weaken_what_is_in_force():
    gateway = Gateway()
    gateway.take(decision_of(("account", "a"), 1, "observe", START, 10_000))
    first = judged(gateway, [event(1, "a", START + 1)])
    gateway.take(decision_of(("account", "a"), 2, "suspend", START + 2, 10_000))
    gateway.take(decision_of(("account", "a"), 3, "observe", START + 3, 10_000))
    second = judged(gateway, [event(2, "a", START + 4)])

    assert (first.level.tolist(), first.denied.tolist()) == ([1], [0])
    assert (second.level.tolist(), second.denied.tolist()) == ([4], [4])


def test_an_event_from_before_a_restriction_is_not_touched_by_it():
    gateway = Gateway()
    gateway.take(decision_of(("account", "a"), 1, "suspend", START, 10_000))

    assert judged(gateway, [event(1, "a", START - 1), event(2, "a", START)]).denied.tolist() == [0, 4]


def test_a_verification_is_passed_after_a_while_by_as_many_as_told_and_answers_one_decision():
    gateway = Gateway(seed=3, proof_delay_ms=60_000)
    people = [f"p{number}" for number in range(400)]
    for revision, person in enumerate(people):
        gateway.take(decision_of(("account", person), revision, "verify", START, 900_000))
    first = judged(gateway, [event(1, person, START + 10) for person in people], 0.7)
    second = judged(gateway, [event(2, person, START + 60_009) for person in people], 0.7)
    third = judged(gateway, [event(3, person, START + 60_010) for person in people], 0.7)

    assert (first.denied == 3).all()
    assert (second.denied == 3).all()
    passed = third.denied == 0
    assert 0.6 < passed.mean() < 0.8
    assert (third.level == 3).all()
    for revision, person in enumerate(people):  # another decision asks anew
        gateway.take(decision_of(("account", person), 1000 + revision, "verify", START + 70_000, 900_000))
    again = judged(gateway, [event(4, person, START + 70_001) for person in people], 0.7)
    assert (again.denied == 3).all()
    last = judged(gateway, [event(5, person, START + 200_000) for person in people], 0.7)
    assert ((last.denied == 0) == passed).all()  # who can pass can pass again


def test_at_the_bound_what_ends_first_is_forgotten():
    gateway = Gateway(subjects_max=10)
    for number in range(30):
        gateway.take(decision_of(("account", f"a{number}"), 1, "suspend", START, 1000 + number))

    assert len(gateway) == 10
    assert gateway.evicted == 20
    assert judged(gateway, [event(1, "a29", START + 1), event(2, "a0", START + 1)]).denied.tolist() == [4, 0]


def test_a_decision_on_an_as_is_counted_and_left_out():
    gateway = Gateway()
    gateway.take(decision_of(("asn", "64500"), 1, "rate_limit", START, 1000))

    assert (len(gateway), gateway.unmatched) == (0, 1)


@compiled
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_what_the_provider_says_of_accounts_counts_where_events_are_silent(seed, steps):
    """The same stories with age and tier in account records, or in the events: same answers."""
    random = Random(seed)
    said = {
        name: {
            "account_created_at": random.choice((START - 9_000, START - 1_000)),
            "account_tier": random.choice(TIERS),
        }
        for name in "abc"
    }
    told, silent = Gateway(), Gateway()
    silent.learn(
        [
            (name, AccountRecord(account_id=name, created_at=one["account_created_at"], tier=one["account_tier"]))
            for name, one in said.items()
        ]
    )
    at = START
    for step in range(steps):
        at += random.choice((0, 400, 30_000))
        if random.random() < 0.5:
            decision = drawn_decision(random, step + 1, at)
            told.take(decision)
            silent.take(decision)
            continue
        plain = {
            name: value
            for name, value in drawn_request(random, step, at).items()
            if name not in ("account_created_at", "account_tier")
        }
        assert judged(told, [plain | said[plain["account_id"]]]).denied == judged(silent, [plain]).denied
