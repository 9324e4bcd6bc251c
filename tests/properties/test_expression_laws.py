"""Laws of rule conditions: they mean what Python says they mean, whole columns at a time."""

import ast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.pipeline.accounts.tiers import TIER_NAMES, TrustTier
from streamdetect.pipeline.decisions.expressions import compile_expression
from streamdetect.pipeline.decisions.features import ACCOUNT_FEATURES, index_of

TIERS = list(TIER_NAMES)
NUMBERS = ["requests_1m", "requests_1h", "input_tokens_1d", "template_young_1d", "payment_trusted_1d"]
FLAGS = ["young", "trusted", "unknown_tier"]
SYMBOLS = [">", ">=", "<", "<=", "==", "!="]

# Small numbers, so that equality and division by zero happen, and large ones, still exact in float64 when multiplied.
counts = st.integers(0, 4) | st.integers(0, 200_000)
constants = st.integers(0, 5).map(str) | st.integers(0, 200_000).map(str) | st.sampled_from(["0.5", "2.25", "1e3"])


def _has_name(text):
    return any(isinstance(node, ast.Name) for node in ast.walk(ast.parse(text, mode="eval")))


def _numbers(names):
    leaf = st.sampled_from(names) | constants
    pair = st.tuples(leaf, st.sampled_from("+-*"), leaf).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    negative = leaf.map(lambda text: f"-{text}")
    # The divisor is a bare name: a constant zero, or an expression that is one, is refused or tested below.
    ratio = st.tuples(leaf, st.sampled_from(names)).map(lambda p: f"({p[0]} / {p[1]})")
    return leaf | pair | negative | ratio


def _comparisons(names):
    sides = _numbers(names)
    one = st.tuples(sides, st.sampled_from(SYMBOLS), sides).filter(lambda p: _has_name(p[0]) or _has_name(p[2]))
    chain = st.tuples(sides, st.sampled_from(SYMBOLS), st.sampled_from(names), st.sampled_from(SYMBOLS), sides)
    return (one | chain).map(" ".join)


tier_tests = st.one_of(
    st.tuples(st.sampled_from(["==", "!="]), st.sampled_from(TIERS)).map(lambda p: f'tier {p[0]} "{p[1]}"'),
    st.tuples(st.sampled_from(TIERS), st.sampled_from(["==", "!="])).map(lambda p: f"'{p[0]}' {p[1]} tier"),
    st.tuples(st.sampled_from(["in", "not in"]), st.lists(st.sampled_from(TIERS), min_size=1)).map(
        lambda p: f"tier {p[0]} {p[1]}"
    ),
)


def _conditions(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' and '.join(parts)})"),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' or '.join(parts)})"),
            inner.map(lambda part: f"not ({part})"),
        ),
        max_leaves=6,
    )


conditions = _conditions(_comparisons(NUMBERS) | tier_tests | st.sampled_from(FLAGS))
rows = st.fixed_dictionaries(dict.fromkeys(NUMBERS, counts) | {"tier": st.sampled_from(TIERS)})


def _matrix(given_rows):
    matrix = np.zeros((len(given_rows), len(ACCOUNT_FEATURES)), np.int64)
    for index, row in enumerate(given_rows):
        for name in NUMBERS:
            matrix[index, index_of(name)] = row[name]
        matrix[index, index_of("tier_code")] = TIER_NAMES[row["tier"]]
    return matrix


def _by_python(node, values):
    """The tree evaluated one row at a time with Python's own operators; ``None`` is neither true nor false."""
    if isinstance(node, ast.BoolOp):
        parts = [_by_python(part, values) for part in node.values]
        decisive = isinstance(node.op, ast.Or)
        if decisive in parts:
            return decisive
        return None if None in parts else not decisive
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _by_python(node.operand, values)
        return None if inner is None else not inner
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        parts = [_pair(*pair, values) for pair in zip(sides, node.ops, sides[1:], strict=False)]
        if False in parts:
            return False
        return None if None in parts else True
    return _python(node, values)


