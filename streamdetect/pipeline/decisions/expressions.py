"""The ``when`` of a rule: text to a checked tree to numpy closures (``truths``). Nothing is ever given to ``eval``.

The grammar is a small part of Python's: ``and or not``, comparisons (also chained), ``+ - * /``, numbers, names of
features, and ``tier`` against strings. What is not listed here is an error with its place. A comparison that nobody
can decide (an unknown age, a division by zero) does not hold, and its negation does not hold either: what is not known
never fires a rule. Arithmetic is in float64, exact below 2**53. Cost: one or two numpy operations a comparison.
"""

import ast
import difflib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import numpy as np

from streamdetect.errors import PolicyError
from streamdetect.pipeline.accounts.tiers import TIER_NAMES, TRUSTED_TIERS, YOUNG_TIERS, TrustTier
from streamdetect.pipeline.decisions.features import FLAGS, SCOPES, TIER, Feature, index_of, names_of
from streamdetect.pipeline.decisions.truths import (
    Holds,
    Number,
    Rows,
    Truth,
    compared,
    computed,
    constant,
    joined,
    tier_truth,
)

TEXT_MAX: Final = 2000
NUMBER_MAX: Final = 2**53

Place = Callable[[int], tuple[int, int]]

_INVERSE: Final = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
_MIRRORED: Final = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}
_SYMBOL: Final[dict[type[ast.cmpop], str]] = {
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_ARITHMETIC: Final[dict[type[ast.operator], np.ufunc]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}
_FLAG_TIERS: Final = {"young": YOUNG_TIERS, "trusted": TRUSTED_TIERS, "unknown_tier": (TrustTier.UNKNOWN,)}
_FLAG_NAMES: Final = frozenset(flag.name for flag in FLAGS)
_INSTEAD: Final[dict[type[ast.AST], str]] = {
    ast.Call: "a function call is not allowed",
    ast.Attribute: "a dotted name is not allowed",
    ast.Subscript: "an index is not allowed",
    ast.BitAnd: "write 'and' instead of '&'",
    ast.BitOr: "write 'or' instead of '|'",
    ast.Invert: "write 'not' instead of '~'",
    ast.Pow: "'**' is not allowed; use + - * /",
    ast.Mod: "'%' is not allowed; use + - * /",
    ast.FloorDiv: "'//' is not allowed; use + - * /",
    ast.Is: "write '==' instead of 'is'",
    ast.IsNot: "write '!=' instead of 'is not'",
    ast.IfExp: "'if ... else' is not allowed; use and, or, not",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A comparison of a feature with a number that held: ``value operator threshold``."""

    feature: Feature
    value: int
    operator: str
    threshold: float


@dataclass(frozen=True, slots=True)
class _Threshold:
    """A comparison of one bare feature with a constant, as it counts in the tree (negations already applied)."""

    feature: Feature
    column: int
    operator: str
    threshold: float
    truth: Truth


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled condition over the feature columns of one scope."""

    text: str
    scope: str
    features_used: tuple[str, ...]
    _truth: Truth = field(repr=False, compare=False)
    _thresholds: tuple[_Threshold, ...] = field(repr=False, compare=False)

    def evaluate(self, columns: Rows) -> Holds:
        """Where the condition holds: int64 [n, features] in catalogue order to bool [n]."""
        with np.errstate(all="ignore"):
            return self._truth(columns)

    def findings(self, row: Rows) -> list[Finding]:
        """The comparisons against constants that hold in one row (int64 [features]), in the order they are written."""
        rows = row.reshape(1, -1)
        with np.errstate(all="ignore"):
            return [
                Finding(item.feature, int(row[item.column]), item.operator, item.threshold)
                for item in self._thresholds
                if item.truth(rows)[0]
            ]


def _place_in_text(offset: int) -> tuple[int, int]:
    return 1, offset + 1


def compile_expression(
    text: str,
    scope: str = "account",
    *,
    tiers: frozenset[TrustTier] | None = None,
    place: Place = _place_in_text,
    source: str = "expression",
) -> Expression:
    """Check and compile one condition.

    With ``tiers`` (scope ``account`` only) it holds for accounts of these tiers alone. ``place`` turns an offset in
    ``text`` into line and column of the file it came from; ``PolicyError`` is raised there.
    """
    if scope not in SCOPES or (tiers is not None and scope != "account"):
        raise ValueError(f"no such scope, or no tiers in it: {scope!r}")
    compiler = _Compiler(scope, place, source)
    truth = compiler.compile(text)
    if tiers is not None:
        truth = joined([tier_truth(tuple(sorted(tiers)), negated=False), truth], every=True)
    return Expression(text, scope, tuple(compiler.used), truth, tuple(compiler.thresholds))


class _Compiler:
    """Walks one tree. Negation is pushed down to the comparisons, so that an undecidable one stays false under it."""

    def __init__(self, scope: str, place: Place, source: str) -> None:
        self.scope, self.place, self.source = scope, place, source
        self.names = {feature.name: feature for feature in names_of(scope)}
        self.used: dict[str, None] = {}
        self.thresholds: list[_Threshold] = []
        self.shift = 0

    def compile(self, text: str) -> Truth:
        try:
            return self.truth(self.parse(text), negated=False)
        except (RecursionError, MemoryError):
            self.fail(0, "too deeply nested")

    def parse(self, text: str) -> ast.expr:
        if len(text) > TEXT_MAX:
            self.fail(0, f"longer than {TEXT_MAX} characters")
        for offset, character in enumerate(text):
            if not (" " <= character <= "~" or character in "\t\n") or character in "#\\":
                self.fail(offset, f"unexpected character {character!r}")
        # One line, so that a condition may be folded over several in the file; offsets stay what they are.
        flat = text.replace("\n", " ").replace("\t", " ")
        self.shift = len(flat) - len(flat.lstrip())
        if not flat.strip():
            self.fail(0, "the condition is empty")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # such as "600and", which Python still reads
                return ast.parse(flat.lstrip(), mode="eval").body
        except SyntaxError as error:
            # The parser gives no offset where the text ends too early.
            offset = error.offset - 1 + self.shift if error.offset else len(flat.rstrip())
            self.fail(offset, f"cannot be read: {error.msg}")

    def fail(self, where: ast.AST | int, message: str) -> NoReturn:
        offset = where if isinstance(where, int) else getattr(where, "col_offset", 0) + self.shift
        line, column = self.place(offset)
        raise PolicyError(message, line=line, column=column, source=self.source) from None

    def refuse(self, node: ast.AST, part: ast.AST, otherwise: str) -> NoReturn:
        self.fail(node, _INSTEAD.get(type(part), otherwise))

    # What is true or false.

    def truth(self, node: ast.expr, *, negated: bool) -> Truth:
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(value, negated=negated) for value in node.values]
            return joined(parts, every=isinstance(node.op, ast.And) is not negated)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.truth(node.operand, negated=not negated)
        if isinstance(node, ast.Compare):
            return self.comparisons(node, negated=negated)
        if isinstance(node, ast.Name) and self.named(node).name in _FLAG_NAMES:
            return tier_truth(_FLAG_TIERS[node.id], negated=negated)
        return self.refuse_truth(node)

    def refuse_truth(self, node: ast.expr) -> NoReturn:
        if isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in _INSTEAD:
            self.refuse(node, node.op, "")
        if isinstance(node, ast.Name):
            self.fail(node, f"{node.id} is not true or false by itself; compare it with something")
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Constant):
            self.fail(node, "a comparison is expected here, not a value")
        self.refuse(node, node, f"{type(node).__name__} is not allowed in a condition")

    def comparisons(self, node: ast.Compare, *, negated: bool) -> Truth:
        sides = [node.left, *node.comparators]
        parts = [
            self.comparison(left, operator, right, negated=negated)
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return joined(parts, every=not negated)

    def comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, *, negated: bool) -> Truth:
        if isinstance(operator, ast.In | ast.NotIn):
            return self.membership(left, right, negated=isinstance(operator, ast.NotIn) is not negated)
        symbol = _SYMBOL.get(type(operator))
        if symbol is None:
            self.refuse(left, operator, "this comparison is not allowed")
        if any(_is_tier(side) or _is_text(side) for side in (left, right)):
            return self.tier_equality(left, symbol, right, negated=negated)
        return self.numeric_comparison(left, _INVERSE[symbol] if negated else symbol, right)

    def membership(self, left: ast.expr, right: ast.expr, *, negated: bool) -> Truth:
        if not _is_tier(left):
            self.fail(left, "only tier can stand before 'in'")
        self.named(left)
        if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
            self.fail(right, 'after \'in\' comes a list of tiers, such as ("T0", "T1")')
        return tier_truth(tuple(self.tier_of(item) for item in right.elts), negated=negated)

    def tier_equality(self, left: ast.expr, symbol: str, right: ast.expr, *, negated: bool) -> Truth:
        name, text = (left, right) if _is_tier(left) else (right, left)
        if not _is_tier(name):
            for side in (left, right):
                if isinstance(side, ast.Name):
                    self.named(side)  # a mistyped name is the likelier cause
            self.fail(text if _is_text(text) else name, "only tier is compared with text")
        self.named(name)
        if symbol not in ("==", "!="):
            self.fail(left, f"tiers have no order here; {symbol!r} is not allowed, use == != in")
        return tier_truth((self.tier_of(text),), negated=(symbol == "!=") is not negated)

    def tier_of(self, node: ast.expr) -> TrustTier:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            self.fail(node, f"tier is compared with one of {', '.join(map(repr, TIER_NAMES))}")
        if node.value not in TIER_NAMES:
            self.fail(node, f"unknown tier {node.value!r}; one of {', '.join(TIER_NAMES)}")
        return TIER_NAMES[node.value]

    def numeric_comparison(self, left: ast.expr, symbol: str, right: ast.expr) -> Truth:
        first, second = self.number(left), self.number(right)
        if first.constant is not None and second.constant is not None:
            self.fail(left, "compares two constants: it would always, or never, hold")
        truth = compared(first, symbol, second)
        for bare, other, seen_from in ((first, second, symbol), (second, first, _MIRRORED[symbol])):
            if bare.feature is not None and other.constant is not None:
                column = index_of(bare.feature.name, self.scope)
                self.thresholds.append(_Threshold(bare.feature, column, seen_from, other.constant, truth))
        return truth

    # What is a number.

    def number(self, node: ast.expr) -> Number:
        if isinstance(node, ast.Constant):
            return self.constant(node)
        if isinstance(node, ast.Name):
            return self.column(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            operand = self.number(node.operand)
            return operand if isinstance(node.op, ast.UAdd) else computed(np.subtract, constant(0), operand)
        if isinstance(node, ast.BinOp):
            return self.arithmetic(node)
        return self.refuse_number(node)

    def refuse_number(self, node: ast.expr) -> NoReturn:
        part = node.op if isinstance(node, ast.UnaryOp) else node
        if isinstance(part, ast.BoolOp | ast.Compare | ast.Not):
            self.fail(node, "a number is expected here, not a condition")
        self.refuse(node, part, f"{type(node).__name__} is not allowed in a condition")

    def constant(self, node: ast.Constant) -> Number:
        value = node.value
        if isinstance(value, str):
            self.fail(node, "only tier is compared with text")
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(node, f"{value!r} is not a number")
        if not value <= NUMBER_MAX:
            self.fail(node, "the number is too large (more than 2**53)")
        return constant(value)

    def column(self, node: ast.Name) -> Number:
        feature = self.named(node)
        if feature is TIER or feature.name in _FLAG_NAMES:
            self.fail(node, f"{feature.name} is a {feature.unit}, not a number")
        index = index_of(feature.name, self.scope)
        if not feature.unknowable:
            return Number(lambda rows: rows[:, index], feature=feature)
        return Number(
            lambda rows: np.where(rows[:, index] < 0, np.nan, rows[:, index]), feature=feature, undecidable=True
        )

    def arithmetic(self, node: ast.BinOp) -> Number:
        operation = _ARITHMETIC.get(type(node.op))
        if operation is None:
            self.refuse(node, node.op, "this operator is not allowed; use + - * /")
        left, right = self.number(node.left), self.number(node.right)
        if operation is np.divide and right.constant == 0:
            self.fail(node.right, "division by zero")
        result = computed(operation, left, right)
        if result.constant is not None and abs(result.constant) > NUMBER_MAX:
            self.fail(node, "the number is too large (more than 2**53)")
        return result

    def named(self, node: ast.expr) -> Feature:
        assert isinstance(node, ast.Name)
        feature = self.names.get(node.id)
        if feature is None:
            self.unknown_name(node)
        self.used.setdefault(node.id)
        return feature

    def unknown_name(self, node: ast.Name) -> NoReturn:
        for scope in SCOPES:
            if any(feature.name == node.id for feature in names_of(scope)):
                self.fail(node, f"{node.id} is known of scope {scope}, not of scope {self.scope}")
        near = difflib.get_close_matches(node.id, self.names, n=1)
        hint = f"did you mean {near[0]}?" if near else "'streamdetect policy features' lists them"
        self.fail(node, f"unknown feature {node.id}; {hint}")


def _is_tier(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == TIER.name


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
