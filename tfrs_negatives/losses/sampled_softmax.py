"""Softmax cross-entropy over sampled negatives, masked and log-Q corrected."""

import collections

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import reductions, row_blocks
from tfrs_negatives.losses import rules as rules_lib
from tfrs_negatives.losses.overwrite import overwrite

POSITIVES = ("all", "negatives", "refined")

# A block of 4 million scores (16 MiB in float32) is large enough for the matrix
# products to run at full speed and small enough to stay out of the way.
_BLOCK_SCORES = 4 * 2**20

# Below this the loss is not read off the probability, which may have underflowed.
_VANISHING = 1e-30


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
            log_q = rows.of(columns.log_q)
            losses, d_logits, factors = _refined(scored.logits, scored.positives, log_q)
        else:
            losses, d_logits = _cross_entropy(scored.logits, scored.positives)
            factors = 1.0

        def gradients(weights):
            d_scores = d_logits
            if scored.mined is not None:
                d_scores = _spread(d_logits, scored.mined, tf.shape(candidates)[0])
            weighted = weights * factors
            if scored.by_head is not None:
                return _through_heads(
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
        by_head, mined, positives = None, None, rows.indices
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
                logits = _set(logits, positives, uncorrected, in_place)
        if columns.score_mask is not None:
            minus_inf = tf.constant(float("-inf"), logits.dtype)
            logits = tf.where(rows.of(columns.score_mask), logits, minus_inf)
        if columns.rules:
            logits = rules_lib.drop(columns.rules, logits, rows, in_place)
        if self.num_hard_negatives is not None and self.num_hard_negatives > 0:
            logits, mined = _hardest(
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
        return -(-tf.shape(queries)[0] // row_block)

    def _prepare(self, queries, candidates, log_q, rules, score_mask):
        """Checks and casts the arguments; divides by the temperature."""
        queries, candidates, score_mask, _ = check_scored(
            queries, candidates, score_mask
        )
        double = tf.float64 in (queries.dtype, candidates.dtype)
        queries = tf.cast(queries, tf.float64 if double else tf.float32)
        candidates = tf.cast(candidates, queries.dtype)
        if log_q is not None:
            log_q = tf.stop_gradient(tf.cast(log_q, queries.dtype))
            log_q = _check_log_q(log_q, _checks.size(candidates))
        if self.positive == "refined":
            log_q = _check_refined(log_q, queries)
        if self.temperature is not None:
            temperature = _checks.guard(
                _scalar(self.temperature, queries.dtype),
                tf.debugging.assert_positive(
                    self.temperature, message="`temperature` must stay positive."
                ),
            )
            # s / temperature = (q / temperature) . c, but B x d instead of B x C.
            queries /= temperature
        return queries, candidates, _Columns(log_q, tuple(rules), score_mask)


_Columns = collections.namedtuple("_Columns", "log_q rules score_mask")

# logits: [n, width]; positives: [n], the column of each row's positive in them;
# by_head: [n, H, C] or None; mined: [n, width], where the logits came from, or None.
_Scored = collections.namedtuple("_Scored", "logits positives by_head mined")


def _cross_entropy(logits, positives):
    """log sum exp - positive, and its derivative softmax - one-hot."""
    probabilities = tf.nn.softmax(logits)
    own = _get(probabilities, positives)
    losses = tf.cond(
        tf.reduce_any(own < _VANISHING),
        lambda: tf.reduce_logsumexp(logits, axis=1) - _get(logits, positives),
        lambda: -tf.math.log(own),
    )
    return losses, _set(probabilities, positives, own - 1, in_place=True)


def _refined(logits, positives, positive_log_q):
    """The loss of Khrylchenko et al. 2025, its derivative and the rows' factors.

    Over the n negatives d, with Q'(d) = Q(d) / (1 - Q(p)),
    Z = sum_d exp(s_d - log Q'(d)) and P = e^s_p / (e^s_p + Z / n), the loss is
    -sg(1 - P) (s_p - log Z), sg stopping the gradient. The logits of negatives
    are s_d - log Q(d) already, that of the positive is s_p.
    """
    own = _get(logits, positives)
    kept = tf.not_equal(logits, float("-inf"))
    num_negatives = tf.reduce_sum(tf.cast(kept, logits.dtype), axis=1) - 1
    has_negatives = num_negatives > 0
    # Without negatives the positive stands in for them, with factor 0.
    stand_in = tf.where(has_negatives, tf.constant(float("-inf"), own.dtype), own)
    with tf.control_dependencies([num_negatives]):
        negatives = _set(logits, positives, stand_in, in_place=True)
    log_z = tf.reduce_logsumexp(negatives, axis=1) + _log1mexp(positive_log_q)
    log_mean = log_z - tf.math.log(tf.maximum(num_negatives, 1))
    factors = tf.where(has_negatives, tf.sigmoid(log_mean - own), 0)
    minus_one = -tf.ones_like(own)
    d_logits = _set(tf.nn.softmax(negatives), positives, minus_one, in_place=True)
    return factors * (log_z - own), d_logits, factors


def _hardest(logits, positives, k, in_place):
    """Each row's positive and k best negatives, and the columns they came from."""
    own = _get(logits, positives)
    minus_inf = tf.fill(tf.shape(own), tf.constant(float("-inf"), own.dtype))
    # The values are constants, so the reading of `own` must be waited for.
    with tf.control_dependencies([own]):
        negatives = _set(logits, positives, minus_inf, in_place)
    best = tf.math.top_k(negatives, tf.minimum(k, tf.shape(logits)[1] - 1))
    return (
        tf.concat([own[:, tf.newaxis], best.values], axis=1),
        tf.concat([positives[:, tf.newaxis], best.indices], axis=1),
    )


def _spread(d_logits, columns, num_columns):
    """Puts the derivatives of mined scores back to their columns, 0 elsewhere."""
    num_rows, width = tf.shape(d_logits)[0], tf.shape(d_logits)[1]
    rows = tf.repeat(tf.range(num_rows), width)
    return overwrite(
        tf.zeros([num_rows, num_columns], d_logits.dtype),
        rows,
        tf.reshape(columns, [-1]),
        tf.reshape(d_logits, [-1]),
        in_place=True,
    )


def _through_heads(d_scores, weights, by_head, queries, candidates):
    """Gradients where a score is its best head's; heads that tie share it."""
    is_best = tf.equal(by_head, tf.reduce_max(by_head, axis=1, keepdims=True))
    share = tf.cast(is_best, d_scores.dtype)
    share /= tf.reduce_sum(share, axis=1, keepdims=True)
    d_by_head = d_scores[:, tf.newaxis, :] * share
    weights = weights[:, tf.newaxis, tf.newaxis]
    return (
        weights * tf.einsum("nhc,cd->nhd", d_by_head, candidates),
        tf.einsum("nhc,nhd->cd", d_by_head, weights * queries),
    )


def _own_scores(queries, own):
    if queries.shape.rank == 3:
        return tf.reduce_max(tf.einsum("nhd,nd->nh", queries, own), axis=1)
    return tf.reduce_sum(queries * own, axis=1)


def _get(matrix, columns):
    """`matrix[i, columns[i]]` for each row."""
    return tf.gather(matrix, columns, batch_dims=1)


def _set(matrix, columns, values, in_place):
    """`matrix` with `matrix[i, columns[i]] = values[i]`, `values` read before."""
    with tf.control_dependencies([values]):
        rows = tf.range(tf.size(columns))
        return overwrite(matrix, rows, columns, values, in_place)


def _scalar(value, dtype):
    # A Python float would pass through float32 in `tf.cast`.
    if isinstance(value, (int, float)):
        return tf.constant(value, dtype)
    return tf.cast(value, dtype)


def _log1mexp(x):
    """log(1 - exp(x)) for x < 0, exact at both ends (Maechler 2012)."""
    return tf.where(
        x > -0.6931472,
        tf.math.log(-tf.math.expm1(x)),
        tf.math.log1p(-tf.math.exp(x)),
    )


def check_scored(queries, candidates, score_mask=None, sample_weight=None):
    """Checks what is scored, for callers that change state before the loss.

    Args and errors as in `SampledSoftmax.__call__`.

    Returns:
      The arguments, as tensors that are computed only once the checks hold.
    """
    queries, candidates = _check_embeddings(
        _as_float("query_embeddings", queries),
        _as_float("candidate_embeddings", candidates),
    )
    num_rows = _checks.size(queries)
    if score_mask is not None:
        score_mask = _check_score_mask(score_mask, num_rows, _checks.size(candidates))
    if sample_weight is not None:
        sample_weight = reductions.check_row_weights(sample_weight, num_rows)
    return queries, candidates, score_mask, sample_weight


def _as_float(name, embeddings):
    embeddings = tf.convert_to_tensor(embeddings)
    if not embeddings.dtype.is_floating:
        raise ValueError(
            f"`{name}` must be floating point, received {embeddings.dtype.name}. "
            "Pass embeddings, the towers' outputs, not ids."
        )
    return embeddings


def _check_embeddings(queries, candidates):
    _checks.check_rank(
        "query_embeddings", queries, (2, 3), "Pass [B, d], or [B, heads, d]."
    )
    _checks.check_rank("candidate_embeddings", candidates, (2,), "Pass [C, d].")
    candidates = _checks.check_size(
        "candidate_embeddings",
        candidates,
        1,
        _checks.size(queries, -1),
        "Both towers must end in the same embedding width.",
    )
    num_rows, num_columns = _checks.size(queries), _checks.size(candidates)
    hint = "An empty batch has no loss: filter it out of the dataset."
    if tf.get_static_value(num_rows) == 0:
        raise ValueError(f"`query_embeddings` has no rows ({queries.shape}). {hint}")
    too_few = (
        "`candidate_embeddings` must hold each row's positive first, then any extra "
        "negatives: expected at least as many rows as `query_embeddings`"
    )
    if queries.shape[0] is not None and candidates.shape[0] is not None:
        if candidates.shape[0] < queries.shape[0]:
            raise ValueError(
                f"{too_few} ({queries.shape[0]}), received {candidates.shape[0]}."
            )
    queries = _checks.guard(
        queries,
        tf.debugging.assert_positive(num_rows, message=hint),
        tf.debugging.assert_less_equal(num_rows, num_columns, message=too_few),
    )
    return queries, candidates


def _check_log_q(log_q, num_columns):
    hint = "Pass one log probability for each candidate, extra negatives included."
    _checks.check_rank("candidate_log_q", log_q, (1,), hint)
    log_q = _checks.check_size("candidate_log_q", log_q, 0, num_columns, hint)
    message = (
        "`candidate_log_q` must hold logarithms of probabilities, finite and at most "
        "0: an item that can be drawn has q > 0."
    )
    # Rounding may put log 1 a hair above 0.
    is_log_probability = tf.math.is_finite(log_q) & (log_q <= 1e-5)
    return _checks.guard(
        log_q, tf.debugging.Assert(tf.reduce_all(is_log_probability), [message, log_q])
    )


def _check_refined(log_q, queries):
    if log_q is None:
        raise ValueError(
            '`positive="refined"` corrects by log q: expected `candidate_log_q` of '
            "shape [C], received None. Pass it, or give the task a "
            "`sampling_correction`."
        )
    return _checks.guard(
        log_q,
        tf.debugging.assert_negative(
            log_q[: tf.shape(queries)[0]],
            message='`positive="refined"` divides by 1 - q(positive): expected q < 1.',
        ),
    )


def _check_score_mask(mask, num_rows, num_columns):
    mask = tf.convert_to_tensor(mask)
    hint = "Pass a boolean [B, C], True where the pair may be scored."
    if mask.dtype != tf.bool:
        raise ValueError(
            f"`score_mask` must be bool, received {mask.dtype.name}. {hint}"
        )
    _checks.check_rank("score_mask", mask, (2,), hint)
    mask = _checks.check_size("score_mask", mask, 0, num_rows, hint)
    mask = _checks.check_size("score_mask", mask, 1, num_columns, hint)
    hidden = tf.where(~tf.linalg.diag_part(mask))[:, 0]
    return _checks.guard(
        mask,
        tf.debugging.Assert(
            tf.equal(tf.size(hidden), 0),
            [
                "`score_mask` hides the positive of these rows (the diagonal must be "
                "True; drop the row or give it sample_weight 0 instead):",
                hidden,
            ],
        ),
    )
