"""Which feature a column is, by its name alone or by what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tfrs_negatives._feature_columns import feature_column, missing
from tfrs_negatives._id_columns import column_of
from tfrs_negatives.towers.categorical import Categorical
from tfrs_negatives.towers.date import Date
from tfrs_negatives.towers.feature import Feature
from tfrs_negatives.towers.numeric import Numeric
from tfrs_negatives.towers.text import Text
from tfrs_negatives.types import TableLike

# Whole numbers of more kinds than that are amounts rather than categories.
_MOST_NUMBERS = 20
# Texts are of so many words, and so many of them are like no other.
_WORDS, _DISTINCT = 2, 0.5
# Of values that hold a separator, from which on they are lists.
_SEPARATED = 0.05
_SEPARATOR = "|"

_KINDS: dict[str, Callable[[str], Feature]] = {
    "category": Categorical,
    "number": Numeric,
    "text": Text,
    "date": Date,
}


def features_for(table: TableLike, names: Iterable[str]) -> list[Feature]:
    """Features of columns, of the kind that is named or that their values suggest.

    * Strings are a `Text` if they have two words on average, and more than half of them
      are like no other; else `Categorical`. If one in twenty or more hold "|", they are
      several categories that it separates.
    * Numbers are `Categorical` if they are whole and at most 20 different ones; else
      `Numeric`.
    * Dates are a `Date`, lists `Categorical`.

    Args:
      table: As `Tower.adapt` takes it.
      names: Names of columns, or "name:kind", where kind is "category", "number",
        "text" or "date".

    Returns:
      A feature for each name, not yet adapted.

    Raises:
      ValueError: A name that is there twice, a column that is not, values of several
        kinds.

    Example:
      >>> table = {"genres": ["Action|Drama", "Drama"], "age": [31.5, 40.0]}
      >>> tn.towers.features_for(table, ["genres", "age:category"])
      [Categorical(column='genres', separator='|'), Categorical(column='age')]
    """
    features: list[Feature] = []
    for name in names:
        column, kind = _named(table, name)
        if column in [feature.column for feature in features]:
            raise ValueError(
                f"Features must be named once each, received {column!r} twice. Leave "
                "one out."
            )
        values = feature_column(table, column)
        features.append(
            _fitting(column, values, table)
            if kind is None
            else _of_kind(kind, column, values)
        )
    return features


def column_names(names: Iterable[str]) -> list[str]:
    """Names of columns without the kinds that `features_for` may be given with them."""
    found = []
    for name in names:
        column, colon, kind = name.rpartition(":")
        found.append(column if colon and kind in _KINDS else name)
    return found


def _named(table: TableLike, name: str) -> tuple[str, str | None]:
    """The column, and its kind if it is named."""
    column, colon, kind = name.rpartition(":")
    if not colon:
        return name, None
    if kind in _KINDS:
        return column, kind
    try:
        column_of(table, name)
    except ValueError:
        raise ValueError(
            f"Expected a kind of feature, {', '.join(_KINDS)}, received {kind!r} in "
            f"{name!r}."
        ) from None
    return name, None


def _of_kind(kind: str, column: str, values: np.ndarray) -> Feature:
    if kind == "category":
        return _categorical(column, values)
    return _KINDS[kind](column)


def _fitting(column: str, values: np.ndarray, table: TableLike) -> Feature:
    present = values[~missing(values)]
    if values.ndim == 2 or not len(present):
        return _categorical(column, values)
    if _are_dates(table, column):
        return Date(column)
    num_distinct = len(set(present.tolist()))
    if values.dtype.kind == "O":
        words = np.mean([len(text.split()) for text in present])
        if words >= _WORDS and num_distinct > _DISTINCT * len(present):
            return Text(column)
        return _categorical(column, values)
    is_whole = bool((np.isfinite(present) & (present == np.floor(present))).all())
    if is_whole and num_distinct <= _MOST_NUMBERS:
        return Categorical(column)
    return Numeric(column)


def _categorical(column: str, values: np.ndarray) -> Feature:
    if values.dtype.kind == "O" and values.ndim == 1:
        if np.mean([_SEPARATOR in text for text in values]) >= _SEPARATED:
            return Categorical(column, separator=_SEPARATOR)
    return Categorical(column)


def _are_dates(table: TableLike, column: str) -> bool:
    """Whether the values that became seconds were dates."""
    values = np.asarray(column_of(table, column))
    if values.dtype.kind == "O":
        return any(hasattr(value, "year") for value in values[:1000])
    return values.dtype.kind == "M"
