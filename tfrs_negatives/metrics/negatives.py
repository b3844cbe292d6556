"""What the rows of a batch were trained against, for metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf

#: Where negatives come from: positives of other rows (of all replicas, with global
#: negatives), further candidates of the batch, the memory, and negatives that a row
#: has of its own.
SOURCES = ("in_batch", "extra", "memory", "per_row")


@dataclasses.dataclass(frozen=True, eq=False)
class Negatives:
    """The negatives of r rows of a batch, of W columns.

    `tasks.Retrieval` hands it to each of its `negative_metrics`. The columns are those
    that all rows share (the batch's candidates, other replicas', the memory's) and
    behind them the M negatives that each row has of its own. A row's own positive is
    in none of the matrices.

    Attributes:
      offered: [r, W] bool, all pairs but the row's own positive and what
        `negative_mask` says is none.
      allowed: [r, W] bool, those that masks leave.
      kept: [r, W] bool, those of them that the mining of hard negatives leaves: what
        the loss sees.
      mass: [r, W] float, absolute derivative of the row's loss in the pair's score,
        0 where it is not kept. For a softmax this is the pair's probability.
      sources: [W] int32, the column's place in `SOURCES`.
      weights: [r] float, the rows' `sample_weight`, or 1.
      positives: [r, W] bool, offered pairs whose item is a positive of the row: in its
        list of positives, or its own positive's item again. None where no metric needs
        it.
      column_ids: [W - M] int64, items of the shared columns, strings as hashes. None
        where no metric needs ids.
      column_id_mask: [W - M] bool, which of the shared columns have an id (entries of a
        memory may lack one); None: all.
      row_ids: [r, M] int64, items of the rows' own negatives. None where no metric
        needs ids, or rows have none.
      keys: Dict from names to the `query_keys` of the whole batch (the replica's), as
        pairs `(values, mask)`: [B] int64, and [B] bool or None where all rows have a
        key. A single key has the name None.

    Example:
      ```python
      class Dropped(tn.metrics.NegativeMetric):
          # The share of the offered pairs that is not kept.
          def parts(self, negatives):
              lost = negatives.offered & ~negatives.kept
              return negatives.total(lost), negatives.total(negatives.offered)


      metric = Dropped("dropped")
      task = tn.tasks.Retrieval(negative_metrics=[metric])
      task(tf.ones([3, 2]), tf.ones([3, 2]), query_keys=tf.constant([7, 7, 8]))
      assert abs(metric.result() - 1 / 3) < 1e-6  # Two of six pairs.
      ```
    """

    offered: tf.Tensor
    allowed: tf.Tensor
    kept: tf.Tensor
    mass: tf.Tensor
    sources: tf.Tensor
    weights: tf.Tensor
    positives: tf.Tensor | None = None
    column_ids: tf.Tensor | None = None
    column_id_mask: tf.Tensor | None = None
    row_ids: tf.Tensor | None = None
    keys: Mapping[str | None, tuple[tf.Tensor, tf.Tensor | None]] = dataclasses.field(
        default_factory=dict
    )

    def total(self, pairs: tf.Tensor, source: str | None = None) -> tf.Tensor:
        """The sum over rows, times their weights, and columns.

        Args:
          pairs: [r, W], bool or float.
          source: One of `SOURCES`, whose columns alone count; None: all.

        Returns:
          Scalar float64.
        """
        pairs = self._of(pairs, source)
        if pairs.dtype == tf.bool:
            pairs = tf.cast(pairs, tf.int32)
        sums = tf.cast(tf.reduce_sum(pairs, axis=1), tf.float64)
        return tf.reduce_sum(tf.cast(self.weights, tf.float64) * sums)

    def rows_without(self, pairs: tf.Tensor, source: str | None = None) -> tf.Tensor:
        """The weight of rows that have none of `pairs` [r, W] bool; scalar float64."""
        without = ~tf.reduce_any(self._of(pairs, source), axis=1)
        return self.total_of_rows(tf.cast(without, tf.float64))

    def total_of_rows(self, values: float | tf.Tensor = 1.0) -> tf.Tensor:
        """The sum of `values` [r] times weights; of weights alone by default."""
        return tf.reduce_sum(tf.cast(self.weights, tf.float64) * values)

    def where_item(self, function: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """[r, W] from a function of ids, [n] int64 to [n] bool."""
        shape = tf.shape(self.kept)
        holds = function(self.column_ids)
        if self.column_id_mask is not None:
            holds &= self.column_id_mask
        if self.row_ids is None:
            return tf.broadcast_to(holds, shape)
        shared = tf.broadcast_to(holds, tf.stack([shape[0], tf.size(holds)]))
        own = tf.reshape(
            function(tf.reshape(self.row_ids, [-1])), tf.shape(self.row_ids)
        )
        return tf.concat([shared, own], axis=1)

    def _of(self, pairs: tf.Tensor, source: str | None) -> tf.Tensor:
        if source is None:
            return pairs
        return only(pairs, tf.equal(self.sources, SOURCES.index(source)))


def only(pairs: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    """`pairs`, bool or float, where `which` holds; False or 0 elsewhere."""
    # A product costs less than a choice of one of two.
    return (
        pairs & which if pairs.dtype == tf.bool else pairs * tf.cast(which, pairs.dtype)
    )
