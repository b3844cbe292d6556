"""Searching a state of a live index: exactly, or by ScaNN and exactly what is newer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrs_negatives.index.filters.filter_mask import mask_of
from tfrs_negatives.index.filters.filter_tree import Expression
from tfrs_negatives.index.live.approximate_rows import ApproximateRows
from tfrs_negatives.index.live.exact_rows import best_rows, largest
from tfrs_negatives.index.live.live_answer import LiveAnswer
from tfrs_negatives.index.live.live_table import LiveState

#: Up to so many rows that count, all of them are scored.
_FEW_ROWS = 10_000

#: Where ScaNN would have to look for more than this share of its rows, they are.
_WIDEST = 0.05


def answer(
    state: LiveState,
    queries: np.ndarray,
    k: int,
    where: Expression | None,
    exclusions: Sequence[frozenset[Any]] | None = None,
) -> LiveAnswer:
    """The best items of a state.

    Args:
      state: The state.
      queries: `[B, d]` float32, checked.
      k: At least 1.
      where: A checked filter, or None.
      exclusions: B sets of ids, checked, or None.
    """
    counts = state.alive
    if where is not None:
        passing = mask_of(where, state.attributes, state.num_rows)
        counts = passing if counts is None else counts & passing
        available = int(np.count_nonzero(counts))
    else:
        available = state.num_items
    k = min(k, available)
    most = max(map(len, exclusions), default=0) if exclusions is not None else 0
    if exclusions is None or not most:
        scores, rows = _best(state, queries, k, counts, available)
        return _answer(state, scores, rows)
    # At most so many of the best are left out.
    wide = min(k + most, available)
    scores, rows = _best(state, queries, wide, counts, available)
    gone = [
        [each in ids for each in row]
        for row, ids in zip(state.ids[rows].tolist(), exclusions, strict=True)
    ]
    scores = np.where(np.array(gone, bool).reshape(scores.shape), -np.inf, scores)
    scores, places = largest(scores, k)
    return _answer(state, scores, np.take_along_axis(rows, places, axis=1))


def _answer(state: LiveState, scores: np.ndarray, rows: np.ndarray) -> LiveAnswer:
    """What rows hold; nothing where the score is -inf."""
    missing = np.isneginf(scores)
    some_missing = missing.any()

    def taken(column: np.ndarray, filler: Any) -> np.ndarray:
        values = column[rows]
        if some_missing:
            values[missing] = filler
        return values

    return LiveAnswer(
        taken(state.ids, "" if state.ids.dtype == object else -1),
        scores,
        {
            name: taken(column, "" if column.dtype == object else 0)
            for name, column in state.payload.items()
        },
    )


def _best(
    state: LiveState,
    queries: np.ndarray,
    k: int,
    counts: np.ndarray | None,
    available: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and row numbers of the k best of the rows that count."""
    approximate = state.approximate
    if approximate is None or available <= _FEW_ROWS or not len(queries):
        return best_rows(queries, state.embeddings, k, counts)
    covered = approximate.num_rows
    old = None if counts is None else counts[:covered]
    num_old = covered if old is None else int(np.count_nonzero(old))
    # So many hits that, in the mean, k of them and a half count.
    wide = math.ceil(1.5 * k * covered / num_old) + 10 if num_old else covered
    if old is None:
        wide = k
    if wide > _WIDEST * covered:
        return best_rows(queries, state.embeddings, k, counts)
    scores, rows = _with_newer(state, approximate, queries, k, wide, counts)
    # What misses all that count, as a filter far from the query may.
    short = np.flatnonzero(~np.isfinite(scores[:, -1]))
    if len(short):
        scores[short], rows[short] = best_rows(
            queries[short], state.embeddings, k, counts
        )
    return scores, rows


def _with_newer(
    state: LiveState,
    approximate: ApproximateRows,
    queries: np.ndarray,
    k: int,
    wide: int,
    counts: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """ScaNN's hits that count, and the best of the rows that it does not have."""
    covered = approximate.num_rows
    scores, rows = approximate.search(queries, wide)
    if counts is not None:
        scores = np.where(counts[rows], scores, -np.inf)
    newer = None if counts is None else counts[covered:]
    num_newer = state.num_rows - covered if newer is None else np.count_nonzero(newer)
    if num_newer:
        more, places = best_rows(
            queries, state.embeddings[covered:], min(k, int(num_newer)), newer
        )
        scores = np.concatenate([scores, more], axis=1)
        rows = np.concatenate([rows, places + covered], axis=1)
    scores, places = largest(scores, k)
    return scores, np.take_along_axis(rows, places, axis=1)
