"""Rows of any number, put in an order in which training can read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import pairs
from tfrs_negatives.pipeline.beam_engine import BeamEngine, import_beam
from tfrs_negatives.pipeline.input_rows import InputRows, keys_of
from tfrs_negatives.pipeline.key_counts import (
    positions_of,
    write_summary,
)
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

ORDERS = ("grouped", "shuffled")
_HEAVY_PARTS = "_heavy_parts.json"


def order_by_request(
    path: PathLike,
    output: PathLike,
    order: str = "grouped",
    *,
    columns: Mapping[str, str | None] | None = None,
    shards: int | None = None,
    heavy_rows: int = SHARD_ROWS,
    seed: int = 0,
    engine: BeamEngine | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes positive rows into Parquet files, by request or shuffled.

    The output is a table that all of `data` reads, with columns called after their
    roles: `data.stream_interactions(output, request="request", time="time")`. Ids of
    text files are strings.

    "grouped": rows of a request are next to each other, wherever they were in the
    input. Requests are spread over shards by the hash that `data.group_by_request`
    uses: shard i of n has the rows that it gives the pipeline i of n
    (`input_context`), with a buffer of all rows, and in this order. A request of more
    than `heavy_rows` rows has files of its own behind the others, in the order of the
    input, each of about as many rows; so no worker holds more than about that many.

    "shuffled": rows are in random order. So those of a request are far apart, as
    `data.spread_requests` leaves them with a buffer of all rows.

    Args:
      path: A table of interactions, as `data.interactions` takes it.
      output: A folder to write, at a path that all workers have, or `scheme://...`.
      order: "grouped" or "shuffled".
      columns: Names of columns by role, as arguments of `data.interactions`. Without
        "request", requests are those of `data.stream_interactions`.
      shards: How many there are, but for requests that have their own; None: one for
        each 4 million rows.
      heavy_rows: Rows of a request that one worker may hold.
      seed: Of "shuffled".
      engine: Where it runs; None: one process of this machine.
      progress: Function of a line that says how far it is, or None.

    Raises:
      ValueError: As `data.interactions`; something else is at `output`; the runner
        failed.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> _ = (folder / "log.csv").write_text("user,item\\na,1\\nb,2\\na,3\\n")
      >>> tn.pipeline.order_by_request(folder / "log.csv", folder / "rows")
      >>> rows = tn.data.stream_interactions(folder / "rows", request="request")
      >>> [row["item"].tolist() for row in rows.as_numpy_iterator()]
      [[b'1', b'3', b'2']]
    """
    _checks.check_choice("order", order, ORDERS)
    _checks.check_at_least("heavy_rows", heavy_rows, 1)
    _checks.check_at_least("seed", seed, 0)
    if shards is not None:
        _checks.check_at_least("shards", shards, 1)
    rows = InputRows(path, columns or {})
    description = {
        "step": "order_by_request",
        "order": order,
        "shards": shards,
        "heavy_rows": heavy_rows,
        "seed": seed,
        "input": rows.description(),
    }
    step = Step.begun(output, description, engine, progress)
    if step is None:
        return
    folder = step.folder
    summary = step.summary(rows, request_keys, heavy_rows)
    num = num_shards(summary["rows"], shards)
    if order == "shuffled":
        places: Any = _Shuffled(num, seed)
    else:
        places = _Grouped(num, _pieces(step, rows, summary["heavy"], heavy_rows))
    names = shard_names(places.num_shards)

    def build(pipeline: beam.Pipeline) -> None:
        write_shards(
            rows,
            rows.read(pipeline),
            places.shard_of,
            _Files(names, places),
            [[name] for name in names],
            folder,
        )

    with step.shards_told(names):
        step.engine.run(build)
    step.check_rows(sum(map(folder.num_rows, names)), summary["rows"])
    folder.finish(names)


def request_keys(batch: pa.Table) -> np.ndarray:
    """Keys of the rows' requests: [n] int64."""
    return keys_of(batch.column("request"))


class _Files:
    """What is written of a shard. A class, since workers get it by pickling."""

    def __init__(self, names: Sequence[str], places: _Grouped | _Shuffled) -> None:
        self._names, self._places = names, places

    def __call__(self, shard: int, table: pa.Table) -> Mapping[str, pa.Table]:
        return {self._names[shard]: table.take(self._places.order_of(table))}


