"""Binary cross-entropy over explicit and sampled negatives."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.losses import row_losses
from tfrs_negatives.losses.block_scores import BlockScores
from tfrs_negatives.losses.sampled_loss import SampledLoss
from tfrs_negatives.types import TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class SampledSigmoid(SampledLoss):
    """Binary cross-entropy of each row's own pair and of its negatives.

    With the scores s(i, k) of `SampledSoftmax`, masked and mined alike, row i with
    n negatives pays

        loss_i = CE(label_i, s(i, i)) + w / n  sum_k CE(0, s(i, k)),

    CE(y, s) = log(1 + e^s) - y s. Unlike the softmax it takes rows whose own pair is a
    negative (a dislike, a skip: `labels`), and a row without sampled negatives still
    pays for its own pair.

    Without log q and with all weights 1 this is skip-gram with negative sampling
    (Mikolov et al., NeurIPS 2013), whose scores tend to log p(y|x) / q(y) less
    log n. With `candidate_log_q` it is noise contrastive estimation (Gutmann &
    Hyvarinen, JMLR 2012, eq. 4-6): scores hold - log(w q), and what is learned is
    log p(y|x) itself. Explicit negatives (`negative_embeddings`, rows labelled 0)
    were not drawn from any q and weigh like the others; NCE is exact without them.

    Args:
      temperature, num_hard_negatives, reduction, row_block: As in
        `SampledSoftmax`.
      positive: "all": log q corrects the own pair like every column, as NCE does.
        "negatives": it does not.
      negative_weight: w > 0, what the negatives of a row weigh together: a number, or
        a scalar variable that a curriculum changes, to which no gradient flows. None:
        n, their number, which makes it the sum over them; then a positive is one among
        thousands.

    Raises:
      ValueError: Options out of range.

    Reference:
      * Mikolov et al., "Distributed representations of words and phrases and
        their compositionality", NeurIPS 2013.
      * Gutmann and Hyvarinen, "Noise-contrastive estimation of unnormalized
        statistical models", JMLR 2012.

    Example:
      >>> loss = tn.losses.SampledSigmoid(negative_weight=1.0)
      >>> queries = tf.constant([[1.0, 0.0], [0.0, 1.0]])
      >>> items = tf.constant([[1.0, 0.0], [0.0, 1.0]])
      >>> labels = [1.0, 0.0]  # The second row is a dislike.
      >>> round(float(loss(queries, items, labels=labels)), 3)
      3.013
    """

    def _row_losses(
        self,
        scored: BlockScores,
        log_q: tf.Tensor | None,
        labels: tf.Tensor | None,
        negative_weight: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        losses, d_logits = row_losses.binary_cross_entropy(
            scored.logits,
            scored.positives,
            labels,
            negative_weight,
            own_shifts=None if log_q is None else self.positive == "all",
        )
        return losses, d_logits, None

    def checked_labels(
        self, labels: TensorLike | None, num_rows: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor | None:
        if labels is None:
            return None
        labels = tf.cast(_checks.dense("labels", labels), dtype)
        hint = "Pass one label for each row, [B]."
        _checks.check_rank("labels", labels, (1,), hint)
        labels = _checks.check_size("labels", labels, 0, num_rows, hint)
        message = "`labels` must be in [0, 1]: 1 for a positive. Received:"
        inside = tf.reduce_all((labels >= 0) & (labels <= 1))
        return _checks.guard(labels, tf.debugging.Assert(inside, [message, labels]))
