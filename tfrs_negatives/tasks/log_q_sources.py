"""From the arguments of a task's call to log q of what it scores."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses.inputs import check_log_q


def collect_log_q(
    correction,
    candidate_ids,
    num_rows,
    num_columns,
    training,
    *,
    probability=None,
    log_q=None,
    negatives=None,
):
    """log q of the columns and of the rows' own negatives, from its one source.

    Args:
      correction: The task's `sampling_correction`.
      candidate_ids: [C] or None.
      num_rows: B, scalar int32.
      num_columns: C, scalar int32.
      training: Whether the correction learns.
      probability: `candidate_sampling_probability`.
      log_q: `candidate_log_q`.
      negatives: None if rows have no negatives of their own, or the pair
        `(negative_ids, negative_log_q)`, [B, M] or None each.

    Returns:
      `(log_q, negative_log_q)`, [C] and [B, M], or None where there is none.

    Raises:
      ValueError: Several sources, one without what it needs, or of another length.
      tf.errors.InvalidArgumentError: q outside (0, 1].
    """
    sources = {
        "candidate_sampling_probability": probability,
        "candidate_log_q": log_q,
        "sampling_correction": correction,
    }
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"log q has one source: expected one of {list(sources)}, received "
            f"{given}. To combine sources use `layers.MixedLogQ`."
        )
    negative_ids, negative_log_q = negatives or (None, None)
    lacks_ids = correction is not None and negative_ids is None
    if negatives and given and negative_log_q is None and (lacks_ids or not correction):
        raise ValueError(
            f"`{given[0]}` corrects the columns, and so must something the rows' own "
            "negatives: expected `negative_log_q` of shape [B, M], or `negative_ids` "
            "beside a `sampling_correction`, received neither."
        )
    if negative_log_q is not None and not given:
        raise ValueError(
            "log q corrects all or none: received `negative_log_q` without log q of "
            "the columns. Pass `candidate_log_q`, or give the task a "
            "`sampling_correction`."
        )
    if probability is not None or log_q is not None:
        if log_q is None:
            log_q = _log_probability(probability)
        return check_log_q(_at_most_0(log_q), num_columns), negative_log_q
    if correction is None:
        return None, None
    if candidate_ids is None:
        raise ValueError(
            "`sampling_correction` gives log q by id: expected `candidate_ids` "
            "of shape [C], received None. Pass `candidate_ids` when calling the "
            "task."
        )
    check_training("sampling_correction", training)
    if negatives is None or negative_log_q is not None:
        log_q = correction(candidate_ids, num_positives=num_rows, training=training)
        return log_q, negative_log_q

    ids = [candidate_ids, tf.reshape(negative_ids, [-1])]
    if candidate_ids.dtype != tf.string:
        # The wider dtype holds both.
        ids = [tf.cast(part, tf.int64) for part in ids]
    log_q = correction(
        tf.concat(ids, axis=0),
        num_positives=num_rows,
        num_columns=num_columns,
        training=training,
    )
    shape = tf.shape(negative_ids)
    return log_q[:num_columns], tf.reshape(log_q[num_columns:], shape)


def batch_log_q(correction, candidate_ids, log_q, num_rows):
    """log q [B] of the batch's positives alone, from that of the columns [C].

    The same, but for what a mixture with samplers adds to it: entries of a memory were
    positives of a batch, and drawn by nothing else.
    """
    unmixed = None
    if hasattr(correction, "batch_log_q"):
        unmixed = correction.batch_log_q(candidate_ids[:num_rows])
    return log_q[:num_rows] if unmixed is None else unmixed


def check_training(name, training):
    """Raises `ValueError` where `training` was left out."""
    if training is None:
        raise ValueError(
            f"`{name}` learns in training only: expected `training=True` or `False`, "
            "received None. Pass `training=training` on from `compute_loss`."
        )


def _at_least_single(name, values):
    """Numbers as float32 or float64: half precision has too few digits for log q."""
    values = _checks.dense(name, values)
    return values if values.dtype == tf.float64 else tf.cast(values, tf.float32)


def _log_probability(probability):
    probability = _at_least_single("candidate_sampling_probability", probability)
    message = (
        "`candidate_sampling_probability` must be in (0, 1]: an item that can be "
        "drawn has a probability above 0. Pass logarithms as `candidate_log_q`."
    )
    is_probability = (probability > 0) & (probability <= 1)
    return tf.math.log(
        _checks.guard(
            probability,
            tf.debugging.Assert(tf.reduce_all(is_probability), [message, probability]),
        )
    )


def _at_most_0(log_q):
    log_q = _at_least_single("candidate_log_q", log_q)
    message = (
        "`candidate_log_q` must be at most 0, the logarithm of a probability. Pass q "
        "itself as `candidate_sampling_probability`. Received:"
    )
    # Rounding may put log 1 a hair above 0.
    is_log = tf.reduce_all(log_q <= 1e-5)
    return _checks.guard(log_q, tf.debugging.Assert(is_log, [message, log_q]))
