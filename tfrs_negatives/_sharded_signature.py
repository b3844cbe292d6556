"""A signature whose items are in shards: TensorFlow embeds, the shards search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives._embedding_signature import EmbeddingSignature, per_row
from tfrs_negatives.index.shards.shard import EXCLUDING, PLAIN

if TYPE_CHECKING:
    from tfrs_negatives.index.shards.shard_search import ShardSearch

#: The output that holds the numbers of shards that an answer lacks, `[B, M]`.
MISSING = "missing_shards"

# Those first that all answers have.
_ORDER = {"ids": 0, "scores": 1}


class ShardedSignature(EmbeddingSignature):
    """Called with keyword tensors, it answers from all shards that answer.

    Args:
      functions: Of the SavedModel: "embed_query" and perhaps "user_items".
      search: `ShardSearch`.
      name: What the embeddings are called by the shards.
      description: That of the export.
      takes_exclusions: Whether it has the input `exclusions`.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        search: ShardSearch,
        name: str,
        description: Mapping[str, Any],
        takes_exclusions: bool,
    ) -> None:
        import tensorflow as tf

        of_shards = search.description
        dtypes = {n: dtype for n, (dtype, _) in of_shards.outputs.items()}
        whole = {
            **description,
            "ids": dtypes["ids"],
            "payload": dtypes,
            "options": {**of_shards.options, **description["options"]},
        }
        super().__init__(functions, whole, takes_exclusions)
        self._search_shards, self._name = search.search, name
        self.outputs = {
            **{
                n: tf.TensorSpec([None] * rank, dtype, n)
                for n, (dtype, rank) in sorted(
                    of_shards.outputs.items(), key=lambda one: _ORDER.get(one[0], 2)
                )
            },
            MISSING: tf.TensorSpec([None, None], tf.int64, MISSING),
        }

    def _search(
        self, queries: np.ndarray, given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        num_rows = len(queries)
        # Of a query that is NaN or infinite there is no answer; the others have theirs.
        usable = np.isfinite(queries).all(axis=1)
        inputs = {
            self._name: np.where(usable[:, np.newaxis], queries, np.float32(0)),
            **{
                name: _array(per_row(name, given[name], num_rows), given[name].dtype)
                for name in ("where", "popularity_discount")
                if name in given
            },
        }
        exclusions = self._exclusions(given, num_rows) or [[]] * num_rows
        answer: dict[str, np.ndarray] = {}
        missing: set[int] = set()
        # Of no exclusions there is no list: each of a matrix could be an item's id.
        counts = np.array([len(ids) for ids in exclusions], np.int64)
        for rows in (np.flatnonzero(counts == 0), np.flatnonzero(counts)):
            if not len(rows):
                continue
            of_rows = {name: value[rows] for name, value in inputs.items()}
            of_rows["k"], signature = given["k"], PLAIN
            if counts[rows[0]]:
                signature = EXCLUDING
                lists = [exclusions[row] for row in rows]
                of_rows["exclusions"] = self._matrix(lists)
            found, without = self._search_shards(signature, of_rows)
            missing.update(without)
            for name, values in found.items():
                if name not in answer:
                    answer[name] = np.zeros([num_rows, *values.shape[1:]], values.dtype)
                answer[name][rows] = values
        self._empty_rows(answer, ~usable)
        answer = {name: answer[name] for name in self.outputs if name in answer}
        lacking = np.array(sorted(missing), np.int64)
        answer[MISSING] = np.tile(lacking, [num_rows, 1])
        return answer

    def _matrix(self, lists: list[list[Any]]) -> np.ndarray:
        """Exclusions `[B, E]`; short rows end in repeats."""
        longest = max(map(len, lists))
        full = [ids + ids[:1] * (longest - len(ids)) for ids in lists]
        return np.array(full, self._ids.as_numpy_dtype)

    def _empty_rows(self, answer: dict[str, np.ndarray], rows: np.ndarray) -> None:
        """Puts nothing in the place of what some rows have."""
        for name, values in answer.items():
            filler: Any = b"" if values.dtype == object else 0
            if name == "scores":
                filler = -np.inf
            elif name == "ids" and values.dtype != object:
                filler = -1
            values[rows] = filler


def _array(values: list[Any], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "O":  # Filters, which were read as texts.
        values = [each.encode() for each in values]
    return np.array(values, dtype)
