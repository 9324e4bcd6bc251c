"""Conditions and numbers as functions of feature columns: what a checked expression becomes.

A number that nobody can decide is NaN, and no comparison holds with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdetect.pipeline.accounts.tiers import TrustTier
from streamdetect.pipeline.decisions.features import Feature, index_of

Rows = NDArray[np.int64]
Holds = NDArray[np.bool_]
Truth = Callable[[Rows], Holds]
Values = Callable[[Rows], NDArray[np.generic]]

_COMPARE: Final[dict[str, np.ufunc]] = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric subtree: how to compute it, and what is known of it before any row is seen."""

    values: Values
    constant: float | None = None
    feature: Feature | None = None
    undecidable: bool = False  # it can be NaN


def joined(parts: list[Truth], *, every: bool) -> Truth:
    """All of the parts, or any of them."""
    if len(parts) == 1:
        return parts[0]
    if not every:
        return lambda rows: reduce(np.logical_or, [part(rows) for part in parts])

    def all_of(rows: Rows) -> Holds:
        holds = parts[0](rows)
        for part in parts[1:]:
            if not holds.any():  # as a rule nothing is wrong, and the first part says so
                return holds
            holds = np.logical_and(holds, part(rows))
        return holds

    return all_of


def tier_truth(tiers: tuple[TrustTier, ...], *, negated: bool) -> Truth:
    """Whether the tier of an account is one of these, or none of them."""
    wanted = np.zeros(len(TrustTier), np.bool_)
    wanted[list(tiers)] = True
    table = ~wanted if negated else wanted
    index = index_of("tier_code")
    return lambda rows: table[rows[:, index]]


def compared(left: Number, symbol: str, right: Number) -> Truth:
    """``left symbol right``; false where it cannot be decided, as is its negation."""
    if symbol == "!=" and (left.undecidable or right.undecidable):
        # NaN is not equal to anything, but neither less nor greater.
        less, greater = compared(left, "<", right), compared(left, ">", right)
        return joined([less, greater], every=False)
    operation = _COMPARE[symbol]
    return lambda rows: operation(left.values(rows), right.values(rows))  # type: ignore[no-any-return]  # ufuncs are open


def constant(value: float) -> Number:
    """A number that is the same for all rows."""
    number = np.int64(value) if isinstance(value, int) else np.float64(value)
    return Number(lambda _rows: number, constant=value)  # type: ignore[arg-type, return-value]  # scalars broadcast


def computed(operation: np.ufunc, left: Number, right: Number) -> Number:
    """``left operation right`` in float64; a division by zero becomes NaN, which no comparison holds with."""
    if left.constant is not None and right.constant is not None:
        return constant(float(operation(left.constant, right.constant, dtype=np.float64)))
    divides = operation is np.divide

    def values(rows: Rows) -> NDArray[np.generic]:
        first, second = left.values(rows), right.values(rows)
        result = operation(first, second, dtype=np.float64)
        return np.where(np.equal(second, 0), np.nan, result) if divides else result

    # Overflow needs products of many columns; then infinity minus infinity is NaN too.
    return Number(values, undecidable=True)
