"""A table of several files, one behind the other."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from tfrs_negatives.data import arrow_columns
from tfrs_negatives.data.table_files import TableFile, TableFiles
from tfrs_negatives.data.table_parts import TableParts
from tfrs_negatives.data.table_sources import ID_ROLES

#: Opens a file, given names of columns by role and a phrase that names the file.
Open: TypeAlias = Callable[[TableFile, Mapping[str, str], str], TableParts]

# A position is the number of a file, and a place in it of so many bits.
_BITS = 40
# Files whose headers are read at the same time: remote ones keep one waiting.
_OPENING = 16


class SeveralFiles(TableParts):
    """Files of one table, in the order given.

    Types of a column that differ between files become one that holds the values of
    both, such as int64 for int32 and int64.

    Args:
      files: Parts of each file, at least one.
      partitions: Dict from name to the values of the files [F], an Arrow array of text
        or of int64, of the columns that folders name.
      names: Dict from role to column name.
      source: Where the table came from, for messages.
      name: Where it came from, for reports.

    Raises:
      ValueError: Columns of types that do not go together; it names the file.
    """

    def __init__(
        self,
        files: Sequence[TableParts],
        partitions: Mapping[str, pa.Array],
        names: Mapping[str, str],
        source: str,
        name: str,
    ) -> None:
        self.is_text = files[0].is_text
        self._files = files
        self._partitions = {n: partitions[n] for n in names.values() if n in partitions}
        types = {
            role: partitions[column].type if column in partitions else None
            for role, column in names.items()
        }
        found = {
            role: kind or _common_type(files, role, names[role])
            for role, kind in types.items()
        }
        self._types = {names[role]: kind for role, kind in found.items()}
        super().__init__(names, found, source, name)

    def starts(self) -> list[int]:
        """Positions in all files from which workers can begin to read."""
        return [
            number << _BITS | start
            for number, file in enumerate(self._files)
            for start in file.starts()
        ]

    def source_of(self, position: int) -> str:
        """A phrase that names the file which has the rows of a position."""
        return self._files[position >> _BITS].source

    def row_of(self, position: int) -> int:
        """Which row of its file a position is, from 0."""
        return position & (1 << _BITS) - 1

    def _read(self, position: int, num: int) -> tuple[pa.Table, int]:
        number = position >> _BITS
        table, after = self._files[number].read_columns(self.row_of(position), num)
        columns = {}
        for name, kind in self._types.items():
            if name in self._partitions:
                value = self._partitions[name][number]
                columns[name] = pa.repeat(value, len(table))
            else:
                columns[name] = self._cast(table.column(name), name, kind, number)
        if after >= 0:
            after |= number << _BITS
        elif number + 1 < len(self._files):
            after = number + 1 << _BITS
        return pa.table(columns), after

    def _cast(
        self, column: pa.ChunkedArray, name: str, kind: pa.DataType, number: int
    ) -> pa.ChunkedArray:
        """A column of the type that all files have in common."""
        if column.type == kind:
            return column
        try:
            # Labels and times may be whole numbers that float64 has not all of.
            return column.cast(kind, safe=not pa.types.is_floating(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"Column {name!r} of {self._files[number].source} must hold {kind}, as "
                f"other files of {self.source} do, received {column.type}: "
                f"{str(error).splitlines()[0]}. Write all files alike."
            ) from error


def several_files(
    found: TableFiles, names: Mapping[str, str], source: str, open_file: Open
) -> SeveralFiles:
    """Opens the files of a table, several at a time.

    Args:
      found: The files.
      names: Dict from role to column name.
      source: A phrase that names the table, for messages.
      open_file: Opens one of them.

    Raises:
      ValueError: A file that cannot be read, lacks a column, or has one of another
        type; it names the file.
    """

    def opened(file: TableFile) -> TableParts:
        return open_file(file, names, repr(file.path))

    with concurrent.futures.ThreadPoolExecutor(_OPENING) as pool:
        files = list(pool.map(opened, found.files))
    partitions = {
        name: _typed([file.partitions[name] for file in found.files], files[0].is_text)
        for name in found.files[0].partitions
    }
    return SeveralFiles(files, partitions, names, source, found.name)


def _typed(values: Sequence[str | None], is_text: bool) -> pa.Array:
    """Names of folders as int64, if the table has types and all are whole numbers."""
    texts = pa.array(values, pa.large_string())
    if is_text or texts.null_count == len(texts):
        return texts
    whole = arrow_columns.whole_numbers(texts.drop_null())
    if whole is None:
        return texts
    numbers = np.zeros(len(texts), np.int64)
    is_null = texts.is_null().to_numpy(zero_copy_only=False)
    numbers[~is_null] = whole
    return pa.array(numbers, mask=is_null)


def _common_type(files: Sequence[TableParts], role: str, name: str) -> pa.DataType:
    """A type that holds a column's values of all files."""
    found, first = files[0].types[role], files[0]
    for file in files[1:]:
        kind = file.types[role]
        if kind == found:
            continue
        joined = _joined(found, kind, role in ID_ROLES)
        if joined is None:
            raise ValueError(
                f"Files of one table must have columns of the same types: column "
                f"{name!r} of {first.source} holds {found}, that of {file.source} "
                f"{kind}. Write both alike."
            )
        if joined != found:
            found, first = joined, file
    return found


@functools.lru_cache(maxsize=256)
def _joined(
    first: pa.DataType, second: pa.DataType, are_ids: bool
) -> pa.DataType | None:
    """A type that holds values of both; None: there is none."""
    first, second = _plain(first), _plain(second)
    try:
        joined = pa.unify_schemas(
            [pa.schema([("", first)]), pa.schema([("", second)])],
            promote_options="permissive",
        )
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None
    kind = joined.field(0).type
    if are_ids:
        # Whole numbers and others have a type in common, but no ids.
        kinds = {_id_kind(k) for k in (first, second, kind) if not pa.types.is_null(k)}
        if len(kinds) > 1:
            return None
    return kind


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type of text without a dictionary, and with large offsets."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return arrow_columns.large(kind) if arrow_columns.is_text(kind) else kind


def _id_kind(kind: pa.DataType) -> tuple[bool, str | None]:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list, arrow_columns.id_type(kind.value_type if is_list else kind)
