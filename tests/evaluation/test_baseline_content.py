"""The content baselines against datasketch, brute-force Jaccard, a plain graph search and the formula of MMD."""

from itertools import combinations

import datasketch
import numpy as np
import pytest
import sketch_reference as reference
from baselines.co_share import CoShare, components
from baselines.docket import Docket, Response
from baselines.features import Features, counts_of
from baselines.pair_lsh import PairLsh, bands_of
from baselines.pooled_mmd import PooledMmd, Sample, squared_mmd
from events import DAY_MS, START_MS, columns_of, first_hits, run, times_of_meeting
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.kernels.chunk import spans_of

RESPONSE = Response(action="suspend", ttl_ms=1000 * DAY_MS)
WORDS = [a + b for a in ("ba", "ko", "mi", "tu", "re", "sa") for b in ("lan", "dor", "vik", "nes", "pol", "gar", "tum")]


def prompt_pairs(seed, count=60):
    """Prompts of which many are edited copies of another, at all degrees."""
    random = np.random.default_rng(seed)
    texts = []
    for number in range(count):
        words = random.choice(WORDS, 40).tolist()
        if number % 3:
            words = texts[-1].split()
            for place in random.choice(40, random.integers(0, 25), replace=False):
                words[place] = str(random.choice(WORDS))
        texts.append(" ".join(words))
    return texts


def likenesses(texts):
    """Jaccard likeness of all pairs, from the sets."""
    sets = [set(reference.shingles(text.encode())) for text in texts]
    return {
        (one, other): len(sets[one] & sets[other]) / len(sets[one] | sets[other])
        for one, other in combinations(range(len(sets)), 2)
    }


def hits_of(texts, threshold, *, accounts=1, gap_ms=1, window_ms=DAY_MS):
    detector = PairLsh(Docket("test", RESPONSE), threshold, accounts, window_ms, min_shingles=8)
    made = [(f"a{number}", number * gap_ms, {"prompt": text}) for number, text in enumerate(texts)]
    return first_hits(run(detector, columns_of(made), rounds=7))


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("seed", [1, 2])
def test_pairs_are_those_of_datasketch(threshold, seed):
    texts = prompt_pairs(seed)
    made = datasketch.MinHash.bulk(
        [reference.shingles(text.encode()) for text in texts], num_perm=128, seed=1, scheme="affine32",
        hashfunc=lambda value: value,
    )  # fmt: skip
    index = datasketch.MinHashLSH(threshold=threshold, num_perm=128)
    meetings = []
    for number, sketch in enumerate(made):
        meetings.append(index.query(sketch))
        index.insert(number, sketch)

    expected = {}
    for number, others in enumerate(meetings):
        for one in [*others, number] if others else []:
            expected.setdefault(f"a{one}", number)

    assert hits_of(texts, threshold) == expected
    assert 6 < len(expected) < len(texts)
    assert bands_of(threshold) == (index.b, index.r)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_pairs_far_above_the_threshold_are_found_and_far_below_not(threshold):
    texts = prompt_pairs(3, 90)
    likeness = likenesses(texts)
    hit = set(hits_of(texts, threshold))

    # At 0.5: 1 - (1 - 0.85^5)^25 misses less than 1 in 10^6. At 0.7: 1 - (1 - 0.95^9)^14 as little.
    above = {0.5: 0.85, 0.7: 0.95}[threshold]
    near = {f"a{one}" for pair, found in likeness.items() if found >= above for one in pair}
    far = {
        f"a{number}" for number in range(len(texts))
        if all(found < 0.05 for pair, found in likeness.items() if number in pair)
    }  # fmt: skip
    assert near
    assert far
    assert near <= hit
    assert not far & hit


def test_an_account_needs_enough_others_within_the_window():
    texts = [prompt_pairs(4, 1)[0]] * 6
    for window_ms, accounts in ((DAY_MS, 3), (350, 3), (150, 3)):
        visits = [(f"a{number}", number * 100, ["same"]) for number in range(6)]
        expected = times_of_meeting(visits, window_ms, accounts)
        assert hits_of(texts, 0.7, accounts=accounts, gap_ms=100, window_ms=window_ms) == expected
    assert not expected, "with three others and a window of one and a half gaps nobody is hit"


def test_greetings_and_later_turns_are_left_out():
    long = prompt_pairs(5, 1)[0]
    detector = PairLsh(Docket("test", RESPONSE), 0.5, 1, DAY_MS, min_shingles=8)
    made = [(f"a{n}", n, {"prompt": "hello there"}) for n in range(5)]
    made += [(f"b{n}", 10 + n, {"prompt": long, "turn": 2}) for n in range(5)]
    assert run(detector, columns_of(made)) == []


def groups_by_search(pairs, texts, popular):
    """Components by plain search."""
    users = {}
    for text, account in pairs:
        users.setdefault(text, set()).add(account)
    users = {text: who for text, who in users.items() if len(who) <= popular}
    accounts = {account for _, account in pairs}
    shared = {pair: sum(set(pair) <= who for who in users.values()) for pair in combinations(sorted(accounts), 2)}
    groups = []
    while accounts:
        group, open_ones = set(), [accounts.pop()]
        while open_ones:
            one = open_ones.pop()
            group.add(one)
            near = {other for other in accounts if shared[tuple(sorted((one, other)))] >= texts}
            accounts -= near
            open_ones += near
        groups.append(frozenset(group))
    return {group for group in groups if len(group) > 1}


