"""What queries' users are known to have had, brought to the shards of the queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrs_negatives.data.positives_of import Positives, positives_of
from tfrs_negatives.pipeline.beam_engine import import_beam
from tfrs_negatives.pipeline.embedding_shards import EmbeddingShards
from tfrs_negatives.pipeline.input_rows import InputRows, keys_of, packed, unpacked
from tfrs_negatives.pipeline.shards import shards_of
from tfrs_negatives.pipeline.table_groups import by_group, grouped

if TYPE_CHECKING:
    import apache_beam as beam

_COLUMNS = ["user", "item"]


def check_ids(
    rows: InputRows, queries: EmbeddingShards, items: EmbeddingShards
) -> None:
    """Raises `ValueError` where ids of a table can never be those of embeddings."""
    for role, shards in (("user", queries), ("item", items)):
        if rows.parts.dtypes[role] != shards.dtype:
            kinds = {tf.int64: "integers", tf.string: "strings"}
            raise ValueError(
                f"Column {rows.parts.names[role]!r} of {rows.parts.source} must hold "
                f"{kinds[shards.dtype]}, as the embeddings in {shards.path!r} do, "
                f"received {kinds[rows.parts.dtypes[role]]}. Write both alike; ids of "
                "text files are strings."
            )


def gather_pairs(
    pipeline: beam.Pipeline,
    tables: Mapping[str, InputRows],
    num_shards: int,
    missing: Collection[int],
) -> beam.PCollection:
    """The distinct pairs of a user and an item, by shard of the user's query.

    A worker drops repeats before it sends, and where it merges. So a user with a tenth
    of the rows, or an item with nearly half of them, is as many pairs as there are.

    Args:
      pipeline: The pipeline.
      tables: Interactions, by a name for what they are.
      num_shards: How many shards of queries there are.
      missing: Those that are still to be done.

    Returns:
      Elements `(shard, [(name, pairs)])`, one for each missing shard; `pairs` is for
      `read_pairs`.
    """
    from tfrs_negatives.pipeline.combiners import MergeGroups

    beam = import_beam()
    every = pipeline | "All" >> beam.Create([(shard, None) for shard in missing])
    gathered = [every]
    for name, rows in tables.items():
        gathered.append(
            rows.read(pipeline, f" {name}")
            | f"Pairs {name}" >> beam.FlatMap(_by_shard, num_shards, frozenset(missing))
            | f"Merge {name}" >> beam.CombinePerKey(MergeGroups())
            | f"Name {name}" >> beam.Map(_named, name)
        )
    return gathered | "Join" >> beam.Flatten() | "Gather" >> beam.GroupByKey()


def read_pairs(
    parts: Iterable[tuple[str, bytes] | None], name: str
) -> Positives | None:
    """The items of each user, of what was gathered by this name; None: of no user."""
    for part in parts:
        if part is not None and part[0] == name:
            table = unpacked(part[1])
            return positives_of(
                {column: _plain(table.column(column)) for column in _COLUMNS}
            )
    return None


def check_queries(ids: np.ndarray, shard: int, num_shards: int) -> None:
    """Raises `ValueError` for queries that are not where pairs of theirs come."""
    column = pa.array(ids)
    if (shards_of(keys_of(column), num_shards) != shard).any():
        raise ValueError(
            "Expected queries in the shards that `embed_rows` wrote, received others. "
            "Name the folder of its output, with all its files."
        )


def _by_shard(
    batch: pa.Table, num_shards: int, missing: Collection[int]
) -> Iterator[tuple[int, bytes]]:
    pairs = grouped(batch.select(_COLUMNS).replace_schema_metadata())
    shards = shards_of(keys_of(pairs.column("user")), num_shards)
    for shard, some in by_group(pairs, shards, missing):
        yield shard, packed(some)


def _named(of_shard: tuple[int, bytes], name: str) -> tuple[int, tuple[str, bytes]]:
    shard, pairs = of_shard
    return shard, (name, pairs)


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_integer(column.type):
        return column.to_numpy()
    return column.cast(pa.large_binary()).to_numpy()
