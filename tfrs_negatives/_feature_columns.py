"""Columns of features: what their values are, and which of them are missing."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from tfrs_negatives._id_columns import column_of, is_frame
from tfrs_negatives.types import TableLike, TensorLike

# The largest whole number below which float64 has all whole numbers.
_EXACT = 2**53
_LISTS = (list, tuple, np.ndarray)


def feature_column(table: TableLike, name: str) -> np.ndarray:
    """A column of a table as `feature_values`, with lists for rows padded.

    Raises:
      ValueError: There is no such column, or two of that name; as `feature_values`.
    """
    return feature_values(name, column_of(table, name))


def feature_values(name: str, values: TensorLike) -> np.ndarray:
    """Values of a feature in one of three forms, by what they are.

    * Whole numbers and booleans, none missing: int64.
    * Other numbers, or some missing: float64, where NaN is a missing value. Dates:
      their seconds since 1970.
    * Strings: objects of `str`, where "" is a missing value.

    None, NaN, NaT and pandas's NA are missing values of any column. A column of nothing
    else is float64.

    Args:
      name: What they are, for messages.
      values: A list, array, tensor, Series or column, [n]; or of several values a row:
        [n, V], or a list for each row.

    Returns:
      [n], or [n, V]: shorter lists end in missing values.

    Raises:
      ValueError: Values of several kinds, or of another; neither [n] nor [n, V].
    """
    if is_frame(values):
        raise ValueError(
            f"The table has {values.shape[1]} columns named {name!r}: expected one. "
            "Rename or drop the others."
        )
    kind: Any = getattr(values, "type", None)
    if hasattr(kind, "index_type"):  # NumPy would get no nulls of Arrow's dictionaries.
        values = values.cast(kind.value_type)
    if hasattr(values, "row_splits") and hasattr(values, "to_list"):  # Ragged.
        array = _of_lists(values.to_list())
    elif isinstance(values, (list, tuple)):  # Which NumPy would make all strings.
        array = _of_lists(values)
    else:
        array = np.asarray(values)
    if array.ndim == 1 and array.dtype.kind == "O":
        array = _of_lists(array)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name!r} must have a value or a list of values for each row, received "
            f"shape {array.shape}."
        )
    flat = array.reshape(-1)
    return _plain(name, flat).reshape(array.shape)


def missing(values: np.ndarray) -> np.ndarray:
    """Which of `feature_values` are missing, bool of their shape."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "O":
        return values == ""
    return np.zeros(values.shape, bool)


def _of_lists(rows: Any) -> np.ndarray:
    """Rows that are lists as a matrix, padded by None; others as they are."""
    if not any(isinstance(row, _LISTS) for row in rows):
        return np.asarray(rows, object)
    lists = [
        list(row) if isinstance(row, _LISTS) else [] if _is_missing(row) else [row]
        for row in rows
    ]
    width = max(1, max(map(len, lists)))
    array = np.full([len(lists), width], None, object)
    for place, row in enumerate(lists):
        array[place, : len(row)] = row
    return array


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _plain(name: str, values: np.ndarray) -> np.ndarray:
    kind = values.dtype.kind
    if kind == "O":
        return _of_objects(name, values)
    if kind == "M":
        return _seconds(values)
    if kind == "U":
        return values.astype(object)
    if kind == "S":
        return _of_objects(name, values.astype(object))
    if kind in "bi":
        return values.astype(np.int64)
    if kind == "u" and (values <= np.iinfo(np.int64).max).all():
        return values.astype(np.int64)
    if kind == "f":
        return values.astype(np.float64)
    raise ValueError(_unfit(name, [values.dtype.name]))


def _of_objects(name: str, values: np.ndarray) -> np.ndarray:
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return values
    absent = np.array([_is_missing(value) for value in values], bool)
    kinds = {type(value) for value in values[~absent]}
    if not kinds:
        return np.full(len(values), np.nan)
    if kinds <= {str, bytes, np.str_, np.bytes_}:
        found = np.full(len(values), "", object)
        found[~absent] = [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for value in values[~absent]
        ]
        return found
    if all(issubclass(kind, (bool, np.bool_, int, np.integer)) for kind in kinds):
        whole = _plain(name, np.array(values[~absent].tolist()))
        if not absent.any():
            return whole
        if (np.abs(whole) > _EXACT).any():
            raise ValueError(
                f"{name!r} must hold whole numbers below 2^53 where some are missing, "
                f"received {np.abs(whole).max()}. Convert them to strings."
            )
        return _with_gaps(whole, absent)
    numbers = (int, float, np.integer, np.floating)
    if all(issubclass(kind, numbers) and kind is not bool for kind in kinds):
        return _with_gaps(values[~absent].astype(np.float64), absent)
    if all(issubclass(kind, (datetime.date, np.datetime64)) for kind in kinds):
        dates = [
            value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            if getattr(value, "tzinfo", None)
            else value
            for value in values[~absent]
        ]
        return _with_gaps(_seconds(np.array(dates, "datetime64[us]")), absent)
    raise ValueError(_unfit(name, sorted(kind.__name__ for kind in kinds)))


def _with_gaps(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    found = np.full(len(absent), np.nan)
    found[~absent] = values
    return found


def _seconds(values: np.ndarray) -> np.ndarray:
    """Seconds since 1970 of dates, float64; NaN of NaT."""
    found = values.astype("datetime64[us]").astype(np.int64) / 1e6
    found[np.isnat(values)] = np.nan
    return found


def _unfit(name: str, kinds: list[str]) -> str:
    return (
        f"{name!r} must hold values of one kind, numbers, strings or dates, received "
        f"{' and '.join(kinds)}. Convert the column, such as all of it to strings."
    )
