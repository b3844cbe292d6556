"""Exact search: every row is scored."""

from __future__ import annotations

import numpy as np

# Scores that are held at once: 32 MiB.
_MAX_SCORES = 8 << 20


def best_rows(
    queries: np.ndarray,
    embeddings: np.ndarray,
    k: int,
    counts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of highest dot product with each query.

    Args:
      queries: `[B, d]` float32.
      embeddings: `[N, d]` float32.
      k: At most the number of rows that count.
      counts: `[N]` bool, which rows do; None: all.

    Returns:
      Scores `[B, k]` float32, descending, and row numbers `[B, k]`. Equal scores come
      in any order.
    """
    rows = None if counts is None else np.flatnonzero(counts)
    if rows is not None and 3 * len(rows) < len(embeddings):
        # To copy few rows costs less than to score many.
        scores, places = best_rows(queries, embeddings[rows], k)
        return scores, rows[places]
    gone = None
    if counts is not None and rows is not None:
        # Among many that are equal, selection is slow; to leave out a few costs less
        # than to copy the others.
        if 4 * (len(embeddings) - len(rows)) < len(embeddings):
            gone, rows = np.flatnonzero(~counts), None
    all_scores = np.empty([len(queries), k], np.float32)
    all_rows = np.empty([len(queries), k], np.int64)
    step = max(1, _MAX_SCORES // max(1, len(embeddings)))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        scores = queries[block] @ embeddings.T
        if gone is not None:
            scores[:, gone] = -np.inf
        if rows is not None:
            scores = scores[:, rows]
        all_scores[block], all_rows[block] = largest(scores, k)
    return all_scores, all_rows if rows is None else rows[all_rows]


def largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each row of `[B, N]`, descending, and their places."""
    size = scores.shape[1]
    if k == 0:
        return scores[:, :0], np.empty([len(scores), 0], np.int64)
    if k < size:
        places = np.argpartition(scores, size - k, axis=1)[:, size - k :]
        scores = np.take_along_axis(scores, places, axis=1)
    else:
        places = np.broadcast_to(np.arange(size), scores.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    return (
        np.take_along_axis(scores, order, axis=1),
        np.take_along_axis(places, order, axis=1),
    )
