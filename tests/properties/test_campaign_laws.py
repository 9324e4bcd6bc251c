"""What each campaign is named for, seen in small runs: where it comes from, when, in what words, on whose accounts."""

from collections import Counter, defaultdict
from ipaddress import ip_network
from itertools import pairwise

import numpy as np
import orjson
import pytest
from small_runs import is_young, shingles, simulated, spec_of, subnet

from streamdetect.traffic.population import DAY_MS, HOUR_MS
from streamdetect.traffic.simulation import DEFAULT_START_MS, Simulation


def located(events):
    return [event for event in events if "client_ip" in event]


def spread(counts):
    """Variance of exchanges per account over their mean: 1 is chance, less is a machine's share, more is people."""
    return float(np.var(counts) / np.mean(counts))


def common_share(events, size=3):
    """Mean share of an event's phrases that half of the events of its kind have."""
    sets = [shingles(event["prompt"], size) for event in events]
    counts = Counter(phrase for phrases in sets for phrase in phrases)
    usual = {phrase for phrase, count in counts.items() if count >= len(sets) / 2}
    return float(np.mean([len(phrases & usual) / max(1, len(phrases)) for phrases in sets]))


def likeness(events):
    """Mean Jaccard similarity of pairs of events, by phrases of two words."""
    sets = [shingles(event["prompt"], 2) for event in events[:120]]
    pairs = [(a, b) for a, b in pairwise(sets) if a and b]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs]))


def of_one_template(name):
    run = simulated(name)
    first = Counter(run.template[event["event_id"]] for event in run.tasks()).most_common(1)[0][0]
    return [event for event in run.tasks() if run.template[event["event_id"]] == first]


def test_the_reference_campaign_leaves_through_about_one_exit_an_account_and_day():
    run = simulated("C2")
    per_account = [len({event["client_ip"] for event in located(events)}) for events in run.by_account().values()]
    assert set(per_account) <= {0, 1}
    assert len({subnet(event) for event in located(run.mine)}) > 40
    cards = Counter(events[0].get("payment_id") for events in run.by_account().values())
    assert max(count for card, count in cards.items() if card) >= 3
    assert all(is_young(event) for event in run.mine)


def test_a_share_of_accounts_comes_through_a_marketplace_that_hides_network_client_and_payment():
    run = simulated("C2", background=4.0)
    hidden = {"client_ip", "client_country", "client_asn", "payment_id", "user_agent", "client_fingerprint"}
    accounts = defaultdict(set)
    for event in run.events:
        accounts[event["account_id"]].add(bool(hidden & set(event)))
    assert all(len(seen) == 1 for seen in accounts.values())
    share = np.mean([not next(iter(seen)) for seen in accounts.values()])
    assert 0.04 < share < 0.2


@pytest.mark.parametrize(("name", "most"), [("C1", 5), ("C16", 4)])
def test_burst_and_data_centre_come_from_a_few_subnets(name, most):
    assert 2 <= len({subnet(event) for event in simulated(name).mine}) <= most


def test_the_data_centre_of_six_is_one_prefix_with_a_subnet_an_account():
    run = simulated("C16b")
    wide = {str(ip_network(f"{event['client_ip']}/48", strict=False)) for event in run.mine}
    assert len(wide) == 1
    assert len({subnet(event) for event in run.mine}) == len(run.by_account())


def test_proxy_rotation_takes_another_exit_for_every_request():
    run = simulated("C3")
    exits = [len({subnet(e) for e in located(events)}) for events in run.by_account().values() if located(events)]
    assert np.median(exits) >= 20


def test_hopping_takes_another_subnet_for_every_request_inside_thirty_prefixes():
    events = located(simulated("C17").mine)
    assert len({subnet(event) for event in events}) > 0.99 * len(events)
    assert len({str(ip_network(f"{event['client_ip']}/48", strict=False)) for event in events}) == 30


def test_paraphrase_leaves_less_of_a_template_the_stronger_it_is():
    found = [likeness(of_one_template(name)) for name in ("C2", "C4a", "C4b", "C4c", "C4d")]
    assert found[0] > 0.4
    assert all(weaker > 1.3 * stronger for weaker, stronger in pairwise(found))
    assert found[-1] < 0.04


@pytest.mark.parametrize("name", ["X1", "X2"])
def test_campaigns_without_a_template_share_hardly_any_phrase(name):
    assert common_share(simulated(name).tasks()) < 0.01


def test_replayed_prompts_look_like_those_of_honest_people():
    run = simulated("X2", background=2.0)
    replayed = {event["event_id"] for event in run.mine}
    honest = [len(event["prompt"]) for event in run.events if event["event_id"] not in replayed and event["turn"] == 0]
    assert 0.5 < np.median([len(event["prompt"]) for event in run.mine]) / np.median(honest) < 2


