"""How many rows each key has, and which keys have too many for one worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from tfrs_negatives.pipeline.beam_engine import import_beam
from tfrs_negatives.pipeline.input_rows import num_read
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.pipeline.table_groups import group_of

if TYPE_CHECKING:
    import apache_beam as beam

#: Distinct ids or keys, sorted, and how many rows each has.
Counts: TypeAlias = tuple[np.ndarray, np.ndarray]

#: Groups of keys that are counted apart: each is in the memory of one worker.
NUM_GROUPS = 256


def summarise(
    batches: beam.PCollection,
    keys: Callable[[pa.Table], np.ndarray],
    heavy_rows: int,
    folder: StepFolder,
    name: str,
) -> None:
    """Writes a JSON file that says how many rows there are, and which keys are heavy.

    Its entries: "rows_read", "rows" (positives), "keys" (distinct ones), and "heavy",
    sorted pairs of a key and its rows, for keys of more than `heavy_rows`.

    Args:
      batches: Of `InputRows.read`.
      keys: Function of a batch: [n] int64.
      heavy_rows: As many rows are for one worker.
      folder: Where it is written.
      name: Of the file.
    """
    from tfrs_negatives.pipeline.combiners import MergeCounts

    beam = import_beam()
    rows = batches | "Count rows" >> beam.Map(row_counts)
    per_group = (
        batches
        | "Count keys" >> beam.FlatMap(_grouped, keys)
        | "Merge counts" >> beam.CombinePerKey(MergeCounts())
        | "Find heavy keys" >> beam.Map(_summary, heavy_rows)
    )
    write_summary((rows, per_group), folder, name)


def write_summary(
    summaries: tuple[beam.PCollection, ...], folder: StepFolder, name: str
) -> None:
    """Writes the sum of dicts as a JSON file."""
    from tfrs_negatives.pipeline.combiners import MergeSummaries

    beam = import_beam()
    _ = (
        summaries
        | "Join summaries" >> beam.Flatten()
        | "Merge summaries" >> beam.CombineGlobally(MergeSummaries())
        | "Write summary" >> beam.Map(_write, folder, name)
    )


def row_counts(batch: pa.Table) -> dict[str, int]:
    """The summary of a batch: how many rows were read, and how many are positives."""
    return {"rows_read": num_read(batch), "rows": len(batch)}


def positions_of(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which of the wanted keys each key is, or -1.

    Args:
      keys: [n] int64.
      wanted: [m] int64, sorted.

    Returns:
      [n] int64.
    """
    if not len(wanted):
        return np.full(len(keys), -1)
    place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    return np.where(wanted[place] == keys, place, -1)


def _grouped(
    batch: pa.Table, keys: Callable[[pa.Table], np.ndarray]
) -> Iterator[tuple[int, Counts]]:
    """Counts of a batch, by group of keys."""
    found, counts = np.unique(keys(batch), return_counts=True)
    groups = group_of(found, NUM_GROUPS)
    for group in np.unique(groups).tolist():
        is_of = groups == group
        yield group, (found[is_of], counts[is_of])


def _summary(of_group: tuple[int, Counts], heavy_rows: int) -> dict[str, Any]:
    keys, num = of_group[1]
    is_heavy = num > heavy_rows
    heavy = list(zip(keys[is_heavy].tolist(), num[is_heavy].tolist(), strict=True))
    return {"keys": len(keys), "heavy": [list(pair) for pair in heavy]}


def _write(found: dict[str, Any], folder: StepFolder, name: str) -> None:
    folder.write_json(name, found)
