"""Products of queries with columns, and the gradients of these.

Queries are [n, d], or [n, H, d] with H heads. Columns are the C candidates that all
rows share and, if there are any, M negatives of each row alone, behind them.

Under XLA embeddings may be bfloat16, of queries without heads. Scores and gradients are
float32 all the same: what is multiplied has 8 bits, what is added up has 24.
"""

from __future__ import annotations

import tensorflow as tf


def shared(queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Every query against every candidate [C, d]: [n, C] or [n, H, C]."""
    if queries.shape.rank == 3:
        return tf.einsum("nhd,cd->nhc", queries, candidates)
    return _product(queries, candidates, transpose_b=True)


def own(queries: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    """Each row's queries against its negatives [n, M, d]: [n, M] or [n, H, M]."""
    by_head = _product(_with_heads(queries), negatives, transpose_b=True)
    return by_head if queries.shape.rank == 3 else tf.squeeze(by_head, axis=1)


def paired(queries: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Row i's queries against row i of `rows` [n, d]: [n], or [n, H] with heads."""
    if queries.shape.rank == 3:
        rows = rows[:, tf.newaxis]
    return tf.reduce_sum(queries * rows, axis=-1)


def gradients(
    d_scores: tf.Tensor,
    queries: tf.Tensor,
    candidates: tf.Tensor,
    negatives: tf.Tensor | None = None,
) -> tuple[tf.Tensor, ...]:
    """Gradients from the derivatives of the scores.

    Args:
      d_scores: [n, C + M] or [n, H, C + M], in the scores of candidates and
        negatives side by side.
      queries: [n, d] or [n, H, d]; weights that they carry reach the gradients of
        candidates and negatives, not those of the queries.
      candidates: [C, d].
      negatives: [n, M, d], or None with M = 0.

    Returns:
      Those in the queries, [n, d] or [n, H, d]; in the candidates, transposed to
      [d, C]; and, if there are negatives, in these, [n, M, d].
    """
    # To the embeddings' dtype: a product has one.
    d_shared = d_scores = tf.cast(d_scores, candidates.dtype)
    if negatives is not None:
        num_shared = tf.shape(candidates)[0]
        d_shared, d_own = d_scores[..., :num_shared], d_scores[..., num_shared:]
    if queries.shape.rank == 3:
        d_queries = tf.einsum("nhc,cd->nhd", d_shared, candidates)
        d_candidates = tf.einsum("nhd,nhc->dc", queries, d_shared)
    else:
        d_queries = _product(d_shared, candidates)
        d_candidates = _product(queries, d_shared, transpose_a=True)
    if negatives is None:
        return d_queries, d_candidates
    d_own = _with_heads(d_own)
    d_queries += tf.reshape(_product(d_own, negatives), tf.shape(d_queries))
    d_negatives = _product(d_own, _with_heads(queries), transpose_a=True)
    return d_queries, d_candidates, d_negatives


def _product(
    one: tf.Tensor,
    other: tf.Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> tf.Tensor:
    """`tf.matmul`, but of bfloat16 in float32, as matrix units add up by themselves."""
    if one.dtype != tf.bfloat16:
        return tf.matmul(one, other, transpose_a, transpose_b)
    return tf.raw_ops.BatchMatMulV3(
        x=one, y=other, Tout=tf.float32, adj_x=transpose_a, adj_y=transpose_b
    )


def _with_heads(rows: tf.Tensor) -> tf.Tensor:
    """[n, H, ...]; one head where there are none."""
    return rows[:, tf.newaxis] if rows.shape.rank == 2 else rows
