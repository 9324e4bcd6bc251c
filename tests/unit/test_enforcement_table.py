"""What a gateway does with a request: the order of INTERFACE, revisions, expiry, nested subnets."""

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdetect.enforcer.requests import GatewayRequest
from streamdetect.enforcer.table import GRACE_MS, EnforcementTable
from streamdetect.messages.decision import Decision, Subject
from streamdetect.messages.override import Override

NOW = 1_000_000
LIMIT = {"unit": "requests", "limit": 5, "period": "minute"}
REQUEST = GatewayRequest("a", "o", "k", "192.0.2.77", 64500, "unpaid", NOW - 5000)
KEYS = ("account:a", "org:o", "api_key:k", "subnet:192.0.2.0/24", "asn:64500")
ACTIONS = ("observe", "rate_limit", "verify", "suspend")
STRENGTH = {"pass": 0, "observe": 0, "rate_limit": 1, "verify": 2, "suspend": 3}


def decision(key="account:a", action="suspend", **more):
    fields = {
        "decision_id": f"{key}-{action}",
        "revision": 1,
        "subject": Subject.from_key(key).model_dump(),
        "action": action,
        "status": "issued",
        "mode": "live",
        "origin": "rule",
        "issued_at": NOW - 1000,
        "expires_at": NOW + 1000,
        "policy": {"id": "p", "version": 1, "hash": "h"},
        "reason_code": "unusual_volume",
    }
    if action == "rate_limit":
        fields["params"] = LIMIT
    return Decision.model_validate(fields | more)


def override(effect, key="account:a", **more):
    subject = {"scope": "global", "value": "enforcement"} if effect == "kill" else Subject.from_key(key).model_dump()
    fields = {
        "override_id": "o1",
        "subject": subject,
        "effect": effect,
        "actor": "me",
        "reason": "r",
        "created_at": NOW,
    }
    return Override.model_validate(fields | more)


def table_of(*items):
    table = EnforcementTable()
    for item in items:
        if isinstance(item, Decision):
            table.apply_decision(item, NOW)
        else:
            table.apply_override(item)
    return table


def check(*items, request=REQUEST, now=NOW):
    return table_of(*items).check(request, now)


@given(st.permutations([decision(key, action) for key, action in itertools.product(KEYS, ACTIONS)]), st.integers(0, 8))
def test_the_strongest_matching_record_wins_in_any_order(decisions, count):
    chosen = {found.subject.key: found for found in decisions[:count]}
    strongest = max((STRENGTH[found.action] for found in chosen.values()), default=0)
    verdict = check(*chosen.values())
    assert STRENGTH[verdict.action] == strongest
    assert verdict.denied == (strongest >= STRENGTH["verify"])


def test_kill_switch_beats_everything_and_ends():
    items = (override("deny"), decision(), override("kill", expires_at=NOW + 10))
    assert check(*items).cause == "kill"
    assert check(*items, now=NOW + 10).cause == "deny"


@pytest.mark.parametrize("key", KEYS)
def test_allow_on_any_subject_beats_deny_and_decisions(key):
    assert check(override("allow", key), override("deny", "account:a"), decision("org:o")).cause == (
        "allow" if key != "account:a" else "deny"
    )


def test_deny_beats_a_stronger_decision_and_ends():
    items = (override("deny", action="verify", expires_at=NOW + 10), decision(action="suspend"))
    assert (check(*items).action, check(*items).cause) == ("verify", "deny")
    assert (check(*items, now=NOW + 10).action, check(*items, now=NOW + 10).cause) == ("suspend", "decision")


def test_deny_without_an_action_suspends():
    assert check(override("deny")).action == "suspend"


@pytest.mark.parametrize("action", ["observe", "rate_limit"])
@pytest.mark.parametrize("key", ["account:a", "org:o"])
def test_a_deny_that_restricts_nothing_hides_no_decision(key, action):
    verdict = check(override("deny", key, action=action), decision(action="suspend"))
    assert (verdict.cause, verdict.denied) == ("decision", True)


