"""A filter against the kinds of the attributes that it names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tfrs_negatives.index.filters.date_seconds import seconds_of
from tfrs_negatives.index.filters.filter_error import filter_error
from tfrs_negatives.index.filters.filter_parser import parsed
from tfrs_negatives.index.filters.filter_tree import (
    AnyOf,
    Contains,
    Every,
    Expression,
    Leaf,
    Missing,
    Negation,
    OneOf,
    Value,
)

_HOW = {
    "category": '{0} == "a", {0} != "a", {0} in ["a", "b"] or {0} is missing',
    "number": "{0} < 1.5, {0} == 2, {0} in [1, 2] or {0} is missing",
    "date": '{0} >= "2024-05-31", {0} < 1717113600 or {0} is missing',
    "set": '"a" in {0}, "a" not in {0} or {0} is missing',
}


def checked_filter(where: str, kinds: Mapping[str, str]) -> Expression:
    """The tree of a filter whose comparisons fit the attributes.

    Args:
      where: The filter.
      kinds: The kind of each attribute: "category", "number", "date" or "set".

    Returns:
      The tree, where what is compared with dates are seconds since 1970.

    Raises:
      ValueError: It is no filter, names an attribute that is not there, or compares
        one with what it cannot be.
    """
    return _checked(parsed(where), where, kinds)


def _checked(part: Expression, where: str, kinds: Mapping[str, str]) -> Expression:
    if isinstance(part, (Every, AnyOf)):
        return type(part)(tuple(_checked(each, where, kinds) for each in part.of))
    if isinstance(part, Negation):
        return Negation(_checked(part.of, where, kinds))
    kind = kinds.get(part.attribute)
    if kind is None:
        known = ", ".join(sorted(kinds)) or "none"
        raise filter_error(
            where,
            part.place,
            f"expected an attribute of the index ({known}), received {part.attribute}.",
        )
    return _leaf(part, kind, where)


def _leaf(part: Leaf, kind: str, where: str) -> Leaf:
    if isinstance(part, Missing):
        return part
    if isinstance(part, Contains):
        fits = kind == "set" and isinstance(part.value, str)
        changed: Leaf = part
    elif isinstance(part, OneOf):
        values = tuple(_value(value, kind) for value in part.values)
        comparable = tuple(value for value in values if value is not None)
        fits = kind != "set" and len(comparable) == len(values)
        changed = dataclasses.replace(part, values=comparable)
    else:
        value = _value(part.value, kind)
        ordered = kind in ("number", "date") or part.operator in ("==", "!=")
        fits = kind != "set" and ordered and value is not None
        if value is not None:
            changed = dataclasses.replace(part, value=value)
    if not fits:
        raise filter_error(
            where,
            part.place,
            f"{part.attribute} is a {kind}. Write {_HOW[kind].format(part.attribute)}.",
        )
    return changed


def _value(value: Value, kind: str) -> Value | None:
    """What an attribute of this kind is compared with; None: it cannot be."""
    if kind == "date":
        try:
            return seconds_of(value)
        except (ValueError, OverflowError):
            return None
    if kind == "category":
        return value if isinstance(value, str) else None
    return value if isinstance(value, float) else None
