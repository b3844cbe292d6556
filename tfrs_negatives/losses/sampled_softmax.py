"""Softmax cross-entropy over sampled negatives, masked and log-Q corrected."""

import collections

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import inputs, mining, reductions, row_blocks, row_losses
from tfrs_negatives.losses import rules as rules_lib
from tfrs_negatives.losses.overwrite import set_each

POSITIVES = ("all", "negatives", "refined")

# A block of 4 million scores (16 MiB in float32) is large enough for the matrix
# products to run at full speed and small enough to stay out of the way.
_BLOCK_SCORES = 4 * 2**20


class SampledSoftmax:
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
      num_hard_negatives: Keep only this many highest-scoring negatives a row.
        None, non-positive or at least the number of columns: keep all.
      reduction: "sum", "sum_over_batch_size" (divides by B),
        "mean_with_sample_weight" (divides by the sum of weights) or "none"
        (returns [B]).
      row_block: Rows to score at once; None chooses from the shapes.
    """

    def __init__(
        self,
        temperature=None,
        positive="all",
        num_hard_negatives=None,
        reduction="sum",
        row_block=None,
    ):
        _checks.check_choice("positive", positive, POSITIVES)
        _checks.check_choice("reduction", reduction, reductions.REDUCTIONS)
        if isinstance(temperature, (int, float)) and not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive, received {temperature}. "
                "Small values (0.05-0.2) sharpen the softmax of normalised "
                "embeddings; 1 or None leaves scores as they are."
            )
        if row_block is not None and row_block < 1:
            raise ValueError(
                f"`row_block` must be at least 1, received {row_block}. "
                "Pass None to choose it from the shapes."
            )
        self.temperature = temperature
        self.positive = positive
        self.num_hard_negatives = num_hard_negatives
        self.reduction = reduction
        self.row_block = row_block

    def get_config(self):
        temperature = self.temperature
        return {
            "temperature": None if temperature is None else float(temperature),
            "positive": self.positive,
            "num_hard_negatives": self.num_hard_negatives,
            "reduction": self.reduction,
            "row_block": self.row_block,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __call__(
        self,
        query_embeddings,
        candidate_embeddings,
        *,
        candidate_log_q=None,
        rules=(),
        score_mask=None,
        sample_weight=None,
    ):
        """Computes the loss.

        Args:
          query_embeddings: [B, d], or [B, H, d] for H heads a query, which
            score a candidate by their maximum. Any float dtype; half precision
            is computed in float32.
          candidate_embeddings: [C, d], C >= B. Row i's positive is column i;
            columns from B on are negatives of every row.
          candidate_log_q: [C], log q of each column; None means no correction.
            A constant of the sampling design: no gradient flows to it.
          rules: `rules.Rule`s; a pair that any of them lists is dropped.
          score_mask: [B, C] bool, False drops the pair.
          sample_weight: [B], r_i; None means 1.

        Returns:
          Scalar, or [B] with `reduction="none"`; float32, or float64 for
          float64 embeddings.

        Raises:
          ValueError: Shapes or dtypes that do not fit, as far as they are
            static.
          tf.errors.InvalidArgumentError: The same where only values tell; log
            q not finite or positive; `score_mask` hiding a row's positive.
        """
        queries, candidates, columns = self._prepare(
            query_embeddings, candidate_embeddings, candidate_log_q, rules, score_mask
        )
        if rules:
            candidates, columns = _lay_out(candidates, columns, rules[0].columns)

        def block(rows, queries, candidates):
            return self._block(rows, queries, candidates, columns)

        num_blocks = self._num_blocks(queries, candidates)
        weights = reductions.row_weights(sample_weight, queries)
        if self.reduction == "none":
            losses = row_blocks.each_row(block, queries, candidates, num_blocks)
            return weights * losses
        total = row_blocks.weighted_sum(block, queries, candidates, weights, num_blocks)
        return reductions.normalise(total, weights, self.reduction)

    def logits(
        self,
        query_embeddings,
        candidate_embeddings,
        *,
        candidate_log_q=None,
        rules=(),
        score_mask=None,
    ):
        """The scores that the softmax sees, for other losses and for metrics.

        Takes the arguments of `__call__` and holds all B x C scores at once.

        Returns:
          `(logits, positive_columns)`: [B, width] and [B] int32, where width is
          C or, with hard negatives, one more than their number. Dropped pairs
          are -inf.
        """
        queries, candidates, columns = self._prepare(
            query_embeddings, candidate_embeddings, candidate_log_q, rules, score_mask
        )
        everything = row_blocks.Rows(0, tf.shape(queries)[0])
        scored = self._score(everything, queries, candidates, columns, in_place=False)
        return scored.logits, scored.positives

    def _block(self, rows, queries, candidates, columns):
        """The losses [n] of some rows; their gradients as a function of weights."""
        scored = self._score(rows, queries, candidates, columns, in_place=True)
        if self.positive == "refined":
            log_q = tf.gather(columns.log_q, rows.of(columns.positives))
            losses, d_logits, factors = row_losses.refined(
                scored.logits, scored.positives, log_q
            )
        else:
            losses, d_logits = row_losses.cross_entropy(scored.logits, scored.positives)
            factors = 1.0

        def gradients(weights):
            d_scores = d_logits
            if scored.mined is not None:
                d_scores = mining.spread(
                    d_logits, scored.mined, tf.shape(candidates)[0]
                )
            weighted = weights * factors
            if scored.by_head is not None:
                return mining.through_heads(
                    d_scores, weighted, scored.by_head, queries, candidates
                )
            weighted = weighted[:, tf.newaxis]
            return (
                weighted * tf.matmul(d_scores, candidates),
                tf.matmul(d_scores, weighted * queries, transpose_a=True),
            )

        return losses, gradients

    def _score(self, rows, queries, candidates, columns, in_place):
        """Scores some rows: corrected, masked, mined."""
        by_head, mined, positives = None, None, rows.of(columns.positives)
        if queries.shape.rank == 3:
            by_head = tf.einsum("nhd,cd->nhc", queries, candidates)
            logits = tf.reduce_max(by_head, axis=1)
        else:
            logits = tf.matmul(queries, candidates, transpose_b=True)

        if columns.log_q is not None:
            logits = tf.nn.bias_add(logits, -columns.log_q)
            if self.positive != "all":
                own = tf.gather(candidates, positives)
                uncorrected = _own_scores(queries, own)
                logits = set_each(logits, positives, uncorrected, in_place)
        if columns.score_mask is not None:
            minus_inf = tf.constant(float("-inf"), logits.dtype)
            mask = rows.of(columns.score_mask)
            if columns.layout is not None:
                mask = tf.gather(mask, columns.layout.order, axis=1)
            logits = tf.where(mask, logits, minus_inf)
        if columns.rules:
            logits = rules_lib.drop(
                columns.rules, logits, rows, positives, columns.layout, in_place
            )
        if self.num_hard_negatives is not None and self.num_hard_negatives > 0:
            logits, mined = mining.hardest(
                logits, positives, self.num_hard_negatives, in_place
            )
            positives = tf.zeros_like(positives)
        return _Scored(logits, positives, by_head, mined)

    def _num_blocks(self, queries, candidates):
        if self.row_block is not None:
            row_block = self.row_block
        else:
            scores_a_row = tf.shape(candidates)[0]
            if queries.shape.rank == 3:
                scores_a_row *= tf.shape(queries)[1]
            row_block = tf.maximum(_BLOCK_SCORES // scores_a_row, 1)
        row_block = tf.minimum(row_block, tf.int32.max // tf.shape(candidates)[0])
        return -(-tf.shape(queries)[0] // row_block)

    def _prepare(self, queries, candidates, log_q, rules, score_mask):
        """Checks and casts the arguments; divides by the temperature."""
        queries, candidates, score_mask, _ = inputs.check_scored(
            queries, candidates, score_mask
        )
        double = tf.float64 in (queries.dtype, candidates.dtype)
        queries = tf.cast(queries, tf.float64 if double else tf.float32)
        candidates = tf.cast(candidates, queries.dtype)
        if log_q is not None:
            log_q = tf.stop_gradient(tf.cast(log_q, queries.dtype))
            log_q = inputs.check_log_q(log_q, _checks.size(candidates))
        if self.positive == "refined":
            log_q = inputs.check_refined(log_q, queries)
        if self.temperature is not None:
            temperature = _checks.guard(
                _scalar(self.temperature, queries.dtype),
                tf.debugging.assert_positive(
                    self.temperature, message="`temperature` must stay positive."
                ),
            )
            # s / temperature = (q / temperature) . c, but B x d instead of B x C.
            queries /= temperature
        positives = tf.range(tf.shape(queries)[0])
        columns = _Columns(positives, log_q, tuple(rules), score_mask, layout=None)
        return queries, candidates, columns


# positives: [B], the column of each row's positive; layout: the order that the
# columns are in, `rules.SortedColumns`, or None for the order they came in.
_Columns = collections.namedtuple("_Columns", "positives log_q rules score_mask layout")

# logits: [n, width]; positives: [n], the column of each row's positive in them;
# by_head: [n, H, C] or None; mined: [n, width], where the logits came from, or None.
_Scored = collections.namedtuple("_Scored", "logits positives by_head mined")


def _lay_out(candidates, columns, layout):
    """Puts the columns in the order of a rule's keys, which speeds listing up."""

    @tf.custom_gradient
    def ordered(candidates):
        return tf.gather(candidates, layout.order), lambda d: tf.gather(d, layout.rank)

    log_q = columns.log_q
    return ordered(candidates), columns._replace(
        positives=tf.gather(layout.rank, columns.positives),
        log_q=None if log_q is None else tf.gather(log_q, layout.order),
        layout=layout,
    )


def _own_scores(queries, own):
    if queries.shape.rank == 3:
        return tf.reduce_max(tf.einsum("nhd,nd->nh", queries, own), axis=1)
    return tf.reduce_sum(queries * own, axis=1)


def _scalar(value, dtype):
    # A Python float would pass through float32 in `tf.cast`.
    if isinstance(value, (int, float)):
        return tf.constant(value, dtype)
    return tf.cast(value, dtype)
