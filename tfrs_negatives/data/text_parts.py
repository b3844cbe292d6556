"""CSV and TSV files, part by part, by Arrow's reader."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyarrow import csv

from tfrs_negatives.data.file_state import FileState
from tfrs_negatives.data.table_files import TableFile
from tfrs_negatives.data.table_parts import TableParts
from tfrs_negatives.data.table_sources import NameColumns

# Bytes that are parsed together, and at most, where a row needs more. Arrow reads 32
# blocks ahead.
_BLOCK, _LARGEST_BLOCK = 2**18, 2**22
# Bytes that hold a header.
_HEAD = 2**20
# Readers that wait where an iterator stopped.
_MAX_WAITING = 4
# Fields of a row put after the last one, which an open quotation swallows.
_END = "\x1eend of table\x1e"


class TextParts(TableParts):
    """A CSV or TSV file, compressed by gzip perhaps. Its ids are strings.

    A position is a number of rows. A reader waits wherever a part ended; to go on from
    any other position the rows before it are parsed and dropped.

    Args:
      file: The file.
      separator: Between fields.
      name_columns: Function of the file's column names: dict from role to name.
      source: Where it came from, for messages.
    """

    is_text = True

    def __init__(
        self, file: TableFile, separator: str, name_columns: NameColumns, source: str
    ) -> None:
        self.source = source
        self._file, self._separator = file, separator
        self._state = FileState(file, source)
        self._block, self._lock = _BLOCK, threading.Lock()
        self._waiting: dict[int, _RowReader] = {}
        header = self._header()
        names = name_columns(header)
        # Of a table whose ids are its folders' names, a column says how many rows.
        self._wanted = sorted(set(names.values())) or header[:1]
        self._num_fields = len(header)
        types = dict.fromkeys(names, pa.string())
        super().__init__(names, types, source, file.name)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it reads rows of its own."""
        return {**self.__dict__, "_waiting": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _header(self) -> list[str]:
        """The names of the columns."""
        with self._told():
            head = _Bytes(self._file).read(_HEAD) + b"\n"
            # Rows are not looked at: what is wrong with them is told when they are
            # read.
            reader = csv.open_csv(
                pa.BufferReader(head),
                csv.ReadOptions(use_threads=False, block_size=len(head)),
                self._parse_options(lambda row: "skip"),
                csv.ConvertOptions(check_utf8=False),
            )
            return reader.schema.names

    def _read(self, position: int, num: int) -> tuple[pa.Table, int]:
        with self._lock:
            rows = self._waiting.pop(position, None)
        with self._told():
            while True:
                try:
                    if rows is None:
                        rows = self._rows()
                        rows.skip(position)
                    table = rows.take(num)
                    break
                except pa.ArrowInvalid as error:
                    if self._block >= _LARGEST_BLOCK or not _is_too_long(error):
                        raise
                    self._block, rows = 4 * self._block, None
        if rows.at_end:
            return table, -1
        position += len(table)
        with self._lock:
            self._waiting[position] = rows
            while len(self._waiting) > _MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
        return table, position

    def _rows(self) -> _RowReader:
        wrong = []

        def handle(row: csv.InvalidRow) -> str:
            wrong.append(row)
            return "error"

        end = self._separator.join([_END] * self._num_fields)
        convert = csv.ConvertOptions(
            include_columns=self._wanted,
            column_types=dict.fromkeys(self._wanted, pa.string()),
            # Only an empty field is null: an item called "NA" is one.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        return _RowReader(
            _Bytes(self._file, f"\n{end}\n"),
            csv.ReadOptions(use_threads=False, block_size=self._block),
            self._parse_options(handle),
            convert,
            wrong,
        )

    def _parse_options(
        self, handle_row: Callable[[csv.InvalidRow], str]
    ) -> csv.ParseOptions:
        return csv.ParseOptions(
            delimiter=self._separator,
            newlines_in_values=True,
            invalid_row_handler=handle_row,
        )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors in reading the file are `ValueError`."""
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            self._state.check()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if reason.startswith(("Empty CSV", "CSV parse error: Empty CSV")):
                raise ValueError(
                    f"{self.source} must hold a header and interactions, received an "
                    "empty file."
                ) from error
            if _is_too_long(error):
                most = _LARGEST_BLOCK // 2**20
                reason = f"a row has more than {most} MiB: does a quotation not end?"
            raise ValueError(
                f"Expected a whole UTF-8 text table, received {self.source}, which "
                f"cannot be read ({reason}). Was it cut off? Mend or convert it."
            ) from error
        self._state.check()


def _is_too_long(error: Exception) -> bool:
    """Whether a row has more bytes than a block."""
    return str(error).startswith("straddling object")


class _RowReader:
    """The rows of an open file, one after the other.

    Args:
      file: `_Bytes` that end with a row of `_END`.
      read, parse, convert: Arrow's options.
      wrong: List of the rows that the parser could not take.

    Attributes:
      at_end: Whether all rows were taken.
    """

    def __init__(
        self,
        file: _Bytes,
        read: csv.ReadOptions,
        parse: csv.ParseOptions,
        convert: csv.ConvertOptions,
        wrong: list[csv.InvalidRow],
    ) -> None:
        self._wrong, self._error = wrong, None
        with self._rows_told():
            self._reader = csv.open_csv(file, read, parse, convert)
        self._held = self._reader.schema.empty_table()
        self._next = self._held
        self.at_end = False

    def take(self, num: int) -> pa.Table:
        """An Arrow table of at most `num` rows."""
        while not len(self._held) and self._next is not None:
            self._held = self._fetch()
        table = self._held.slice(0, num)
        self._held = self._held.slice(num)
        self.at_end = self._next is None and not len(self._held)
        return table

    def skip(self, num: int) -> None:
        while num and not self.at_end:
            num -= len(self.take(num))

    def _fetch(self) -> pa.Table:
        """The next block of rows; one is read ahead, to know which is the last."""
        if self._error is not None:
            raise self._error
        table, self._next = self._next, None
        try:
            with self._rows_told():
                batch = self._reader.read_next_batch()
            self._next = pa.Table.from_batches([batch])
        except StopIteration:
            if not len(table) or table.column(0)[-1].as_py() != _END:
                raise pa.ArrowInvalid("a quotation does not end") from None
            return table.slice(0, len(table) - 1)
        except pa.ArrowInvalid as error:
            # The rows before are given first.
            self._error, self._next = error, self._reader.schema.empty_table()
        return table

    @contextlib.contextmanager
    def _rows_told(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowInvalid as error:
            if not self._wrong:
                raise
            row = self._wrong[0]
            raise pa.ArrowInvalid(
                f"Each row must have {row.expected_columns} fields, received "
                f"{row.actual_columns} in row {row.number}"
            ) from error


class _Bytes:
    """A file as a stream of bytes, unpacked, with some text after its end."""

    closed = False

    def __init__(self, file: TableFile, end: str = "") -> None:
        packed = "gzip" if file.ending.endswith(".gz") else None
        self._file = file.system.arrow.open_input_stream(file.path, compression=packed)
        self._end = end.encode("utf-8")

    def readable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                left = size - len(data)
                more, self._end = self._end[:left], self._end[left:]
                return data + more
            data += more
        return data

    def close(self) -> None:
        self.closed = True
        self._file.close()
