"""Parts of tables in files: read by position, so that nothing else is state."""

import contextlib
import importlib
import threading

import numpy as np
import tensorflow as tf

from tfrs_negatives.data import columns, text_rows

ID_ROLES = ("user", "item", "request")


class Parts:
    """A table that is read part by part.

    Args:
      names: Dict from role ("user", ...) to column name.
      source: Where it came from, for messages.

    Attributes:
      dtypes: Dict from role to the dtype of its column in all parts.
      start: Position of the first row.
    """

    def __init__(self, names, source):
        self.names = names
        self.source = source
        self.start = 0
        self.dtypes = {
            role: tf.string if role == "title" else tf.float64 for role in names
        }

    def read(self, position, num):
        """Reads at most `num` rows.

        Returns:
          Dict from role to checked NumPy column, and the next position or -1.
        """
        raw, position = self._read(position, num)
        checked = {role: self._checked(role, column) for role, column in raw.items()}
        return checked, position

    def _checked(self, role, column):
        """A column as an array of its dtype."""
        name = self.names[role]
        if not len(column):
            values = np.array([], object)
        elif role == "title":
            values = columns.titles(column)
        elif role == "time":
            values = columns.times(column, name, self.source)
        elif role == "label":
            values = columns.numbers(column, name, self.source)
        else:
            values = columns.ids(column, name, self.source)
        dtype = self.dtypes[role]
        if dtype == tf.string:
            return np.array([value.encode("utf-8") for value in values], object)
        return values.astype(dtype.as_numpy_dtype)


class ParquetParts(Parts):
    """A Parquet file; positions are row numbers.

    One row group is in memory, in Arrow's form, while rows of it are taken.
    """

    def __init__(self, path, names, source):
        super().__init__(names, source)
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
        self._open = lambda: parquet.ParquetFile(path)
        self._held = None, None
        self._lock = threading.Lock()
        with parquet_errors(self.source), self._open() as file:
            sizes = [
                file.metadata.row_group(group).num_rows
                for group in range(file.metadata.num_row_groups)
            ]
            schema = file.schema_arrow
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self.columns = schema.names
        for role in ID_ROLES:
            if names.get(role) in schema.names:
                kind = schema.field(names[role]).type
                is_integer = arrow.types.is_integer(kind)
                self.dtypes[role] = tf.int64 if is_integer else tf.string

    def _read(self, position, num):
        if not len(self._ends):
            return {role: [] for role in self.names}, -1
        # Empty row groups end where they begin.
        group = int(np.searchsorted(self._ends, position, side="right"))
        if group == len(self._ends):
            return {role: [] for role in self.names}, -1
        table = self._row_group(group)
        first = position - (self._ends[group] - len(table))
        table = table.slice(first, num)
        position += len(table)
        raw = {role: table[name].to_pandas() for role, name in self.names.items()}
        return raw, position if position < self._ends[-1] else -1

    def _row_group(self, group):
        with self._lock:
            if self._held[0] != group:
                self._held = None, None  # Lets go of the one before.
                with parquet_errors(self.source), self._open() as file:
                    wanted = sorted(set(self.names.values()))
                    self._held = group, file.read_row_group(group, columns=wanted)
            return self._held[1]


class TextParts(Parts):
    """A CSV or TSV file; positions are bytes. Its ids are strings."""

    def __init__(self, path, separator, names, source):
        super().__init__(names, source)
        self._path, self._separator = path, separator
        self.columns, self.start = text_rows.header(path, separator, source)
        self.dtypes.update((role, tf.string) for role in ID_ROLES if role in names)

    def _read(self, position, num):
        rows, position = text_rows.read(
            self._path,
            self._separator,
            position,
            num,
            len(self.columns),
            self.source,
        )
        raw = {}
        for role, name in self.names.items():
            place = self.columns.index(name)
            # As in other text tables, an empty field is a null.
            column = np.array([row[place] or None for row in rows], object)
            raw[role] = column if self.dtypes[role] == tf.string else _parsed(column)
        return raw, position


@contextlib.contextmanager
def parquet_errors(source):
    """Turns errors of a file that cannot be read into `ValueError`."""
    arrow = importlib.import_module("pyarrow")
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"Expected a Parquet file, received {source}, which cannot be read "
            f"({reason}). Write it anew."
        ) from error


def _parsed(column):
    """Numbers where all fields are some, nulls NaN; else what is written."""
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        return column