@given(
    st.sets(st.tuples(st.integers(1, 8), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(1, 3),
    st.integers(2, 6),
)
def test_groups_are_those_of_a_plain_search(pairs, texts, popular):
    found = components(np.array(sorted(pairs), np.uint64), texts=texts, popular=popular)

    assert {frozenset(group.tolist()) for group in found} == groups_by_search(pairs, texts, popular)


def test_accounts_that_send_the_same_two_prompts_are_found_and_others_not():
    one, two, *own = prompt_pairs(6, 24)[::3]
    made = []
    for number in range(5):
        made += [(f"twins{number}", number * 10, {"prompt": one}), (f"twins{number}", number * 10 + 1, {"prompt": two})]
        made += [
            (f"once{number}", number * 10 + 2, {"prompt": one}),
            (f"own{number}", number * 10 + 3, {"prompt": own[number]}),
        ]
    detector = CoShare(Docket("test", RESPONSE), 2, 5, 500, DAY_MS, 1_800_000, min_shingles=8)

    found = first_hits(run(detector, columns_of(made), rounds=3))

    assert set(found) == {f"twins{number}" for number in range(5)}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 3))
def test_mmd_is_its_formula_whatever_texts_weigh(seed, halvings):
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((7, 6)), random.standard_normal((11, 6))
    first /= np.linalg.norm(first, axis=1)[:, None]
    second /= np.linalg.norm(second, axis=1)[:, None]

    weights = np.where(np.arange(11) < 6, 0.5**halvings, 1.0)

    def mean_kernel(one, other, weight, *, same):
        pairs = weight * (1 - np.eye(len(one)) if same else 1)
        return (pairs * (one @ other.T)).sum() / pairs.sum()

    expected = (
        mean_kernel(first, first, np.ones((7, 7)), same=True)
        + mean_kernel(second, second, np.outer(weights, weights), same=True)
        - 2 * mean_kernel(first, second, np.outer(np.ones(7), weights), same=False)
    )
    old = Sample.of(second[:6])
    for _ in range(halvings):
        old = old.halved()
    reference = old + Sample.of(second[6:])
    assert squared_mmd(Sample.of(first), reference) == pytest.approx(expected, abs=1e-12)
    assert squared_mmd(Sample.of(first), reference + old - old) == pytest.approx(expected, abs=1e-12)


def test_features_give_the_gaussian_kernel():
    texts = [text.encode() for text in prompt_pairs(7, 40)]
    buffer, spans = spans_of(texts)
    features = Features(frequencies=2048)

    made = features.of(np.frombuffer(buffer, np.uint8), spans).astype(np.float64)

    counts = np.array([counts_of(text) for text in texts])
    distances = ((counts[:, None, :] - counts[None, :, :]) ** 2).sum(axis=2)
    expected = np.exp(-distances / (2 * features.sigma**2))
    assert np.allclose(np.diag(made @ made.T), 1, atol=1e-5)
    # The error of an estimate from 2048 frequencies is 0.02; six times that in 800 pairs.
    assert np.abs(made @ made.T - expected).max() < 6 / np.sqrt(2048)
    assert expected.min() < 0.5


def mmd_events(young_text, count=2000):
    """Trusted accounts of many days, and young ones of one day who send what ``young_text`` makes."""
    random = np.random.default_rng(3)
    made = []
    for number in range(count):
        age_days = 40 + int(random.integers(0, 300))
        made.append((f"old{number}", number * 10, age_days, " ".join(random.choice(WORDS, 30))))
        made.append((f"new{number}", number * 10 + 5, 2, young_text(random)))
    return columns_of(
        [
            (account, at, {
                "prompt": text, "account_tier": "paid", "account_created_at": START_MS - age * DAY_MS,
                "client_ip": f"192.{at % 7}.2.1",
            })
            for account, at, age, text in made
        ]
    )  # fmt: skip


def test_pooled_mmd_finds_young_accounts_with_another_vocabulary_and_no_others():
    def detector():
        return PooledMmd(Docket("test", RESPONSE), 50, 5, 3.0, 20, DAY_MS, 100)

    same = run(detector(), mmd_events(lambda random: " ".join(random.choice(WORDS, 30))), rounds=9)
    other = run(detector(), mmd_events(lambda random: "explain " + " ".join(random.choice(WORDS[:9], 30))), rounds=9)

    assert same == []
    hit = set(first_hits(other))
    assert len(hit) > 500
    assert all(name.startswith("new") for name in hit)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12))
def test_how_a_stream_is_cut_into_rounds_does_not_show(rounds):
    texts = prompt_pairs(8)
    made = columns_of([(f"a{n % 20}", n * 50, {"prompt": text}) for n, text in enumerate(texts)])

    def found(cuts):
        return run(PairLsh(Docket("test", RESPONSE), 0.5, 2, DAY_MS, 8), made, rounds=cuts)

    assert found(rounds) == found(1) != []
