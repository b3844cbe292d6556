"""Rows of equal columns as one, in parts of a table and in all of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrs_negatives._ids import mix

#: Columns that are no part of what is equal, and what becomes of them: how many rows
#: there were, and the number of the first.
_BECOMES = {"rows": "sum", "first": "min"}


def grouped(table: pa.Table) -> pa.Table:
    """A row for each distinct row, looking at all columns but "rows" and "first"."""
    names = table.column_names
    keys = [name for name in names if name not in _BECOMES]
    values = [name for name in names if name in _BECOMES]
    groups = table.group_by(keys, use_threads=False)
    found = groups.aggregate([(name, _BECOMES[name]) for name in values])
    found = found.select([*keys, *(f"{n}_{_BECOMES[n]}" for n in values)])
    return found.rename_columns([*keys, *values]).select(names)


def by_group(
    table: pa.Table, groups: np.ndarray, wanted: Collection[int] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each group that is wanted.

    Args:
      table: [n] rows.
      groups: [n] numbers of groups.
      wanted: None: all.
    """
    for group in np.unique(groups).tolist():
        if wanted is None or group in wanted:
            yield group, table.filter(pa.array(groups == group))


def group_of(keys: np.ndarray, num_groups: int) -> np.ndarray:
    """Which group each key is in: [n] int64 for [n] int64."""
    hashed = mix(tf.constant(keys.view(np.uint64))).numpy()
    return (hashed % np.uint64(num_groups)).astype(np.int64)
