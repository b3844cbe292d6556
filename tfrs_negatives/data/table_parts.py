"""Tables that are read part by part, and checked by the same rules as a whole."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrs_negatives.data import arrow_columns, times
from tfrs_negatives.data.arrow_columns import Column
from tfrs_negatives.data.table_sources import ID_ROLES

# The order in which columns' mistakes are told.
_ROLES = ("label", *ID_ROLES, "time", "title")
# Rows whose times tell how all are written.
_FIRST_ROWS = 8_192
# Rows that are looked at together where the whole table is wanted.
_PART = 131_072


class TableParts:
    """A table that is read part by part.

    Args:
      names: Dict from role ("user", ...) to column name.
      types: Dict from role to Arrow type.
      source: Where it came from, for messages.
      name: Where it came from, for reports.

    Attributes:
      names, types, source, name: As given.
      dtypes: Dict from role to the TensorFlow dtype of its column in all parts.
      is_text: Whether ids are text although they may be whole numbers.

    Raises:
      ValueError: A column of lists that is not the items'.
    """

    is_text = False

    def __init__(
        self,
        names: Mapping[str, str],
        types: Mapping[str, pa.DataType],
        source: str,
        name: str,
    ) -> None:
        self.names, self.types = names, types
        self.source, self.name = source, name
        self._check_types(types)
        self.dtypes = {
            role: tf.string if role == "title" else tf.float64 for role in names
        }
        for role in ID_ROLES:
            if role in names:
                kind = types[role]
                kind = kind.value_type if _is_list(kind) else kind
                is_integer = arrow_columns.id_type(kind) == "integers"
                self.dtypes[role] = tf.int64 if is_integer else tf.string

    def read(self, position: int, num: int) -> tuple[dict[str, Any], int]:
        """Reads at most `num` rows of the file.

        Args:
          position: How many rows come before.
          num: How many rows at most; a list of items counts as one.

        Returns:
          Dict from role to checked column: int64 or float64 arrays, or
          `arrow_columns.EncodedText`; and the next position, or -1.
        """
        raw, after = self._columns(position, num)
        checks = _Checks(self)
        checked = checks.checked(raw, position)
        where = ""
        if position or after >= 0:  # A part is not the table.
            where = f" from row {self.row_of(position) + 1:,} on"
        checks.tell(where)
        return cast(dict[str, Any], checked), after

    def read_columns(self, position: int, num: int) -> tuple[pa.Table, int]:
        """An Arrow table of at most `num` rows as they are in the file.

        Args:
          position, num: As `read`'s.

        Returns:
          The table, and the next position, or -1.
        """
        return self._read(position, num)

    def checked(
        self, progress: Callable[[int], None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """All parts of the table, one after the other.

        Mistakes are told after the last part, so that they are told of the whole
        table; what was given before is to be thrown away then.

        Args:
          progress: Function of the number of rows read so far, or None.

        Yields:
          Dict from role to checked column.

        Raises:
          ValueError: A file that cannot be read, no rows, nulls, or values of another
            type than they should be.
        """
        checks, position = _Checks(self), 0
        while position >= 0:
            start = position
            raw, position = self._columns(start, _PART)
            checked = checks.checked(raw, start)
            if checked is not None:
                yield checked
            if progress is not None:
                progress(checks.num_rows)
        checks.tell()
        if not checks.num_rows:
            raise ValueError(
                f"{self.source} must hold interactions, received an empty table. Check "
                "how it was written."
            )

    @functools.cached_property
    def time_form(self) -> times.Form | None:
        """`times.Form` of the first rows."""
        position, column = 0, pa.nulls(0)
        while position >= 0 and not len(column):  # The first files may have no rows.
            raw, position = self._columns(position, _FIRST_ROWS)
            column = raw["time"]
        return times.form(column)

    def starts(self) -> list[int]:
        """Positions from which workers can begin to read, in ascending order."""
        return [0]

    def source_of(self, position: int) -> str:
        """A phrase that names the file which has the rows of a position."""
        return self.source

    def row_of(self, position: int) -> int:
        """Which row of its file a position is, from 0."""
        return position

    def _columns(self, position: int, num: int) -> tuple[dict[str, pa.Array], int]:
        """Plain Arrow columns of rows, one row an item, and the next position."""
        table, after = self._read(position, num)
        if _is_list(table.field(self.names["item"]).type):
            table = _exploded(table, self.names["item"])
        # Two roles may have one column.
        raw = {r: arrow_columns.plain(table.column(n)) for r, n in self.names.items()}
        return raw, after

    def _read(self, position: int, num: int) -> tuple[pa.Table, int]:
        """An Arrow table of at most `num` rows, and the next position or -1."""
        raise NotImplementedError

    def _check_types(self, types: Mapping[str, pa.DataType]) -> None:
        for role, kind in types.items():
            if role not in _ROLES:  # A feature, of any type.
                continue
            value = kind.value_type if role == "item" and _is_list(kind) else kind
            if pa.types.is_nested(value) and not pa.types.is_dictionary(value):
                wanted = "one value in each row"
                if role == "item":
                    wanted = "an item, or a list of items, in each row"
                raise ValueError(
                    f"Column {self.names[role]!r} of {self.source} must hold {wanted}, "
                    f"received {kind}. Write one row for each value, or name another "
                    "column."
                )


class ArrowParts(TableParts):
    """An Arrow table in memory."""

    def __init__(self, table: pa.Table, names: Mapping[str, str], source: str) -> None:
        types = {role: table.schema.field(name).type for role, name in names.items()}
        super().__init__(names, types, source, source)
        self._table = table

    def _read(self, position: int, num: int) -> tuple[pa.Table, int]:
        part = self._table.slice(position, num)
        position += len(part)
        return part, position if position < len(self._table) else -1


class _Checks:
    """What is wrong with the columns of parts: nulls are counted over all of them."""

    def __init__(self, parts: TableParts) -> None:
        self._parts = parts
        self._nulls: collections.Counter[str] = collections.Counter()
        self._first_nulls: dict[str, str] = {}
        self._errors: dict[str, ValueError] = {}
        self.num_rows = 0

    def checked(
        self, raw: Mapping[str, pa.Array], position: int
    ) -> dict[str, Any] | None:
        """Dict from role to checked column; None once something is wrong."""
        source = self._parts.source_of(position)
        self.num_rows += len(raw["user"])
        found = {}
        for role, column in raw.items():
            if role != "title":
                self._nulls[role] += arrow_columns.num_nulls(column)
            if self._nulls[role]:
                self._first_nulls.setdefault(role, source)
            if self._nulls[role] or role in self._errors:
                continue
            try:
                found[role] = self._convert(role, column, source)
            except ValueError as error:
                self._errors[role] = error
        return None if self._errors or self._nulls.total() else found

    def tell(self, where: str = "") -> None:
        """Raises the `ValueError` of the first column that something is wrong with."""
        for role in _ROLES:
            if self._nulls[role]:
                first = self._first_nulls[role]
                if first != self._parts.source:
                    where += f", the first in {first}"
                raise ValueError(
                    f"Column {self._parts.names[role]!r} of {self._parts.source} must "
                    f"have a value in every row, received {self._nulls[role]} nulls in "
                    f"{self.num_rows} rows{where}. Fill them or drop those rows."
                )
            if role in self._errors:
                raise self._errors[role]

    def _convert(self, role: str, column: pa.Array, source: str) -> Column:
        name = self._parts.names[role]
        if not len(column):  # Of whatever type: it has no wrong values.
            dtype = self._parts.dtypes[role]
            if dtype == tf.string:
                return arrow_columns.text(pa.array([], pa.string()), name, source)
            return np.zeros(0, dtype.as_numpy_dtype)
        if role == "title":
            return arrow_columns.text(column, name, source)
        if role == "time":
            return times.seconds(column, self._parts.time_form, name, source)
        if role == "label":
            return arrow_columns.numbers(column, name, source)
        return arrow_columns.ids(column, name, source)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    is_fixed = types.is_fixed_size_list(kind)
    return is_fixed or types.is_list(kind) or types.is_large_list(kind)


def _exploded(table: pa.Table, name: str) -> pa.Table:
    """A row for each item of each list; a missing list is a missing item."""
    place = table.schema.get_field_index(name)
    lists = table.column(place).combine_chunks()
    rows = pc.list_parent_indices(lists)
    items = pc.list_flatten(lists)
    missing = pc.indices_nonzero(lists.is_null())
    if len(missing):
        rows = pa.concat_arrays([rows, missing.cast(rows.type)])
        items = pa.concat_arrays([items, pa.nulls(len(missing), items.type)])
    exploded = table.drop_columns([name]).take(rows)
    return exploded.append_column(name, items)
