"""The loss of each row from its scores, and its derivative in the scores."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.losses.in_place import get_each, set_each

# Below this the loss is not read off the probability, which may have underflowed.
_VANISHING = 1e-30


def cross_entropy(
    logits: tf.Tensor, positives: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """log sum exp - positive, and its derivative softmax - one-hot.

    Args:
      logits: [n, width] scores, -inf where a pair was dropped.
      positives: [n] int32, the column of each row's positive.

    Returns:
      `(losses, d_logits)`, [n] and [n, width].
    """
    if compiled_by_xla():
        return _fused_cross_entropy(logits, positives)
    probabilities = tf.nn.softmax(logits)
    own = get_each(probabilities, positives)
    vanishing = own < _VANISHING

    def exact() -> tf.Tensor:
        # Of these rows alone: to exponentiate all scores again costs a product's time.
        rows = tf.cast(tf.where(vanishing)[:, 0], tf.int32)
        of_rows = tf.gather(logits, rows)
        losses = tf.reduce_logsumexp(of_rows, axis=1)
        losses -= get_each(of_rows, tf.gather(positives, rows))
        return tf.tensor_scatter_nd_update(
            -tf.math.log(own), rows[:, tf.newaxis], losses
        )

    losses = tf.cond(tf.reduce_any(vanishing), exact, lambda: -tf.math.log(own))
    return losses, set_each(probabilities, positives, own - 1, in_place=True)


def _fused_cross_entropy(
    logits: tf.Tensor, positives: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`cross_entropy` without a branch, for which a GPU would wait for its host.

    Less the row's largest score, neither the sum nor the loss can overflow or cancel:
    where the positive is the largest, the loss is the logarithm of the sum alone.
    """
    largest = tf.reduce_max(logits, axis=1)
    powers = tf.exp(logits - largest[:, tf.newaxis])
    total = tf.reduce_sum(powers, axis=1)
    behind = largest - get_each(logits, positives)
    losses = tf.math.log(total) + behind
    own = tf.exp(-behind) / total
    probabilities = powers * (1 / total)[:, tf.newaxis]
    return losses, set_each(probabilities, positives, own - 1, in_place=True)