def test_long_slots_hold_hundreds_of_words_and_the_template_stands_anywhere():
    events = of_one_template("C5")
    words = [len(event["prompt"].split()) for event in events]
    assert 400 <= np.median(words) <= 4000
    usual = Counter(phrase for event in events for phrase in shingles(event["prompt"], 6)).most_common(1)[0][0]
    places = [event["prompt"].index(usual) / len(event["prompt"]) for event in events if usual in event["prompt"]]
    assert min(places) < 0.1
    assert max(places) > 0.7


def test_translations_share_phrases_within_a_language_unless_every_request_is_translated_anew():
    def crowds(name):
        counts = Counter(phrase for event in of_one_template(name) for phrase in shingles(event["prompt"], 4))
        foreign = {phrase: count for phrase, count in counts.items() if not phrase.replace(" ", "").isascii()}
        return max(foreign.values(), default=0)

    assert crowds("C6") >= 50
    assert crowds("C6b") <= crowds("C6") / 3
    letters = {character for event in simulated("C6").tasks() for character in event["prompt"]}
    for script in ("жа", "ال", "ना", "我的"):
        assert set(script) <= letters


def test_padding_and_disguise_change_what_the_eye_does_not_see():
    plain, padded = ([len(event["prompt"]) for event in of_one_template(name)] for name in ("C2", "C7"))
    assert np.median(padded) > np.median(plain) + 300
    text = "".join(event["prompt"] for event in simulated("C7").tasks())
    assert text.count("\u200b") > 100
    assert text.count("\u0430") > 100  # a Cyrillic letter inside Latin words
    assert "\u200b" not in "".join(event["prompt"] for event in simulated("C2").tasks())


@pytest.mark.parametrize(("name", "share"), [("C8", 0.3), ("C8b", 0.1), ("C8c", 0.5)])
def test_a_reseller_mixes_the_campaign_into_its_customers_traffic(name, share):
    run = simulated(name)
    assert 0.7 * share < 1 - len(run.cover) / len(run.mine) < 1.4 * share


def test_customers_conversations_move_between_a_resellers_accounts():
    served, moved = {}, 0
    for event in simulated("C8").mine:
        earlier = served.get(event.get("previous_reply_digest"))
        moved += earlier is not None and earlier != event["account_id"]
        served[event["reply_digest"]] = event["account_id"]
    assert moved > 20
    honest = simulated("C2", background=4.0)
    served = {event["reply_digest"]: event["account_id"] for event in honest.events}
    assert all(
        served.get(event["previous_reply_digest"], event["account_id"]) == event["account_id"]
        for event in honest.events
        if "previous_reply_digest" in event
    )


def test_aged_accounts_send_ordinary_prompts_before_they_begin():
    run = simulated("C9")
    aged = {account for account, events in run.by_account().items() if not is_young(events[0])}
    known = {account for account, events in run.by_account().items() if "account_created_at" in events[0]}
    assert 0.25 < len(aged) / len(known) < 0.5
    first = {}
    for event in run.mine:
        if event["account_id"] in aged:
            first.setdefault(event["account_id"], event["event_id"] in run.cover)
    assert np.mean(list(first.values())) > 0.25


