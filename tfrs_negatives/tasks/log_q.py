"""log q of what is scored: from the arguments of a call, or learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import converted
from tfrs_negatives._tensorboard import histogram
from tfrs_negatives.losses.inputs import check_log_q
from tfrs_negatives.tasks.options import Options
from tfrs_negatives.tasks.row_negatives import RowNegatives
from tfrs_negatives.tasks.row_targets import ids_without_log_q
from tfrs_negatives.types import KerasLayer, TensorLike

if TYPE_CHECKING:
    from tfrs_negatives.tasks.batch import Batch


class LogQ(NamedTuple):
    """log q of the batch's candidates [C], and of what rows have of their own.

    That of negatives, and of targets that bring their embeddings, [B, M] both. None
    where there is none.
    """

    candidates: tf.Tensor | None
    negatives: tf.Tensor | None
    targets: tf.Tensor | None = None


def checked(
    options: Options,
    probability: TensorLike | None,
    log_q: TensorLike | None,
    candidate_ids: tf.Tensor | None,
    negatives: RowNegatives | None,
    num_rows: tf.Tensor,
    num_candidates: tf.Tensor,
    dtype: tf.DType,
    training: bool | tf.Tensor | None,
) -> tf.Tensor | None:
    """Checks that log q has one source, and that it can answer.

    Args:
      options: The task's.
      probability: `candidate_sampling_probability`.
      log_q: `candidate_log_q`.
      candidate_ids: [C], checked, or None.
      negatives: Those of single rows, or None.
      num_rows, num_candidates: B and C, scalars int32.
      dtype: What the loss computes in.
      training: Whether the correction learns.

    Returns:
      [C], log q that the caller gave; None without.

    Raises:
      ValueError: Several sources, one without what it needs, or of another length.
      tf.errors.InvalidArgumentError: q outside (0, 1].
    """
    correction = options.sampling_correction
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
    options.sampled.check_corrected(bool(given))
    if negatives is not None:
        _check_negatives(negatives, given, correction is not None)
    if log_q is not None:
        log_q = _at_most_0(log_q)
    elif probability is not None:
        log_q = _log_probability(probability)
    elif correction is not None:
        if candidate_ids is None:
            raise ValueError(
                "`sampling_correction` gives log q by id: expected `candidate_ids` "
                "of shape [C], received None. Pass `candidate_ids` when calling the "
                "task."
            )
        check_training("sampling_correction", training)
    if log_q is None:
        return None
    log_q = check_log_q(log_q, num_candidates, dtype)
    return options.sampled.checked_log_q(log_q, num_rows)


def log_q_of(batch: Batch, options: Options) -> LogQ:
    """log q from its one source. In training the correction learns: state changes."""
    correction = options.sampling_correction
    if correction is None:
        log_q = LogQ(batch.candidate_log_q, *_given(batch))
    else:
        with tf.control_dependencies(batch.all_checked()):
            learned, *own = _learned(correction, batch, options)
        learned = options.sampled.checked_log_q(learned, batch.num_rows)
        log_q = LogQ(learned, *own)
    if log_q.candidates is not None:
        histogram("log_q", log_q.candidates)
    return log_q


def _given(batch: Batch) -> list[tf.Tensor | None]:
    """What the caller gave for negatives and targets of single rows."""
    owners = (batch.negatives, batch.targets)
    return [None if owner is None else owner.log_q for owner in owners]


def _learned(correction: KerasLayer, batch: Batch, options: Options) -> LogQ:
    """Those of a layer, which is given the ids of rows' own as if the batch's."""
    negatives, own = batch.negatives, _given(batch)
    asked = [None, ids_without_log_q(batch.targets, options)]
    if negatives is not None and negatives.log_q is None:
        asked[0] = negatives.ids
    sizes = {"num_positives": batch.num_rows, "training": batch.training}
    lists = [ids for ids in asked if ids is not None]
    if not lists:
        log_q = correction(batch.candidate_ids, **sizes)
        return LogQ(check_log_q(log_q, batch.num_candidates), *own)
    ids = [batch.candidate_ids, *(tf.reshape(part, [-1]) for part in lists)]
    if ids[0].dtype != tf.string:
        # The wider dtype holds both.
        ids = [tf.cast(part, tf.int64) for part in ids]
    begin = batch.num_candidates
    log_q = correction(tf.concat(ids, axis=0), num_columns=begin, **sizes)
    log_q = check_log_q(log_q, begin + tf.add_n([tf.size(part) for part in lists]))
    candidates = log_q[:begin]
    for place, part in enumerate(asked):
        if part is not None:
            end = begin + tf.size(part)
            own[place] = tf.reshape(log_q[begin:end], tf.shape(part))
            begin = end
    return LogQ(candidates, *own)


def of_batch_alone(batch: Batch, log_q: LogQ, options: Options) -> tf.Tensor | None:
    """log q [B] of the batch's positives alone.

    The same, but for what a mixture with samplers adds to it: entries of a memory were
    positives of a batch, and drawn by nothing else.
    """
    if log_q.candidates is None:
        return None
    unmixed, correction = None, options.sampling_correction
    if correction is not None and hasattr(correction, "batch_log_q"):
        own_ids = batch.of_rows(batch.candidate_ids)
        unmixed = converted(correction.batch_log_q)(own_ids)
    return batch.of_rows(log_q.candidates) if unmixed is None else unmixed


def check_training(name: str, training: bool | tf.Tensor | None) -> None:
    """Raises `ValueError` where `training` was left out."""
    if training is None:
        raise ValueError(
            f"`{name}` learns in training only: expected `training=True` or `False`, "
            "received None. Pass `training=training` on from `compute_loss`."
        )


def _check_negatives(
    negatives: RowNegatives, given: list[str], is_learned: bool
) -> None:
    """Raises `ValueError` unless columns and negatives have log q, or neither."""
    has_source = is_learned and negatives.ids is not None
    if given and negatives.log_q is None and not has_source:
        raise ValueError(
            f"`{given[0]}` corrects the columns, and so must something the rows' own "
            "negatives: expected `negative_log_q` of shape [B, M], or `negative_ids` "
            "beside a `sampling_correction`, received neither."
        )
    if negatives.log_q is not None and not given:
        raise ValueError(
            "log q corrects all or none: received `negative_log_q` without log q of "
            "the columns. Pass `candidate_log_q`, or give the task a "
            "`sampling_correction`."
        )


def _at_least_single(name: str, values: TensorLike) -> tf.Tensor:
    """Numbers as float32 or float64: half precision has too few digits for log q."""
    values = _checks.dense(name, values)
    return values if values.dtype == tf.float64 else tf.cast(values, tf.float32)


def _log_probability(probability: TensorLike) -> tf.Tensor:
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


def _at_most_0(log_q: TensorLike) -> tf.Tensor:
    log_q = _at_least_single("candidate_log_q", log_q)
    message = (
        "`candidate_log_q` must be at most 0, the logarithm of a probability. Pass q "
        "itself as `candidate_sampling_probability`. Received:"
    )
    # Rounding may put log 1 a hair above 0.
    is_log = tf.reduce_all(log_q <= 1e-5)
    return _checks.guard(log_q, tf.debugging.Assert(is_log, [message, log_q]))
