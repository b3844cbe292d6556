"""Counts the ids of a column of any number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tfrs_negatives import _checks
from tfrs_negatives.pipeline.beam_engine import BeamEngine, import_beam
from tfrs_negatives.pipeline.input_rows import InputRows, keys_of
from tfrs_negatives.pipeline.key_counts import (
    Counts,
    row_counts,
    write_summary,
)
from tfrs_negatives.pipeline.shards import shard_names, shards_of
from tfrs_negatives.pipeline.step import FIRST_PASS, Progress, Step
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam


def count_column(
    path: PathLike,
    output: PathLike,
    role: str = "item",
    *,
    columns: Mapping[str, str | None] | None = None,
    num_shards: int = 1,
    engine: BeamEngine | None = None,
    progress: Progress | None = None,
) -> None:
    """Counts the ids of a column: what `data.count_ids` does, on many workers.

    Counted are positive rows: those whose label is above 0, or all. A worker counts
    what it reads, and sends the counts on; so an item that 40% of the rows have is one
    number of each batch. Memory of a worker: its part of the distinct ids.

    Args:
      path: A table of interactions, as `data.interactions` takes it.
      output: A folder to write, at a path that all workers have, or `scheme://...`.
        `pipeline.read_counts` reads it.
      role: "user", "item" or "request".
      columns: Names of columns by role, as arguments of `data.interactions`.
      num_shards: Into how many files ids are spread; a worker writes one.
      engine: Where it runs; None: one process of this machine.
      progress: Function of a line that says how far it is, or None.

    Raises:
      ValueError: As `data.interactions`; something else is at `output`; the runner
        failed.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> _ = (folder / "log.csv").write_text("user,item\\nann,3\\nbob,4\\nann,3\\n")
      >>> tn.pipeline.count_column(folder / "log.csv", folder / "counts")
      >>> ids, counts = tn.pipeline.read_counts(folder / "counts")
      >>> ids.tolist(), counts.tolist()
      ([b'3', b'4'], [2, 1])
    """
    _checks.check_choice("role", role, ("user", "item", "request"))
    _checks.check_at_least("num_shards", num_shards, 1)
    rows = InputRows(path, columns or {})
    description = {
        "step": "count_column",
        "role": role,
        "shards": num_shards,
        "input": rows.description(),
    }
    step = Step.begun(output, description, engine, progress)
    if step is None:
        return
    folder = step.folder
    names = shard_names(num_shards)

    def build(pipeline: beam.Pipeline) -> None:
        from tfrs_negatives.pipeline.combiners import MergeCounts

        beam = import_beam()
        batches = rows.read(pipeline)
        write_summary(
            (batches | "Count rows" >> beam.Map(row_counts),), folder, FIRST_PASS
        )
        none = _counts(rows.no_rows(), role)
        every = pipeline | "All" >> beam.Create([(n, none) for n in range(num_shards)])
        _ = (
            (batches | "Count" >> beam.FlatMap(_by_shard, role, num_shards), every)
            | "Join" >> beam.Flatten()
            | "Merge" >> beam.CombinePerKey(MergeCounts())
            | "Write" >> beam.Map(_write, names, folder)
        )

    with step.shards_told(names):
        step.engine.run(build)
    totals = folder.read_json(FIRST_PASS)
    rows.check(totals)
    num_counted = sum(int(folder.column(name, "count").sum()) for name in names)
    step.check_rows(num_counted, totals["rows"])
    folder.finish(names)


def _counts(batch: pa.Table, role: str) -> Counts:
    """Distinct ids of a batch, integers or `bytes`, and how many rows each has."""
    column = batch.column(role)
    if not pa.types.is_integer(column.type):
        column = column.cast(pa.large_binary())
    ids, counts = np.unique(column.to_numpy(), return_counts=True)
    return ids, counts


def _by_shard(
    batch: pa.Table, role: str, num_shards: int
) -> Iterator[tuple[int, Counts]]:
    ids, counts = _counts(batch, role)
    shards = shards_of(keys_of(pa.array(ids)), num_shards)
    for shard in np.unique(shards).tolist():
        is_of = shards == shard
        yield shard, (ids[is_of], counts[is_of])


def _write(of_shard: tuple[int, Counts], names: list[str], folder: StepFolder) -> None:
    shard, (ids, counts) = of_shard
    column = pa.array(ids)
    if not pa.types.is_integer(column.type):  # Of no ids, too.
        column = column.cast(pa.large_binary()).cast(pa.large_string())
    folder.write_table(names[shard], pa.table({"id": column, "count": counts}))
