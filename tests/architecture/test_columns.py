"""Column orders that two modules must agree on because the lower one cannot import the upper one."""

import numpy as np

from streamdetect.kernels.members import TRUSTED, UNKNOWN, YOUNG
from streamdetect.kernels.packed import EVIDENCE, LINKS
from streamdetect.messages.decision import ACTIONS as MESSAGE_ACTIONS
from streamdetect.messages.policy import ACTIONS
from streamdetect.pipeline.accounts.features import (
    EVIDENCE_COLUMN,
    FAMILIES,
    TIER_COLUMN,
    WIDTH,
    fill_standing,
    fill_windows,
)
from streamdetect.pipeline.accounts.sharing import KeyType
from streamdetect.pipeline.accounts.state import ACCOUNT, ACTIVITY, FACT
from streamdetect.pipeline.associations.absorb import FAMILY_OF_TYPE, PREFIX_OF_TYPE, SHARED_WIDTH
from streamdetect.pipeline.associations.links import FINDING
from streamdetect.pipeline.associations.state import CROWD
from streamdetect.pipeline.decisions.features import ACCOUNT_FEATURES, KEY_FAMILIES, SHARED_FEATURES

NAMES = [feature.name for feature in ACCOUNT_FEATURES]


def test_account_columns_are_the_catalogue():
    assert len(ACCOUNT_FEATURES) == WIDTH
    assert len(KEY_FAMILIES) == FAMILIES
    assert NAMES[TIER_COLUMN:] == ["tier_code", "age_days"]


def test_evidence_columns_are_three_a_family_in_the_order_of_the_families():
    expected = [f"{family}_{who}_1d" for family in KEY_FAMILIES for who in ("young", "trusted", "accounts")]
    assert expected == NAMES[EVIDENCE_COLUMN:TIER_COLUMN]


def test_window_columns_are_filled_where_the_catalogue_says():
    activity, row = np.zeros(1, ACTIVITY), np.zeros(WIDTH, np.int64)
    counted = [
        f"{what}_{window}" for what in ("requests", "input_tokens", "output_tokens") for window in ("1m", "1h", "1d")
    ]
    for index, name in enumerate(counted):
        activity[name[:-3]][0, index % 3, 0] = 1 + index
    activity["subnets"][0, :, 0, 0] = (10, 11)
    fill_windows(activity[0], row)
    fill_standing(np.zeros(1, ACCOUNT)[0], 0, 12, row)
    expected = {name: 1 + index for index, name in enumerate(counted)}
    expected |= {"subnets_1h": 10, "subnets_1d": 11, "tier_code": 12}
    assert expected == {name: row[NAMES.index(name)] for name in expected}


def test_shared_columns_are_the_catalogue():
    assert len(SHARED_FEATURES) == SHARED_WIDTH


def test_every_key_type_has_a_family_and_subnets_a_prefix():
    families = list(KEY_FAMILIES)
    expected = {
        key_type: families.index("subnet" if key_type.name.startswith("SUBNET") else key_type.name.lower())
        for key_type in KeyType
    }
    assert expected == {key_type: int(FAMILY_OF_TYPE[key_type]) for key_type in KeyType}
    prefixes = {key_type: int(key_type.name.rpartition("_")[2]) for key_type in KeyType if "SUBNET" in key_type.name}
    assert prefixes == {key_type: int(PREFIX_OF_TYPE[key_type]) for key_type in KeyType if PREFIX_OF_TYPE[key_type] > 0}


def test_a_packed_fact_holds_what_a_ledger_keeps():
    packed = {name for name, _ in EVIDENCE.inner}
    assert set(FACT.names) - {"at"} <= packed
    assert set(FACT.names) <= set(FINDING.names)
    assert {"occurred_at", "source_offset"} <= packed


def test_kinds_of_packed_records_differ():
    assert LINKS.kind != EVIDENCE.kind


def test_actions_climb_alike_in_messages_and_policies():
    assert MESSAGE_ACTIONS == ACTIONS


def test_a_class_of_members_fits_the_counts_of_a_key():
    assert {UNKNOWN, YOUNG, TRUSTED} == set(range(CROWD["distinct"].shape[2]))
