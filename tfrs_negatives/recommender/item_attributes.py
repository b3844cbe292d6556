"""Features of items as attributes that a live index filters by."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np

from tfrs_negatives._feature_columns import feature_column, missing
from tfrs_negatives.index.filters.filter_tokens import KEYWORDS
from tfrs_negatives.recommender.towers_of import Towers
from tfrs_negatives.towers import Categorical, Date, Feature, Numeric
from tfrs_negatives.types import TableLike


def item_attributes(
    towers: Towers, taken: Collection[str] = ()
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """What the item tower reads, as attributes of the catalogue.

    Categories that are strings are categories, several a row are sets, numbers are
    numbers, and dates are dates. Texts and ids are left out.

    Args:
      towers: `Towers`.
      taken: Names that no attribute may have.

    Returns:
      Values of all items and the kind of each attribute, by name: that of the column,
      where what a filter cannot hold is `_`.
    """
    attributes: dict[str, list[Any]] = {}
    kinds: dict[str, str] = {}
    for feature in towers.item.features:
        found = _attribute(feature, towers.item_table)
        if found is not None:
            name = _name(feature.column, {*taken, *attributes})
            kinds[name], attributes[name] = found
    return attributes, kinds


def _attribute(feature: Feature, table: TableLike) -> tuple[str, list[Any]] | None:
    """Kind and values; None of what is no attribute."""
    if not isinstance(feature, (Categorical, Date, Numeric)):
        return None
    values = feature_column(table, feature.column)
    if isinstance(feature, Categorical):
        separator = feature.separator
        if values.ndim == 2 or (separator is not None and values.dtype == object):
            return "set", _sets(values, separator)
        if values.dtype == object:
            return "category", [text or None for text in values]
    numbers = values.astype(np.float64)
    # Infinity is no number to a filter.
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    return "date" if isinstance(feature, Date) else "number", numbers.tolist()


def _sets(values: np.ndarray, separator: str | None) -> list[list[str]]:
    """The categories of each row, as texts."""
    rows = values.reshape(len(values), -1)
    are_there = ~missing(rows)
    sets = [
        [str(value) for value in row[there].tolist()]
        for row, there in zip(rows, are_there, strict=True)
    ]
    if separator is None:
        return sets
    return [[p for text in row for p in text.split(separator) if p] for row in sets]


def _name(column: str, taken: Collection[str]) -> str:
    name = re.sub(r"\W", "_", column)
    if not name.isidentifier():
        name = f"_{name}"
    while name in taken or name in KEYWORDS:
        name += "_"
    return name
