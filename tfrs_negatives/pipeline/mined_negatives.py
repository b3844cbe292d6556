"""Hard negatives of any number of queries, mined from a corpus in shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.index.mining import check_options
from tfrs_negatives.index.mining.mine_hard_negatives import MinedNegatives, mine
from tfrs_negatives.pipeline.beam_engine import BeamEngine, import_beam
from tfrs_negatives.pipeline.corpus_shards import corpus_of
from tfrs_negatives.pipeline.embedding_shards import EmbeddingShards
from tfrs_negatives.pipeline.query_pairs import check_queries, gather_pairs, read_pairs
from tfrs_negatives.pipeline.query_steps import QueryStep
from tfrs_negatives.pipeline.shards import shard_names
from tfrs_negatives.pipeline.step import Progress
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam

_POSITIVES = "positives"


def mine_negatives(
    queries: PathLike,
    items: PathLike,
    output: PathLike,
    num_negatives: int,
    *,
    positives: PathLike | None = None,
    columns: Mapping[str, str | None] | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    sampling: str = "uniform",
    seed: int = 0,
    batch_size: int = 1024,
    engine: BeamEngine | None = None,
    progress: Progress | None = None,
) -> None:
    """Finds hard negatives of every query: `index.mine_hard_negatives` on many workers.

    It is what that function finds in a `BruteForce` of all items, with the same draws;
    where scores are equal up to the rounding of float32, their order may differ. A
    worker takes a shard of queries, and goes through the shards of items with it. Its
    memory: both shards, or 512 MiB of items where those are more, the best candidates
    of a batch of queries, and the pairs of the shard's users, each once.

    `pipeline.read_negatives` reads what is written, for `samplers.Mined`.

    Args:
      queries: What `pipeline.embed_rows` wrote of users: all its files.
      items: What it wrote of items.
      output: A folder to write, at a path that all workers have, or `scheme://...`.
      num_negatives: M.
      positives: A table of interactions, as `data.interactions` takes it, whose
        positive rows are each user's known positives; None: there are none. Users that
        are no queries do not matter. Items that the corpus lacks, such as newer ones,
        are counted and told.
      columns: Names of its columns by role, as arguments of `data.interactions`.
      range_min, range_max, max_score, sampling, seed, batch_size: As
        `index.mine_hard_negatives` has them.
      engine: Where it runs; None: one process of this machine.
      progress: Function of a line that says how far it is, or None.

    Raises:
      ValueError: Options out of range; folders that `embed_rows` did not write, or of
        other ids than the table; something else is at `output`; the runner failed.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> tower = tf.Module()
      >>> tower.embed = tf.function(
      ...     lambda x: tf.stack([x, tf.ones_like(x)], axis=1),
      ...     input_signature=[tf.TensorSpec([None], tf.float32, "x")],
      ... )
      >>> tf.saved_model.save(tower, str(folder / "tower"), tower.embed)
      >>> rows = {"user": "ann,3\\nbob,-1\\n", "item": "p,1\\nq,2\\nr,4\\n"}
      >>> for name, lines in rows.items():
      ...     _ = (folder / f"{name}.csv").write_text(f"{name},x\\n{lines}")
      ...     tn.pipeline.embed_rows(
      ...         folder / f"{name}.csv", folder / f"{name}s", folder / "tower", name
      ...     )
      >>> _ = (folder / "log.csv").write_text("user,item\\nann,r\\n")
      >>> tn.pipeline.mine_negatives(
      ...     folder / "users", folder / "items", folder / "mined", 1,
      ...     positives=folder / "log.csv", sampling="top",
      ... )
      >>> users, table = tn.pipeline.read_negatives(folder / "mined")
      >>> dict(zip(users.tolist(), table.to_list()))
      {b'ann': [b'q'], b'bob': [b'p']}
    """
    _checks.check_at_least("num_negatives", num_negatives, 1)
    options = {
        "range_min": range_min,
        "range_max": range_max,
        "max_score": max_score,
        "sampling": sampling,
        "seed": seed,
        "batch_size": batch_size,
    }
    check_options(options)
    asked = QueryStep.of(queries, items, {_POSITIVES: positives}, columns)
    if range_min >= len(asked.items):
        raise ValueError(
            f"`range_min` must be less than the number of items ({len(asked.items)}), "
            f"received {range_min}."
        )
    step = asked.begun(
        output,
        {"step": "mine_negatives", "num_negatives": num_negatives, **options},
        engine,
        progress,
    )
    if step is None:
        return
    folder = step.folder
    names = shard_names(len(asked.queries.files))
    missing = [shard for shard, name in enumerate(names) if not folder.has(name)]
    mined = _Mined(asked.queries, asked.items, num_negatives, options, names, folder)

    def build(pipeline: beam.Pipeline) -> None:
        beam = import_beam()
        pairs = gather_pairs(pipeline, asked.tables, len(names), missing)
        _ = pairs | "Mine" >> beam.MapTuple(mined.write)

    with step.shards_told(names):
        step.engine.run(build)
    step.check_rows(sum(map(folder.num_rows, names)), len(asked.queries))
    short, lacking = (
        sum(int(folder.metadata(name, key)) for name in names)
        for key in ("short_rows", "lacking")
    )
    step.tell(f"{short:,} of {len(asked.queries):,} queries have fewer negatives")
    if lacking:
        step.tell(f"{lacking:,} positives are of items that the corpus lacks")
    folder.finish(names)


class _Mined:
    """Mines for shards. A class, as workers get its method by pickling."""

    def __init__(
        self,
        queries: EmbeddingShards,
        items: EmbeddingShards,
        num_negatives: int,
        options: Mapping[str, Any],
        names: Sequence[str],
        folder: StepFolder,
    ) -> None:
        self._queries, self._items = queries, items
        self._num_negatives, self._options = num_negatives, options
        self._names, self._folder = names, folder

    def write(self, shard: int, parts: Iterable[Any]) -> None:
        """Writes the negatives of a shard of queries."""
        ids, queries = self._queries.read(shard)
        check_queries(ids, shard, len(self._names))
        corpus = corpus_of(self._items)
        positives, num_lacking = read_pairs(parts, _POSITIVES), 0
        lists = None
        if positives is not None and len(ids):
            lists = positives(tf.constant(ids))
            is_there = corpus.positions(lists.flat_values.numpy()) >= 0
            num_lacking = int(np.sum(~is_there))
            lists = tf.ragged.boolean_mask(lists, lists.with_flat_values(is_there))
        if len(ids):
            mined = mine(
                corpus,
                queries,
                self._num_negatives,
                positives=lists,
                first_row=self._queries.starts[shard],
                progress=False,
                **self._options,
            )
        else:
            none = tf.RaggedTensor.from_row_lengths(
                tf.zeros([0], self._items.dtype), tf.zeros([0], tf.int64)
            )
            scores = none.with_flat_values(tf.zeros([0]))
            mined = MinedNegatives(none, scores, num_short_rows=0)
        table = pa.table(
            {
                "id": _ids(ids),
                "negatives": _lists(mined.ids),
                "scores": _lists(mined.scores),
            }
        )
        found = {"short_rows": mined.num_short_rows, "lacking": num_lacking}
        table = table.replace_schema_metadata({k: str(n) for k, n in found.items()})
        self._folder.write_table(self._names[shard], table)


def _ids(values: np.ndarray) -> pa.Array:
    if values.dtype == object:
        return pa.array(values, pa.large_binary()).cast(pa.large_string())
    return pa.array(values)


def _lists(values: tf.RaggedTensor) -> pa.Array:
    offsets = pa.array(values.row_splits.numpy())
    return pa.LargeListArray.from_arrays(offsets, _ids(values.flat_values.numpy()))
