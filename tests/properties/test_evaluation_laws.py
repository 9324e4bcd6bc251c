"""What is counted against labels equals plain Python; what is made of it adds up and can tell knowledge from chance."""

import math
from random import Random

import orjson
import pytest
from evaluation_reference import DAY_MS, HOUR_MS, LEVELS, brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_reference import START, cut, event, lines
from scipy import stats

from streamdetect.messages.decision import ACTIONS, Decision
from streamdetect.messages.label import Label
from streamdetect.replay.grade import OpenLoop, Recorded, grade
from streamdetect.replay.intervals import (
    REPLICATES,
    bootstrap_interval,
    poisson_interval,
    poisson_upper,
    resampled,
    weighted_quantile,
)
from streamdetect.replay.truth import request_hashes, truth_of

compiled = settings(deadline=None, max_examples=120)
seeds = st.integers(0, 2**32)


def labels_drawn(random):
    """Twelve accounts of two campaigns, some honest ones, one of unrelated abuse; one has no label."""
    kinds = [("campaign", "one", "C2")] * 3 + [("campaign", "two", "C8")] * 2 + [("legit", None, "L5")] * 3
    kinds += [("legit", None, "background")] * 2 + [("other_abuse", None, None)]
    random.shuffle(kinds)
    return [
        {"account_id": f"a{number}", "label": label, "campaign_id": campaign, "cohort": cohort}
        for number, (label, campaign, cohort) in enumerate(kinds)
    ]


def events_drawn(random, count):
    events, at = [], START
    for number in range(count):
        at += random.choice((0, 3_000, 20_000, 400_000, 5 * HOUR_MS))
        fields = {
            "outcome": random.choice(("served",) * 6 + ("blocked", "failed")),
            "client_ip": random.choice((None, "192.0.2.7", "198.51.100.9")),
            "org_id": random.choice((None, None, "org-a")),
            "output_tokens": random.choice((None, 7)),
        }
        chosen = {name: value for name, value in fields.items() if value is not None}
        events.append(event(number, f"a{random.randrange(12)}", at, **chosen))
        if random.random() < 0.1:
            events.append(events[-1])
        if random.random() < 0.1:
            events.append(events[-1] | {"kind": "completion", "output_tokens": 5})
    return events


def decisions_drawn(random, events, count):
    found = []
    for revision in range(count):
        at = random.choice(events)["occurred_at"] + random.choice((0, 0, 5_000, 30_000))
        subject = random.choice(
            [("account", f"a{random.randrange(13)}")] * 3 + [("org", "org-a"), ("subnet", "192.0.2.0/24")]
        )
        action = random.choice((*ACTIONS, "rate_limit", "release"))
        if found and random.random() < 0.4:  # renew one, so that its stretch goes on
            old = random.choice(found)
            subject, action = (old.subject.scope, old.subject.value), old.action
            at = random.randrange(old.issued_at, max(old.issued_at, old.expires_at) + 1)
        limit = {"unit": "requests", "limit": random.randrange(4), "period": random.choice(("minute", "hour"))}
        found.append(
            Decision.model_validate(
                {
                    "decision_id": f"d{revision}",
                    "revision": revision,
                    "subject": {"scope": subject[0], "value": subject[1]},
                    "action": action,
                    "params": limit if action == "rate_limit" else None,
                    "status": "released"
                    if action == "release"
                    else random.choice(("issued", "issued", "renewed", "held")),
                    "simulated": random.random() < 0.1,
                    "mode": "live",
                    "origin": "rule",
                    "issued_at": at,
                    "expires_at": at + random.choice((60_000, HOUR_MS, 30 * HOUR_MS)),
                    "policy": {"id": "p", "version": 1, "hash": "h"},
                    "reason_code": "unusual_volume",
                }
            )
        )
    return found


def story(seed, events=80, decisions=12):
    random = Random(seed)
    labels = labels_drawn(random)
    stream = events_drawn(random, events)
    cover = {(one["account_id"], one["event_id"]) for one in stream if random.random() < 0.2}
    return labels, stream, decisions_drawn(random, stream, decisions), cover


