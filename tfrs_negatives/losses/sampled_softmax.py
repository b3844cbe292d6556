"""Softmax cross-entropy over sampled negatives, masked and log-Q corrected."""

import collections

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import inputs, mining, reductions, row_blocks, row_losses
from tfrs_negatives.losses import rules as rules_lib
from tfrs_negatives.losses.overwrite import set_each

POSITIVES = ("all", "negatives", "refined")

# Blocks of 2 million scores, 8 MiB in float32, stay near the cores, but a block of few
# rows waits for the candidates: larger ones have 256 rows, the largest 128.
_BLOCK_SCORES = (2 * 2**20, 8 * 2**20)

# Up to this size two whole blocks may be in memory at a time.
_OVERLAPPING_SCORES = 4 * 2**20


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
        queries, candidates, temperature, columns = self._prepare(
            query_embeddings, candidate_embeddings, candidate_log_q, rules, score_mask
        )
        scored = (queries, candidates, temperature)

        def block(rows, queries, candidates):
            return self._block(rows, queries, candidates, columns)

        partition = self._partition(queries, candidates)
        weights = reductions.row_weights(sample_weight, queries)
        if self.reduction == "none":
            losses = row_blocks.each_row(block, *scored, partition)
            return weights * losses
        total = row_blocks.weighted_sum(block, *scored, weights, partition)
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
        queries, candidates, temperature, columns = self._prepare(
            query_embeddings, candidate_embeddings, candidate_log_q, rules, score_mask
        )
        everything = row_blocks.Rows(0, tf.shape(queries)[0])
        scored = self._score(
            everything, queries / temperature, candidates, columns, in_place=False
        )
        return scored.logits, scored.positives

    def _block(self, rows, queries, candidates, columns):
        """The losses [n] of some rows, and their gradients; see `row_blocks`."""
        scored = self._score(rows, queries, candidates, columns, in_place=True)
        if self.positive == "refined":
            log_q = rows.of(columns.log_q)
            losses, d_logits, factors = row_losses.refined(
                scored.logits, scored.positives, log_q
            )
        else:
            losses, d_logits = row_losses.cross_entropy(scored.logits, scored.positives)
            factors = None

        def gradients(weighted_queries):
            d_scores = d_logits
            if scored.mined is not None:
                d_scores = mining.spread(
                    d_logits, scored.mined, tf.shape(candidates)[0]
                )
            if factors is not None:
                weighted_queries = row_blocks.scale_rows(weighted_queries, factors)
            if scored.by_head is not None:
                d_queries, d_candidates = mining.through_heads(
                    d_scores, scored.by_head, weighted_queries, candidates
                )
            else:
                d_queries = tf.matmul(d_scores, candidates)
                d_candidates = tf.matmul(weighted_queries, d_scores, transpose_a=True)
            if factors is not None:
                d_queries = row_blocks.scale_rows(d_queries, factors)
            return d_queries, d_candidates

        return losses, gradients

    def _score(self, rows, queries, candidates, columns, in_place):
        """Scores some rows: corrected, masked, mined."""
        by_head, mined, positives = None, None, rows.indices
        if queries.shape.rank == 3:
            by_head = tf.einsum("nhd,cd->nhc", queries, candidates)
            logits = tf.reduce_max(by_head, axis=1)
        else:
            logits = tf.matmul(queries, candidates, transpose_b=True)

        if columns.log_q is not None:
            logits = tf.nn.bias_add(logits, -columns.log_q)
            if self.positive != "all":
                uncorrected = _own_scores(queries, rows.of(candidates))
                logits = set_each(logits, positives, uncorrected, in_place)
        if columns.score_mask is not None:
            minus_inf = tf.constant(float("-inf"), logits.dtype)
            logits = tf.where(rows.of(columns.score_mask), logits, minus_inf)
        if columns.rules:
            logits = rules_lib.drop(columns.rules, logits, rows, in_place)
        if self.num_hard_negatives is not None and self.num_hard_negatives > 0:
            logits, mined = mining.hardest(
                logits, positives, self.num_hard_negatives, in_place
            )
            positives = tf.zeros_like(positives)
        return _Scored(logits, positives, by_head, mined)

    def _partition(self, queries, candidates):
        """Chooses the blocks from the shapes: `row_blocks.Partition`."""
        num_columns = tf.shape(candidates)[0]
        scores_a_row = num_columns
        if queries.shape.rank == 3:
            scores_a_row *= tf.shape(queries)[1]
        if self.row_block is not None:
            row_block = self.row_block
        else:
            scores = tf.clip_by_value(256 * num_columns, *_BLOCK_SCORES)
            scores = tf.maximum(scores, 128 * num_columns)
            row_block = tf.maximum(scores // scores_a_row, 1)
        row_block = tf.minimum(row_block, tf.int32.max // scores_a_row)
        return row_blocks.Partition(
            num_blocks=-(-tf.shape(queries)[0] // row_block),
            overlap=row_block * scores_a_row <= _OVERLAPPING_SCORES,
        )

    def _prepare(self, queries, candidates, log_q, rules, score_mask):
        """Checks and casts the arguments."""
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
        temperature = _temperature(self.temperature, queries.dtype)
        columns = _Columns(log_q, tuple(rules), score_mask)
        return queries, candidates, temperature, columns


_Columns = collections.namedtuple("_Columns", "log_q rules score_mask")

# logits: [n, width]; positives: [n], the column of each row's positive in them;
# by_head: [n, H, C] or None; mined: [n, width], where the logits came from, or None.
_Scored = collections.namedtuple("_Scored", "logits positives by_head mined")


def _own_scores(queries, own):
    if queries.shape.rank == 3:
        return tf.reduce_max(tf.einsum("nhd,nd->nh", queries, own), axis=1)
    return tf.reduce_sum(queries * own, axis=1)


def _temperature(value, dtype):
    if value is None:
        return tf.ones([], dtype)
    # A Python float, checked already, would pass through float32 in `tf.cast`.
    if isinstance(value, (int, float)):
        return tf.constant(value, dtype)
    value = tf.cast(value, dtype)
    message = "`temperature` must stay positive."
    return _checks.guard(value, tf.debugging.assert_positive(value, message=message))
