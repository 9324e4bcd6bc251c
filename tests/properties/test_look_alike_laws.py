"""What each look-alike shares with campaigns, and what clears it, seen in small runs."""

from collections import Counter, defaultdict

import numpy as np
from small_runs import SCENARIOS, is_young, shingles, simulated, subnet

from streamdetect.traffic.population import DAY_MS, HOUR_MS
from streamdetect.traffic.simulation import DEFAULT_START_MS


def first_events(name, **changes):
    return {account: events[0] for account, events in simulated(name, **changes).by_account().items()}


def young_share(name, **changes):
    known = [event for event in first_events(name, **changes).values() if "account_created_at" in event]
    return np.mean([is_young(event) for event in known])


def prompts_of(name):
    users = defaultdict(set)
    for event in simulated(name).mine:
        users[event["prompt"]].add(event["account_id"])
    return users


def test_a_batch_job_is_one_payer_with_one_template_around_the_clock():
    run = simulated("L1", scale=1.0, days=0.05)
    assert len(run.by_account()) == 12
    assert len({(event["org_id"], event.get("payment_id")) for event in run.mine}) == 1
    assert 3_500 < len(run.mine) < 7_500  # 100,000 a day
    phrases = Counter(phrase for event in run.mine[:500] for phrase in shingles(event["prompt"], 5))
    assert sum(count >= 495 for count in phrases.values()) > 10
    assert not any(is_young(event) for event in run.mine)


def test_a_university_has_hundreds_of_accounts_behind_a_subnet_two_fifths_of_them_young():
    assert 0.3 < young_share("L2", scale=0.05) < 0.5
    behind = defaultdict(set)
    for event in simulated("L2", scale=0.05).mine:
        behind[subnet(event)].add(event["account_id"])
    assert max(len(accounts) for accounts in behind.values()) >= 30


def test_benchmark_runs_send_the_same_items_within_hours():
    run = simulated("L3")
    users = prompts_of("L3")
    assert len(run.by_account()) == 2
    assert np.mean([len(accounts) == 2 for accounts in users.values()]) > 0.3
    for events in run.by_account().values():
        assert events[-1]["occurred_at"] - events[0]["occurred_at"] <= 6.1 * HOUR_MS
        assert 9_000 < len(events) < 19_000


def test_ci_bots_begin_on_the_hour_with_one_prompt():
    run = simulated("L4")
    first = [event for event in run.mine if event["turn"] == 0]
    assert all(event["occurred_at"] % HOUR_MS < 10_000 for event in first)
    heads = {event["prompt"][:150] for event in first}
    assert len(heads) == 1
    assert len({event["org_id"] for event in run.mine}) == len(run.by_account())


def test_a_viral_prompt_is_used_a_few_times_by_many_some_half_of_them_young():
    run = simulated("L6", scale=0.02)
    heads = Counter(event["prompt"][:60] for event in run.mine if event["turn"] == 0)
    ((head, count),) = heads.most_common(1)
    assert count > 0.5 * sum(heads.values())
    uses = Counter(event["account_id"] for event in run.mine if event["prompt"].startswith(head))
    assert 1 <= np.median(list(uses.values())) <= 3
    assert 0.3 < young_share("L6", scale=0.02) < 0.6
    days = Counter((events[0]["occurred_at"] - DEFAULT_START_MS) // DAY_MS for events in run.by_account().values())
    assert days[0] > days[1]


def test_a_launch_is_young_accounts_with_one_system_prompt_own_cards_and_long_conversations():
    run = simulated("L7")
    assert 0.8 <= young_share("L7") <= 1.0
    assert len({event["system_prompt"] for event in run.mine}) == 1
    cards = Counter(event.get("payment_id") for event in first_events("L7").values())
    assert max(count for card, count in cards.items() if card) == 1
    counts = [len(events) for events in run.by_account().values()]
    assert np.var(counts) / np.mean(counts) > 8
    assert np.mean([event["turn"] > 0 for event in run.mine]) > 0.5


def test_a_class_works_in_one_lesson_from_one_exit_on_the_same_tasks():
    run = simulated("L8", scale=0.5)
    behind = defaultdict(list)
    for event in run.mine:
        behind[event["client_ip"]].append(event)
    classes = [events for events in behind.values() if len({e["account_id"] for e in events}) >= 10]
    assert len(classes) >= 3
    for events in classes:
        assert events[-1]["occurred_at"] - events[0]["occurred_at"] <= 3 * HOUR_MS
        tasks = Counter(event["prompt"][:40] for event in events if event["turn"] == 0)
        assert sum(count for _, count in tasks.most_common(24)) > 0.5 * sum(tasks.values())
    assert young_share("L8", scale=0.5) > 0.7


def test_a_company_leaves_through_a_few_exits():
    run = simulated("L9")
    behind = defaultdict(lambda: defaultdict(set))
    for event in run.mine:
        behind[event["org_id"]][event["client_ip"]].add(event["account_id"])
    for exits in behind.values():
        if len(set.union(*exits.values())) < 50:
            continue
        crowded = [address for address, accounts in exits.items() if len(accounts) >= 5]
        assert 1 <= len(crowded) <= 8
    assert young_share("L9") < 0.3


def test_an_agency_pays_for_all_its_accounts_with_one_card():
    cards = Counter(event["payment_id"] for event in first_events("L10").values() if "payment_id" in event)
    assert max(cards.values()) >= 20
    assert 0.35 < young_share("L10") < 0.65
    assert not any("org_id" in event for event in simulated("L10").mine)


def test_a_hackathons_accounts_are_two_days_old_and_copy_a_guide():
    run = simulated("L11")
    ages = [(e["occurred_at"] - e["account_created_at"]) / DAY_MS for e in first_events("L11").values()]
    assert np.mean(np.array(ages) < 3) > 0.85
    heads = Counter(event["prompt"][:40] for event in run.mine if event["turn"] == 0)
    assert sum(count for _, count in heads.most_common(4)) > 0.35 * sum(heads.values())


def test_privacy_users_change_exits_daily_and_share_them_with_others():
    run = simulated("L12", days=3.0)
    exits = [len({event["client_ip"] for event in events}) for events in run.by_account().values()]
    assert np.median(exits) >= 2
    assert len({event["client_ip"] for event in run.mine}) <= 400


def test_a_research_lab_is_one_trusted_payer_with_templates_and_rubrics():
    run = simulated("L13")
    assert len({event["org_id"] for event in run.mine}) == 1
    assert young_share("L13") == 0
    assert sum("score" in event["prompt"] for event in run.mine) > 0.2 * len(run.mine)
    assert run.attack == []


def test_an_application_names_its_users_who_are_all_over_the_world():
    run = simulated("L14")
    assert all("end_user_id" in event for event in run.mine)
    for events in run.by_account().values():
        if len(events) > 200:
            assert len({event["client_country"] for event in events}) > 10
            assert len({event["end_user_id"] for event in events}) > 50
            assert len({event["api_key_id"] for event in events}) == 1


def test_every_look_alike_is_honest():
    for name, scenario in SCENARIOS.items():
        if name.startswith("L"):
            assert {group.label for group in scenario.groups} == {"legit"}
            assert scenario.reaction is None