def graded(labels, stream, decisions, cover=(), places=()):
    truth = truth_of([Label.model_validate(label) for label in labels])
    if cover:
        truth.cover = request_hashes(sorted((a.encode(), e.encode()) for a, e in cover))
        truth.cover.sort()
    found = grade(map(lines, cut(stream, places)), OpenLoop(Recorded(decisions), truth))
    return found, truth


def rates(accounts, count):
    days = sum(len({at // DAY_MS for at in one.requests}) for one in accounts)
    return count, days


@compiled
@given(seed=seeds, places=st.lists(st.integers(0, 100), max_size=4))
def test_every_counter_equals_plain_python(seed, places):
    labels, stream, decisions, cover = story(seed)
    accounts, hours = brute_force(stream, decisions, labels, cover)
    everybody = list(accounts.values())
    attack = [one for one in everybody if one.label["label"] == "campaign"]
    honest = [one for one in everybody if one.label["label"] == "legit"]

    found, _ = graded(labels, stream, decisions, cover, places)

    check(found, attack, honest, honest)
    for campaign in ("one", "two"):
        check(found["per_campaign"][campaign], [a for a in attack if a.label["campaign_id"] == campaign], honest, [])
    for cohort in ("C2", "C8", "L5", "background"):
        mine = [one for one in everybody if one.label["cohort"] == cohort]
        check(
            found["per_cohort"][cohort],
            [one for one in mine if one in attack],
            honest,
            [one for one in mine if one in honest],
        )
    for name, part, whole in (("accounts", "hit", "active"), ("requests", "denied", "sent")):

        def number(value):
            return len(value) if isinstance(value, set) else value

        worst = max(
            (number(hour[part]) / number(hour[whole]) for hour in hours.values() if number(hour[whole])), default=0
        )
        assert found["evaluation"]["blast_radius"][name]["share"] == round(worst, 6)


def check(found, attack, against, honest):
    """Hold one set of figures against accounts of plain Python."""
    gained = [entry for one in attack for entry in one.gained]
    planned = sum(one.planned for one in attack)
    assert found["leakage"] == ratio(len(gained), planned)
    used = sorted(len(one.gained) for one in attack if one.attacks)
    assert (found["exchanges_per_account"]["median"] is None) == (not used)
    if used:
        middle = len(used) // 2
        assert found["exchanges_per_account"]["median"] == (used[middle] + used[~middle]) / 2
    starts = {
        name: min((at for a in attack if a.label["campaign_id"] == name for at in a.attacks), default=None)
        for name in ("one", "two")
    }
    for action, rung in LEVELS.items():
        for horizon, ms in (("6h", 6 * HOUR_MS), ("24h", 24 * HOUR_MS), ("7d", 7 * DAY_MS), ("end", math.inf)):
            at = found["evaluation"]["at"][horizon]
            present = [a for a in attack if a.attacks and a.attacks[0] <= starts[a.label["campaign_id"]] + ms]
            caught = [
                a for a in present
                if rung in a.first_action and a.first_action[rung] <= starts[a.label["campaign_id"]] + ms
            ]  # fmt: skip
            assert at["recall"][action] == ratio(len(caught), len(present))
            begins = min((start for start in starts.values() if start is not None), default=math.inf)
            wrong = [a for a in against if rung in a.first_action and a.first_action[rung] <= begins + ms]
            if attack:
                assert at["precision"][action] == ratio(len(caught), len(caught) + len(wrong))
        assert found["recall"][action] == found["evaluation"]["at"]["end"]["recall"][action]
        rate = found["false_per_100k_account_days"][action]
        days = sum(len({at // DAY_MS for at in one.requests}) for one in honest)
        assert (rate["count"], rate["account_days"]) == (sum(one.episodes[rung] for one in honest), days)
        assert rate["value"] == (round(100_000 * rate["count"] / days, 6) if days else None)
        waits = sorted(
            (min((max(a.first_action[rung], a.attacks[0]) for a in attack
                  if a.label["campaign_id"] == name and rung in a.first_action and a.attacks),
                 default=math.inf) - start) / 1000
            for name, start in starts.items() if start is not None
        )  # fmt: skip
        middle = (waits[len(waits) // 2] + waits[~(len(waits) // 2)]) / 2 if waits else math.inf
        assert found["time_to_first_s"][action] == (None if middle == math.inf else round(middle, 3))
    for share, told in found["evaluation"]["time_to_restricted_s"].items():
        waits = []
        for name, start in starts.items():
            mine = [a for a in attack if a.label["campaign_id"] == name and a.attacks]
            hits = sorted(max(a.first_action[2], a.attacks[0]) for a in mine if 2 in a.first_action)
            enough = (
                at for place, at in enumerate(hits, 1)
                if place >= {"50%": 0.5, "95%": 0.95}[share] * sum(a.attacks[0] <= at for a in mine)
            )  # fmt: skip
            waits += [(next(enough, math.inf) - start) / 1000] if start is not None else []
        waits.sort()
        middle = (waits[len(waits) // 2] + waits[~(len(waits) // 2)]) / 2 if waits else math.inf
        assert told == (None if middle == math.inf else round(middle, 3))
    budget = found["evaluation"]["budget"]
    linked = [one for one in attack if 2 in one.first_action]
    assert budget["v0"] == sum(not after for after, _ in gained)
    assert budget["v_join"] == sum(after for one in linked for after, _ in one.gained)
    assert budget["v_miss"] == len(gained) - budget["v0"] - budget["v_join"]
    assert budget["accounts_linked"] == len(linked)
    assert budget["k_join_after"] == ratio(sum(a and own for one in linked for a, own in one.gained), len(linked))
    assert found["evaluation"]["honest_requests_denied"] == sum(one.denied for one in honest)


def ratio(part, whole):
    return round(part / whole, 6) if whole else None


@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_the_leakage_budget_adds_up(seed):
    found, _ = graded(*story(seed, 120, 20))

    for group in (found, *found["per_campaign"].values(), *found["per_cohort"].values()):
        budget = group["evaluation"]["budget"]
        joined = budget["accounts_linked"] * (budget["k_join"] or 0)
        assert budget["v0"] + joined + budget["v_miss"] == pytest.approx(budget["v_served"], abs=1e-4)
        if budget["v_plan"]:
            assert group["leakage"] == pytest.approx(budget["v_served"] / budget["v_plan"], abs=1e-6)


def test_these_stories_have_what_is_graded():
    merged = [graded(*story(seed))[0] for seed in range(30)]

    assert {found["leakage"] for found in merged} - {None, 0.0, 1.0}
    for action in ACTIONS:
        assert any(found["false_per_100k_account_days"][action]["count"] for found in merged)
        assert any(found["recall"][action] not in (None, 0.0, 1.0) for found in merged)
        assert any(found["time_to_first_s"][action] is not None for found in merged)
    for term in ("v0", "v_join", "v_miss", "k_join_after"):
        assert any(found["evaluation"]["budget"][term] for found in merged)
    assert any(found["evaluation"]["blast_radius"]["requests"]["share"] > 0 for found in merged)


def campaigns(random, accounts=600, campaign_share=0.3):
    """Give labelled accounts, requests of each, and suspensions of nearly the whole campaign."""
    labels = [
        {"account_id": f"a{n}", "label": "campaign", "campaign_id": f"c{n % 5}", "cohort": "C2"}
        if random.random() < campaign_share
        else {"account_id": f"a{n}", "label": "legit"}
        for n in range(accounts)
    ]
    stream = sorted(
        (event(f"{n}-{k}", f"a{n}", START + random.randrange(DAY_MS)) for n in range(accounts) for k in range(6)),
        key=lambda one: one["occurred_at"],
    )
    wrong = {"subject": None, "action": "suspend", "status": "issued", "mode": "live", "origin": "rule"}
    caught = [label["account_id"] for label in labels if label["label"] == "campaign" and random.random() < 0.9]
    decisions = [
        Decision.model_validate(
            wrong
            | {
                "decision_id": name, "revision": 1, "subject": {"scope": "account", "value": name},
                "issued_at": START + DAY_MS // 4, "expires_at": START + 9 * DAY_MS,
                "policy": {"id": "p", "version": 1, "hash": "h"}, "reason_code": "coordinated_use",
            }
        )
        for name in caught
    ]  # fmt: skip
    return labels, stream, decisions


def test_shuffled_labels_give_chance():
    random = Random(5)
    labels, stream, decisions = campaigns(random)
    names = [label["account_id"] for label in labels]
    random.shuffle(names)
    shuffled = [label | {"account_id": name} for label, name in zip(labels, names, strict=True)]
    share = sum(label["label"] == "campaign" for label in labels) / len(labels)

    true, _ = graded(labels, stream, decisions)
    chance, _ = graded(shuffled, stream, decisions)

    hit = len(decisions) / len(labels)
    noise = 4 * math.sqrt(share * (1 - share) / len(decisions))
    assert true["precision"]["suspend"] == 1.0
    assert true["recall"]["suspend"] > 0.85
    assert true["leakage"] < 0.4
    assert abs(chance["precision"]["suspend"] - share) < noise
    assert abs(chance["recall"]["suspend"] - hit) < noise
    assert abs(chance["leakage"] - (1 - 0.75 * hit)) < noise


def test_the_order_of_labels_and_their_names_do_not_matter():
    labels, stream, decisions, cover = story(11)
    renamed = [label | {"campaign_id": {"one": "x", "two": "y", None: None}[label["campaign_id"]]} for label in labels]

    found, _ = graded(labels, stream, decisions, cover)
    other, _ = graded(renamed[::-1], stream, decisions, cover)

    assert other["per_campaign"]["x"] == found["per_campaign"]["one"]
    assert other["per_cohort"] == found["per_cohort"]
    assert {k: v for k, v in other.items() if k != "per_campaign"} == {
        k: v for k, v in found.items() if k != "per_campaign"
    }
    assert orjson.dumps(other)


@given(st.integers(0, 3000))
def test_intervals_of_counts_are_those_of_the_chi_square_law(count):
    low, high = poisson_interval(count)

    assert low == pytest.approx(stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, rel=1e-4)
    assert high == pytest.approx(stats.chi2.ppf(0.975, 2 * count + 2) / 2, rel=1e-4)
    if count < 50:
        assert poisson_upper(count) == pytest.approx(stats.chi2.ppf(0.95, 2 * count + 2) / 2, rel=1e-9)


def test_the_bootstrap_covers_what_it_should_about_as_often_as_it_says():
    random, hits, runs = Random(1), 0, 150
    for _ in range(runs):
        values = [random.gauss(10, 2) for _ in range(30)]
        low, high = bootstrap_interval(lambda w, v=values: float((w * v).sum() / w.sum()), 30)
        hits += low <= 10 <= high
    assert 0.86 * runs < hits < 0.99 * runs


def test_resampling_draws_as_many_as_there_are_and_every_one_about_once():
    weights = resampled(7)

    assert weights.shape == (REPLICATES, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean(axis=0) == pytest.approx([1.0] * 7, abs=0.15)
    assert bootstrap_interval(lambda _: 1.0, 1) is None
    assert bootstrap_interval(lambda _: None, 5) is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.floats(0.01, 1.0), st.data())
def test_a_weighted_quantile_is_that_of_repeated_values(values, share, data):
    import numpy as np

    ordered = sorted(values)
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    repeated = [value for value, weight in zip(ordered, weights, strict=True) for _ in range(weight)]

    found = weighted_quantile(np.array(ordered, float), np.array(weights), share)

    assert found == (float(np.quantile(repeated, share, method="inverted_cdf")) if repeated else None)
