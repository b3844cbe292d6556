"""Which items a filter lets pass."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping

import numpy as np

from tfrs_negatives.index.filters.filter_columns import (
    AttributeValues,
    CategoryValues,
    SetValues,
)
from tfrs_negatives.index.filters.filter_tree import (
    AnyOf,
    Comparison,
    Contains,
    Every,
    Expression,
    Leaf,
    Missing,
    Negation,
    OneOf,
)

_COMPARE: dict[str, Callable[..., np.ndarray]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def mask_of(
    expression: Expression, attributes: Mapping[str, AttributeValues], num_rows: int
) -> np.ndarray:
    """Which items a filter lets pass.

    A comparison with a missing value is false, `!=` and `not in` too; `not` turns that
    around.

    Args:
      expression: What `checked_filter` returned.
      attributes: The values of N items.
      num_rows: N.

    Returns:
      `[N]` bool.
    """
    if isinstance(expression, Negation):
        return ~mask_of(expression.of, attributes, num_rows)
    if isinstance(expression, (Every, AnyOf)):
        join = np.logical_and if isinstance(expression, Every) else np.logical_or
        masks = (mask_of(part, attributes, num_rows) for part in expression.of)
        return functools.reduce(join, masks)
    return _leaf(expression, attributes[expression.attribute], num_rows)


def _leaf(part: Leaf, values: AttributeValues, num_rows: int) -> np.ndarray:
    if isinstance(values, SetValues):
        return _of_set(part, values, num_rows)
    if isinstance(values, CategoryValues):
        return _of_category(part, values)
    return _of_number(part, values)


def _of_set(part: Leaf, values: SetValues, num_rows: int) -> np.ndarray:
    mask = np.zeros(num_rows, bool)
    if isinstance(part, Missing):
        mask[values.rows] = True
        return mask if part.negated else ~mask
    assert isinstance(part, Contains)
    code = values.code_of.get(str(part.value))
    if code is not None:
        mask[values.rows[values.codes == code]] = True
    return ~mask if part.negated else mask


def _of_category(part: Leaf, values: CategoryValues) -> np.ndarray:
    present = values.codes >= 0
    if isinstance(part, Missing):
        return present if part.negated else ~present
    if isinstance(part, Comparison):
        wanted, negated = [part.value], part.operator == "!="
    else:
        assert isinstance(part, OneOf)
        wanted, negated = list(part.values), part.negated
    codes = [values.code_of.get(str(text)) for text in wanted]
    found = np.zeros(len(values.codes), bool)
    for code in codes:
        # A text that no item has.
        if code is not None:
            found |= values.codes == code
    return present & ~found if negated else found


def _of_number(part: Leaf, values: np.ndarray) -> np.ndarray:
    if isinstance(part, Missing):
        missing = np.isnan(values)
        return ~missing if part.negated else missing
    if isinstance(part, Comparison):
        found = _COMPARE[part.operator](values, part.value)
        # NaN differs from everything, and nothing else is true of it.
        return found & ~np.isnan(values) if part.operator == "!=" else found
    assert isinstance(part, OneOf)
    found = np.isin(values, np.array(part.values, np.float64))
    return ~found & ~np.isnan(values) if part.negated else found
