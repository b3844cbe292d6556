"""From a replica's candidates to the columns that its rows are scored against."""

import tensorflow as tf

from tfrs_negatives import distribute


class Columns:
    """Lays out the columns: this replica's positives first, then all others.

    Without global negatives these are the replica's candidates as they came. With them
    they are those of all replicas: its own positives, so that row i's positive is
    column i, the other replicas' positives, and then everyone's extra negatives.

    Args:
      num_rows: B, scalar int32, this replica's rows.
      num_candidates: C, scalar int32, this replica's candidates.
      global_negatives: Whether other replicas' candidates are columns.
      compress: Whether their embeddings travel as bfloat16.

    Attributes:
      num_positives: Scalar int32, how many leading columns are positives of rows.
      num_columns: Scalar int32.
    """

    def __init__(self, num_rows, num_candidates, global_negatives, compress=False):
        self._num_rows, self._compress = num_rows, compress
        self._order = None
        self.num_positives, self.num_columns = num_rows, num_candidates
        if not global_negatives:
            return
        distribute.check_in_step()
        if distribute.num_replicas() == 1:
            return
        counts = distribute.gather(tf.stack([num_rows, num_candidates])[tf.newaxis])
        rows, candidates = tf.unstack(counts, axis=1)
        place = distribute.place()
        self._begin = tf.reduce_sum(rows[:place])
        # Everyone's candidates as they arrive, one replica after the other.
        arrived = tf.range(tf.reduce_sum(candidates))
        ends = tf.cumsum(candidates)
        owner = tf.searchsorted(ends, arrived, side="right")
        is_positive = arrived < tf.gather(ends - candidates + rows, owner)
        is_own = is_positive & tf.equal(owner, place)
        group = 2 - tf.cast(is_positive, tf.int32) - tf.cast(is_own, tf.int32)
        self._order = tf.argsort(group, stable=True)
        self.num_positives, self.num_columns = tf.reduce_sum(rows), tf.size(arrived)

    @property
    def are_global(self):
        """Whether other replicas' candidates are among them."""
        return self._order is not None

    def of(self, values):
        """[num_columns, ...] from values of this replica's candidates [C, ...]."""
        if not self.are_global:
            return values
        return _permute(self.everyones(values), self._order)

    def everyones(self, values):
        """What all replicas have, one replica after the other."""
        return distribute.gather(values, self._compress)

    def of_positives(self, values):
        """[num_positives, ...] from values of this replica's rows [B, ...]."""
        if not self.are_global:
            return values
        everyone = distribute.gather(values)
        # Its own go to the front, the others keep their order.
        order = tf.concat(
            [
                tf.range(self._begin, self._begin + tf.shape(values)[0]),
                tf.range(self._begin),
                tf.range(self._begin + tf.shape(values)[0], self.num_positives),
            ],
            axis=0,
        )
        return tf.gather(everyone, order)

    def in_replica_order(self, values):
        """All replicas' rows, the same on each, from [num_positives, ...]."""
        if not self.are_global:
            return distribute.gather(values)
        own, behind = self._num_rows, self._num_rows + self._begin
        parts = [values[own:behind], values[:own], values[behind:]]
        return tf.concat(parts, axis=0)


@tf.custom_gradient
def _permute(values, order):
    """values[order], whose gradient is a gather too."""

    def gradient(upstream):
        return tf.gather(upstream, tf.math.invert_permutation(order)), None

    return tf.gather(values, order), gradient