def test_cleared_overrides_are_gone():
    table = table_of(override("allow"), override("kill"), decision())
    table.clear_override(None)
    assert table.check(REQUEST, NOW).cause == "allow"
    table.clear_override(Subject.from_key("account:a"))
    assert table.check(REQUEST, NOW).cause == "decision"


def test_expiry_is_half_open():
    assert check(decision(expires_at=NOW + 1)).denied
    assert not check(decision(expires_at=NOW)).denied


@pytest.mark.parametrize(
    "more", [{"simulated": True}, {"status": "held"}, {"status": "lapsed"}, {"action": "release", "status": "released"}]
)
def test_what_is_not_enforced_lets_pass(more):
    assert check(decision(**more)).action == "pass"


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["verify", "suspend"])), min_size=1, max_size=10))
def test_a_lower_revision_is_ignored(arrivals):
    table = EnforcementTable()
    held = (-1, None)
    for revision, action in arrivals:
        table.apply_decision(decision(action=action, revision=revision), NOW)
        held = (revision, action) if revision >= held[0] else held
    assert table.check(REQUEST, NOW).action == held[1]


def test_a_late_lower_revision_does_not_come_back_after_a_tombstone():
    table = table_of(decision(revision=7))
    table.clear_decision(Subject.from_key("account:a"), NOW)
    assert not table.check(REQUEST, NOW).denied
    table.apply_decision(decision(revision=6), NOW)
    assert not table.check(REQUEST, NOW).denied
    table.apply_decision(decision(revision=8), NOW)
    assert table.check(REQUEST, NOW).denied


def test_a_replaced_topic_starts_revisions_anew():
    table = table_of(decision(revision=7))
    table.clear_decision(Subject.from_key("account:a"), NOW, forget=True)
    table.apply_decision(decision(revision=1), NOW)
    assert table.check(REQUEST, NOW).denied


def test_a_revision_is_remembered_for_a_while_after_a_tombstone_and_not_as_long_as_it_would_have_lasted():
    table = table_of(decision(revision=7, expires_at=NOW + 1000 * GRACE_MS))
    table.clear_decision(Subject.from_key("account:a"), NOW)
    for now, taken in ((NOW + GRACE_MS - 1, False), (NOW + GRACE_MS, True)):
        assert table.apply_decision(decision(revision=1, expires_at=now + 1), now) == taken


def test_a_rightful_record_written_again_after_a_late_tombstone_holds():
    table = table_of(decision(revision=7))
    table.clear_decision(Subject.from_key("account:a"), NOW)
    assert table.apply_decision(decision(revision=7), NOW)
    assert table.check(REQUEST, NOW).denied


def test_several_limits_all_apply():
    verdict = check(*(decision(key, "rate_limit") for key in KEYS))
    assert {f"{found.scope}:{found.value}" for found in verdict.limits} == set(KEYS)
    assert not verdict.denied


def test_of_nested_subnets_the_longest_prefix_that_fits_counts():
    only_paid = {"applies_to": {"account_tiers": ["paid"]}}
    wide, middle = decision("subnet:2001:db8::/48", "rate_limit"), decision("subnet:2001:db8::/56", "verify")
    narrow = decision("subnet:2001:db8::/64", "suspend", **only_paid)
    request = GatewayRequest("b", client_ip="2001:db8::1", account_tier="unpaid")
    assert check(wide, middle, narrow, request=request).action == "verify"
    paid = GatewayRequest("b", client_ip="2001:db8::1", account_tier="paid")
    assert check(wide, middle, narrow, request=paid).action == "suspend"
    assert check(wide, middle, narrow, request=GatewayRequest("b", client_ip="2001:db8:0:1::1")).action == "verify"
    assert (
        check(wide, middle, narrow, request=GatewayRequest("b", client_ip="2001:db8:0:100::1")).action == "rate_limit"
    )
    assert check(wide, middle, narrow, request=GatewayRequest("b", client_ip="2001:db9::1")).action == "pass"


