"""Each user's last rows apart from the others, of any number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tfrs_negatives import _checks
from tfrs_negatives._ids import pairs
from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.pipeline.beam_engine import BeamEngine
from tfrs_negatives.pipeline.heavy_users import HeavyUsers, row_order, user_keys
from tfrs_negatives.pipeline.input_rows import InputRows
from tfrs_negatives.pipeline.key_counts import positions_of
from tfrs_negatives.pipeline.shards import (
    SHARD_ROWS,
    num_shards,
    shard_names,
    shards_of,
    write_shards,
)
from tfrs_negatives.pipeline.step import Progress, Step
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam

TRAINING, HELD_OUT = "training", "held_out"


def split_by_time(
    path: PathLike,
    output: PathLike,
    *,
    columns: Mapping[str, str | None] | None = None,
    shards: int | None = None,
    heavy_rows: int = SHARD_ROWS,
    engine: BeamEngine | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes each user's last fifth of positive rows apart from the others.

    It is the split of `Recommender` and of `tfrs-negatives train`: at least one row of
    a user with two or more, none of one with a single; ties by the order of the input.
    The output has two tables, `training` and `held_out`, which go together as
    `Recommender.fit(..., held_out=)` and `train --data ... --held-out ...` take them.
    Columns are called after their roles, and ids of text files are strings.

    The rows of a user go to one worker. Those of a user with more than `heavy_rows` do
    not: the time at which such a user's last fifth begins is bracketed by a sample, and
    found among the rows in the bracket, about one in fifty.

    Args:
      path: A table of interactions, as `data.interactions` takes it.
      output: A folder to write, at a path that all workers have, or `scheme://...`.
      columns: Names of columns by role, as arguments of `data.interactions`. Without
        "time", the order of the input is that of events.
      shards: Files of each of the two tables; None: one for each 4 million rows.
      heavy_rows: Rows of a user that one worker may hold.
      engine: Where it runs; None: one process of this machine.
      progress: Function of a line that says how far it is, or None.

    Raises:
      ValueError: As `data.interactions`; something else is at `output`; the runner
        failed.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> rows = "user,item,t\\na,1,30\\nb,2,10\\na,3,20\\n"
      >>> _ = (folder / "log.csv").write_text(rows)
      >>> tn.pipeline.split_by_time(
      ...     folder / "log.csv", folder / "split", columns={"time": "t"}
      ... )
      >>> held_out = tn.data.stream_interactions(folder / "split/held_out", time="time")
      >>> [row["item"].tolist() for row in held_out.as_numpy_iterator()]
      [[b'1']]
    """
    _checks.check_at_least("heavy_rows", heavy_rows, 1)
    if shards is not None:
        _checks.check_at_least("shards", shards, 1)
    rows = InputRows(path, columns or {})
    description = {
        "step": "split_by_time",
        "shards": shards,
        "heavy_rows": heavy_rows,
        "input": rows.description(),
    }
    step = Step.begun(output, description, engine, progress)
    if step is None:
        return
    folder = step.folder
    summary = step.summary(rows, user_keys, heavy_rows)
    heavy = HeavyUsers.found(step, rows, summary["heavy"])
    num = num_shards(summary["rows"], shards)
    names = [
        shard_names(num, f"{TRAINING}/"),
        shard_names(num, f"{HELD_OUT}/"),
    ]
    every = [name for table in names for name in table]
    split = _Split(num, heavy, names)

    def build(pipeline: beam.Pipeline) -> None:
        write_shards(
            rows,
            rows.read(pipeline),
            split.shard_of,
            split.tables_of,
            list(zip(*names, strict=True)),
            folder,
        )

    with step.shards_told(every):
        step.engine.run(build)
    step.check_rows(sum(map(folder.num_rows, every)), summary["rows"])
    folder.finish(every)


class _Split:
    """Where rows go. A class, since workers get its methods by pickling."""

    def __init__(
        self, num: int, heavy: HeavyUsers, names: Sequence[Sequence[str]]
    ) -> None:
        self._num, self._heavy, self._names = num, heavy, names

    def shard_of(self, batch: pa.Table) -> np.ndarray:
        """Rows of a user together, but for users with too many: [n] int64."""
        keys = user_keys(batch)
        _, part, place = row_order(batch)
        of_row = pairs(pairs(keys, part), place).numpy()
        is_heavy = positions_of(keys, self._heavy.keys) >= 0
        return shards_of(np.where(is_heavy, of_row, keys), self._num)

    def tables_of(self, shard: int, table: pa.Table) -> Mapping[str, pa.Table]:
        """Rows in the order of the input, by what they are for."""
        keys = user_keys(table)
        time, part, place = row_order(table)
        heavy = positions_of(keys, self._heavy.keys)
        is_last = self._heavy.are_last(heavy, time, part, place)
        light = heavy < 0
        is_last[light] = last_interactions(keys[light], time[light])
        training, held_out = (names[shard] for names in self._names)
        return {
            training: table.filter(pa.array(~is_last)),
            held_out: table.filter(pa.array(is_last)),
        }
