"""Draws: in range, one to one where promised, and the shapes that tables stand for."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.traffic.draws import below, chosen, drawn, generator, lognormal_table, mix, salted, skewed_below

keys = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50, unique=True).map(lambda k: np.array(k, np.uint64))


@settings(deadline=None)
@given(keys)
def test_mixing_keeps_distinct_keys_distinct(values):
    assert len(np.unique(mix(values))) == len(values)
    assert len(np.unique(salted(values, 17))) == len(values)


@settings(deadline=None)
@given(keys, st.integers(1, 2**31))
def test_reduced_keys_stay_below_their_limit(values, limit):
    limits = np.full(len(values), limit, np.int64)
    for reduced in (below(values, limit), below(values, limits), skewed_below(values, np.minimum(limits, 2**19))):
        assert reduced.min() >= 0
        assert (reduced < limits).all()


@settings(deadline=None)
@given(keys, st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_a_choice_of_weight_zero_is_never_made(values, weights):
    assert all(weights[index] > 0 for index in chosen(values, weights).tolist())


@settings(deadline=None)
@given(keys)
def test_a_draw_does_not_depend_on_what_is_drawn_beside_it(values):
    table = lognormal_table(median=40.0, sigma=1.0, limit=600)
    assert [int(drawn(values[i : i + 1], table)[0]) for i in range(len(values))] == drawn(values, table).tolist()


def test_quantiles_of_the_table_are_those_of_the_law():
    table = lognormal_table(median=40.0, sigma=1.031, limit=600)
    assert (np.diff(table) >= 0).all()
    assert [int(table[2048]), int(table[3686]), int(table[-1])] == [40, 150, 600]


def test_generators_of_different_paths_differ_and_repeat():
    first, again, other = (generator(5, *path).integers(1 << 62, size=4).tolist() for path in ((1, 0), (1, 0), (0, 1)))
    assert first == again
    assert first != other


def test_the_mixer_is_splitmix64():
    # The first outputs of the published generator seeded with 0.
    state = np.array([0, 0x9E3779B97F4A7C15], np.uint64)
    assert mix(state).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
