"""Columns of tables of any kind, and ids in them, without importing what made them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def is_series(value: object) -> bool:
    """Whether it is a pandas Series: values with an index that names them."""
    return hasattr(value, "iloc") and getattr(value, "ndim", None) == 1


def is_frame(value: object) -> bool:
    """Whether it is a data frame or a table: columns with names."""
    return hasattr(value, "columns") and not isinstance(value, (dict, np.ndarray))


def column_of(table: Any, name: str) -> Any:
    """The column of a dict, a data frame, an Arrow table, or the attribute.

    Raises:
      ValueError: There is none.
    """
    try:
        if hasattr(table, "__getitem__"):
            return table[name]
        return getattr(table, name)
    except Exception as error:  # Each kind of table has its own.
        raise ValueError(
            f"Expected a table with a column {name!r}, received {_described(table)}"
        ) from error


def _described(table: Any) -> str:
    """What a table without the column is, and the remedy."""
    if hasattr(table, "element_spec"):
        return (
            "a tf.data.Dataset, which is no table. Pass the columns that it was made "
            "of; or gather its batches: `batches = list(dataset.as_numpy_iterator())`,"
            " then `{name: np.concatenate([batch[name] for batch in batches]) for name "
            "in batches[0]}`."
        )
    names = getattr(table, "column_names", getattr(table, "columns", None))
    names = table if isinstance(table, dict) else names
    if names is None:
        return f"a {type(table).__name__} without. Name one of its columns."
    return f"a {type(table).__name__} with {[*names]}. Name one of these columns."


def id_column(name: str, values: ArrayLike) -> np.ndarray:
    """Ids as a vector: int64, or strings (dtype "U", "S" or object of one type).

    Args:
      name: What they are, for messages.
      values: A list, array, tensor, Series or column.

    Raises:
      ValueError: Not a vector; neither integers nor strings alone; some are missing.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(
            f"{name!r} must be a vector of ids, received shape {array.shape}."
        )
    if array.dtype.kind in "SU":
        return array
    kinds = [array.dtype.name]
    if array.dtype.kind == "O":
        types = {type(value) for value in array}
        if types in ({str}, {bytes}):
            return array
        kinds = sorted(t.__name__ for t in types)
        if types and all(issubclass(t, (int, np.integer)) for t in types - {bool}):
            array = np.array(array.tolist())
    fits = array.dtype != np.uint64 or (array <= np.iinfo(np.int64).max).all()
    if array.dtype.kind not in "iu" or "bool" in kinds or not fits:
        raise ValueError(
            f"{name!r} must hold ids, integers of 64 bits or strings, all of one kind "
            f"and none missing, received {' and '.join(kinds)}. Convert them, or drop "
            "rows without."
        )
    return array.astype(np.int64)


def places_of_repeats(keys: np.ndarray) -> np.ndarray:
    """Places in a vector of keys that hold a key which was there before."""
    order = np.argsort(keys, kind="stable")
    return order[1:][keys[order[1:]] == keys[order[:-1]]]