def test_a_staggered_start_brings_new_accounts_every_day():
    run = simulated("C10", scale=0.004, days=7.0)
    firsts = Counter((events[0]["occurred_at"] - DEFAULT_START_MS) // DAY_MS for events in run.by_account().values())
    assert 20 <= sum(firsts.values()) <= 50  # a third of a hundred
    assert len(firsts) == 7
    created = [(e[0]["occurred_at"] - e[0]["account_created_at"]) / DAY_MS for e in run.by_account().values()]
    assert max(created) < 25
    slow = simulated("C10b", scale=0.004, days=7.0)
    assert len(slow.by_account()) < len(run.by_account()) / 1.5


def test_a_pivot_moves_half_of_the_exchanges_to_the_new_model_and_honest_accounts_hardly():
    run = simulated("C11", days=2.5, background=1.0)
    late = DEFAULT_START_MS + 2 * DAY_MS
    tasks = [event["model"] == "large-3" for event in run.tasks() if event["occurred_at"] > late]
    others = {event["event_id"] for event in run.mine}
    honest = [e["model"] == "large-3" for e in run.events if e["occurred_at"] > late and e["event_id"] not in others]
    assert 0.4 < np.mean(tasks) < 0.6
    assert 0 < np.mean(honest) < 0.2
    assert not any(e["model"] == "large-3" for e in run.events if e["occurred_at"] < DEFAULT_START_MS + DAY_MS)


def test_bursts_hold_half_of_the_work_and_shares_are_equal_or_not():
    run = simulated("C12", days=2.0)
    minutes = Counter(event["occurred_at"] // 60_000 for event in run.mine)
    busiest = sum(count for _, count in minutes.most_common(48 * 10 // 4))
    assert busiest > 0.4 * len(run.mine)
    assert spread(list(run.per_account().values())) < 0.6
    assert spread(list(simulated("C2").per_account().values())) < 2.5
    assert spread(list(simulated("C12b", days=2.0).per_account().values())) > 8


def test_shared_keys_are_used_from_many_networks_at_once():
    run = simulated("C13")
    hours = defaultdict(set)
    for event in located(run.mine):
        hours[event["account_id"], event["occurred_at"] // HOUR_MS].add(event["client_asn"])
    assert 5 <= np.median([len(networks) for networks in hours.values()]) <= 60
    assert 0.35 < len(run.cover) / len(run.mine) < 0.65


def test_a_farm_replaces_its_accounts_and_uses_up_their_quota():
    run = simulated("C14", days=3.0)
    lives = [(e[-1]["occurred_at"] - e[0]["occurred_at"]) / DAY_MS for e in run.by_account().values()]
    assert max(lives) <= 3
    late = [e for e in run.by_account().values() if e[0]["account_created_at"] > DEFAULT_START_MS]
    assert len(late) >= 20  # ten a day
    assert not any("payment_id" in event for event in run.mine)
    days = Counter((e["account_id"], e["occurred_at"] // DAY_MS) for e in run.mine)
    assert max(days.values()) <= 14


def test_owners_of_stolen_keys_go_on_as_usual():
    run = simulated("C15")
    assert not any(is_young(event) for event in run.mine)
    used = set(run.per_account())
    owners = Counter(event["account_id"] for event in run.mine if event["event_id"] in run.cover)
    assert len(used) > 10
    assert len(owners) > 0.6 * len(run.labels)  # some are quiet on a day
    networks = defaultdict(set)
    for event in run.tasks():
        networks[event["account_id"]].add(event["client_asn"])
    assert np.median([len(found) for found in networks.values()]) > 5


@pytest.mark.parametrize(("name", "count"), [("C2", 2), ("C18", 20), ("C18b", 100), ("C18c", 400)])
def test_campaigns_use_as_many_templates_as_they_say(name, count):
    run = simulated(name, scale=0.01)
    used = {run.template[event["event_id"]] for event in run.tasks()}
    assert len(used) >= min(count, 300)
    assert max(used) < max(count, 500 if name == "C18c" else count)


def test_best_of_eight_sends_a_prompt_to_eight_accounts_and_grades():
    run = simulated("C19")
    prompts = defaultdict(set)
    for event in run.tasks():
        prompts[event["prompt"]].add(event["account_id"])
    sizes = [len(accounts) for accounts in prompts.values()]
    assert np.median(sizes) >= 7
    graded = [event for event in run.tasks() if run.template[event["event_id"]] >= 1]
    assert 0.1 < len(graded) / len(run.tasks()) < 0.2


def test_respawn_renews_accounts_and_templates_and_keeps_templates_back():
    run = simulated("C20", scale=0.01, days=4.0)
    created = [events[0].get("account_created_at", 0) for events in run.by_account().values()]
    assert 50 <= sum(at > DEFAULT_START_MS for at in created) <= 80  # twenty a day, from an hour after the start on
    early, late = (
        {run.template[e["event_id"]] for e in run.tasks() if low <= e["occurred_at"] - DEFAULT_START_MS < high}
        for low, high in ((0, DAY_MS), (3 * DAY_MS, 4 * DAY_MS))
    )
    assert not early & late
    spares = [orjson.loads(line) for chunk in run.simulation.spares() for line in chunk.splitlines()]
    assert Counter(row["template"] for row in spares).most_common(1)[0][1] == 40
    assert len({row["prompt"] for row in spares}) > 0.99 * len(spares)
    used = {event["prompt"] for event in run.tasks()}
    assert not used & {row["prompt"] for row in spares}
    assert list(Simulation(spec_of("C2")).spares()) == []


def test_hiding_behind_an_agent_means_its_client_and_its_public_prompt():
    honest = {event["system_prompt"] for event in simulated("L5").mine if "system_prompt" in event}
    tasks = simulated("C21").tasks()
    attack = {event["system_prompt"] for event in tasks if "system_prompt" in event}
    assert attack
    assert attack <= honest
    clients = {event.get("user_agent") for event in tasks}
    assert clients - {None} <= {event.get("user_agent") for event in simulated("L5").mine}
