"""Exact search: every candidate is scored."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._checks import size
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.types import Tower

# Scores held at once: 256 MiB of float32.
_MAX_SCORES = 2**26


class ExactSearcher(Searcher):
    """Scores all candidates and keeps the k best, as `exact_top_k` does."""

    def __init__(self, candidates: tf.Tensor, identifiers: tf.Tensor) -> None:
        super().__init__(candidates, identifiers)
        self._candidates = tf.Variable(
            candidates, shape=[None, None], trainable=False, name="candidates"
        )

    def _replace(self, candidates: tf.Tensor) -> None:
        self._candidates.assign(candidates)

    def _variables(self) -> list[tf.Variable]:
        return [self._candidates]

    def candidates(self) -> tf.Tensor:
        return self._candidates.value()

    def search(
        self, queries: tf.Tensor, k: int | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return exact_top_k(queries, self._candidates, k)


def exact_top_k(
    queries: tf.Tensor, candidates: tf.Tensor | tf.Variable, k: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k candidates of highest dot product.

    Queries are taken in blocks, so that no more than 256 MiB of scores exist at a
    time (or those of one query). Candidates of equal score come in the order in
    which they were indexed.

    Args:
      queries: `[B, d]` float32.
      candidates: `[N, d]` float32.
      k: An int or a scalar int32 tensor, from 1 to N.

    Returns:
      Scores `[B, k]`, descending, and row numbers `[B, k]` int32.
    """
    num_queries = size(queries)
    num_rows = tf.shape(candidates)[0]
    rows = tf.maximum(_MAX_SCORES // num_rows, 1)
    return tf.cond(
        num_queries <= rows,
        lambda: _search_block(queries, candidates, k),
        lambda: _search_blocks(queries, candidates, k, rows),
    )


def _search_block(
    queries: tf.Tensor, candidates: tf.Tensor | tf.Variable, k: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    scores = tf.matmul(queries, candidates, transpose_b=True)
    best = tf.math.top_k(scores, k)
    return best.values, best.indices


def _search_blocks(
    queries: tf.Tensor,
    candidates: tf.Tensor | tf.Variable,
    k: int | tf.Tensor,
    rows: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches `rows` queries at a time."""
    num_queries = tf.shape(queries)[0]
    num_blocks = (num_queries + rows - 1) // rows
    values = tf.TensorArray(tf.float32, num_blocks, infer_shape=False)
    indices = tf.TensorArray(tf.int32, num_blocks, infer_shape=False)

    def search(
        block: int | tf.Tensor, values: tf.TensorArray, indices: tf.TensorArray
    ) -> tuple[int | tf.Tensor, tf.TensorArray, tf.TensorArray]:
        start = block * rows
        found = _search_block(queries[start : start + rows], candidates, k)
        return (
            block + 1,
            values.write(block, found[0]),
            indices.write(block, found[1]),
        )

    _, values, indices = tf.while_loop(
        lambda block, *_: block < num_blocks,
        search,
        [0, values, indices],
        # Blocks side by side would hold their scores side by side.
        parallel_iterations=1,
    )
    shape = [num_queries, k]
    return tf.reshape(values.concat(), shape), tf.reshape(indices.concat(), shape)


class BruteForce(TopK):
    """Finds the k candidates of highest dot product by scoring all of them.

    Exact, needs nothing but TensorFlow, and on two cores answers a few thousand
    queries per second over 100,000 candidates of 64 dimensions; beyond that `ScaNN`
    is many times faster. The interface is that of
    `tfrs.layers.factorized_top_k.BruteForce`.

    Args:
      query_model: Keras model (or callable) from raw query features to embeddings
        `[B, d]`. None: the layer is called with query embeddings.
      k: How many candidates to return by default; all of them where they are fewer.
      name: Name of the layer.

    Example:
      >>> index = tn.index.BruteForce(k=1)
      >>> index = index.index(tf.eye(3), tf.constant(["a", "b", "c"]))
      >>> scores, ids = index(tf.constant([[0.1, 0.7, 0.2]]))
      >>> ids.numpy()
      array([[b'b']], dtype=object)
    """

    def __init__(
        self, query_model: Tower | None = None, k: int = 10, name: str | None = None
    ) -> None:
        super().__init__(query_model=query_model, k=k, name=name)

    def _build_searcher(
        self, candidates: tf.Tensor, identifiers: tf.Tensor
    ) -> ExactSearcher:
        return ExactSearcher(candidates, identifiers)

    def is_exact(self) -> bool:
        """True: the best k candidates are found."""
        return True
