"""Each query's known positives, in rows of their own lengths."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._id_lists import as_array, flattened
from tfrs_negatives.index.mining.mining_sources import MiningSource
from tfrs_negatives.types import ListsLike


class QueryPositives:
    """The positions of each row's known positives.

    Args:
      positives: None, or lists of ids as `_id_lists.flattened` takes them.
      source: A mining source, which says what position an id has.

    Raises:
      ValueError: for another rank, ids of another type than the source's, and ids
        that a complete source does not hold.
    """

    def __init__(self, positives: ListsLike | None, source: MiningSource) -> None:
        self.num_rows = None
        if positives is None:
            return
        values, lengths = flattened("positives", positives)
        values = as_array("positives", values)
        self.num_rows = len(lengths)
        positions = source.positions(values)
        if source.complete and (positions < 0).any():
            absent = np.unique(values[positions < 0].astype(str))
            examples = ", ".join(map(repr, absent[:5].tolist()))
            raise ValueError(
                f"`positives` holds {len(absent)} distinct ids that the index does "
                f"not have, such as {examples}. Index these items, or take them out "
                "of `positives`: rows of different lengths are a tf.RaggedTensor."
            )
        self._positions = positions
        self._starts = np.concatenate([[0], np.cumsum(lengths)])

    def counts(self, start: int, stop: int) -> np.ndarray:
        """How many positives each of these rows has."""
        if self.num_rows is None:
            return np.zeros(stop - start, np.int64)
        return np.diff(self._starts[start : stop + 1])

    def among(self, positions: np.ndarray, start: int) -> np.ndarray:
        """Which of the positions `[b, k]`, of the rows from `start`, are positives."""
        if self.num_rows is None:
            return np.zeros(positions.shape, bool)
        starts = self._starts[start : start + len(positions) + 1]
        own = self._positions[starts[0] : starts[-1]]
        rows = np.repeat(np.arange(len(positions)), np.diff(starts))
        # Positions are row numbers, or count distinct ids: the products fit.
        size = 1 + max(own.max(initial=0), positions.max(initial=0))
        found = positions + size * np.arange(len(positions))[:, None]
        return np.isin(found, (own + size * rows)[own >= 0]) & (positions >= 0)


def with_own(own: np.ndarray, positives: ListsLike) -> tf.RaggedTensor:
    """Positives of items: what is known of each, and the item itself.

    Args:
      own: `[Q]` ids, an array.
      positives: As for `QueryPositives`, but not None.

    Returns:
      A `tf.RaggedTensor`.

    Raises:
      ValueError: Another number of rows, ids of another type.
    """
    values, lengths = flattened("positives", positives)
    own, values = as_array("candidates", own), as_array("positives", values)
    if len(lengths) != len(own):
        raise ValueError(
            f"`positives` must have one row per query ({len(own)}), received "
            f"{len(lengths)}."
        )
    if len(values) and (values.dtype == object) != (own.dtype == object):
        kinds = ["strings" if a.dtype == object else "integers" for a in (own, values)]
        raise ValueError(
            f"`positives` must hold {kinds[0]}, as the candidates' ids are, received "
            f"{kinds[1]}."
        )
    rows = np.concatenate(
        [np.arange(len(own)), np.repeat(np.arange(len(own)), lengths)]
    )
    every = np.concatenate([own, values if len(values) else values.astype(own.dtype)])
    order = np.argsort(rows, kind="stable")
    return tf.RaggedTensor.from_row_lengths(every[order], lengths + 1)