def refined(
    logits: tf.Tensor, positives: tf.Tensor, positive_log_q: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The loss of Khrylchenko et al. 2025, its derivative and the rows' factors.

    Over the n negatives d, with Q'(d) = Q(d) / (1 - Q(p)),
    Z = sum_d exp(s_d - log Q'(d)) and P = e^s_p / (e^s_p + Z / n), the loss is
    -sg(1 - P) (s_p - log Z), sg stopping the gradient. The logits of negatives
    are s_d - log Q(d) already, that of the positive is s_p.

    Args:
      logits: [n, width], as in `cross_entropy`; changed in place.
      positives: [n] int32.
      positive_log_q: [n], log Q(p) < 0.

    Returns:
      `(losses, d_logits, factors)`: the derivative is `d_logits` times the
      row's factor 1 - P. A row without negatives costs 0.
    """
    own = get_each(logits, positives)
    kept = tf.not_equal(logits, float("-inf"))
    num_negatives = tf.reduce_sum(tf.cast(kept, logits.dtype), axis=1) - 1
    has_negatives = num_negatives > 0
    # Without negatives the positive stands in for them, with factor 0.
    stand_in = tf.where(has_negatives, tf.constant(float("-inf"), own.dtype), own)
    with tf.control_dependencies([num_negatives]):
        negatives = set_each(logits, positives, stand_in, in_place=True)
    log_z = tf.reduce_logsumexp(negatives, axis=1) + _log1mexp(positive_log_q)
    log_mean = log_z - tf.math.log(tf.maximum(num_negatives, 1))
    factors = tf.where(has_negatives, tf.sigmoid(log_mean - own), 0)
    minus_one = -tf.ones_like(own)
    d_logits = set_each(tf.nn.softmax(negatives), positives, minus_one, in_place=True)
    return factors * (log_z - own), d_logits, factors


def outside(
    logits: tf.Tensor, positives: tf.Tensor, negative_weight: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """rho log sum exp over the negatives - positive, its derivative, rows' factors.

    Args:
      logits: [n, width], as in `cross_entropy`; changed in place.
      positives: [n] int32.
      negative_weight: Scalar rho > 0; None: 1.

    Returns:
      `(losses, d_logits, factors)`: the derivative is `d_logits` times the
      row's factor. A row without negatives costs 0.
    """
    own = get_each(logits, positives)
    minus_inf = tf.fill(tf.shape(own), tf.constant(float("-inf"), own.dtype))
    with tf.control_dependencies([own]):
        negatives = set_each(logits, positives, minus_inf, in_place=True)
    largest = tf.reduce_max(negatives, axis=1)
    # Of a softmax, one probability tells the sum. The score of the hardest negative
    # takes the positive's place: its probability never vanishes, nor is it more than a
    # half, so that what it leaves to the negatives is exact. Without negatives the
    # positive is alone, and leaves nothing.
    is_alone = tf.equal(largest, float("-inf"))
    stand_in = tf.where(is_alone, own, largest)
    logits = set_each(negatives, positives, stand_in, in_place=True)
    probabilities = tf.nn.softmax(logits)
    of_stand_in = get_each(probabilities, positives)
    # Said, not computed: some CPUs round the probability of what is alone below 1.
    of_negatives = tf.where(is_alone, tf.zeros_like(own), 1 - of_stand_in)
    log_sums = stand_in + tf.math.log(of_negatives) - tf.math.log(of_stand_in)
    losses, d_log_sums, d_own = outside_of_sums(log_sums, own, negative_weight)
    factors = tf.math.divide_no_nan(d_log_sums, of_negatives)
    d_own = tf.math.divide_no_nan(d_own, factors)
    return losses, set_each(probabilities, positives, d_own, in_place=True), factors


def cross_entropy_of_sums(
    log_sums: tf.Tensor, own: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The loss of `cross_entropy` from the sum over negatives.

    Args:
      log_sums: [n], log of the sum of exp over the row's negatives; -inf for none.
      own: [n], the score of its positive.

    Returns:
      `(losses, d_log_sums, d_own)`, [n] each: the losses and their derivatives. These
      are 0 for a row without negatives.
    """
    slopes = tf.sigmoid(log_sums - own)
    return tf.nn.softplus(log_sums - own), slopes, -slopes


def outside_of_sums(
    log_sums: tf.Tensor, own: tf.Tensor, negative_weight: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The loss of `outside`, from the same sums.

    Args:
      log_sums, own: As in `cross_entropy_of_sums`.
      negative_weight: As in `outside`.

    Returns:
      As `cross_entropy_of_sums`.
    """
    has_negatives = tf.not_equal(log_sums, float("-inf"))
    d_own = -tf.cast(has_negatives, own.dtype)
    d_log_sums = -d_own
    if negative_weight is not None:
        log_sums *= negative_weight
        d_log_sums *= negative_weight
    # A difference also without negatives: an own score that is not finite shows.
    return tf.where(has_negatives, log_sums, own) - own, d_log_sums, d_own


def refined_of_sums(
    log_sums: tf.Tensor,
    own: tf.Tensor,
    num_negatives: tf.Tensor,
    positive_log_q: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The loss of `refined`, from the same sums.

    Args:
      log_sums, own: As in `cross_entropy_of_sums`.
      num_negatives: [n].
      positive_log_q: [n], log Q(p) < 0.

    Returns:
      As `cross_entropy_of_sums`.
    """
    has_negatives = num_negatives > 0
    log_z = tf.where(has_negatives, log_sums, own) + _log1mexp(positive_log_q)
    log_mean = log_z - tf.math.log(tf.maximum(num_negatives, 1))
    factors = tf.where(has_negatives, tf.sigmoid(log_mean - own), 0)
    return factors * (log_z - own), factors, -factors


def binary_cross_entropy(
    logits: tf.Tensor,
    positives: tf.Tensor,
    labels: tf.Tensor | None = None,
    negative_weight: tf.Tensor | None = None,
    own_shifts: bool | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the row's own candidate and of each negative, and its derivative.

    With w the weight of all negatives together (`negative_weight`, or their number
    n), the row costs CE(label, own) + w / n sum_d CE(0, s_d).

    Args:
      logits: [n, width], as in `cross_entropy`; changed in place.
      positives: [n] int32.
      labels: [n] in [0, 1], of the rows' own candidates; None means 1.
      negative_weight: Scalar w; None is n, the sum over negatives.
      own_shifts: None: logits as they are. A bool: scores hold - log Q, and noise
        contrastive estimation wants - log(w Q); whether the own candidate's does too.

    Returns:
      `(losses, d_logits)`, [n] and [n, width].
    """
    own = get_each(logits, positives)
    minus_inf = tf.fill(tf.shape(own), tf.constant(float("-inf"), own.dtype))
    with tf.control_dependencies([own]):
        negatives = set_each(logits, positives, minus_inf, in_place=True)
    kept = tf.cast(tf.not_equal(negatives, float("-inf")), own.dtype)
    num_negatives = tf.maximum(tf.reduce_sum(kept, axis=1), 1)
    if negative_weight is None:
        total, each = num_negatives, tf.ones_like(own)
    else:
        total = tf.fill(tf.shape(own), negative_weight)
        each = total / num_negatives
    if own_shifts is not None:
        shift = tf.math.log(total)
        negatives -= shift[:, tf.newaxis]
        own -= shift if own_shifts else 0
    if labels is None:
        labels = tf.ones_like(own)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, own)
    losses += each * tf.reduce_sum(tf.nn.softplus(negatives), axis=1)
    d_logits = each[:, tf.newaxis] * tf.sigmoid(negatives)
    d_own = tf.sigmoid(own) - labels
    return losses, set_each(d_logits, positives, d_own, in_place=True)


def _log1mexp(x: tf.Tensor) -> tf.Tensor:
    """log(1 - exp(x)) for x < 0, exact at both ends (Maechler 2012)."""
    return tf.where(
        x > -0.6931472,
        tf.math.log(-tf.math.expm1(x)),
        tf.math.log1p(-tf.math.exp(x)),
    )
