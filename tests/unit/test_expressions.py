import numpy as np
import pytest

from streamdetect.errors import PolicyError
from streamdetect.pipeline.accounts.tiers import TrustTier
from streamdetect.pipeline.decisions.expressions import compile_expression
from streamdetect.pipeline.decisions.features import ACCOUNT_FEATURES, SHARED_FEATURES, catalogue_of, index_of


def row_of(scope="account", **values):
    row = np.zeros(len(catalogue_of(scope)), np.int64)
    for name, value in values.items():
        row[index_of(name, scope)] = value
    return row


def holds(text, scope="account", **values):
    return bool(compile_expression(text, scope).evaluate(row_of(scope, **values).reshape(1, -1))[0])


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("requsts_1m > 6", 1, "unknown feature requsts_1m; did you mean requests_1m?"),
        ("young and zzz > 6", 11, "unknown feature zzz; 'streamdetect policy features' lists them"),
        ("young and tier_code > 2", 11, "unknown feature tier_code; did you mean tier?"),
        ("young and prefix_length == 48", 11, "prefix_length is known of scope subnet, not of scope account"),
        ("", 1, "the condition is empty"),
        ("   ", 1, "the condition is empty"),
        ("requests_1m", 1, "requests_1m is not true or false by itself; compare it with something"),
        ("young or requests_1m + 1", 10, "a comparison is expected here, not a value"),
        ("young and 1", 11, "a comparison is expected here, not a value"),
        ("True", 1, "a comparison is expected here, not a value"),
        ("requests_1m > True", 15, "True is not a number"),
        ("requests_1m > 1j", 15, "1j is not a number"),
        ("requests_1m > 1e999", 15, "the number is too large (more than 2**53)"),
        ("requests_1m > 9007199254740992 * 2", 15, "the number is too large (more than 2**53)"),
        ("requests_1m > 'many'", 15, "only tier is compared with text"),
        ("requests_1m > 2 + 'many'", 19, "only tier is compared with text"),
        ("requests_1m > young", 15, "young is a boolean, not a number"),
        ("requests_1m > (young and trusted)", 16, "a number is expected here, not a condition"),
        ("requests_1m > (not young)", 16, "a number is expected here, not a condition"),
        ("tier > 'T1'", 1, "tiers have no order here; '>' is not allowed, use == != in"),
        ("tier == 1", 9, "tier is compared with one of 'unknown', 'T0', 'T1', 'T2', 'T3'"),
        ("tier == 't1'", 9, "unknown tier 't1'; one of unknown, T0, T1, T2, T3"),
        ("tier in ('T1')", 10, 'after \'in\' comes a list of tiers, such as ("T0", "T1")'),
        ("tier in ()", 9, 'after \'in\' comes a list of tiers, such as ("T0", "T1")'),
        ("requests_1m in (1, 2)", 1, "only tier can stand before 'in'"),
        ("tir == 'T1'", 1, "unknown feature tir; did you mean tier?"),
        ("1 < 2", 1, "compares two constants: it would always, or never, hold"),
        ("requests_1m / 0 > 2", 15, "division by zero"),
        ("requests_1m / (1 - 1) > 2", 16, "division by zero"),
        ("requests_1m ** 2 > 2", 1, "'**' is not allowed; use + - * /"),
        ("requests_1m % 2 > 1", 1, "'%' is not allowed; use + - * /"),
        ("requests_1m // 2 > 1", 1, "'//' is not allowed; use + - * /"),
        ("young & trusted", 1, "write 'and' instead of '&'"),
        ("young and ~trusted", 11, "write 'not' instead of '~'"),
        ("tier is 'T1'", 1, "write '==' instead of 'is'"),
        ("young and max(requests_1m) > 1", 11, "a function call is not allowed"),
        ("young.real > 1", 1, "a dotted name is not allowed"),
        ("requests_1m[0] > 1", 1, "an index is not allowed"),
        ("young if trusted else young", 1, "'if ... else' is not allowed; use and, or, not"),
        ("(lambda: young)", 2, "Lambda is not allowed in a condition"),
        ("requests_1m > 6 # for now", 17, "unexpected character '#'"),
        ("requests_1m > ６", 15, "unexpected character '６'"),  # noqa: RUF001  # the very character that is refused
        ("requests_1m >", 14, "cannot be read: invalid syntax"),
        ("  requests_1m > > 2", 17, "cannot be read: invalid syntax"),
        ("requests_1m > 600and young", 17, "cannot be read: invalid decimal literal"),
        ("(young", 1, "cannot be read: '(' was never closed"),
        ("-" * 1900 + "requests_1m > 1", 1, "too deeply nested"),
        ("young or " * 300 + "young", 1, "longer than 2000 characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_column(text, column, message):
    with pytest.raises(PolicyError) as caught:
        compile_expression(text, source="rule")
    assert f"rule:1:{column}: {message}" == str(caught.value)


@pytest.mark.parametrize("name", ["tier == 'T0'", "young", "age_days > 3", "subnet_young_1d > 3"])
def test_a_shared_rule_cannot_read_what_only_accounts_have(name):
    with pytest.raises(PolicyError, match="is known of scope account, not of scope org"):
        compile_expression(name, "org")


def test_a_condition_may_be_folded_over_lines():
    text = "\nrequests_1m > 5\n\tand young\n"
    assert holds(text, requests_1m=6, tier_code=TrustTier.T1)
    assert not holds(text, requests_1m=6, tier_code=TrustTier.T2)


def test_a_division_by_zero_holds_neither_way():
    for text in ("requests_1m / requests_1h > 2", "not requests_1m / requests_1h > 2"):
        assert not holds(text, requests_1m=3, requests_1h=0)
    assert not holds("1 / (1 / requests_1m) < 2", requests_1m=0)
    assert holds("requests_1m / requests_1h > 2", requests_1m=3, requests_1h=1)


def test_a_prefix_length_that_is_unknown_equals_nothing_and_differs_from_nothing():
    for text in ("prefix_length != 48", "prefix_length == 48", "not prefix_length == 48"):
        assert not holds(text, "subnet", prefix_length=-1)
    assert holds("prefix_length != 48", "subnet", prefix_length=64)


def test_findings_name_the_constant_comparisons_that_held():
    expression = compile_expression(
        "(requests_1m > 600 or requests_1h > 9000) and not (20 > template_young_1d)"
        " and template_young_1d >= 10 * template_trusted_1d and tier != 'T3'"
    )
    row = row_of(requests_1m=700, requests_1h=8000, template_young_1d=31)
    found = [(f.feature.name, f.value, f.operator, f.threshold) for f in expression.findings(row)]
    assert found == [("requests_1m", 700, ">", 600), ("template_young_1d", 31, ">=", 20)]
    assert [finding.feature.window_ms for finding in expression.findings(row)] == [60_000, 86_400_000]


def test_a_constant_that_is_computed_is_one_threshold():
    (finding,) = compile_expression("requests_1d > 24 * 60").findings(row_of(requests_1d=1441))
    assert (finding.value, finding.operator, finding.threshold) == (1441, ">", 1440)


def test_features_used_are_listed_once_in_the_order_of_the_text():
    expression = compile_expression("young and requests_1h > requests_1m and requests_1m > 1 and tier != 'T0'")
    assert expression.features_used == ("young", "requests_1h", "requests_1m", "tier")


def test_tiers_narrow_an_account_condition():
    expression = compile_expression("requests_1m > 1", tiers=frozenset({TrustTier.T0, TrustTier.UNKNOWN}))
    rows = np.stack([row_of(requests_1m=2, tier_code=code) for code in TrustTier])
    assert expression.evaluate(rows).tolist() == [True, True, False, False, False]


def test_no_rows_are_no_answers():
    expression = compile_expression("requests_1m + age_days > 1 or young")
    assert expression.evaluate(np.zeros((0, len(ACCOUNT_FEATURES)), np.int64)).shape == (0,)


def test_the_order_of_the_columns_is_what_kernels_rely_on():
    account = [feature.name for feature in ACCOUNT_FEATURES]
    assert account[:4] == ["requests_1m", "requests_1h", "requests_1d", "input_tokens_1m"]
    assert account[9:14] == ["subnets_1h", "subnets_1d", "subnet_young_1d", "subnet_trusted_1d", "subnet_accounts_1d"]
    assert [name.removesuffix("_young_1d") for name in account if name.endswith("_young_1d")] == [
        "subnet",
        "org",
        "api_key",
        "payment",
        "template",
        "system",
    ]
    assert account[-2:] == ["tier_code", "age_days"]
    assert [
        *("requests_1m", "requests_1h", "requests_1d"),
        *("accounts_1h", "young_accounts_1h", "trusted_accounts_1h"),
        *("accounts_1d", "young_accounts_1d", "trusted_accounts_1d"),
        "prefix_length",
    ] == [feature.name for feature in SHARED_FEATURES]
