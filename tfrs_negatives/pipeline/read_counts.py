"""Reads the counts that a step has written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfrs_negatives.data.packages import import_package
from tfrs_negatives.data.table_files import table_files
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import pyarrow as pa


def read_counts(folder: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Reads what `pipeline.count_column` has written.

    Args:
      folder: Its output.

    Returns:
      `(ids, counts)` as `data.count_ids` returns them: distinct ids, sorted (integers,
      or `bytes`), and int64 counts, [V]. The ids are a vocabulary; the pair is what
      `layers.StaticFrequency` takes.

    Raises:
      ValueError: The folder has no such files.
    """
    arrow = import_package("pyarrow", "demo")
    parquet = import_package("pyarrow.parquet", "demo")
    tables: list[pa.Table] = []
    for file in table_files(folder).files:
        table = None
        if not file.is_text:
            table = parquet.read_table(
                file.path, filesystem=file.system.arrow, partitioning=None
            )
        if table is None or table.column_names != ["id", "count"]:
            raise ValueError(
                f"Expected counts that `count_column` wrote, received {file.path!r}, "
                "which holds something else. Name the folder of its output."
            )
        tables.append(table)
    whole = arrow.concat_tables(tables)
    ids = whole.column("id")
    if not arrow.types.is_integer(ids.type):
        ids = ids.cast(arrow.large_binary())
    values = ids.to_numpy(zero_copy_only=False)
    order = np.argsort(values, kind="stable")
    return values[order], whole.column("count").to_numpy()[order]
