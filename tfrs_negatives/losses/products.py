"""Products of queries with columns, and the gradients of these.

Queries are [n, d], or [n, H, d] with H heads. Columns are the C candidates that all
rows share and, if there are any, M negatives of each row alone, behind them.
"""

from __future__ import annotations

import tensorflow as tf


def shared(queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Every query against every candidate [C, d]: [n, C] or [n, H, C]."""
    if queries.shape.rank == 3:
        return tf.einsum("nhd,cd->nhc", queries, candidates)
    return tf.matmul(queries, candidates, transpose_b=True)


def own(queries: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    """Each row's queries against its negatives [n, M, d]: [n, M] or [n, H, M]."""
    by_head = tf.matmul(_with_heads(queries), negatives, transpose_b=True)
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
    d_shared = d_scores
    if negatives is not None:
        num_shared = tf.shape(candidates)[0]
        d_shared, d_own = d_scores[..., :num_shared], d_scores[..., num_shared:]
    if queries.shape.rank == 3:
        d_queries = tf.einsum("nhc,cd->nhd", d_shared, candidates)
        d_candidates = tf.einsum("nhd,nhc->dc", queries, d_shared)
    else:
        d_queries = tf.matmul(d_shared, candidates)
        d_candidates = tf.matmul(queries, d_shared, transpose_a=True)
    if negatives is None:
        return d_queries, d_candidates
    d_own = _with_heads(d_own)
    d_queries += tf.reshape(tf.matmul(d_own, negatives), tf.shape(d_queries))
    d_negatives = tf.matmul(d_own, _with_heads(queries), transpose_a=True)
    return d_queries, d_candidates, d_negatives


def _with_heads(rows: tf.Tensor) -> tf.Tensor:
    """[n, H, ...]; one head where there are none."""
    return rows[:, tf.newaxis] if rows.shape.rank == 2 else rows
