"""What losses over sampled negatives share: scores, masks, blocks, gradients."""

from __future__ import annotations

import abc
import functools
import math
import numbers
from collections.abc import Sequence

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.losses import (
    block_scores,
    fused_blocks,
    fused_scores,
    hard_negatives,
    inputs,
    reductions,
    row_blocks,
    soft_targets,
)
from tfrs_negatives.losses.block_scores import BlockScores
from tfrs_negatives.losses.block_sizes import partition_of
from tfrs_negatives.losses.dropped_pairs import row_order
from tfrs_negatives.losses.false_negative_filter import (
    FalseNegativeFilter,
    check_filter,
    guide_of,
)
from tfrs_negatives.losses.in_place import never_constant, set_each
from tfrs_negatives.losses.repeat_groups import Layout
from tfrs_negatives.losses.rules import Rule
from tfrs_negatives.losses.scoring import Scoring
from tfrs_negatives.types import Config, ScalarLike, TensorLike


class SampledLoss(abc.ABC):
    """Base of losses of each row's positive and its sampled negatives.

    Row i scores every candidate column k,

        s(i, k) = <query_i, candidate_k> / temperature  -  log q(k),

    drops the pairs that a rule forbids and keeps the hardest negatives if asked to;
    a subclass says what the row then costs. The weighted costs are summed.

    A dropped pair has gradient exactly 0, as if its column were deleted for that
    row.

    Scores are formed one row block at a time, and so are their gradients: the
    loss is a scalar, so each block's gradients are known as soon as its
    scores are. Memory is O((B + C) d + block x C), forward and backward.
    With `reduction="none"` the backward pass forms the blocks again. Gradients
    of gradients are not available and raise `LookupError`.

    Args:
      temperature, num_hard_negatives, reduction, row_block: As in
        `SampledSoftmax`.
      positive: One of the class's `POSITIVES`: whether log q corrects the row's own
        positive too ("all").
      false_negative_filter: A `FalseNegativeFilter`, or None: as in `SampledSoftmax`.
      negative_weight: What negatives weigh, to classes that can weigh them: positive
        and finite, a number or a scalar variable.
    """

    POSITIVES: tuple[str, ...] = ("all", "negatives")

    #: What a row's further targets get of its weight, in losses that have any.
    target_share: ScalarLike | None = None

    def __init__(
        self,
        temperature: ScalarLike | None = None,
        positive: str = "all",
        num_hard_negatives: int | tf.Variable | None = None,
        reduction: str = "sum",
        row_block: int | None = None,
        negative_weight: ScalarLike | None = None,
        false_negative_filter: FalseNegativeFilter | None = None,
    ) -> None:
        _checks.check_choice("positive", positive, self.POSITIVES)
        _checks.check_choice("reduction", reduction, reductions.REDUCTIONS)
        _checks.check_scalar("temperature", temperature)
        integers = tf.int32, tf.int64
        _checks.check_scalar("num_hard_negatives", num_hard_negatives, integers)
        _checks.check_scalar("negative_weight", negative_weight)
        if isinstance(temperature, numbers.Real) and not float(temperature) > 0:
            raise ValueError(
                f"`temperature` must be positive, received {temperature}. "
                "Small values (0.05-0.2) sharpen the softmax of normalised "
                "embeddings; 1 or None leaves scores as they are."
            )
        if isinstance(negative_weight, numbers.Real) and not (
            0 < float(negative_weight) < math.inf
        ):
            raise ValueError(
                "`negative_weight` must be positive and finite, received "
                f"{negative_weight}. 1 weighs a row's negatives like its positive."
            )
        if row_block is not None:
            _checks.check_at_least("row_block", row_block, 1)
        self.temperature = temperature
        self.positive = positive
        self.num_hard_negatives = num_hard_negatives
        self.reduction = reduction
        self.row_block = row_block
        self.negative_weight = negative_weight
        self.false_negative_filter = check_filter(false_negative_filter)

    def __repr__(self) -> str:
        options = self.get_config()
        for name in (
            "temperature",
            "num_hard_negatives",
            "negative_weight",
            "false_negative_filter",
            "target_share",
        ):
            if name in options:  # Variables as such, in a graph too.
                options[name] = getattr(self, name)
        return described(self, **options)

    def get_config(self) -> Config:
        temperature, k = self.temperature, self.num_hard_negatives
        weight, chosen = self.negative_weight, self.false_negative_filter
        if chosen is not None:
            chosen = keras.utils.serialize_keras_object(chosen)
        return {
            "temperature": None if temperature is None else float(temperature),
            "positive": self.positive,
            "num_hard_negatives": None if k is None else int(k),
            "reduction": self.reduction,
            "row_block": self.row_block,
            "negative_weight": None if weight is None else float(weight),
            "false_negative_filter": chosen,
        }

    @classmethod
    def from_config(cls, config: Config) -> SampledLoss:
        return cls(**config)

    def __call__(
        self,
        query_embeddings: TensorLike,
        candidate_embeddings: TensorLike,
        *,
        negative_embeddings: TensorLike | None = None,
        candidate_log_q: TensorLike | None = None,
        negative_log_q: TensorLike | None = None,
        rules: Sequence[Rule] = (),
        score_mask: TensorLike | None = None,
        negative_mask: TensorLike | None = None,
        labels: TensorLike | None = None,
        sample_weight: TensorLike | None = None,
        guide_query_embeddings: TensorLike | None = None,
        guide_candidate_embeddings: TensorLike | None = None,
        target_columns: TensorLike | None = None,
        target_weights: TensorLike | None = None,
    ) -> tf.Tensor:
        """Computes the loss.

        Args:
          query_embeddings: [B, d], or [B, H, d] for H heads a query, which
            score a candidate by their maximum. Any float dtype; half precision
            is computed in float32.
          candidate_embeddings: [C, d], C >= B. Row i's positive is column i;
            columns from B on are negatives of every row.
          negative_embeddings: [B, M, d], negatives of one row each, beside the
            columns that all rows share; None for none.
          candidate_log_q: [C], log q of each column; None means no correction.
            A constant of the sampling design: no gradient flows to it.
          negative_log_q: [B, M], the same for `negative_embeddings`.
          rules: `rules.Rule`s; a pair that any of them lists is dropped.
          score_mask: [B, C] bool, False drops the pair.
          negative_mask: [B, M] bool, False drops the negative, such as padding.
          labels: [B] in [0, 1], whether the row's own candidate is a positive, for
            losses that can tell (`SampledSigmoid`); None: it is.
          sample_weight: [B], weights of the rows; None means 1.
          guide_query_embeddings: [B, d'], another model's, by which the
            `false_negative_filter` judges columns, and leaves `negative_embeddings`.
            None: it judges all by the scores themselves.
          guide_candidate_embeddings: [C, d'], of that model too.
          target_columns: [B, M'] integers, for losses that can share a row's weight
            (`SampledSoftmax`): columns that are targets beside the row's own
            positive. Numbers from C on are the row's own `negative_embeddings`.
          target_weights: [B, M'], at least 0, of any scale: how a row's targets share
            what they get; 0 where a place holds none. None means 1.

        Returns:
          Scalar, or [B] with `reduction="none"`; float32, or float64 for
          float64 embeddings.

        Raises:
          ValueError: Shapes or dtypes that do not fit, as far as they are
            static.
          tf.errors.InvalidArgumentError: The same where only values tell; log
            q not finite or positive; `score_mask` hiding a row's positive.
        """
        queries, candidates = inputs.check_scored(
            query_embeddings, candidate_embeddings
        )
        num_rows, num_columns = _checks.size(queries), _checks.size(candidates)
        dtype = inputs.computed_in(queries, candidates)
        negatives, negative_log_q, negative_mask = inputs.check_negatives(
            negative_embeddings, negative_log_q, negative_mask, queries
        )
        log_q = None
        if candidate_log_q is not None:
            log_q = inputs.check_log_q(candidate_log_q, num_columns, dtype)
        self.check_corrected(log_q is not None)
        if negatives is not None:
            inputs.check_both_corrected(log_q, negative_log_q)
        temperature = self.checked_temperature(dtype)
        targets = None
        if target_columns is not None or target_weights is not None:
            targets = self._checked_targets(
                target_columns, target_weights, num_rows, candidates, negatives, dtype
            )
        scoring = Scoring.of(
            queries,
            candidates,
            temperature,
            negative_weight=self.checked_negative_weight(dtype),
            negatives=negatives,
            log_q=self.checked_log_q(log_q, num_rows),
            negative_log_q=negative_log_q,
            rules=rules,
            score_mask=inputs.check_score_mask(score_mask, num_rows, num_columns),
            negative_mask=negative_mask,
            labels=self.checked_labels(labels, num_rows, dtype),
            targets=targets,
            sample_weight=reductions.check_row_weights(sample_weight, num_rows),
            guide=guide_of(
                self.false_negative_filter,
                guide_query_embeddings,
                guide_candidate_embeddings,
                num_rows,
                num_columns,
                temperature,
            ),
        )
        return self.of(scoring)

    def of(self, scoring: Scoring) -> tf.Tensor:
        """The loss of what was checked before; returns as `__call__`."""
        queries, candidates, *negatives = scoring.embeddings
        partition = partition_of(queries, candidates, scoring.negatives, self.row_block)
        scored = (queries, candidates, scoring.temperature, *negatives)
        run: row_blocks.Run
        if compiled_by_xla():
            fused = functools.partial(self._fused_block, scoring)
            run = functools.partial(
                fused_blocks.run, fused, partition, scoring.product_dtype
            )
        else:
            if scoring.targets is None:  # They are read where no pair is dropped yet.
                order = row_order(scoring.rules, partition.num_blocks)
                partition = partition._replace(order=order)
            block = functools.partial(self._block, scoring)
            # Where each row's loss is returned, the weights are what comes back to it.
            unweighted = scoring.sample_weight is None and self.reduction != "none"
            run = functools.partial(
                row_blocks.run, block, partition, unweighted=unweighted
            )
        return self._reduced(run, scored, scoring.weights)

    def of_repeats(self, scoring: Scoring, layout: Layout) -> tf.Tensor:
        """The same loss of rows and columns that repeat, at the cost of what differs.

        Only where `can_repeat`.

        Args:
          scoring: Queries [G, d], one for each group of rows, candidates and log q [V],
            one for each distinct column, and `sample_weight` [B].
          layout: Which rows and columns these are, and the rules.

        Returns:
          As `__call__`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` has no form for repeats.")

    def can_repeat(self, queries: tf.Tensor) -> bool:
        """Whether `of_repeats` can take the place of `of` with these queries."""
        return False

    def logits(self, scoring: Scoring) -> tuple[tf.Tensor, tf.Tensor]:
        """The scores that the softmax sees, for other losses and for metrics.

        All B x (C + M) of them are held at once.

        Returns:
          `(logits, positive_columns)`: [B, width] and [B] int32, where width is
          C + M or, with hard negatives, one more than their number. Dropped pairs
          are -inf.
        """
        everything = row_blocks.AllRows(scoring.num_rows)
        queries, *others = scoring.embeddings
        embeddings = (queries / scoring.temperature, *others)
        scored = self._score(scoring, everything, embeddings, in_place=False)
        return scored.logits, scored.positives

    def negatives_of(
        self, rows: tf.Tensor, scoring: Scoring
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What the negatives of some rows are to the rows' losses, for metrics.

        Args:
          rows: [r] int32, distinct numbers of rows.
          scoring: That of all rows.

        Returns:
          `(allowed, kept, mass)`, [r, C + M] each: which pairs are negatives after
          the masks, which of them still are after the mining of hard ones, and the
          absolute derivative of the row's loss in the pair's score, 0 where it is not
          kept. The row's own positive is none, and no target is.
        """
        chosen = row_blocks.ChosenRows(rows)
        queries, candidates, *negatives = map(tf.stop_gradient, scoring.embeddings)
        embeddings = (
            chosen.of(queries) / never_constant(tf.stop_gradient(scoring.temperature)),
            candidates,
            *map(chosen.of, negatives),
        )
        scored = self._scores(scoring, chosen, embeddings, in_place=True)
        # What follows changes the scores in place: they are read before.
        allowed = tf.not_equal(scored.logits, float("-inf"))
        with tf.control_dependencies([allowed]):
            scored = self._mine(scored, in_place=True)
        kept = tf.not_equal(scored.logits, float("-inf"))
        with tf.control_dependencies([kept]):
            _, mass, factors = self._losses_of(scored, chosen, scoring)
        mass = tf.abs(mass)
        if factors is not None:
            mass = row_blocks.scale_rows(mass, factors)
        if scored.mined is not None:
            mass = hard_negatives.spread(mass, scored.mined, scored.width)
            kept = tf.cast(kept, mass.dtype)
            kept = hard_negatives.spread(kept, scored.mined, scored.width) > 0

        def without_own(matrix: tf.Tensor) -> tf.Tensor:
            none = tf.zeros_like(rows, matrix.dtype)
            matrix = set_each(matrix, rows, none, in_place=False)
            if scoring.targets is None:
                return matrix
            return soft_targets.without(matrix, scoring.targets.of(chosen))

        return without_own(allowed), without_own(kept), without_own(mass)

    def check_corrected(self, is_corrected: bool) -> None:
        """Raises `ValueError` where the class needs log q and there is none."""
        del is_corrected

    def checked_log_q(
        self, log_q: tf.Tensor | None, num_rows: tf.Tensor
    ) -> tf.Tensor | None:
        """Returns log q [C] or None, checked as the class needs that of B positives."""
        del num_rows
        return log_q

    def checked_labels(
        self, labels: TensorLike | None, num_rows: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor | None:
        """Returns labels [B] of a dtype, or None, checked as the class needs them."""
        del num_rows, dtype
        if labels is not None:
            raise ValueError(
                f"`{type(self).__name__}` has no labels, every row's own candidate is "
                "a positive: expected `labels=None`. Leave rows without a positive "
                "out, or use `SampledSigmoid`."
            )
        return None

    def checked_target_share(self, dtype: tf.DType) -> tf.Tensor:
        """What targets get of a row's weight, a scalar computed only if in [0, 1].

        Raises:
          ValueError: The loss has no targets.
        """
        del dtype
        raise ValueError(
            f"`{type(self).__name__}` pays for each row's own candidate alone: "
            "expected no targets. Leave `target_ids` or `target_columns`, and what "
            "tells about them, out, or use `SampledSoftmax`."
        )

    def _checked_targets(
        self,
        columns: TensorLike | None,
        weights: TensorLike | None,
        num_rows: tf.Tensor,
        candidates: tf.Tensor,
        negatives: tf.Tensor | None,
        dtype: tf.DType,
    ) -> soft_targets.Targets:
        """Targets given as columns of candidates and of the rows' own negatives."""
        share = self.checked_target_share(dtype)
        if columns is None:
            raise ValueError(
                "`target_weights` weigh targets: expected `target_columns` of the same "
                "shape, received None."
            )
        num_columns = _checks.size(candidates)
        if negatives is not None:
            num_columns += _checks.size(negatives, 1)
        return soft_targets.check_columns(
            columns, weights, share, num_rows, num_columns
        )

    def checked_temperature(self, dtype: tf.DType) -> tf.Tensor:
        """The temperature, a scalar of a dtype, computed only if it is positive."""
        value = self.temperature
        if value is None:
            return tf.ones([], dtype)
        # A Python float, checked already, would pass through float32 in `tf.cast`.
        if isinstance(value, (int, float)):
            return tf.constant(value, dtype)
        value = tf.cast(value, dtype)
        message = "`temperature` must stay positive."
        return _checks.guard(
            value, tf.debugging.assert_positive(value, message=message)
        )

    def checked_negative_weight(self, dtype: tf.DType) -> tf.Tensor | None:
        """The weight: a scalar without a gradient, or None."""
        value = self.negative_weight
        if value is None:
            return None
        if isinstance(value, (int, float)):
            return tf.constant(value, dtype)
        value = tf.stop_gradient(tf.cast(value, dtype))
        message = "`negative_weight` must stay positive and finite, received"
        is_good = (value > 0) & (value < float("inf"))
        return _checks.guard(value, tf.debugging.Assert(is_good, [message, value]))

    @abc.abstractmethod
    def _row_losses(
        self,
        scored: BlockScores,
        log_q: tf.Tensor | None,
        labels: tf.Tensor | None,
        negative_weight: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """What rows cost, and the derivative in their scores.

        Args:
          scored: The rows' scores; its logits may be changed in place.
          log_q: [n], of the rows' own candidates, or None.
          labels: [n] or None.
          negative_weight: Scalar or None.

        Returns:
          `(losses, d_logits, factors)`, [n], [n, width] and [n] or None: the
          derivative is `d_logits` times the row's factor, if there are factors.
        """

    def _losses_of(
        self, scored: BlockScores, rows: row_blocks.AnyRows, scoring: Scoring
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """`_row_losses` of some rows of a batch."""
        log_q = None if scoring.log_q is None else rows.of(scoring.log_q)
        labels = None if scoring.labels is None else rows.of(scoring.labels)
        targets, in_sum = scored.targets, self.positive != "outside"
        if targets is not None and not in_sum:
            logits = soft_targets.hide(scored.logits, targets, in_place=True)
            scored = scored._replace(logits=logits)
        losses, d_logits, factors = self._row_losses(
            scored, log_q, labels, scoring.negative_weight
        )
        if targets is not None:
            losses, d_logits = soft_targets.shared_out(
                losses, d_logits, scored.positives, targets, in_sum
            )
        return losses, d_logits, factors

    def _block(
        self, scoring: Scoring, rows: row_blocks.AnyRows, *embeddings: tf.Tensor
    ) -> tuple:
        """The losses [n] of some rows, and their gradients; see `row_blocks`."""
        scored = self._score(scoring, rows, embeddings, in_place=True)
        losses, d_logits, factors = self._losses_of(scored, rows, scoring)

        def gradients(weighted_queries: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return block_scores.gradients(
                scored, d_logits, factors, weighted_queries, embeddings[1:]
            )

        return losses, gradients

    def _fused_block(
        self,
        scoring: Scoring,
        rows: row_blocks.AnyRows,
        temperature: tf.Tensor,
        *embeddings: tf.Tensor,
    ) -> tuple:
        """The same under XLA; see `fused_blocks`."""
        corrects_own = self.positive == "all"
        scored = fused_scores.scores_of(
            scoring, rows, embeddings, corrects_own, temperature
        )
        scored = self._mine(scored, in_place=True)
        losses, d_logits, factors = self._losses_of(scored, rows, scoring)

        def gradients(scale: tf.Tensor) -> tuple[tf.Tensor, ...]:
            if factors is not None:
                scale = scale * factors
            return block_scores.gradients(
                scored,
                row_blocks.scale_rows(d_logits, scale),
                None,
                embeddings[0],
                embeddings[1:],
            )

        return losses, gradients

    def _score(
        self,
        scoring: Scoring,
        rows: row_blocks.AnyRows,
        embeddings: tuple[tf.Tensor, ...],
        in_place: bool,
    ) -> BlockScores:
        """Scores some rows: corrected, masked, mined."""
        return self._mine(self._scores(scoring, rows, embeddings, in_place), in_place)

    def _scores(
        self,
        scoring: Scoring,
        rows: row_blocks.AnyRows,
        embeddings: tuple[tf.Tensor, ...],
        in_place: bool,
    ) -> BlockScores:
        """Scores some rows: corrected and masked."""
        if compiled_by_xla():
            corrects_own = self.positive == "all"
            return fused_scores.scores_of(scoring, rows, embeddings, corrects_own)
        return block_scores.scores_of(
            scoring, rows, embeddings, self.positive == "all", in_place
        )

    def _mine(self, scored: BlockScores, in_place: bool) -> BlockScores:
        """Keeps each row's hardest negatives, if asked to."""
        if not self._mines():
            return scored
        return block_scores.keep_hardest(scored, self.num_hard_negatives, in_place)

    @property
    def mines_a_variable(self) -> bool:
        """Whether the number of hard negatives may change, which XLA cannot compile."""
        k = self.num_hard_negatives
        return k is not None and not isinstance(k, int)

    def _mines(self) -> bool:
        k = self.num_hard_negatives
        return k is not None and (not isinstance(k, int) or k > 0)

    def _reduced(
        self, run: row_blocks.Run, scored: tuple[tf.Tensor, ...], weights: tf.Tensor
    ) -> tf.Tensor:
        """The reduction of the rows' losses; `run` of `scored`, as in `row_blocks`."""
        if self.reduction == "none":
            return weights * row_blocks.each_row(run, scored)
        total = row_blocks.weighted_sum(run, scored, weights)
        return reductions.normalise(total, weights, self.reduction)
