"""Embeddings of a corpus of any size, by a tower that was saved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tfrs_negatives import _checks
from tfrs_negatives.pipeline.beam_engine import BeamEngine
from tfrs_negatives.pipeline.feature_rows import FEATURE, FeatureRows, first_rows
from tfrs_negatives.pipeline.input_rows import keys_of
from tfrs_negatives.pipeline.saved_tower import SavedTower, arrow_type
from tfrs_negatives.pipeline.shards import (
    num_shards,
    shard_names,
    shards_of,
    write_shards,
)
from tfrs_negatives.pipeline.step import Progress, Step
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam

#: About as many rows a shard has: what mining holds in memory.
EMBEDDED_ROWS = 2**20


def embed_rows(
    path: PathLike,
    output: PathLike,
    model: PathLike,
    key: str,
    *,
    signature: str = "serving_default",
    features: Mapping[str, str] | None = None,
    shards: int | None = None,
    batch_size: int = 1024,
    engine: BeamEngine | None = None,
    progress: Progress | None = None,
) -> None:
    """Embeds the rows of a table: a corpus of items, or users that are queries.

    `pipeline.read_embeddings` reads what is written, for `index_from_dataset` of an
    index and for `metrics.CorpusRecall`. The first row of an id says what its features
    are, and how many rows repeat an id is told. Which shard an id is in follows from
    its hash, and rows of a shard are in the order of the input. A shard is embedded in
    batches of its own, so that who embeds it changes no bit on machines of one kind.
    Memory of a worker: the model and a shard.

    Args:
      path: A table as `data.interactions` takes it, with any columns.
      output: A folder to write, at a path that all workers have, or `scheme://...`.
      model: A SavedModel, at such a path, with a signature that takes features by name,
        `[rows]` or `[rows, n]`, and returns embeddings `[rows, d]`: what Keras's
        `model.export` and `tf.saved_model.save` write of an item tower; or an export,
        whose signature "embed_query" embeds users.
      key: Name of the column with ids, integers or strings.
      signature: Name of the signature.
      features: Names of columns by input of the signature; None, and inputs that it
        leaves out: the columns of the inputs' own names.
      shards: How many files; None: one for each million rows.
      batch_size: Rows that the model gets at a time.
      engine: Where it runs; None: one process of this machine.
      progress: Function of a line that says how far it is, or None.

    Raises:
      ValueError: A model or columns that do not fit; nulls; embeddings that are not
        finite; something else is at `output`; the runner failed.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> _ = (folder / "items.csv").write_text("sku,price\\na,3\\nb,4\\n")
      >>> tower = tf.Module()
      >>> tower.embed = tf.function(
      ...     lambda price: tf.stack([price, -price], axis=1),
      ...     input_signature=[tf.TensorSpec([None], tf.float32, "price")],
      ... )
      >>> tf.saved_model.save(tower, str(folder / "tower"), tower.embed)
      >>> tn.pipeline.embed_rows(
      ...     folder / "items.csv", folder / "embedded", folder / "tower", "sku"
      ... )
      >>> items = tn.pipeline.read_embeddings(folder / "embedded")
      >>> index = tn.index.BruteForce().index_from_dataset(items)
      >>> index(tf.constant([[0.0, 1.0]]), k=1)[1].numpy().tolist()
      [[b'a']]
    """
    _checks.check_at_least("batch_size", batch_size, 1)
    if shards is not None:
        _checks.check_at_least("shards", shards, 1)
    tower = SavedTower.found(os.fspath(model), signature)
    inputs = tower.inputs()
    unknown = sorted(set(features or {}) - set(inputs))
    if unknown:
        raise ValueError(
            f"`features` must name inputs of the signature ({', '.join(inputs)}), "
            f"received {', '.join(unknown)}. Leave them out."
        )
    columns = {name: (features or {}).get(name, name) for name in inputs}
    types = {name: arrow_type(spec) for name, spec in inputs.items()}
    rows = FeatureRows(path, key, columns, types)
    description = {
        "step": "embed_rows",
        "model": tower.state,
        "signature": signature,
        "shards": shards,
        "batch_size": batch_size,
        "input": rows.description(),
    }
    step = Step.begun(output, description, engine, progress)
    if step is None:
        return
    folder = step.folder
    read = step.counted(rows)
    names = shard_names(num_shards(read["rows_read"], shards, EMBEDDED_ROWS))
    embedded = _Embedded(tower, names, batch_size)

    def build(pipeline: beam.Pipeline) -> None:
        write_shards(
            rows,
            rows.read(pipeline),
            embedded.shard_of,
            embedded.tables_of,
            [[name] for name in names],
            folder,
        )

    with step.shards_told(names):
        step.engine.run(build)
    step.check_rows(
        sum(int(folder.metadata(n, "rows")) for n in names), read["rows_read"]
    )
    num_ids = sum(map(folder.num_rows, names))
    step.tell(
        f"{num_ids:,} ids; {read['rows_read'] - num_ids:,} rows repeated one of them"
    )
    folder.finish(names)


class _Embedded:
    """Shards of ids and embeddings. A class, as workers get its methods by pickling."""

    def __init__(
        self, tower: SavedTower, names: Sequence[str], batch_size: int
    ) -> None:
        self._tower, self._names, self._batch_size = tower, names, batch_size

    def shard_of(self, batch: pa.Table) -> np.ndarray:
        """Where an id goes: [n] int64."""
        return shards_of(keys_of(batch.column("id")), len(self._names))

    def tables_of(self, shard: int, table: pa.Table) -> Mapping[str, pa.Table]:
        """Ids in the order of their first rows, and their embeddings."""
        read = int(np.sum(table.column("rows").to_numpy()))
        first, _ = first_rows(table.column("id"))
        table = table.take(pa.array(first))
        ids = table.column("id")
        features = {name: table.column(FEATURE + name) for name in self._tower.inputs()}
        blocks = []
        # One batch even of no rows, which says how wide embeddings are.
        for start in range(0, max(len(table), 1), self._batch_size):
            some = {n: c.slice(start, self._batch_size) for n, c in features.items()}
            block = self._tower.embed(some)
            self._check(block, ids, start)
            blocks.append(block)
        embeddings = np.concatenate(blocks)
        found = pa.FixedSizeListArray.from_arrays(
            pa.array(embeddings.ravel()), embeddings.shape[1]
        )
        written = pa.table({"id": ids, "embedding": found})
        written = written.replace_schema_metadata({"rows": str(read)})
        return {self._names[shard]: written}

    def _check(self, block: np.ndarray, ids: pa.ChunkedArray, start: int) -> None:
        expected = min(self._batch_size, len(ids) - start)
        if len(block) != expected:
            raise ValueError(
                f"The model must return an embedding for each of {expected} rows, "
                f"received {len(block)}. Does its signature reduce over rows?"
            )
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            example = ids[start + int(np.argmin(finite))].as_py()
            raise ValueError(
                f"Embeddings must be finite, received NaN or infinity for "
                f"{int(np.sum(~finite))} ids, such as {example!r}. Has training "
                "diverged?"
            )
