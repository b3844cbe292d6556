"""Softmax cross-entropy over sampled negatives, masked and log-Q corrected."""

import functools

import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.losses import inputs, reductions, repeat_blocks, row_losses
from tfrs_negatives.losses.sampled_loss import SampledLoss


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class SampledSoftmax(SampledLoss):
    """Softmax cross-entropy of each row's positive against sampled negatives.

    Row i scores every candidate column k,

        s(i, k) = <query_i, candidate_k> / temperature  -  log q(k),

    where q(k) is the probability that one draw of the proposal distribution
    gives k's item, drops the pairs that a rule forbids, keeps the hardest
    negatives if asked to, and pays

        loss_i = log sum_k exp s(i, k)  -  s(i, positive of i).

    Weighted by r_i and summed, this is eq. 5 of Yi et al., "Sampling-bias-
    corrected neural modeling for large corpus item recommendations" (RecSys
    2019), up to their factor 1/B.

    A dropped pair has probability 0 and gradient exactly 0, as if its column
    were deleted for that row. A row left without negatives costs 0.

    Scores are formed one row block at a time, and so are their gradients: the
    loss is a scalar, hence each block's gradients are known as soon as its
    scores are. Memory is O((B + C) d + block x C), forward and backward.
    With `reduction="none"` the backward pass forms the blocks again. Gradients
    of gradients are not available and raise `LookupError`.

    Args:
      temperature: Positive number or scalar tensor or variable (a variable is
        trained like any other); None means 1.
      positive: What log Q does to the row's own positive.
        "all": corrected like every column (Bengio & Senecal 2003; Yi et al.
        2019, eq. 7).
        "negatives": left uncorrected (Yang et al., "Mixed negative sampling",
        WWW 2020, eq. 5).
        "refined": taken out of the denominator and the row reweighted
        (Khrylchenko et al., "Correcting the LogQ correction", RecSys 2025);
        needs `candidate_log_q`; can be negative.
      num_hard_negatives: Keep only this many highest-scoring negatives a row; an
        int, or an int32 variable that a curriculum changes. None, non-positive or
        at least the number of columns: keep all.
      reduction: "sum", "sum_over_batch_size" (divides by B),
        "mean_with_sample_weight" (divides by the sum of weights) or "none"
        (returns [B]).
      row_block: Rows to score at once; None chooses from the shapes.
    """

    POSITIVES = ("all", "negatives", "refined")

    def check_before(self, dtype, is_corrected):
        if self.positive == "refined" and not is_corrected:
            inputs.check_refined(None, None)
        return super().check_before(dtype, is_corrected)

    def can_repeat(self, query_embeddings):
        # XLA cannot compile what finds repeats, and mining counts columns one by one.
        return not (
            self._mines() or query_embeddings.shape.rank == 3 or compiled_by_xla()
        )

    def of_repeats(
        self,
        query_embeddings,
        candidate_embeddings,
        layout,
        *,
        candidate_log_q=None,
        sample_weight=None,
    ):
        """The same loss of rows and columns that repeat, at the cost of what differs.

        Time and memory follow groups x distinct columns instead of B x C, beside what
        it takes to sort B rows and C columns and to list the pairs of groups and
        columns that rules drop. Only where `can_repeat`.

        Args:
          query_embeddings: [G, d], one for each group of rows.
          candidate_embeddings: [V, d], one for each distinct column.
          layout: `repeats.Layout`.
          candidate_log_q: [V] or None, as in `__call__`.
          sample_weight: [B], weights of the rows; None means 1.

        Returns:
          As `__call__`.
        """
        dtype = inputs.computed_in(query_embeddings, candidate_embeddings)
        queries = tf.cast(query_embeddings, dtype)
        candidates = tf.cast(candidate_embeddings, queries.dtype)
        log_q = candidate_log_q
        if log_q is not None:
            log_q = tf.stop_gradient(tf.cast(log_q, queries.dtype))
            log_q = inputs.check_log_q(log_q, layout.columns.size)
        if self.positive == "refined":
            own = None if log_q is None else tf.gather(log_q, layout.own)
            with tf.control_dependencies([inputs.check_refined(own, layout.own)]):
                log_q = tf.identity(log_q)
        # As rows of listed pairs are as wide as all columns.
        num_columns = tf.size(layout.columns.of)
        rows_of_block = tf.minimum(
            self._rows_of_block(layout.columns.size, layout.columns.size),
            tf.int32.max // tf.maximum(num_columns, 1),
        )
        run = functools.partial(
            repeat_blocks.run,
            layout,
            log_q,
            self.positive == "all",
            self._loss_of_sums,
            tf.maximum(-(-layout.rows.size // rows_of_block), 1),
        )
        weights = reductions.row_weights(
            sample_weight, tf.size(layout.own), queries.dtype
        )
        scored = (queries, candidates, self._checked_temperature(queries.dtype))
        return self._reduced(run, scored, weights)

    def _loss_of_sums(self, log_sums, own, num_negatives, own_log_q):
        if self.positive == "refined":
            return row_losses.refined_of_sums(log_sums, own, num_negatives, own_log_q)
        return row_losses.cross_entropy_of_sums(log_sums, own)

    def _row_losses(self, scored, log_q, labels):
        if self.positive == "refined":
            return row_losses.refined(scored.logits, scored.positives, log_q)
        losses, d_logits = row_losses.cross_entropy(scored.logits, scored.positives)
        return losses, d_logits, None

    def _checked_log_q(self, log_q, queries):
        if self.positive == "refined":
            return inputs.check_refined(log_q, queries)
        return log_q