def _pair(left, operator, right, values):
    try:
        return _python(ast.Compare(left, [operator], [right]), values)
    except ZeroDivisionError:
        return None


def _python(node, values):
    code = ast.fix_missing_locations(ast.Expression(node))
    return eval(compile(code, "condition", "eval"), {}, values)


def _values(row):
    tier = TIER_NAMES[row["tier"]]
    flags = {
        "young": tier in (TrustTier.T0, TrustTier.T1),
        "trusted": tier in (TrustTier.T2, TrustTier.T3),
        "unknown_tier": tier is TrustTier.UNKNOWN,
    }
    return row | flags


@settings(max_examples=300, deadline=None)
@given(conditions, st.lists(rows, min_size=1, max_size=5))
def test_a_condition_means_what_python_says(text, given_rows):
    tree = ast.parse(text, mode="eval").body
    expected = [_by_python(tree, _values(row)) is True for row in given_rows]
    assert expected == compile_expression(text).evaluate(_matrix(given_rows)).tolist()


@settings(max_examples=200, deadline=None)
@given(
    _conditions(
        st.tuples(st.sampled_from(NUMBERS), st.sampled_from(SYMBOLS), constants).map(" ".join)
        | tier_tests
        | st.sampled_from(FLAGS)
    ),
    st.lists(rows, min_size=1, max_size=5),
)
def test_where_everything_is_decidable_a_condition_is_pythons_eval_of_the_text(text, given_rows):
    expected = [eval(text, {}, _values(row)) for row in given_rows]
    assert expected == compile_expression(text).evaluate(_matrix(given_rows)).tolist()


@settings(max_examples=100, deadline=None)
@given(conditions, st.lists(rows, max_size=6))
def test_a_matrix_is_evaluated_as_its_rows_are(text, given_rows):
    expression, matrix = compile_expression(text), _matrix(given_rows)
    one_by_one = [bool(expression.evaluate(matrix[index : index + 1])[0]) for index in range(len(matrix))]
    whole = expression.evaluate(matrix)
    assert one_by_one == whole.tolist()
    assert (len(matrix),) == whole.shape
    assert np.bool_ == whole.dtype


@settings(max_examples=200, deadline=None)
@given(_conditions(_comparisons(["age_days", "requests_1m"]) | st.sampled_from(FLAGS)), counts)
def test_of_a_condition_and_its_negation_at_most_one_holds_and_exactly_one_when_all_is_known(text, requests):
    matrix = np.zeros((2, len(ACCOUNT_FEATURES)), np.int64)
    matrix[:, index_of("requests_1m")] = requests + 1  # never zero, so that every ratio is known
    matrix[:, index_of("age_days")] = [-1, 12]
    holds = compile_expression(text).evaluate(matrix)
    fails = compile_expression(f"not ({text})").evaluate(matrix)
    assert not (holds & fails).any()
    assert holds[1] or fails[1]


@given(st.sampled_from(SYMBOLS), st.integers(-3, 3))
def test_no_comparison_with_an_unknown_age_holds(symbol, threshold):
    matrix = np.full((1, len(ACCOUNT_FEATURES)), 0, np.int64)
    matrix[0, index_of("age_days")] = -1
    for text in (
        f"age_days {symbol} {threshold}",
        f"{threshold} {symbol} age_days",
        f"not age_days {symbol} {threshold}",
        f"age_days * 0 {symbol} {threshold}",
        f"requests_1m {symbol} {threshold} + age_days",
    ):
        assert not compile_expression(text).evaluate(matrix)[0], text


@settings(max_examples=150, deadline=None)
@given(conditions, rows)
def test_every_finding_is_a_true_comparison_of_the_row(text, row):
    matrix = _matrix([row])
    for finding in compile_expression(text).findings(matrix[0]):
        assert row[finding.feature.name] == finding.value
        assert eval(f"{finding.value} {finding.operator} {finding.threshold!r}")
