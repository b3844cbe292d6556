"""Rows of items or users with their features, read by many workers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfrs_negatives.data import arrow_columns, table_sources
from tfrs_negatives.data.table_parts import TableParts
from tfrs_negatives.pipeline.input_rows import files_description, read_spans
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam

#: What features are called in batches, so that no name meets another column's.
FEATURE = "feature "


class FeatureRows:
    """A table with a row for each id, whose rows workers read.

    Batches have the columns "id", `FEATURE + name`, "part" and "place"; and "rows", how
    many rows of the batch a row stands for: of rows with the same id, only the first is
    in the batch.

    Args:
      path: As `data.interactions`.
      key: Name of the column with ids.
      columns: Names of columns by feature.
      types: Arrow types by feature.

    Raises:
      ValueError, ImportError: As `data.interactions`.
    """

    def __init__(
        self,
        path: PathLike,
        key: str,
        columns: Mapping[str, str],
        types: Mapping[str, pa.DataType],
    ) -> None:
        # Two features may be of one column.
        wanted = dict.fromkeys([key, *columns.values()])
        self._parts = table_sources.parts_of_path(
            path, {f"feature {name}": name for name in wanted}
        )
        self._path, self._key = path, key
        self._columns, self._types = dict(columns), dict(types)
        kind = arrow_columns.id_type(self._parts.types[f"feature {key}"])
        if kind is None:
            raise ValueError(
                f"Column {key!r} of {self._parts.source} must hold ids, integers or "
                f"strings, received {self._parts.types[f'feature {key}']}. Name "
                "another column."
            )
        self._id_type = pa.int64() if kind == "integers" else pa.large_string()

    def description(self) -> dict[str, Any]:
        """What tells this table from another."""
        columns = {"id": self._key, **self._columns}
        return {**files_description(self._path), "columns": columns}

    def no_rows(self) -> pa.Table:
        """A batch without rows."""
        names = {self._key, *self._columns.values()}
        columns = {name: pa.array([], self._type_of(name)) for name in names}
        return self._batch(self._parts, pa.table(columns), 0)

    def read(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Batches of rows."""
        return read_spans(pipeline, self._parts, functools.partial(_batch_at, self))

    def check(self, summary: Mapping[str, int]) -> None:
        """Raises `ValueError` where there are no rows."""
        if not summary["rows_read"]:
            raise ValueError(
                f"{self._parts.source} must hold rows, received an empty table. Check "
                "how it was written."
            )

    def batch_at(
        self, parts: TableParts, position: int, num: int
    ) -> tuple[pa.Table, int]:
        """The batch of at most `num` rows at a position, and the next position."""
        table, after = parts.read_columns(position, num)
        return self._batch(parts, table, position), after

    def _batch(self, parts: TableParts, table: pa.Table, position: int) -> pa.Table:
        num = len(table)
        found = {"id": self._cast(parts, table, self._key, self._id_type, position)}
        for name, column in self._columns.items():
            kind = self._types[name]
            found[FEATURE + name] = self._cast(parts, table, column, kind, position)
        found["part"] = pa.array(np.full(num, position))
        found["place"] = pa.array(np.arange(num))
        first, rows = first_rows(found["id"])
        batch = pa.table(found).take(pa.array(first))
        batch = batch.append_column("rows", pa.array(rows))
        return batch.replace_schema_metadata({"rows_read": str(num)})

    def _type_of(self, column: str) -> pa.DataType:
        kinds = [self._types[n] for n, name in self._columns.items() if name == column]
        return kinds[0] if kinds else self._id_type

    def _cast(
        self,
        parts: TableParts,
        table: pa.Table,
        name: str,
        kind: pa.DataType,
        position: int,
    ) -> pa.ChunkedArray:
        column = table.column(name)
        where = f"Column {name!r} of {parts.source_of(position)}"
        if column.null_count:
            raise ValueError(
                f"{where} must have a value in each row, received {column.null_count} "
                f"nulls from row {parts.row_of(position) + 1:,} on. Fill them."
            )
        try:
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            return column.cast(kind, safe=not pa.types.is_floating(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"{where} must hold {kind}, received {column.type}: "
                f"{str(error).splitlines()[0]}. Write it as the model takes it."
            ) from error


def first_rows(ids: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each id, in the order of rows, and how many rows the id has.

    Ids are compared as they are, not by their hashes: no id is taken for another.
    """
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    codes = ids.dictionary_encode().indices.to_numpy()
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return first, counts  # Codes are by first appearance.


def _batch_at(
    rows: FeatureRows, parts: TableParts, position: int, num: int
) -> tuple[pa.Table, int]:
    return rows.batch_at(parts, position, num)