def test_mapped_and_malformed_addresses():
    verify = decision("subnet:192.0.2.0/24", "verify")
    assert check(verify, request=GatewayRequest("b", client_ip="::ffff:192.0.2.9")).denied
    assert not check(verify, request=GatewayRequest("b", client_ip="192.0.2.9.9")).denied
    assert not check(verify, request=GatewayRequest("b")).denied


@pytest.mark.parametrize(
    ("created_at", "tier", "hit"),
    [
        (NOW - 1, "unpaid", True),
        (NOW - 100, "unpaid", False),
        (None, "unpaid", False),
        (NOW - 1, "enterprise", False),
        (NOW - 1, None, False),
    ],
)
def test_a_neighbour_of_long_standing_or_unknown_is_not_hit(created_at, tier, hit):
    applies = {"account_tiers": ["unpaid", "paid"], "created_after": NOW - 100}
    request = GatewayRequest("b", client_ip="192.0.2.1", account_tier=tier, account_created_at=created_at)
    assert check(decision("subnet:192.0.2.0/24", "verify", applies_to=applies), request=request).denied == hit


def test_a_record_on_content_falls_back():
    match = {"templates": ["t1"]}
    assert check(decision(match=match)).action == "pass"
    verdict = check(decision(match=match | {"fallback": LIMIT}))
    assert (verdict.action, verdict.limits[0].limit.limit) == ("rate_limit", 5)


def test_the_stretch_of_a_limit_survives_renewal_and_replacement_and_ends_with_a_gap():
    table = table_of(decision(action="rate_limit"))
    since = table.check(REQUEST, NOW).limits[0].since_ms
    renewal = decision(action="rate_limit", revision=2, issued_at=NOW + 900, expires_at=NOW + 3000, status="renewed")
    table.apply_decision(renewal, NOW + 900)
    assert table.check(REQUEST, NOW + 2000).limits[0].since_ms == since
    later = decision(action="rate_limit", revision=3, issued_at=NOW + 3000, expires_at=NOW + 9000)
    table.apply_decision(later, NOW + 3000)
    assert table.check(REQUEST, NOW + 3000).limits[0].since_ms == NOW + 3000


def test_memory_is_bounded_by_expiry_and_by_number():
    table = EnforcementTable(subjects_max=10)
    for number in range(50):
        table.apply_decision(decision(f"account:{number}", expires_at=NOW + 1000 + number), NOW)
    assert len(table) == 10
    assert table.check(GatewayRequest("49"), NOW).denied
    assert not table.check(GatewayRequest("0"), NOW).denied
    table.apply_decision(decision("account:z", expires_at=NOW + 10 * GRACE_MS), NOW + 2 * GRACE_MS)
    assert len(table) == 1


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 50)), max_size=60))
def test_what_is_dropped_at_the_bound_is_what_ends_first(arrivals):
    table, held = EnforcementTable(subjects_max=3), {}
    for revision, (account, lasts_ms) in enumerate(arrivals):
        found = decision(f"account:{account}", revision=revision, expires_at=NOW + lasts_ms)
        table.apply_decision(found, NOW)
        held[account] = NOW + lasts_ms
        if len(held) > 3:
            del held[min(held, key=lambda name: (held[name], name))]
        kept = {name: table.check(GatewayRequest(name), NOW).expires_at for name in "abcdef"}
        assert {name: ends for name, ends in kept.items() if ends is not None} == held


def allocated_bytes(expiries):
    """What a table takes for one account whose decision is replaced by others."""
    table, replacement = EnforcementTable(), decision()
    tracemalloc.start()
    for revision, expires_at in enumerate(expiries):
        table.apply_decision(replacement.model_copy(update={"revision": revision, "expires_at": expires_at}), NOW)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return taken


@pytest.mark.parametrize("step_ms", [1, -1], ids=["renewed", "shortened"])
def test_memory_does_not_grow_with_decisions_on_the_same_subject(step_ms):
    far = NOW + 1000 * GRACE_MS
    few, many = (allocated_bytes(range(far, far + step_ms * count, step_ms)) for count in (2_000, 20_000))
    assert many < few + 100_000