class _Grouped:
    """Requests by shard, and large ones in pieces.

    Args:
      num: Shards of requests that are not heavy.
      pieces: Dict from key to the parts of the table at which pieces of a heavy request
        begin, sorted.
    """

    def __init__(self, num: int, pieces: Mapping[int, Sequence[int]]) -> None:
        self._num = num
        self._keys = np.array(sorted(pieces), np.int64)
        self._starts = [np.array(pieces[key], np.int64) for key in sorted(pieces)]
        sizes = [len(starts) for starts in self._starts]
        self._first = num + np.cumsum([0, *sizes])
        self.num_shards = int(self._first[-1])

    def shard_of(self, batch: pa.Table) -> np.ndarray:
        """The shard of each row: [n] int64."""
        keys = request_keys(batch)
        shards = shards_of(keys, self._num)
        heavy = positions_of(keys, self._keys)
        part = batch.column("part").to_numpy()
        for number in np.unique(heavy[heavy >= 0]).tolist():
            is_of = heavy == number
            piece = np.searchsorted(self._starts[number], part[is_of], side="right") - 1
            shards[is_of] = self._first[number] + piece
        return shards

    def order_of(self, table: pa.Table) -> np.ndarray:
        """The order of a shard's rows: by first row of the request, and then by row."""
        encoded = pa.array(request_keys(table)).dictionary_encode()
        return np.argsort(encoded.indices.to_numpy(), kind="stable")


class _Shuffled:
    """Rows in the order of a hash of their place in the table."""

    def __init__(self, num: int, seed: int) -> None:
        self.num_shards, self._seed = num, seed

    def shard_of(self, batch: pa.Table) -> np.ndarray:
        """The shard of each row: [n] int64."""
        return shards_of(self._hashes(batch), self.num_shards)

    def order_of(self, table: pa.Table) -> np.ndarray:
        """The order of a shard's rows."""
        return np.argsort(self._hashes(table), kind="stable")

    def _hashes(self, table: pa.Table) -> np.ndarray:
        seed = tf.constant(self._seed, tf.int64)
        part, place = (table.column(name).to_numpy() for name in ("part", "place"))
        return pairs(pairs(seed, part), place).numpy()


def _pieces(
    step: Step, rows: InputRows, heavy: Iterable[Sequence[int]], heavy_rows: int
) -> dict[int, list[int]]:
    """Parts of the table at which pieces of heavy requests begin, by key."""
    keys = np.array([key for key, _ in heavy], np.int64)
    if not len(keys):
        return {}
    pieces: dict[int, list[int]] = {key: [] for key in keys.tolist()}
    held = dict.fromkeys(pieces, 0)
    for key, part, num in rows_of_parts(step, rows, keys):
        if not pieces[key] or held[key] + num > heavy_rows:
            pieces[key].append(part)
            held[key] = 0
        held[key] += num
    return pieces


def rows_of_parts(
    step: Step, rows: InputRows, keys: np.ndarray
) -> list[tuple[int, int, int]]:
    """How many rows of large requests each part of the table has.

    Args:
      step: The step that is running.
      rows: Its input.
      keys: [m] int64 of the requests, sorted.

    Returns:
      Keys, parts and numbers of rows, sorted.
    """
    found = step.folder.read_json(_HEAVY_PARTS)
    if found is None:
        step.tell(f"finds pieces of {len(keys)} large requests")

        def build(pipeline: beam.Pipeline) -> None:
            beam = import_beam()
            parts = rows.read(pipeline) | beam.FlatMap(_parts_of_heavy, keys)
            write_summary((parts,), step.folder, _HEAVY_PARTS)

        step.engine.run(build)
        found = step.folder.read_json(_HEAVY_PARTS)
    return [tuple(entry) for entry in found["parts"]]


def _parts_of_heavy(batch: pa.Table, keys: np.ndarray) -> Iterator[dict[str, Any]]:
    """How many rows of heavy requests a batch has."""
    heavy = positions_of(request_keys(batch), keys)
    numbers, counts = np.unique(heavy[heavy >= 0], return_counts=True)
    if len(numbers):
        part = batch.column("part")[0].as_py()
        found = zip(keys[numbers].tolist(), counts.tolist(), strict=True)
        yield {"parts": [[key, part, num] for key, num in found]}
