"""Recall against exact search on a sample of queries, and settings that reach it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from tfrs_negatives.index.brute_force import exact_top_k
from tfrs_negatives.types import TensorLike

# One-sided 95% confidence: with the mean alone, half of all indexes would fall short.
_MARGIN = 1.645

#: From queries, k, how many leaves to search and how many candidates to score exactly
#: to positions `[Q, k]`.
Search: TypeAlias = Callable[[tf.Tensor, int, int, int], tf.Tensor]


class RecallSample:
    """What exact search finds for a sample of queries.

    Recall@k is the share of the k best candidates that were found. Scores count, not
    ids: a candidate as good as the k-th best is as good an answer.

    Args:
      queries: `[Q, d]` float32.
      candidates: `[N, d]` float32.
      k: How many candidates to ask for, at most N.
    """

    def __init__(self, queries: TensorLike, candidates: tf.Tensor, k: int) -> None:
        self.queries, self.k = tf.convert_to_tensor(queries), k
        self._candidates = candidates
        exact = exact_top_k(self.queries, candidates, k)[1]
        # Computed as those of an answer are, so that rounding is alike.
        self._least = self._scores(exact).min(axis=1, keepdims=True)

    def recalls(self, positions: TensorLike) -> np.ndarray:
        """Recall of each query `[Q]`.

        Args:
          positions: `[Q, <= k]` rows of distinct candidates; -1 where none was found.
        """
        positions = tf.convert_to_tensor(positions, tf.int32)
        good = self._scores(tf.maximum(positions, 0)) >= self._least
        return np.sum(good & (positions.numpy() >= 0), axis=1) / self.k

    def _scores(self, positions: tf.Tensor) -> np.ndarray:
        rows = tf.gather(self._candidates, positions)
        return tf.reduce_sum(rows * self.queries[:, tf.newaxis], axis=2).numpy()


def sample_rows(candidates: tf.Tensor, size: int) -> tf.Tensor:
    """`size` rows drawn without replacement, or all; the same rows in each call."""
    if len(candidates) <= size:
        return candidates
    rows = np.random.default_rng(0).permutation(len(candidates))[:size]
    return tf.gather(candidates, np.sort(rows))


def lower_bound(recalls: np.ndarray) -> float:
    """Lower end of the one-sided 95% interval of the mean of `recalls` `[Q]`."""
    error = np.std(recalls, ddof=1) / math.sqrt(len(recalls)) if len(recalls) > 1 else 0
    return float(np.mean(recalls) - _MARGIN * error)


def choose_breadth(
    search: Search, sample: RecallSample, target: float, num_leaves: int, num_rows: int
) -> tuple[int, int, float]:
    """The least work that reaches a recall.

    With `max(200, 5 k)` candidates scored exactly (four times as many while all
    leaves together miss the target), the fewest leaves that reach it are found by
    bisection; with those, the fewest candidates to score exactly. Reached means:
    `lower_bound` is at least the target.

    Args:
      search: The index to tune, a `Search`.
      sample: `RecallSample`.
      target: Recall to reach, at most 1.
      num_leaves: Leaves of the index.
      num_rows: Candidates of the index.

    Returns:
      The leaves to search, how many candidates to score exactly, and the mean recall
      of the sample with those.

    Raises:
      ValueError: if even all leaves and all candidates miss the target.
    """
    measured = {}

    def reached(leaves: int, reordering: int) -> bool:
        if (leaves, reordering) not in measured:
            found = search(sample.queries, sample.k, leaves, reordering)
            measured[leaves, reordering] = sample.recalls(found)
        return lower_bound(measured[leaves, reordering]) >= target

    reordering = min(max(200, 5 * sample.k), num_rows)
    while not reached(num_leaves, reordering):
        if reordering == num_rows:
            best = np.mean(measured[num_leaves, reordering])
            raise ValueError(
                f"`recall_target` {target} is out of reach: with all leaves and all "
                f"candidates recall@{sample.k} is {best:.4f} on the sample. Rounded "
                'candidates cannot do better: use storage="float32", or aim lower.'
            )
        reordering = min(4 * reordering, num_rows)
    leaves = _least(1, num_leaves, lambda n: reached(n, reordering))
    reordering = _least(sample.k, reordering, lambda n: reached(leaves, n))
    return leaves, reordering, float(np.mean(measured[leaves, reordering]))


def _least(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least int for which `holds`, if that is monotone; it holds for `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
