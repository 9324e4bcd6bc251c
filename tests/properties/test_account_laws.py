"""What ``observe`` says of an account equals plain Python over all its events, after every event."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_reference import DAY_MS, START, columns_of, event

from streamdetect.pipeline.accounts.features import TIER_COLUMN
from streamdetect.pipeline.accounts.observe import COUNTED, DUPLICATE, LATE, REFUSED, observe
from streamdetect.pipeline.accounts.state import AccountsState
from streamdetect.pipeline.accounts.tiers import TrustTier

BUCKETS_MS = (10_000, 600_000, 14_400_000)
TIERS_MS = np.array([7 * DAY_MS, 30 * DAY_MS, 90 * DAY_MS], np.int64)
BORN = {"today": START, "last month": START - 20 * DAY_MS, "long ago": START - 200 * DAY_MS}
TIER_CODES = {None: 0, "unpaid": 1, "paid": 2, "verified": 3, "enterprise": 4}
compiled = settings(deadline=None, max_examples=120)

streams = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.integers(0, 25),
            "account": st.sampled_from(["ann", "bob"]),
            "offset": st.one_of(st.integers(0, 100_000), st.integers(0, 7_200_000), st.integers(0, 4 * DAY_MS)),
            "kind": st.sampled_from(["request", "request", "completion"]),
            "outcome": st.sampled_from(["served", "served", "failed", "rate_limited", "challenged", "blocked"]),
            "subnet": st.none() | st.integers(0, 4),
            "tokens": st.none() | st.integers(0, 2**20),
            "born": st.none() | st.sampled_from(sorted(BORN)),
            "tier": st.sampled_from(sorted(TIER_CODES, key=str)),
        }
    ),
    min_size=1,
    max_size=30,
)


def json_of(step):
    fields = {"kind": step["kind"], "outcome": step["outcome"]}
    if step["subnet"] is not None:
        v6, number = step["subnet"] >= 3, step["subnet"]
        fields["client_ip"] = f"2001:db8:0:{number}::{step['number']}" if v6 else f"10.0.{number}.{step['number']}"
    if step["tokens"] is not None:
        fields |= {"input_tokens": step["tokens"], "output_tokens": 2 * step["tokens"]}
    if step["born"]:
        fields["account_created_at"] = BORN[step["born"]]
    if step["tier"]:
        fields["account_tier"] = step["tier"]
    return event(step["number"], step["account"], START + step["offset"], **fields)


def reference_tier(at, created, told):
    vouched = told in (3, 4)
    if created is None:
        return TrustTier.T2 if vouched else TrustTier.UNKNOWN
    age = max(0, at - created)
    if age < 7 * DAY_MS or told == 1:
        return TrustTier.T0
    if age < 30 * DAY_MS:
        return TrustTier.T1
    return TrustTier.T3 if vouched and age >= 90 * DAY_MS else TrustTier.T2


class Reference:
    """An account as the list of what it did."""

    def __init__(self):
        self.steps, self.newest = [], None

    def windows(self, wanted):
        return [
            sum(w for at, w in wanted if at // size > self.newest // size - 6)
            for size in BUCKETS_MS
        ]  # fmt: skip

    def features(self):
        requests = [(s["at"], 1) for s in self.steps if s["kind"] == "request"]
        tokens = [(s["at"], s["tokens"] or 0) for s in self.steps]
        last = {}
        for s in self.steps:
            if s["kind"] == "request" and s["subnet"] is not None:
                last[s["subnet"]] = max(last.get(s["subnet"], 0), s["at"])
        subnets = [sum(at // size > self.newest // size - 6 for at in last.values()) for size in BUCKETS_MS[1:]]
        created = min((BORN[s["born"]] for s in self.steps if s["born"]), default=None)
        told = max(((s["at"], TIER_CODES[s["tier"]]) for s in self.steps if s["tier"]), default=(0, 0))[1]
        tier = reference_tier(self.newest, created, told)
        age = -1 if created is None else max(0, self.newest - created) // DAY_MS
        output = [(at, 2 * amount) for at, amount in tokens]
        return [*self.windows(requests), *self.windows(tokens), *self.windows(output), *subnets], int(tier), age

    def is_late(self, at):
        return self.newest is not None and at // BUCKETS_MS[2] <= self.newest // BUCKETS_MS[2] - 6


def replayed(stream):
    """(fate, features) of each event by plain Python."""
    seen, accounts, told = set(), {}, []
    for step in stream:
        name = (step["account"], step["number"], step["kind"])
        account = accounts.setdefault(step["account"], Reference())
        at = START + step["offset"]
        if name in seen:
            told.append((DUPLICATE, None))
        elif step["outcome"] in ("rate_limited", "challenged", "blocked"):
            told.append((REFUSED, None))
        elif account.is_late(at):
            told.append((LATE, None))
        else:
            account.newest = max(account.newest or at, at)
            account.steps.append({**step, "at": at})
            told.append((COUNTED, account.features()))
        seen.add(name)
    return told


@compiled
@given(stream=streams)
def test_features_after_every_event_equal_plain_python(stream):
    nothing = np.zeros(len(stream), np.uint64)

    observed = observe(AccountsState(), columns_of(map(json_of, stream)), nothing, nothing, TIERS_MS)

    for index, (fate, features) in enumerate(replayed(stream)):
        assert observed.fate[index] == fate
        if features is None:
            assert observed.row[index] == -1
        else:
            row = observed.features[index].tolist()
            assert (row[:11], row[TIER_COLUMN], row[TIER_COLUMN + 1]) == features
            assert observed.tier[index] == features[1]


def test_five_thousand_refused_requests_leave_no_trace():
    stream = [event(n, "ann", START + n, outcome="blocked", client_ip="10.0.0.1") for n in range(5000)]
    nothing, state = np.zeros(len(stream), np.uint64), AccountsState()

    observed = observe(state, columns_of(stream), nothing, nothing, TIERS_MS)

    assert set(observed.fate.tolist()) == {REFUSED}
    assert state.table.count == 0
    assert state.subnets.count == 0


def test_an_account_that_uses_a_whole_48_is_not_counted_from_zero_again():
    subnets = 2**16 + 5  # a /48 and a little more; far beyond what a 16-bit count holds
    stream = [event(n, "ann", START + n, client_ip=f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::1") for n in range(subnets)]
    nothing = np.zeros(len(stream), np.uint64)

    observed = observe(AccountsState(), columns_of(stream), nothing, nothing, TIERS_MS)

    assert observed.features[-1, 9:11].tolist() == [subnets, subnets]
