"""Rows that workers send each other, and the shards that they become."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tfrs_negatives._ids import keys_or_own
from tfrs_negatives.data.row_chunks import pipeline_of
from tfrs_negatives.pipeline.beam_engine import import_beam
from tfrs_negatives.pipeline.input_rows import (
    PLACE,
    in_table_order,
    packed,
    unpacked,
)
from tfrs_negatives.pipeline.step import StepRows
from tfrs_negatives.pipeline.step_folder import StepFolder

if TYPE_CHECKING:
    import apache_beam as beam

#: About as many rows a shard has.
SHARD_ROWS = 2**22


def num_shards(rows: int, wanted: int | None, shard_rows: int = SHARD_ROWS) -> int:
    """How many shards: as many as are wanted, or as have `shard_rows` rows each."""
    return wanted or max(1, -(-rows // shard_rows))


def shard_names(num: int, prefix: str = "") -> list[str]:
    """Names of files, whose order is that of the shards."""
    return [f"{prefix}part-{n:05d}-of-{num:05d}.parquet" for n in range(num)]


def write_shards(
    rows: StepRows,
    batches: beam.PCollection,
    shard_of: Callable[[pa.Table], np.ndarray],
    tables_of: Callable[[int, pa.Table], Mapping[str, pa.Table]],
    names: Sequence[Sequence[str]],
    folder: StepFolder,
) -> None:
    """Sends each row to its shard, and writes the shards that are not there yet.

    Args:
      rows: The input.
      batches: What is read of it.
      shard_of: Function of a batch: [n] int64.
      tables_of: Function of a shard's number and its rows, in the order of the input:
        dict from name of a file to what it holds.
      names: Names of the files of each shard. All are written, if only without rows.
      folder: Where.
    """
    beam = import_beam()
    missing = [
        shard
        for shard, files in enumerate(names)
        if not all(folder.has(name) for name in files)
    ]
    nothing = packed(rows.no_rows())
    none = batches.pipeline | "Missing" >> beam.Create(
        [(shard, nothing) for shard in missing]
    )
    sent = batches | "Send" >> beam.FlatMap(_sent, shard_of, frozenset(missing))
    _ = (
        (sent, none)
        | "Join" >> beam.Flatten()
        | "Gather" >> beam.GroupByKey()
        | "Write" >> beam.Map(_write, tables_of, folder)
    )


def shards_of(keys: np.ndarray, num: int) -> np.ndarray:
    """Which shard the rows of each key are in.

    It is the pipeline that `data.group_by_request` has for them, if `input_context`
    says that there are so many.

    Args:
      keys: [n] int64.
      num: How many shards there are.

    Returns:
      [n] int64.
    """
    every, none = np.ones(len(keys), bool), np.zeros(len(keys), np.int64)
    return pipeline_of(keys_or_own(keys, every, none), num).numpy()


def _sent(
    batch: pa.Table,
    shard_of: Callable[[pa.Table], np.ndarray],
    missing: Collection[int],
) -> Iterator[tuple[int, bytes]]:
    """The rows of a batch for each shard."""
    if not len(batch):
        return
    shards = shard_of(batch)
    order = np.argsort(shards, kind="stable")
    number, first = np.unique(shards[order], return_index=True)
    for shard, places in zip(number.tolist(), np.split(order, first[1:]), strict=True):
        if shard in missing:
            yield shard, packed(batch.take(pa.array(places)))


def _write(
    gathered: tuple[int, Iterable[bytes]],
    tables_of: Callable[[int, pa.Table], Mapping[str, pa.Table]],
    folder: StepFolder,
) -> None:
    shard, parts = gathered
    whole = pa.concat_tables(
        [unpacked(part).replace_schema_metadata() for part in parts]
    )
    for name, table in tables_of(shard, in_table_order(whole)).items():
        places = [column for column in PLACE if column in table.column_names]
        folder.write_table(name, table.drop_columns(places))
