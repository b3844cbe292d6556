"""The retrieval task: `tfrs.tasks.Retrieval` with the right negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrs_negatives._keras import (
    Task,
    converted,
    keras,
    unconverted,
    with_signature_of,
    without_arguments,
)
from tfrs_negatives._late_changes import LateChanges, StatefulOperations
from tfrs_negatives._repr import described
from tfrs_negatives.losses.false_negative_filter import FalseNegativeFilter
from tfrs_negatives.losses.sampled_loss import SampledLoss
from tfrs_negatives.metrics.negative_metric import NegativeMetric
from tfrs_negatives.tasks import negative_metrics as negative_metrics_lib
from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.batch_scores import BatchScores, batch_scores_of
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.log_q import log_q_of
from tfrs_negatives.tasks.noted_losses import note
from tfrs_negatives.tasks.options import Options, losses_of
from tfrs_negatives.tasks.remembering import remember
from tfrs_negatives.tasks.row_scores import RowScores
from tfrs_negatives.tasks.row_targets import targets_of
from tfrs_negatives.types import (
    Config,
    KerasLayer,
    KerasLoss,
    KerasMetric,
    ListsLike,
    NamedLike,
    ScalarLike,
    TensorLike,
)


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
      loss: None: `losses.SampledSoftmax` of the options here. Or a
        `losses.SampledSigmoid` or `losses.SampledSoftmax` with its own options; or a
        Keras loss of one-hot labels and scores, [B, C] both, from which dropped
        pairs are deleted.
      metrics: One or several corpus metrics with the interface of
        `tfrs.metrics.Factorized`.
      batch_metrics: Keras metrics of labels and scores, over the columns that
        the loss sees.
      loss_metrics: Keras metrics that summarise the loss.
      temperature: Positive number, or a scalar variable to train; None is 1.
      num_hard_negatives: Keep this many highest-scoring negatives a row; None or
        a non-positive number keeps all. An int32 variable may be changed while
        training.
      remove_accidental_hits: Drop columns that hold the row's positive item
        again; needs `candidate_ids`.
      name: Name of the layer.
      mask_shared_positives: Whether the positives of all rows with the same key count
        as known positives; needs `query_keys` and `candidate_ids`.
      sampling_correction: A layer that gives log q for `candidate_ids`, such as
        `layers.StreamingFrequency` or `layers.MixedLogQ`. In a `models.Model`,
        `keras.callbacks.TensorBoard(update_freq=n)` logs its histogram.
      positive: Where a row's own positive stands, and what log q does to it: "all",
        "negatives", "refined" or "outside"; see `losses.SampledSoftmax`.
      negative_weight: What the negatives weigh against the positive, with
        `positive="outside"`: a positive number, or a scalar variable
        (`trainable=False`) that a curriculum changes. None is 1.
      false_negative_filter: A `losses.FalseNegativeFilter`, which drops the negatives
        that a guide, or the towers themselves, score above the positive.
      memory: A `layers.CrossBatchMemory`, whose entries are negatives of all rows
        and to which training adds the batch.
      global_negatives: Whether the candidates of all replicas of a `tf.distribute`
        strategy are negatives, so that N replicas compute what one would with all
        rows. False: those of the replica alone, as in TFRS.
      gather_dtype: "bfloat16" halves what global negatives cost to send, at three
        digits of the embeddings. None: as they are.
      reduction: "sum" (TFRS's, the default), "sum_over_batch_size",
        "mean_with_sample_weight" or "none". A custom `loss` has its own.
      row_block: Rows to score at once; None chooses from the shapes.
      eval_by_scores: Whether corpus metrics find the true candidates by their scores,
        even where ids are known.
      negative_metrics: One or several `metrics.NegativeMetric`s, such as
        `metrics.FalseNegativeRate()`, of what the rows are trained against; with
        several replicas, of all. They are updated while `compute_batch_metrics`.
      negative_metric_rows: How many rows of a batch (of each replica's) these look
        at, evenly spaced. None: all, at a further pass over all scores.
      target_share: What the targets of a call (`target_ids`) get of a row's weight
        together, in [0, 1], the rest being its own positive's; or a scalar variable,
        which is not trained. None: 0.5. See `losses.SampledSoftmax`.
      absent_targets: What becomes of a target that is none of the columns: "error", or
        "drop", as if it were not listed (a teacher's targets over the whole catalogue,
        of which a batch has some).
      jit_compile: Whether XLA compiles the loss, in functions that TensorFlow traces
        such as `fit`'s: True, False, or "auto" where it is expected to be faster; not
        measured on a GPU. That is on one GPU, without `mask_shared_positives`,
        `query_rows` and `candidate_rows`, whose savings XLA loses. It compiles once for
        each size of a batch: give `fit` batches of one size and a smaller last one.
        Whatever this says, a step that is compiled as a whole,
        `model.compile(jit_compile=True)`, is.

    Raises:
      ValueError: Options out of range, or that contradict each other or a custom
        `loss`.

    Example:
      >>> task = tn.tasks.Retrieval(temperature=0.1, remove_accidental_hits=True)
      >>> users = tf.math.l2_normalize(tf.random.normal([3, 8]), axis=1)
      >>> items = tf.math.l2_normalize(tf.random.normal([3, 8]), axis=1)
      >>> loss = task(
      ...     users,
      ...     items,
      ...     candidate_ids=tf.constant(["tea", "milk", "tea"]),
      ...     query_keys=tf.constant(["ann", "ann", "bob"]),
      ... )
      >>> loss.shape
      TensorShape([])
    """

    def __init__(
        self,
        loss: SampledLoss | KerasLoss | None = None,
        metrics: KerasMetric | Sequence[KerasMetric] | None = None,
        batch_metrics: KerasMetric | Sequence[KerasMetric] | None = None,
        loss_metrics: KerasMetric | Sequence[KerasMetric] | None = None,
        temperature: ScalarLike | None = None,
        num_hard_negatives: int | tf.Variable | None = None,
        remove_accidental_hits: bool = False,
        name: str | None = None,
        *,
        mask_shared_positives: bool = False,
        sampling_correction: KerasLayer | None = None,
        positive: str = "all",
        negative_weight: ScalarLike | None = None,
        false_negative_filter: FalseNegativeFilter | None = None,
        memory: KerasLayer | None = None,
        global_negatives: bool = False,
        gather_dtype: str | None = None,
        reduction: str | None = None,
        row_block: int | None = None,
        eval_by_scores: bool = False,
        negative_metrics: NegativeMetric | Sequence[NegativeMetric] | None = None,
        negative_metric_rows: int | None = 8,
        target_share: ScalarLike | None = None,
        absent_targets: str = "error",
        jit_compile: bool | str = "auto",
    ) -> None:
        sampled, keras_loss = losses_of(
            loss,
            reduction,
            temperature=temperature,
            positive=positive,
            negative_weight=negative_weight,
            false_negative_filter=false_negative_filter,
            num_hard_negatives=num_hard_negatives,
            row_block=row_block,
            target_share=target_share,
        )
        options = Options(
            sampled=sampled,
            keras_loss=keras_loss,
            remove_accidental_hits=remove_accidental_hits,
            mask_shared_positives=mask_shared_positives,
            sampling_correction=sampling_correction,
            memory=memory,
            eval_by_scores=eval_by_scores,
            global_negatives=global_negatives,
            gather_dtype=gather_dtype,
            batch_metrics=_as_list(batch_metrics),
            negative_metrics=_as_list(negative_metrics),
            negative_metric_rows=negative_metric_rows,
            absent_targets=absent_targets,
            jit_compile=jit_compile,
        )
        # Keras would cast the first argument alone under mixed precision; the
        # loss casts both towers itself, and computes in float32 or float64.
        super().__init__(name=name, autocast=False, dtype="float32")
        self._options = options
        self._loss, self._reduction = loss, reduction
        self._factorized_metrics = _as_list(metrics)
        self._batch_metrics = options.batch_metrics
        self._loss_metrics = _as_list(loss_metrics)
        # What has variables, as attributes too, so that Keras tracks these.
        self._temperature = sampled.temperature
        self._num_hard_negatives = sampled.num_hard_negatives
        self._negative_weight = sampled.negative_weight
        chosen = sampled.false_negative_filter
        if chosen is not None:
            self._false_negative_margin, self._false_negative_share = (
                chosen.margin,
                chosen.share,
            )
        self._target_share = sampled.target_share
        self._sampling_correction = sampling_correction
        self._memory = memory
        self._negative_metrics = options.negative_metrics
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    @property
    def factorized_metrics(self) -> list[KerasMetric]:
        """The corpus metrics, a list; may be set to one, several or None."""
        return self._factorized_metrics

    @factorized_metrics.setter
    def factorized_metrics(
        self, value: KerasMetric | Sequence[KerasMetric] | None
    ) -> None:
        self._factorized_metrics = _as_list(value)

    @property
    def reduction(self) -> str:
        """How rows' losses become the batch's, as in `losses.reductions`."""
        return self._options.reduction

    def __repr__(self) -> str:
        options = self._options
        of_loss = {}
        if self._loss is not options.sampled:
            of_loss = options.sampled.get_config()
            del of_loss["reduction"]
            of_loss["false_negative_filter"] = options.sampled.false_negative_filter
        return described(
            self,
            loss=self._loss,
            metrics=self._factorized_metrics or None,
            batch_metrics=self._batch_metrics or None,
            loss_metrics=self._loss_metrics or None,
            remove_accidental_hits=options.remove_accidental_hits,
            mask_shared_positives=options.mask_shared_positives,
            sampling_correction=options.sampling_correction,
            memory=options.memory,
            global_negatives=options.global_negatives,
            gather_dtype=options.gather_dtype,
            reduction=self._reduction,
            eval_by_scores=options.eval_by_scores,
            negative_metrics=options.negative_metrics or None,
            negative_metric_rows=options.negative_metric_rows,
            absent_targets=options.absent_targets,
            jit_compile=options.jit_compile,
            **of_loss,
        )

    def get_config(self) -> Config:
        def serialize(objects: list) -> list:
            return [keras.utils.serialize_keras_object(o) for o in objects]

        def serialize_one(value: Any) -> Any:
            return value and keras.utils.serialize_keras_object(value)

        options = self._options
        config = {}
        if self._loss is not options.sampled:
            of_loss = options.sampled.get_config()
            config = {**of_loss, "reduction": self._reduction}
        return {
            "name": self.name,
            "loss": serialize_one(self._loss),
            "metrics": serialize(self._factorized_metrics),
            "batch_metrics": serialize(self._batch_metrics),
            "loss_metrics": serialize(self._loss_metrics),
            "remove_accidental_hits": options.remove_accidental_hits,
            "mask_shared_positives": options.mask_shared_positives,
            "sampling_correction": serialize_one(options.sampling_correction),
            "memory": serialize_one(options.memory),
            "eval_by_scores": options.eval_by_scores,
            "global_negatives": options.global_negatives,
            "gather_dtype": options.gather_dtype,
            "negative_metrics": serialize(options.negative_metrics),
            "negative_metric_rows": options.negative_metric_rows,
            "absent_targets": options.absent_targets,
            "jit_compile": options.jit_compile,
            **config,
        }

    @classmethod
    def from_config(cls, config: Config) -> Retrieval:
        def revive(value: Any) -> Any:
            if isinstance(value, list):
                return [revive(v) for v in value]
            return value and keras.utils.deserialize_keras_object(value)

        objects = (
            "loss",
            "metrics",
            "batch_metrics",
            "loss_metrics",
            "sampling_correction",
            "memory",
            "negative_metrics",
        )
        return cls(**{**config, **{key: revive(config[key]) for key in objects}})

    @unconverted
    def call(
        self,
        query_embeddings: TensorLike,
        candidate_embeddings: TensorLike,
        sample_weight: TensorLike | None = None,
        candidate_sampling_probability: TensorLike | None = None,
        candidate_ids: TensorLike | None = None,
        compute_metrics: bool = True,
        compute_batch_metrics: bool = True,
        score_mask: TensorLike | None = None,
        *,
        query_keys: NamedLike | None = None,
        query_key_mask: NamedLike | None = None,
        candidate_keys: NamedLike | None = None,
        candidate_key_mask: NamedLike | None = None,
        query_strata: TensorLike | None = None,
        candidate_strata: TensorLike | None = None,
        candidate_stratum_mask: TensorLike | None = None,
        known_positive_ids: ListsLike | None = None,
        measured_positive_ids: ListsLike | None = None,
        negative_embeddings: TensorLike | None = None,
        negative_ids: TensorLike | None = None,
        negative_mask: TensorLike | None = None,
        negative_log_q: TensorLike | None = None,
        target_ids: ListsLike | None = None,
        target_weights: ListsLike | None = None,
        target_embeddings: TensorLike | None = None,
        target_log_q: TensorLike | None = None,
        labels: TensorLike | None = None,
        candidate_log_q: TensorLike | None = None,
        query_rows: TensorLike | None = None,
        candidate_rows: TensorLike | None = None,
        guide_query_embeddings: TensorLike | None = None,
        guide_candidate_embeddings: TensorLike | None = None,
        eval_candidate_ids: TensorLike | None = None,
        training: bool | tf.Tensor | None = None,
    ) -> tf.Tensor:
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
          compute_batch_metrics: Whether to update the batch metrics and the negative
            metrics.
          score_mask: [B, C] bool, False drops the pair; must keep the diagonal.
          query_keys: [B], or a dict of several such (user, request, ...): a
            candidate that came with a row of the same key is not a negative.
            Several keys: any match drops the pair. Every value is a key, negative
            numbers and "" too.
          query_key_mask: [B] bool, False where a row has no key, which then matches
            nothing; or a dict of these for several keys. None: every row has one.
          candidate_keys: [C] (or a dict with names of `query_keys`), the
            candidates' keys. None: the first B candidates have their row's
            keys, the rest none.
          candidate_key_mask: [C] bool, the same for `candidate_keys`.
          query_strata: [B], the stratum (market, category, language) that each row
            belongs to: a candidate of another stratum is not a negative. Integers or
            strings; see `samplers.Stratified`. Not with a `memory`.
          candidate_strata: [C], the candidates' strata. None: the first B candidates
            have their row's, and the rest, without one, are negatives of all rows.
          candidate_stratum_mask: [C] bool, False where a candidate has no stratum.
          known_positive_ids: Items known to be positives of each row, such as its
            history: a ragged tensor [B, None], or [B, M], of which every entry
            counts (fill it with an id that no item has, or repeat one of the row's).
          measured_positive_ids: Items that are positives of each row to
            `negative_metrics` alone, of the same form: no pair is dropped for them.
            None: `known_positive_ids`.
          negative_embeddings: [B, M, d], explicit negatives of each row alone, such
            as what it was shown and skipped, or hard negatives.
          negative_ids: [B, M], their ids: for `sampling_correction` and for the rules
            that compare ids, which drop them like columns. Rules on keys leave them.
          negative_mask: [B, M] bool, False drops the negative, such as padding.
          negative_log_q: [B, M], their log q. None: with `sampling_correction`, that
            of their ids, as if the batch had brought them.
          target_ids: Items that each row is to score highly beside its own positive:
            other positives of its user, or what a teacher suggests; a ragged tensor
            [B, None], or [B, M]. The row pays the cross-entropy against a distribution
            over columns, see `losses.SampledSoftmax` and `target_share`. An item is
            the column that holds it first, or the row's own where that holds it; no
            rule or mask drops it, and `remove_accidental_hits` drops its other
            columns. An item that is listed twice has the sum of its weights. A row
            without targets keeps its weight: an empty list, or in [B, M] the row's
            own positive alone.
          target_weights: How the targets of a row share what they get, of the form of
            `target_ids`: at least 0, of any scale, not all 0 in a list; 0 is no target
            (padding). None: equally.
          target_embeddings: [B, M, d], for targets that are none of the columns, which
            are then columns of their row alone: all of its targets, with `target_ids`
            [B, M] for `remove_accidental_hits` or a `sampling_correction`, or without
            ids.
          target_log_q: [B, M], log q of `target_embeddings`, where it corrects the
            rows' own positives too. None: with `sampling_correction`, that of their
            ids.
          labels: [B] in [0, 1], whether the row's own candidate is a positive; for
            `losses.SampledSigmoid`.
          candidate_log_q: [C], log q of each candidate, instead of
            `candidate_sampling_probability` or `sampling_correction`.
          query_rows: [B] integers, which row of `query_embeddings` each row uses, when
            the queries are given once each, [U, d]; from
            `layers.OncePerKey.distinct`. The loss and its gradients are those of
            `tf.gather(query_embeddings, query_rows)`, at the cost of what is
            distinct. (With hard negatives, `negative_embeddings`, targets,
            `score_mask`, a `false_negative_filter`, strata, another loss, batch metrics
            or under XLA they are just gathered.)
          candidate_rows: [C], the same for `candidate_embeddings` [V, d].
          guide_query_embeddings: [B, d'], another model's, by which the
            `false_negative_filter` judges columns; `negative_embeddings` then stay.
            None: the towers' own scores judge all.
          guide_candidate_embeddings: [C, d'], of that model too.
          eval_candidate_ids: [B], ids by which corpus metrics find the true
            candidates. None: `candidate_ids`, as in TFRS, for metrics whose candidates
            have ids; scores are compared for others.
          training: Whether `sampling_correction` learns from this batch.

        Returns:
          The loss: a scalar, or [B] with reduction "none".

        Raises:
          ValueError: A rule without its keys; shapes or dtypes that do not fit.
          tf.errors.InvalidArgumentError: The same where only values tell;
            probabilities outside (0, 1]; `score_mask` hiding a positive.
        """
        batch = Batch.checked(
            self._options,
            (query_embeddings, candidate_embeddings, query_rows, candidate_rows),
            candidate_ids,
            keys=(query_keys, query_key_mask, candidate_keys, candidate_key_mask),
            strata=(query_strata, candidate_strata, candidate_stratum_mask),
            positives=(known_positive_ids, measured_positive_ids),
            negatives=(
                negative_embeddings,
                negative_ids,
                negative_mask,
                negative_log_q,
            ),
            targets=(target_ids, target_weights, target_embeddings, target_log_q),
            log_q=(candidate_sampling_probability, candidate_log_q),
            rows=(labels, sample_weight),
            guide=(guide_query_embeddings, guide_candidate_embeddings),
            score_mask=score_mask,
            corpus=(self._factorized_metrics, eval_candidate_ids),
            observes=compute_batch_metrics,
            training=training,
        )
        columns = Columns(batch, self._options)
        targets = targets_of(batch, columns, self._options)
        found = [] if targets is None else [targets.places.columns]
        # State changes last, so that a step that fails leaves it as it was.
        with LateChanges() as changes:
            with tf.control_dependencies(found):
                log_q = log_q_of(batch, self._options)
            scores = batch_scores_of(batch, columns, targets, log_q, self._options)
            loss = scores.loss()
            with tf.control_dependencies([loss]), StatefulOperations() as updates:
                self._update_metrics(batch, columns, scores, loss, compute_metrics)
            with tf.control_dependencies([loss, *found, *updates.made()]):
                if self._memory is not None and training:
                    positives = scores.positives
                    remember(
                        self._memory, batch, columns, log_q, positives, self._options
                    )
                changes.make()
                loss = tf.identity(loss)
        note(loss, self.reduction, batch.sample_weight, batch.num_rows)
        return loss

    @with_signature_of(call)
    def __call__(self, *args: Any, **kwargs: Any) -> tf.Tensor:
        try:
            return super().__call__(*args, **kwargs)
        except ValueError as error:
            raise without_arguments(error) from error.__cause__

    def _update_metrics(
        self,
        batch: Batch,
        columns: Columns,
        scores: BatchScores,
        loss: tf.Tensor,
        compute_metrics: bool,
    ) -> None:
        """Updates the metrics of the loss, the corpus, the scores and the negatives."""
        for metric in self._loss_metrics:
            metric.update_state(loss)
        if compute_metrics and batch.queries.shape.rank == 2:
            for metric, ids in zip(
                self._factorized_metrics, batch.true_ids, strict=True
            ):
                converted(metric.update_state)(
                    batch.queries,
                    batch.of_rows(batch.candidates),
                    true_candidate_ids=ids,
                    sample_weight=batch.sample_weight,
                )
        if isinstance(scores, RowScores) and batch.measures_scores:
            for metric in self._batch_metrics:
                scores.dense.update(metric)
        if batch.observed is not None:
            sampled, scoring = self._options.sampled, scores.row_scoring()
            negative_metrics_lib.update(
                batch.observed, batch, columns, scoring, sampled
            )


def _as_list(value: Any) -> list:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
