"""Parquet files, part by part."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfrs_negatives.data import arrow_columns
from tfrs_negatives.data.file_state import FileState
from tfrs_negatives.data.table_parts import TableParts
from tfrs_negatives.data.table_sources import NameColumns


class ParquetParts(TableParts):
    """A Parquet file.

    One row group is in memory, in Arrow's form, while rows of it are taken.

    Args:
      path: The file.
      name_columns: Function of the file's column names: dict from role to name.
      source: Where it came from, for messages.
    """

    def __init__(self, path: str, name_columns: NameColumns, source: str) -> None:
        self._path, self._state = path, FileState(path, source)
        self._held: tuple[int | None, pa.Table] = None, None
        self._lock = threading.Lock()
        self.source = source
        with self._opened() as file:
            sizes = [
                file.metadata.row_group(group).num_rows
                for group in range(file.metadata.num_row_groups)
            ]
            schema = file.schema_arrow
        names = name_columns(schema.names)
        types = {role: schema.field(name).type for role, name in names.items()}
        self._wanted = sorted(set(names.values()))
        self._schema = pa.schema([schema.field(name) for name in self._wanted])
        self._ends = np.cumsum(sizes, dtype=np.int64)
        super().__init__(names, types, source, os.path.basename(path))

    def _read(self, position: int, num: int) -> tuple[pa.Table, int]:
        # Empty row groups end where they begin.
        group = int(np.searchsorted(self._ends, position, side="right"))
        if group == len(self._ends):
            return self._schema.empty_table(), -1
        table = self._row_group(group)
        first = position - (self._ends[group] - len(table))
        table = table.slice(first, num)
        position += len(table)
        self._state.check()
        return table, int(position) if position < self._ends[-1] else -1

    def _row_group(self, group: int) -> pa.Table:
        with self._lock:
            if self._held[0] != group:
                self._held = None, None  # Lets go of the one before.
                with self._opened() as file:
                    self._held = group, file.read_row_group(group, self._wanted)
            return self._held[1]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        """The open file; errors in reading it are `ValueError`."""
        try:
            # Text that repeats stays in its dictionary.
            file = pq.ParquetFile(self._path)
            names = [f.name for f in file.schema_arrow if arrow_columns.is_text(f.type)]
            with pq.ParquetFile(self._path, read_dictionary=names) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            self._state.check()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"Expected a Parquet file, received {self.source}, which cannot be "
                f"read ({reason}). Write it again."
            ) from error
        self._state.check()
