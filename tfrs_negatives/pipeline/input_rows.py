"""The rows of a table as Arrow tables, read by many workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data import table_sources
from tfrs_negatives.data.arrow_columns import EncodedText
from tfrs_negatives.data.id_vocabulary import hashes_of
from tfrs_negatives.data.stream_interactions import with_request
from tfrs_negatives.data.table_files import table_files
from tfrs_negatives.data.table_parts import TableParts
from tfrs_negatives.pipeline.beam_engine import import_beam
from tfrs_negatives.recommender.source import Source
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam

#: Columns that say where a row is in the table: position of its batch, place in it.
PLACE = ("part", "place")
#: Function of a table, a position and a number of rows: see `read_spans`.
ReadBatch: TypeAlias = Callable[[TableParts, int, int], tuple[pa.Table, int]]

# Rows of a batch.
_BATCH = 131_072


class InputRows:
    """A table of interactions whose rows workers read.

    Args:
      path: As `data.interactions`.
      columns: Names of columns by role, as there.

    Attributes:
      parts: `TableParts`.

    Raises:
      ValueError, ImportError: As `data.interactions`.
    """

    def __init__(self, path: PathLike, columns: Mapping[str, str | None]) -> None:
        self.parts: TableParts = Source(path, columns=columns).parts()
        if "time" in self.parts.names:
            self.parts.time_form  # noqa: B018  Told to workers, which see other rows.
        self._path = path

    def description(self) -> dict[str, Any]:
        """What tells this table from another: its columns, its files' states."""
        return {**files_description(self._path), "columns": self.parts.names}

    def no_rows(self) -> pa.Table:
        """A batch without rows."""
        columns = {
            role: EncodedText(pa.array([], pa.large_string()), np.zeros(0, np.int32))
            if dtype == tf.string
            else np.zeros(0, dtype.as_numpy_dtype)
            for role, dtype in self.parts.dtypes.items()
        }
        return row_batch(columns, 0)

    def read(self, pipeline: beam.Pipeline, name: str = "") -> beam.PCollection:
        """Batches of rows: see `row_batch`.

        Args:
          pipeline: The pipeline.
          name: Which of several tables of a pipeline it is.
        """
        return read_spans(pipeline, self.parts, _batches, name)

    def check(self, summary: Mapping[str, int]) -> None:
        """Raises `ValueError` where there are no rows, or no positives.

        Args:
          summary: How many "rows_read" there were, and "rows" that are positives.
        """
        if not summary["rows_read"]:
            raise ValueError(
                f"{self.parts.source} must hold interactions, received an empty table. "
                "Check how it was written."
            )
        table_sources.check_positive(self.parts, summary["rows"], summary["rows_read"])


def files_description(path: PathLike) -> dict[str, Any]:
    """What tells the files of a table from others: how many, and their states."""
    states = [[f.path, repr(f.version())] for f in table_files(path).files]
    digest = hashlib.sha256(repr(states).encode("utf-8")).hexdigest()
    return {"files": len(states), "states": digest}


def read_spans(
    pipeline: beam.Pipeline, parts: TableParts, read_batch: ReadBatch, name: str = ""
) -> beam.PCollection:
    """Batches of a table, of which workers read spans.

    Args:
      pipeline: The pipeline.
      parts: The table.
      read_batch: Function of the table, a position and a number of rows: a batch of at
        most so many rows, and the next position or -1.
      name: Which of several tables of a pipeline it is.
    """
    beam = import_beam()
    starts = parts.starts()
    spans = list(zip(starts, [*starts[1:], -1], strict=True))
    return (
        pipeline
        | f"Spans{name}" >> beam.Create(spans)
        | f"Share{name}" >> beam.Reshuffle()
        | f"Read{name}" >> beam.FlatMap(_read, parts, read_batch)
    )


def _read(
    span: tuple[int, int], parts: TableParts, read_batch: ReadBatch
) -> Iterator[pa.Table]:
    position, end = span
    while position >= 0 and (end < 0 or position < end):
        batch, position = read_batch(parts, position, _BATCH)
        yield batch


def _batches(parts: TableParts, position: int, num: int) -> tuple[pa.Table, int]:
    columns, after = parts.read(position, num)
    return row_batch(columns, position), after


def row_batch(columns: Mapping[str, Any], position: int) -> pa.Table:
    """Positive rows as an Arrow table.

    Args:
      columns: Checked columns by role, as `TableParts.read` returns them.
      position: Where they begin.

    Returns:
      Arrow table of the roles, `PLACE`, and "request" in any case. Its schema's
      metadata say how many rows were read.
    """
    num = len(columns["user"])
    kept = columns["label"] > 0 if "label" in columns else np.ones(num, bool)
    columns = dict(columns)
    if "time" in columns:  # Whole seconds here, fractions there.
        columns["time"] = columns["time"].astype(np.float64)
    found = {role: _arrow(column) for role, column in columns.items()}
    if "request" not in found:
        features = {"user": _tensor(found["user"])}
        if "time" in columns:
            features["time"] = tf.constant(columns["time"], tf.float64)
        request = with_request(features)["request"].numpy()
        if request.dtype == object:
            request = pa.array(request, pa.large_binary()).cast(pa.large_string())
        found["request"] = pa.array(request)
    found["part"] = pa.array(np.full(num, position))
    found["place"] = pa.array(np.arange(num))
    table = pa.table(dict(sorted(found.items()))).filter(pa.array(kept))
    return table.replace_schema_metadata({"rows_read": str(num)})


def num_read(batch: pa.Table) -> int:
    """How many rows were read for a batch, positives and others."""
    return int(batch.schema.metadata[b"rows_read"])


def keys_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 for ids: integers as they are, hashes of strings."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_integer(column.type):
        return as_int64("ids", column.to_numpy()).numpy()
    encoded = column.dictionary_encode()
    return hashes_of(encoded.dictionary)[encoded.indices.to_numpy()]


def in_table_order(table: pa.Table) -> pa.Table:
    """Rows in the order of the input."""
    return table.take(
        np.lexsort((table.column("place").to_numpy(), table.column("part").to_numpy()))
    )


def packed(table: pa.Table) -> bytes:
    """Rows as bytes, to be sent to another worker."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpacked(data: bytes) -> pa.Table:
    """The rows of `packed`."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


def _arrow(column: np.ndarray | EncodedText) -> pa.Array:
    if isinstance(column, EncodedText):
        return column.values.cast(pa.large_string()).take(pa.array(column.codes))
    if column.dtype.kind == "i":
        return pa.array(column.astype(np.int64))
    return pa.array(column)


def _tensor(column: pa.Array) -> tf.Tensor:
    if pa.types.is_integer(column.type):
        return tf.constant(column.to_numpy(), tf.int64)
    return tf.constant(column.to_numpy(zero_copy_only=False), tf.string)
