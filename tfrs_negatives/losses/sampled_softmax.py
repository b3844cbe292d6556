"""Softmax cross-entropy over sampled negatives, masked and log-Q corrected."""

from __future__ import annotations

import functools
import numbers

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.losses import reductions, repeat_blocks, row_losses
from tfrs_negatives.losses.block_scores import BlockScores
from tfrs_negatives.losses.block_sizes import rows_of_block
from tfrs_negatives.losses.false_negative_filter import FalseNegativeFilter
from tfrs_negatives.losses.repeat_groups import Layout
from tfrs_negatives.losses.sampled_loss import SampledLoss
from tfrs_negatives.losses.scoring import Scoring
from tfrs_negatives.types import Config, ScalarLike


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

    A row may have further targets, columns t of weights w(i, t), and then pays
    the cross-entropy against a distribution over columns: with the share S of its
    weight that targets get together, and p(i, t) = w(i, t) / sum_t w(i, t),

        loss_i = log sum_k exp s(i, k)  -  (1 - S) s(i, positive of i)
                 -  S sum_t p(i, t) s(i, t),

    the mean of the losses of each target with these shares. The sum is over the
    row's positive, its negatives and its targets, each column once; no mask
    drops a target, and none is among the hard negatives. With `positive="outside"`
    it is over the negatives alone. log q corrects targets where it corrects the
    positive. A row that names its own positive alone keeps
    its weight. (Hinton et al., "Distilling the knowledge in a neural network",
    2015, with a teacher's probabilities as weights; Khosla et al., "Supervised
    contrastive learning", 2020, with other positives of the row.)

    Scores are formed one row block at a time, and so are their gradients: the
    loss is a scalar, so each block's gradients are known as soon as its
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
        "outside": taken out of the sum and uncorrected: the row pays
        rho log sum_{negatives k} exp s(i, k) - s(i, positive of i), rho being
        `negative_weight` (decoupled contrastive learning, Yeh et al., ECCV 2022; BSL,
        Wu et al., ICDE 2024, whose mean in place of the sum differs by a constant).
        The gradient in the positive's score is -1 however easy the row is, where
        the others have p - 1, p being its probability. Can be negative.
      num_hard_negatives: Keep only this many highest-scoring negatives a row; an
        int, or an int32 variable that a curriculum changes. None, non-positive or
        at least the number of columns: keep all.
      reduction: "sum", "sum_over_batch_size" (divides by B),
        "mean_with_sample_weight" (divides by the sum of weights) or "none"
        (returns [B]).
      row_block: Rows to score at once; None chooses from the shapes.
      negative_weight: rho > 0, what the sum over negatives weighs against the positive
        with `positive="outside"`; with others None. A number, or a scalar variable
        (`trainable=False`) that a curriculum changes: no gradient flows to it. None
        means 1; Wu et al. take 1.1 to 1.22 on two public tables.
      false_negative_filter: A `FalseNegativeFilter` that drops the negatives which a
        guide, or the towers themselves, score above the positive; None drops none.
      target_share: S in [0, 1], or a scalar variable of it, which is not trained
        (a schedule may change it); None means 0.5. With 1 the weights are the
        whole distribution: a row names its own positive among its targets.

    Raises:
      ValueError: Options out of range, or a `negative_weight` without
        `positive="outside"`.

    Reference:
      * Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
        recommendations", RecSys 2019.
      * Yang et al., "Mixed negative sampling for learning two-tower neural
        networks in recommendations", WWW 2020.
      * Bengio and Senecal, "Quick training of probabilistic neural nets by
        importance sampling", AISTATS 2003.
      * Khrylchenko et al., "Correcting the LogQ correction: revisiting sampled
        softmax for large-scale retrieval", RecSys 2025.
      * Yeh et al., "Decoupled contrastive learning", ECCV 2022.
      * Wu et al., "BSL: understanding and improving softmax loss for
        recommendation", ICDE 2024.

    Example:
      >>> loss = tn.losses.SampledSoftmax(temperature=0.5)
      >>> queries = tf.constant([[1.0, 0.0], [0.0, 1.0]])
      >>> items = tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # One is extra.
      >>> round(float(loss(queries, items)), 3)
      1.517
      >>> log_q = tf.math.log([0.5, 0.25, 0.25])
      >>> round(float(loss(queries, items, candidate_log_q=log_q)), 3)
      1.911
    """

    POSITIVES = ("all", "negatives", "refined", "outside")

    def __init__(
        self,
        temperature: ScalarLike | None = None,
        positive: str = "all",
        num_hard_negatives: int | tf.Variable | None = None,
        reduction: str = "sum",
        row_block: int | None = None,
        negative_weight: ScalarLike | None = None,
        false_negative_filter: FalseNegativeFilter | None = None,
        target_share: ScalarLike | None = None,
    ) -> None:
        super().__init__(
            temperature,
            positive,
            num_hard_negatives,
            reduction,
            row_block,
            negative_weight,
            false_negative_filter,
        )
        if negative_weight is not None and positive != "outside":
            raise ValueError(
                "`negative_weight` weighs the sum over negatives against the positive: "
                'expected `positive="outside"`, or `negative_weight=None`. Received '
                f'positive="{positive}", where both are in one fraction.'
            )
        _checks.check_scalar("target_share", target_share)
        if isinstance(target_share, numbers.Real) and not (
            0 <= float(target_share) <= 1
        ):
            raise ValueError(
                f"`target_share` must be from 0 to 1, received {target_share}: what a "
                "row's targets get together, the rest being its own positive's."
            )
        self.target_share = target_share

    def get_config(self) -> Config:
        share = self.target_share
        share = None if share is None else float(share)
        return {**super().get_config(), "target_share": share}

    def checked_target_share(self, dtype: tf.DType) -> tf.Tensor:
        if self.positive == "refined":
            raise ValueError(
                '`positive="refined"` weighs a row by the probability of one positive: '
                "expected no targets beside it. Choose another `positive`, or leave "
                "the targets out."
            )
        share = 0.5 if self.target_share is None else self.target_share
        # A Python float, checked already, would pass through float32 in `tf.cast`.
        if isinstance(share, (int, float)):
            return tf.constant(share, dtype)
        share = tf.stop_gradient(tf.cast(share, dtype))
        message = "`target_share` must stay from 0 to 1."
        return _checks.guard(
            share,
            tf.debugging.assert_non_negative(share, message=message),
            tf.debugging.assert_less_equal(share, tf.ones([], dtype), message=message),
        )

    def check_corrected(self, is_corrected: bool) -> None:
        if self.positive == "refined" and not is_corrected:
            raise ValueError(
                '`positive="refined"` corrects by log q: expected `candidate_log_q` of '
                "shape [C], received None. Pass it, or give the task a "
                "`sampling_correction`."
            )

    def checked_log_q(
        self, log_q: tf.Tensor | None, num_rows: tf.Tensor
    ) -> tf.Tensor | None:
        log_q = super().checked_log_q(log_q, num_rows)
        if self.positive != "refined" or log_q is None:
            return log_q
        message = '`positive="refined"` divides by 1 - q(positive): expected q < 1.'
        return _checks.guard(
            log_q, tf.debugging.assert_negative(log_q[:num_rows], message=message)
        )

    def can_repeat(self, queries: tf.Tensor) -> bool:
        # Mining counts columns one by one, and a filter depends on each row's positive.
        needs_rows = self._mines() or self.false_negative_filter is not None
        return not (needs_rows or queries.shape.rank == 3)

    def of_repeats(self, scoring: Scoring, layout: Layout) -> tf.Tensor:
        """The same loss of rows and columns that repeat, at the cost of what differs.

        Time and memory follow groups x distinct columns instead of B x C, beside what
        it takes to sort B rows and C columns and to list the pairs of groups and
        columns that rules drop. Only where `can_repeat`; XLA cannot compile it, as it
        finds out what repeats.

        Args and return value: as of the base class.
        """
        # As rows of listed pairs are as wide as all columns.
        num_columns = tf.size(layout.columns.of)
        rows_at_once = tf.minimum(
            rows_of_block(layout.columns.size, layout.columns.size, self.row_block),
            tf.int32.max // tf.maximum(num_columns, 1),
        )
        run = functools.partial(
            repeat_blocks.run,
            layout,
            scoring.log_q,
            self.positive == "all",
            functools.partial(self._loss_of_sums, scoring.negative_weight),
            tf.maximum(-(-layout.rows.size // rows_at_once), 1),
        )
        weights = reductions.row_weights(
            scoring.sample_weight, tf.size(layout.own), scoring.dtype
        )
        scored = (scoring.queries, scoring.candidates, scoring.temperature)
        return self._reduced(run, scored, weights)

    def _loss_of_sums(
        self,
        negative_weight: tf.Tensor | None,
        log_sums: tf.Tensor,
        own: tf.Tensor,
        num_negatives: tf.Tensor,
        own_log_q: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if self.positive == "refined":
            return row_losses.refined_of_sums(log_sums, own, num_negatives, own_log_q)
        if self.positive == "outside":
            return row_losses.outside_of_sums(log_sums, own, negative_weight)
        return row_losses.cross_entropy_of_sums(log_sums, own)

    def _row_losses(
        self,
        scored: BlockScores,
        log_q: tf.Tensor | None,
        labels: tf.Tensor | None,
        negative_weight: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        if self.positive == "refined":
            return row_losses.refined(scored.logits, scored.positives, log_q)
        if self.positive == "outside":
            return row_losses.outside(scored.logits, scored.positives, negative_weight)
        losses, d_logits = row_losses.cross_entropy(scored.logits, scored.positives)
        return losses, d_logits, None
