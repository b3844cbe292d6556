"""Shards of ids and embeddings, which a step has written."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.data.packages import import_package
from tfrs_negatives.data.table_files import TableFile, table_files
from tfrs_negatives.types import PathLike

_COLUMNS = ["id", "embedding"]


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingShards:
    """What `embed_rows` wrote: files of ids and embeddings, one in memory at a time.

    Attributes:
      path: The folder.
      files: The files, in order.
      sizes: How many rows each has.
      width: d.
      dtype: Of the ids: tf.int64 or tf.string.
    """

    path: str
    files: Sequence[TableFile]
    sizes: Sequence[int]
    width: int
    dtype: tf.DType

    @classmethod
    def of(cls, path: PathLike) -> EmbeddingShards:
        """The shards in a folder.

        Raises:
          ValueError: The folder has no such files.
        """
        arrow = import_package("pyarrow", "demo")
        found = table_files(path)
        sizes, kinds = [], set()
        for file in found.files:
            schema = None
            if not file.is_text:
                with _opened(file) as opened:
                    schema = opened.schema_arrow
                    sizes.append(opened.metadata.num_rows)
            if (
                schema is None
                or schema.names != _COLUMNS
                or not arrow.types.is_fixed_size_list(schema.field(1).type)
            ):
                raise ValueError(
                    f"Expected embeddings that `embed_rows` wrote, received "
                    f"{file.path!r}, which holds something else. Name the folder of "
                    "its output."
                )
            kinds.add((schema.field(0).type, schema.field(1).type.list_size))
        if len(kinds) > 1:
            raise ValueError(
                f"Embeddings of one folder must be equally wide, with ids of one type, "
                f"received {len(kinds)} kinds in {str(path)!r}. Name the output of one "
                "step."
            )
        ((kind, width),) = kinds
        dtype = tf.int64 if arrow.types.is_integer(kind) else tf.string
        return cls(str(path), found.files, tuple(sizes), width, dtype)

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def starts(self) -> list[int]:
        """How many rows come before each shard."""
        return np.concatenate([[0], np.cumsum(self.sizes)])[:-1].tolist()

    def ids(self, shard: int) -> np.ndarray:
        """The ids of a shard: [n] int64, or objects of `bytes`."""
        with _opened(self.files[shard]) as file:
            return self._ids(file.read(["id"]).column(0))

    def read(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and embeddings of a shard, [n] and [n, d] float32."""
        with _opened(self.files[shard]) as file:
            return self._arrays(file.read(_COLUMNS))

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of at most so many rows, shard after shard."""
        arrow = import_package("pyarrow", "demo")
        for file in self.files:
            with _opened(file) as opened:
                for batch in opened.iter_batches(batch_size, columns=_COLUMNS):
                    yield self._arrays(arrow.Table.from_batches([batch]))

    def _arrays(self, table: Any) -> tuple[np.ndarray, np.ndarray]:
        values = table.column("embedding").combine_chunks().flatten()
        embeddings = values.to_numpy(zero_copy_only=False)
        return self._ids(table.column("id")), embeddings.reshape(-1, self.width)

    def _ids(self, column: Any) -> np.ndarray:
        if self.dtype == tf.string:
            arrow = import_package("pyarrow", "demo")
            column = column.cast(arrow.large_binary())
        return column.to_numpy()


def read_embeddings(folder: PathLike, batch_size: int = 8192) -> tf.data.Dataset:
    """Reads what `pipeline.embed_rows` has written, a batch at a time.

    Args:
      folder: Its output.
      batch_size: Rows of a batch, at most.

    Returns:
      `tf.data.Dataset` of pairs of ids `[b]`, int64 or strings, and embeddings `[b, d]`
      float32, in the order of the shards: what `index_from_dataset` of an index and
      `metrics.CorpusRecall` take.

    Raises:
      ValueError: The folder has no such files.
    """
    _checks.check_at_least("batch_size", batch_size, 1)
    shards = EmbeddingShards.of(folder)
    signature = (
        tf.TensorSpec([None], shards.dtype),
        tf.TensorSpec([None, shards.width], tf.float32),
    )
    return tf.data.Dataset.from_generator(
        functools.partial(shards.batches, batch_size), output_signature=signature
    )


def _opened(file: TableFile) -> Any:
    parquet = import_package("pyarrow.parquet", "demo")
    return parquet.ParquetFile(file.path, filesystem=file.system.arrow)
