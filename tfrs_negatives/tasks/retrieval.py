"""The retrieval task: `tfrs.tasks.Retrieval` with the right negatives."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import Task, keras
from tfrs_negatives._summaries import histogram
from tfrs_negatives.losses import SampledSoftmax
from tfrs_negatives.losses.dense_scores import DenseScores
from tfrs_negatives.losses.inputs import check_scored
from tfrs_negatives.tasks.negative_rules import collect_rules, vector


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class Retrieval(keras.layers.Layer, Task):
    """Trains two towers against in-batch, shared and extra negatives.

    A drop-in replacement for `tfrs.tasks.Retrieval`: the same arguments in the
    same order, and the same loss, gradients and metrics while no new option is
    used. The new options, all keyword-only, choose which columns may be
    negatives and correct for how they were drawn:

    ```python
    self.task = tfrs_negatives.tasks.Retrieval(
        sampling_correction=tfrs_negatives.layers.StreamingFrequency(),
    )
    ...
    return self.task(
        queries, items,
        candidate_ids=features["item_id"],
        query_keys=features["user_id"],
        training=training,
    )
    ```

    The loss is `losses.SampledSoftmax`, whose memory grows with B + C. Two
    things hold all B x C scores at once, as TFRS does: a custom `loss` and
    `batch_metrics` (while `compute_batch_metrics`).

    Args:
      loss: A Keras loss of one-hot labels and scores, [B, C] both. Dropped pairs
        are deleted from what it sees. None: `losses.SampledSoftmax`.
      metrics: One or several corpus metrics with the interface of
        `tfrs.metrics.Factorized`.
      batch_metrics: Keras metrics of labels and scores, over the columns that
        the loss sees.
      loss_metrics: Keras metrics that summarise the loss.
      temperature: Positive number, or a scalar variable to train; None is 1.
      num_hard_negatives: Keep this many highest-scoring negatives a row; None or
        a non-positive number keeps all.
      remove_accidental_hits: Drop columns that hold the row's positive item
        again; needs `candidate_ids`.
      name: Name of the layer.
      sampling_correction: A layer that gives log q for `candidate_ids`, such as
        `layers.StreamingFrequency` or `layers.MixedLogQ`. Under
        `keras.callbacks.TensorBoard(update_freq=n)` its histogram is logged.
      positive: What log q does to a row's own positive: "all", "negatives" or
        "refined"; see `losses.SampledSoftmax`.
      reduction: "sum" (TFRS's, the default), "sum_over_batch_size",
        "mean_with_sample_weight" or "none". A custom `loss` has its own.
      row_block: Rows to score at once; None chooses from the shapes.

    Raises:
      ValueError: Options out of range, or that contradict a custom `loss`.
    """

    def __init__(
        self,
        loss=None,
        metrics=None,
        batch_metrics=None,
        loss_metrics=None,
        temperature=None,
        num_hard_negatives=None,
        remove_accidental_hits=False,
        name=None,
        *,
        sampling_correction=None,
        positive="all",
        reduction=None,
        row_block=None,
    ):
        if loss is not None:
            _check_custom_loss(positive, reduction, row_block)
        softmax = SampledSoftmax(
            temperature=temperature,
            positive=positive,
            num_hard_negatives=num_hard_negatives,
            reduction="sum" if reduction is None else reduction,
            row_block=row_block,
        )
        # Keras would cast the first argument alone under mixed precision; the
        # loss casts both towers itself, and computes in float32 or float64.
        super().__init__(name=name, autocast=False, dtype="float32")
        self._softmax = softmax
        # An attribute of its own, so that Keras tracks and trains a variable.
        self._temperature = temperature
        self._loss = loss
        self._reduction = reduction
        self._factorized_metrics = _as_list(metrics)
        self._batch_metrics = _as_list(batch_metrics)
        self._loss_metrics = _as_list(loss_metrics)
        self._remove_accidental_hits = remove_accidental_hits
        self._sampling_correction = sampling_correction

    @property
    def factorized_metrics(self):
        """The corpus metrics, a list; may be set to one, several or None."""
        return self._factorized_metrics

    @factorized_metrics.setter
    def factorized_metrics(self, value):
        self._factorized_metrics = _as_list(value)

    def get_config(self):
        def serialize(objects):
            return [keras.utils.serialize_keras_object(o) for o in objects]

        config = self._softmax.get_config()
        config["reduction"] = self._reduction
        return {
            "name": self.name,
            "loss": self._loss and keras.utils.serialize_keras_object(self._loss),
            "metrics": serialize(self._factorized_metrics),
            "batch_metrics": serialize(self._batch_metrics),
            "loss_metrics": serialize(self._loss_metrics),
            "remove_accidental_hits": self._remove_accidental_hits,
            "sampling_correction": self._sampling_correction
            and keras.utils.serialize_keras_object(self._sampling_correction),
            **config,
        }

    @classmethod
    def from_config(cls, config):
        def revive(value):
            if isinstance(value, list):
                return [revive(v) for v in value]
            return value and keras.utils.deserialize_keras_object(value)

        objects = (
            "loss",
            "metrics",
            "batch_metrics",
            "loss_metrics",
            "sampling_correction",
        )
        return cls(**{**config, **{key: revive(config[key]) for key in objects}})

    def call(
        self,
        query_embeddings,
        candidate_embeddings,
        sample_weight=None,
        candidate_sampling_probability=None,
        candidate_ids=None,
        compute_metrics=True,
        compute_batch_metrics=True,
        score_mask=None,
        *,
        query_keys=None,
        candidate_keys=None,
        known_positive_ids=None,
        mask_shared_positives=False,
        candidate_log_q=None,
        eval_candidate_ids="candidate_ids",
        training=None,
    ):
        """Computes the loss and updates the metrics.

        B is the number of queries, C >= B the number of candidates. Row i's
        positive is candidate i; candidates from B on are negatives of all rows.
        Ids and keys are int32, int64 or string.

        Args:
          query_embeddings: [B, d], or [B, H, d] for H heads scored by their
            maximum (corpus metrics are not computed then).
          candidate_embeddings: [C, d].
          sample_weight: [B], the rows' weights.
          candidate_sampling_probability: [C], q in (0, 1] of each candidate. Not
            clipped (TFRS clips at 1e-6, which gives every rare item the same
            correction).
          candidate_ids: [C], for `remove_accidental_hits`,
            `known_positive_ids`, `mask_shared_positives` and
            `sampling_correction`.
          compute_metrics: Whether to update the corpus metrics.
          compute_batch_metrics: Whether to update the batch metrics.
          score_mask: [B, C] bool, False drops the pair; must keep the diagonal.
          query_keys: [B], or a dict of several such (user, request, ...): a
            candidate that came with a row of the same key is not a negative.
            Several keys: any match drops the pair.
          candidate_keys: [C] (or a dict with names of `query_keys`), the
            candidates' keys. None: the first B candidates have their row's
            keys, the rest none.
          known_positive_ids: Items known to be positives of each row, such as
            its history: [B, M], padded with any negative number or "", or a
            ragged tensor [B, None].
          mask_shared_positives: Whether the positives of all rows with the same
            key count as known positives; needs `query_keys`, `candidate_ids`.
          candidate_log_q: [C], log q of each candidate, instead of
            `candidate_sampling_probability` or `sampling_correction`.
          eval_candidate_ids: [B], ids of the true candidates for id-based corpus
            metrics; None for score-based ones. The default takes
            `candidate_ids`, as TFRS does.
          training: Whether `sampling_correction` learns from this batch.

        Returns:
          The loss: a scalar, or [B] with reduction "none".

        Raises:
          ValueError: A rule without its keys; shapes or dtypes that do not fit.
          tf.errors.InvalidArgumentError: The same where only values tell;
            probabilities outside (0, 1]; `score_mask` hiding a positive.
        """
        # All checks come before the first change of state, in `_log_q`.
        query_embeddings, candidate_embeddings, score_mask, sample_weight = (
            check_scored(
                query_embeddings, candidate_embeddings, score_mask, sample_weight
            )
        )
        num_rows = _checks.size(query_embeddings)
        num_columns = _checks.size(candidate_embeddings)
        if candidate_ids is not None:
            candidate_ids = vector("candidate_ids", candidate_ids, num_columns)

        rules = collect_rules(
            num_rows,
            num_columns,
            remove_accidental_hits=self._remove_accidental_hits,
            candidate_ids=candidate_ids,
            query_keys=query_keys,
            candidate_keys=candidate_keys,
            known_positive_ids=known_positive_ids,
            mask_shared_positives=mask_shared_positives,
        )
        with tf.control_dependencies([query_embeddings, candidate_embeddings]):
            log_q = self._log_q(
                candidate_sampling_probability,
                candidate_log_q,
                candidate_ids,
                num_rows,
                training,
            )
        if log_q is not None:
            histogram("log_q", log_q)
        scoring = {
            "query_embeddings": query_embeddings,
            "candidate_embeddings": candidate_embeddings,
            "candidate_log_q": log_q,
            "rules": rules,
            "score_mask": score_mask,
        }
        update_batch_metrics = bool(self._batch_metrics) and compute_batch_metrics
        if self._loss is not None or update_batch_metrics:
            masked = bool(rules) or score_mask is not None
            dense = DenseScores(*self._softmax.logits(**scoring), sample_weight, masked)
        if self._loss is not None:
            loss = dense.loss(self._loss)
        else:
            loss = self._softmax(**scoring, sample_weight=sample_weight)

        updates = [metric.update_state(loss) for metric in self._loss_metrics]
        if compute_metrics and query_embeddings.shape.rank == 2:
            if isinstance(eval_candidate_ids, str):
                eval_candidate_ids = _first(candidate_ids, num_rows)
            updates += [
                metric.update_state(
                    query_embeddings,
                    candidate_embeddings[:num_rows],
                    true_candidate_ids=eval_candidate_ids,
                    sample_weight=sample_weight,
                )
                for metric in self._factorized_metrics
            ]
        if update_batch_metrics:
            updates += [dense.update(metric) for metric in self._batch_metrics]
        with tf.control_dependencies([u for u in updates if u is not None]):
            return tf.identity(loss)

    def _log_q(self, probability, log_q, candidate_ids, num_rows, training):
        """log q of the columns, from whichever of its sources is given."""
        sources = {
            "candidate_sampling_probability": probability,
            "candidate_log_q": log_q,
            "sampling_correction": self._sampling_correction,
        }
        given = [name for name, value in sources.items() if value is not None]
        if len(given) > 1:
            raise ValueError(
                f"log q has one source: expected one of {list(sources)}, received "
                f"{given}. To combine sources use `layers.MixedLogQ`."
            )
        if probability is not None:
            return _log_probability(probability)
        if log_q is not None:
            return _checked_log_q(log_q)
        if self._sampling_correction is None:
            return None
        if candidate_ids is None:
            raise ValueError(
                "`sampling_correction` gives log q by id: expected `candidate_ids` "
                "of shape [C], received None. Pass `candidate_ids` when calling the "
                "task."
            )
        if training is None:
            raise ValueError(
                "`sampling_correction` learns in training only: expected "
                "`training=True` or `False`, received None. Pass `training=training` "
                "on from `compute_loss`."
            )
        return self._sampling_correction(
            candidate_ids, num_positives=num_rows, training=training
        )


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _first(ids, num_rows):
    return None if ids is None else ids[:num_rows]


def _log_probability(probability):
    probability = tf.convert_to_tensor(probability)
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


def _checked_log_q(log_q):
    log_q = tf.convert_to_tensor(log_q)
    message = (
        "`candidate_log_q` must be at most 0, the logarithm of a probability. Pass q "
        "itself as `candidate_sampling_probability`. Received:"
    )
    # Rounding may put log 1 a hair above 0.
    is_log = tf.reduce_all(log_q <= 1e-5)
    return _checks.guard(log_q, tf.debugging.Assert(is_log, [message, log_q]))


def _check_custom_loss(positive, reduction, row_block):
    if reduction is not None:
        raise ValueError(
            f"A custom `loss` has its own reduction: expected `reduction=None`, "
            f"received {reduction!r}. Set it where the loss is made."
        )
    if positive == "refined" or row_block is not None:
        raise ValueError(
            '`positive="refined"` and `row_block` belong to the default loss: leave '
            "them out, or leave `loss` out."
        )
