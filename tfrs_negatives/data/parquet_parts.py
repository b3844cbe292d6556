"""Parquet files, part by part."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfrs_negatives.data import arrow_columns
from tfrs_negatives.data.file_state import FileState
from tfrs_negatives.data.table_files import TableFile
from tfrs_negatives.data.table_parts import TableParts
from tfrs_negatives.data.table_sources import NameColumns

# Rows that are worth a worker's while.
_SPAN = 131_072


class ParquetParts(TableParts):
    """A Parquet file.

    One row group is in memory, in Arrow's form, while rows of it are taken.

    Args:
      file: The file.
      name_columns: Function of the file's column names: dict from role to name.
      source: Where it came from, for messages.
    """

    def __init__(self, file: TableFile, name_columns: NameColumns, source: str) -> None:
        self._file, self._state = file, FileState(file, source)
        self._texts: list[str] | None = None
        self._held: tuple[int | None, pa.Table] = None, None
        self._lock = threading.Lock()
        self.source = source
        with self._opened() as opened:
            sizes = [
                opened.metadata.row_group(group).num_rows
                for group in range(opened.metadata.num_row_groups)
            ]
            schema = opened.schema_arrow
        names = name_columns(schema.names)
        types = {role: schema.field(name).type for role, name in names.items()}
        # Of a table whose ids are its folders' names, a column says how many rows.
        self._wanted = sorted(set(names.values())) or schema.names[:1]
        self._schema = pa.schema([schema.field(name) for name in self._wanted])
        self._ends = np.cumsum(sizes, dtype=np.int64)
        super().__init__(names, types, source, file.name)

    def starts(self) -> list[int]:
        """Positions of row groups; small ones are read together."""
        starts = [0]
        for end in self._ends[:-1].tolist():
            if end - starts[-1] >= _SPAN:
                starts.append(end)
        return starts

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it reads row groups of its own."""
        return {**self.__dict__, "_held": (None, None), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

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
        if position < self._ends[-1]:
            return table, int(position)
        with self._lock:
            self._held = None, None  # A table may have many files.
        return table, -1

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
            if self._texts is None:
                with self._parquet_file(None) as file:
                    schema = file.schema_arrow
                self._texts = [f.name for f in schema if arrow_columns.is_text(f.type)]
            # Text that repeats stays in its dictionary.
            with self._parquet_file(self._texts) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            self._state.check()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"Expected a Parquet file, received {self.source}, which cannot be "
                f"read ({reason}). Write it again."
            ) from error
        self._state.check()

    def _parquet_file(self, texts: list[str] | None) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._file.path,
            filesystem=self._file.system.arrow,
            read_dictionary=texts,
            # A remote file is asked for whole columns at once.
            pre_buffer=self._file.system.is_remote,
        )
