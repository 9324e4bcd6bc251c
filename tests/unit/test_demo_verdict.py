"""The demo's books and gates, without a broker: every gate can fail, and for its own reason only."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdetect.messages.decision import Decision, PolicyRef, Subject
from streamdetect.sandbox.demo.ledger import PROPAGATION_S, Ledger
from streamdetect.sandbox.demo.scene import Exchange
from streamdetect.sandbox.demo.verdict import failures_of, figures_of

CAMPAIGN = frozenset(f"bad{number}" for number in range(5))
HONEST = frozenset(f"good{number}" for number in range(5))
START_MS = 1_767_571_200_000


def decision(account: str, action: str = "verify", revision: int = 1, **fields: Any) -> Decision:
    return Decision.model_validate(
        {
            "decision_id": f"{account}-{action}",
            "revision": revision,
            "subject": Subject(scope="account", value=account),
            "action": action,
            "status": "issued",
            "mode": "live",
            "origin": "rule",
            "issued_at": START_MS + 1000,
            "expires_at": START_MS + 86_400_000,
            "policy": PolicyRef(id="p", version=1, hash="h"),
            "reason_code": "r",
            **fields,
        }
    )


def exchange(account: str, at_ms: int = START_MS, *, cover: bool = False) -> Exchange:
    return Exchange({}, at_ms, account, cover)


def good_run() -> Ledger:
    """Everybody speaks, the campaign is decided on, and all it sends later is refused."""
    ledger = Ledger(CAMPAIGN, HONEST)
    for account in sorted(CAMPAIGN | HONEST):
        ledger.note_request(exchange(account, START_MS + 1000), "served", "pass", 10.0)
    for account in sorted(CAMPAIGN):
        ledger.note_decision(decision(account), 10.5)
    for turn in range(3):
        for account in sorted(CAMPAIGN):
            ledger.note_request(exchange(account, START_MS + 2000 + turn), "challenged", "verify", 20.0 + turn)
    return ledger


def failure(ledger: Ledger) -> str:
    (only,) = failures_of(figures_of(ledger))
    return only


def test_a_good_run_passes() -> None:
    figures = figures_of(good_run())
    assert failures_of(figures) == []
    assert (figures.campaign.planned, figures.campaign.served, figures.campaign.refused) == (20, 5, 15)
    assert figures.campaign.leakage == 0.25
    assert (figures.campaign.due, figures.campaign.due_stopped) == (5, 5)
    assert figures.time_to_first_action_s == 0.0
    assert figures.decision_delay_median_s == 0.5
    assert figures.refused == {"challenged": 15}


def test_nothing_found() -> None:
    ledger = Ledger(CAMPAIGN, HONEST)
    for account in sorted(CAMPAIGN):
        ledger.note_request(exchange(account), "served", "pass", 1.0)
    ledger.note_decision(decision("bad1", simulated=True, mode="shadow"), 2.0)
    ledger.note_decision(decision("bad2", "observe"), 2.0)
    ledger.note_decision(decision("bad3", status="held"), 2.0)
    assert "was not found" in failure(ledger)


def test_found_and_not_caught() -> None:
    ledger = good_run()
    for account in ("bad5", "bad6"):
        ledger.campaign |= {account}
        for turn in range(3):
            ledger.note_request(exchange(account, START_MS + 3000 + turn), "served", "pass", 30.0)
    assert "5 of 7 accounts" in failure(ledger)


def test_an_honest_account_is_suspended() -> None:
    ledger = good_run()
    ledger.note_decision(decision("good1", "suspend"), 30.0)
    assert failure(ledger) == "1 honest accounts were suspended"


def test_an_honest_account_that_must_verify_is_told_and_no_failure() -> None:
    ledger = good_run()
    ledger.note_decision(decision("good1"), 30.0)
    ledger.note_request(exchange("good2"), "served", "rate_limit", 30.0)  # through something it shares
    figures = figures_of(ledger)
    assert (figures.honest.verified, figures.honest.limited) == (1, 1)
    assert failures_of(figures) == []


def test_a_gateway_that_serves_stopped_accounts() -> None:
    ledger = good_run()
    ledger.note_request(exchange("bad1", START_MS + 5000), "served", "pass", 10.5 + PROPAGATION_S + 0.01)
    assert "served 1 requests of stopped accounts" in failure(ledger)


@pytest.mark.parametrize(
    ("at_ms", "now_s"), [(START_MS + 5000, 10.5 + PROPAGATION_S), (START_MS + 86_400_000, 100.0)], ids=["soon", "ended"]
)
def test_a_gateway_may_serve_for_a_moment_and_after_the_end(at_ms: int, now_s: float) -> None:
    ledger = good_run()
    ledger.note_request(exchange("bad1", at_ms), "served", "pass", now_s)
    assert failures_of(figures_of(ledger)) == []


def test_a_renewal_does_not_hide_that_an_account_was_stopped() -> None:
    ledger = good_run()
    ledger.note_decision(decision("bad1", revision=2, status="renewed"), 30.0)
    ledger.note_request(exchange("bad1", START_MS + 5000), "served", "pass", 30.5)
    assert figures_of(ledger).served_after_stop == 1


def test_a_release_ends_a_stop() -> None:
    ledger = good_run()
    ledger.note_decision(decision("bad1", "release", revision=2, status="released"), 30.0)
    ledger.note_request(exchange("bad1", START_MS + 5000), "served", "pass", 60.0)
    assert figures_of(ledger).served_after_stop == 0


def test_a_lower_revision_changes_nothing() -> None:
    ledger = good_run()
    ledger.note_decision(decision("bad1", "release", revision=0, status="released"), 30.0)
    ledger.note_request(exchange("bad1", START_MS + 5000), "served", "pass", 60.0)
    assert figures_of(ledger).served_after_stop == 1


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(sorted(CAMPAIGN | HONEST)),
        st.sampled_from(
            [("served", "pass"), ("blocked", "suspend"), ("challenged", "verify"), ("served", "rate_limit")]
        ),
        st.booleans(),
    ),
    max_size=60,
)


@given(REQUESTS)
def test_the_books_balance(requests: list[tuple[str, tuple[str, str], bool]]) -> None:
    ledger = Ledger(CAMPAIGN, HONEST)
    for number, (account, (outcome, action), cover) in enumerate(requests):
        sent = exchange(account, START_MS + number, cover=cover and account in CAMPAIGN)
        ledger.note_request(sent, outcome, action, float(number))
    figures = figures_of(ledger)
    campaign, honest = figures.campaign, figures.honest
    assert figures.events == len(requests)
    assert sum(figures.refused.values()) == campaign.refused + honest.refused
    assert campaign.served <= campaign.planned <= len(requests) - honest.requests
    assert 0 <= campaign.leakage <= 1
    assert campaign.served_per_account_median <= campaign.served_per_account_p95
    assert honest.suspended + honest.verified + honest.limited <= honest.heard <= len(ledger.honest)
    assert figures.time_to_first_action_s is None
