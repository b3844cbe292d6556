"""Reads the negatives that a step has mined."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives.data.packages import import_package
from tfrs_negatives.data.table_files import table_files
from tfrs_negatives.types import PathLike


def read_negatives(folder: PathLike) -> tuple[np.ndarray, tf.RaggedTensor]:
    """Reads what `pipeline.mine_negatives` has written.

    Args:
      folder: Its output.

    Returns:
      `(ids, table)`: ids of the queries `[R]`, int64 or `bytes`, and ids of items, best
      rank first, a `tf.RaggedTensor` `[R, (up to M)]`. `samplers.Mined` takes the
      table, and the ids as `row_ids`.

    Raises:
      ValueError: The folder has no such files.
    """
    arrow = import_package("pyarrow", "demo")
    parquet = import_package("pyarrow.parquet", "demo")
    tables = []
    for file in table_files(folder).files:
        table = None
        if not file.is_text:
            table = parquet.read_table(
                file.path, filesystem=file.system.arrow, partitioning=None
            )
        if table is None or table.column_names != ["id", "negatives", "scores"]:
            raise ValueError(
                f"Expected negatives that `mine_negatives` wrote, received "
                f"{file.path!r}, which holds something else. Name the folder of its "
                "output."
            )
        tables.append(table.replace_schema_metadata())
    whole = arrow.concat_tables(tables)
    lists = whole.column("negatives").combine_chunks()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    table = tf.RaggedTensor.from_row_lengths(_tensor(lists.flatten()), lengths)
    return _tensor(whole.column("id").combine_chunks()).numpy(), table


def _tensor(column: Any) -> tf.Tensor:
    arrow = import_package("pyarrow", "demo")
    if arrow.types.is_integer(column.type):
        return tf.constant(column.to_numpy(), tf.int64)
    values = column.cast(arrow.large_binary()).to_numpy(zero_copy_only=False)
    return tf.constant(values, tf.string)
