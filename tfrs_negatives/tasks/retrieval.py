"""The retrieval task: `tfrs.tasks.Retrieval` with the right negatives."""

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._gather_rows import gather_rows
from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import Task, keras, without_arguments
from tfrs_negatives._tensorboard import histogram
from tfrs_negatives.losses import SampledSoftmax
from tfrs_negatives.losses.dense_scores import DenseScores
from tfrs_negatives.losses.inputs import check_negatives, check_scored, computed_in
from tfrs_negatives.losses.reductions import of_keras_loss
from tfrs_negatives.losses.repeats import Layout
from tfrs_negatives.losses.sampled_loss import SampledLoss
from tfrs_negatives.metrics.corpus_ids import eval_ids
from tfrs_negatives.tasks import row_negatives
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.keys import Keys, vector
from tfrs_negatives.tasks.log_q_sources import (
    batch_log_q,
    check_training,
    collect_log_q,
)
from tfrs_negatives.tasks.negative_rules import (
    accidental_hits,
    batch_keys,
    check_ids,
    collect_rules,
    ids_of_columns,
    insert,
)
from tfrs_negatives.tasks.noted_losses import note
from tfrs_negatives.tasks.observed_rows import ObservedRows, check_metrics
from tfrs_negatives.tasks.repeats import Repeats, distinct_columns


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
      sampling_correction: A layer that gives log q for `candidate_ids`, such as
        `layers.StreamingFrequency` or `layers.MixedLogQ`. In a `models.Model`,
        `keras.callbacks.TensorBoard(update_freq=n)` logs its histogram.
      positive: What log q does to a row's own positive: "all", "negatives" or
        "refined"; see `losses.SampledSoftmax`.
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
      negative_metrics: One or several `metrics.NegativeMetric`s, such as
        `metrics.FalseNegativeRate()`, of what the rows are trained against; with
        several replicas, of all. They are updated while `compute_batch_metrics`.
      negative_metric_rows: How many rows of a batch (of each replica's) these look
        at, evenly spaced. None: all, at a further pass over all scores.

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
        memory=None,
        global_negatives=False,
        gather_dtype=None,
        reduction=None,
        row_block=None,
        negative_metrics=None,
        negative_metric_rows=8,
    ):
        _checks.check_choice("gather_dtype", gather_dtype, (None, "bfloat16"))
        negative_metrics = _as_list(negative_metrics)
        check_metrics(negative_metrics)
        if negative_metric_rows is not None:
            _checks.check_at_least("negative_metric_rows", negative_metric_rows, 1)
        options = {
            "temperature": temperature,
            "positive": positive,
            "num_hard_negatives": num_hard_negatives,
            "row_block": row_block,
        }
        if isinstance(loss, SampledLoss):
            _check_sampled_loss(loss, **options, reduction=reduction)
            sampled = loss
        else:
            if loss is not None:
                _check_custom_loss(positive, reduction, row_block)
            reduction_of_sampled = "sum" if reduction is None else reduction
            sampled = SampledSoftmax(**options, reduction=reduction_of_sampled)
        # Keras would cast the first argument alone under mixed precision; the
        # loss casts both towers itself, and computes in float32 or float64.
        super().__init__(name=name, autocast=False, dtype="float32")
        self._sampled = sampled
        # Attributes of its own, so that Keras tracks variables.
        self._temperature = sampled.temperature
        self._num_hard_negatives = sampled.num_hard_negatives
        self._loss = loss
        self._reduction = reduction
        self._factorized_metrics = _as_list(metrics)
        self._batch_metrics = _as_list(batch_metrics)
        self._loss_metrics = _as_list(loss_metrics)
        self._remove_accidental_hits = remove_accidental_hits
        self._sampling_correction = sampling_correction
        self._memory = memory
        self._global_negatives = global_negatives
        self._gather_dtype = gather_dtype
        self._negative_metrics = negative_metrics
        self._negative_metric_rows = negative_metric_rows
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    @property
    def factorized_metrics(self):
        """The corpus metrics, a list; may be set to one, several or None."""
        return self._factorized_metrics

    @factorized_metrics.setter
    def factorized_metrics(self, value):
        self._factorized_metrics = _as_list(value)

    @property
    def reduction(self):
        """How rows' losses become the batch's, as in `losses.reductions`."""
        return of_keras_loss(self._loss or self._sampled)

    def get_config(self):
        def serialize(objects):
            return [keras.utils.serialize_keras_object(o) for o in objects]

        def serialize_one(value):
            return value and keras.utils.serialize_keras_object(value)

        config = {}
        if self._loss is not self._sampled:
            config = {**self._sampled.get_config(), "reduction": self._reduction}
        return {
            "name": self.name,
            "loss": serialize_one(self._loss),
            "metrics": serialize(self._factorized_metrics),
            "batch_metrics": serialize(self._batch_metrics),
            "loss_metrics": serialize(self._loss_metrics),
            "remove_accidental_hits": self._remove_accidental_hits,
            "sampling_correction": serialize_one(self._sampling_correction),
            "memory": serialize_one(self._memory),
            "global_negatives": self._global_negatives,
            "gather_dtype": self._gather_dtype,
            "negative_metrics": serialize(self._negative_metrics),
            "negative_metric_rows": self._negative_metric_rows,
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
            "memory",
            "negative_metrics",
        )
        return cls(**{**config, **{key: revive(config[key]) for key in objects}})

    def __call__(self, *args, **kwargs):
        try:
            return super().__call__(*args, **kwargs)
        except ValueError as error:
            raise without_arguments(error) from error.__cause__

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
        query_key_mask=None,
        candidate_keys=None,
        candidate_key_mask=None,
        known_positive_ids=None,
        measured_positive_ids=None,
        negative_embeddings=None,
        negative_ids=None,
        negative_mask=None,
        negative_log_q=None,
        labels=None,
        mask_shared_positives=False,
        candidate_log_q=None,
        query_rows=None,
        candidate_rows=None,
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
          labels: [B] in [0, 1], whether the row's own candidate is a positive; for
            `losses.SampledSigmoid`.
          mask_shared_positives: Whether the positives of all rows with the same
            key count as known positives; needs `query_keys`, `candidate_ids`.
          candidate_log_q: [C], log q of each candidate, instead of
            `candidate_sampling_probability` or `sampling_correction`.
          query_rows: [B] integers, which row of `query_embeddings` each row uses, when
            the queries are given once each, [U, d]; from
            `layers.OncePerKey.distinct`. The loss and its gradients are those of
            `tf.gather(query_embeddings, query_rows)`, at the cost of what is
            distinct. (With hard negatives, `negative_embeddings`, `score_mask`,
            another loss, batch metrics or under XLA they are just gathered.)
          candidate_rows: [C], the same for `candidate_embeddings` [V, d].
          eval_candidate_ids: [B], ids by which corpus metrics find the true
            candidates; None to compare scores. The default takes `candidate_ids`, as
            TFRS does, for metrics whose candidates have ids, and compares scores for
            others.
          training: Whether `sampling_correction` learns from this batch.

        Returns:
          The loss: a scalar, or [B] with reduction "none".

        Raises:
          ValueError: A rule without its keys; shapes or dtypes that do not fit.
          tf.errors.InvalidArgumentError: The same where only values tell;
            probabilities outside (0, 1]; `score_mask` hiding a positive.
        """
        # All checks come before the first change of state, in `collect_log_q`.
        repeats = None
        if query_rows is not None or candidate_rows is not None:
            repeats = Repeats(
                query_embeddings, candidate_embeddings, query_rows, candidate_rows
            )
            query_embeddings, candidate_embeddings = repeats.expanded()
        query_embeddings, candidate_embeddings, score_mask, sample_weight = (
            check_scored(
                query_embeddings, candidate_embeddings, score_mask, sample_weight
            )
        )
        num_rows = _checks.size(query_embeddings)
        num_columns = _checks.size(candidate_embeddings)
        if candidate_ids is not None:
            candidate_ids = vector("candidate_ids", candidate_ids, num_columns)
        dtype = computed_in(query_embeddings, candidate_embeddings)
        labels = self._checked_labels(labels, num_rows, dtype)
        # Also where they are not computed, so that an error comes before training.
        true_ids = [
            eval_ids(metric, _first(candidate_ids, num_rows), eval_candidate_ids)
            for metric in self._factorized_metrics
        ]
        by_id = {
            "remove_accidental_hits": self._remove_accidental_hits,
            "known_positive_ids": known_positive_ids,
            "mask_shared_positives": mask_shared_positives,
        }
        compares_ids = check_ids(candidate_ids, **by_id)
        columns = self._columns(num_rows, num_columns, score_mask)
        entries = keys = has_key = None
        key_arguments = {
            "query_keys": query_keys,
            "query_key_mask": query_key_mask,
            "candidate_keys": candidate_keys,
            "candidate_key_mask": candidate_key_mask,
        }
        if self._memory is not None:
            check_training("memory", training)
            keys, has_key = batch_keys(num_rows, num_columns, **key_arguments)
            candidate_embeddings, entries = self._recall(
                candidate_embeddings, num_rows, keys
            )
        checked = [query_embeddings, candidate_embeddings]
        observed = None
        if self._negative_metrics and compute_batch_metrics:
            if measured_positive_ids is None:
                measured_positive_ids = known_positive_ids
            observed = ObservedRows(
                self._negative_metrics,
                self._negative_metric_rows,
                num_rows,
                candidate_ids=candidate_ids,
                positive_ids=measured_positive_ids,
                query_keys=query_keys,
                query_key_mask=query_key_mask,
                negative_ids=negative_ids,
                negative_mask=negative_mask,
                has_negatives=negative_embeddings is not None,
            )
            checked += observed.checked
            compares_ids |= observed.compares_ids

        updates_batch_metrics = bool(self._batch_metrics) and compute_batch_metrics
        needs_dense_scores = self._uses_keras_loss() or updates_batch_metrics
        groups = None
        if repeats is not None and not (
            needs_dense_scores
            or score_mask is not None
            or negative_embeddings is not None
            or not self._sampled.can_repeat(query_embeddings)
        ):
            groups = repeats.groups(
                query_keys, query_key_mask, known_positive_ids, candidate_ids
            )
        column_ids = None
        if compares_ids or (groups and candidate_ids is not None):
            column_ids = ids_of_columns(candidate_ids, columns, entries)
        rules = collect_rules(
            num_rows,
            num_columns,
            columns,
            candidate_ids=candidate_ids,
            column_ids=column_ids,
            memory=entries,
            groups=groups,
            **key_arguments,
            **by_id,
        )
        negatives = None
        if negative_embeddings is not None:
            negative_embeddings, negative_log_q, negative_mask = check_negatives(
                negative_embeddings, negative_log_q, negative_mask, query_embeddings
            )
            negative_mask = row_negatives.allowed(
                negative_ids,
                candidate_ids,
                [_checks.size(negative_embeddings, axis) for axis in (0, 1)],
                columns,
                negative_mask=negative_mask,
                query_keys=query_keys,
                query_key_mask=query_key_mask,
                **by_id,
            )
            checked.append(negative_embeddings)
            negatives = negative_ids, negative_log_q
        else:
            _check_no_negatives(negative_ids, negative_mask, negative_log_q)
        is_corrected = not (
            self._sampling_correction is None
            and candidate_sampling_probability is None
            and candidate_log_q is None
        )
        checked += self._sampled.check_before(dtype, is_corrected)
        with tf.control_dependencies(checked):
            log_q, negative_log_q = collect_log_q(
                self._sampling_correction,
                candidate_ids,
                num_rows,
                num_columns,
                training,
                probability=candidate_sampling_probability,
                log_q=candidate_log_q,
                negatives=negatives,
            )
        column_log_q = None
        if log_q is not None:
            histogram("log_q", log_q)
            column_log_q = _with_memory_log_q(columns.of(log_q), entries, columns)

        if groups:
            embeddings, places = repeats.of_columns(columns, entries)
            positives = tf.gather(embeddings, places[: columns.num_positives])
        else:
            embeddings = columns.of(candidate_embeddings)
            positives = embeddings[: columns.num_positives]
            embeddings, score_mask = _with_memory(
                embeddings, score_mask, entries, columns.num_positives
            )
        if entries is not None and training:
            checked += [x for x in (log_q, negative_log_q) if x is not None]
            remembered = None
            if log_q is not None:
                remembered = batch_log_q(
                    self._sampling_correction, candidate_ids, log_q, num_rows
                )
            with tf.control_dependencies(checked):
                self._memory.write(
                    columns.in_replica_order(positives),
                    ids=_everyones(candidate_ids, num_rows),
                    keys=distribute.gather(keys),
                    has_key=distribute.gather(has_key),
                    log_q=_everyones(remembered, num_rows),
                )

        scoring = {
            "query_embeddings": query_embeddings,
            "candidate_embeddings": embeddings,
            "negative_embeddings": negative_embeddings,
            "candidate_log_q": column_log_q,
            "negative_log_q": negative_log_q,
            "rules": rules,
            "score_mask": score_mask,
            "negative_mask": negative_mask,
        }
        dense = None
        if needs_dense_scores:
            masked = bool(rules) or not (score_mask is None and negative_mask is None)
            # Keras's own reductions know nothing of other replicas.
            masked |= distribute.num_replicas() > 1
            logits = self._sampled.logits(**scoring)
            dense = DenseScores(*logits, sample_weight, masked)
        if groups:
            loss = self._loss_of_groups(
                repeats, groups, places, scoring, column_ids, sample_weight
            )
            if observed:
                scoring = self._ungrouped(scoring, groups, places, column_ids, observed)
        elif self._uses_keras_loss():
            loss = dense.loss(self._loss)
        else:
            loss = self._sampled(**scoring, labels=labels, sample_weight=sample_weight)

        updates = [metric.update_state(loss) for metric in self._loss_metrics]
        if compute_metrics and query_embeddings.shape.rank == 2:
            updates += [
                metric.update_state(
                    query_embeddings,
                    candidate_embeddings[:num_rows],
                    true_candidate_ids=ids,
                    sample_weight=sample_weight,
                )
                for metric, ids in zip(self._factorized_metrics, true_ids, strict=True)
            ]
        if updates_batch_metrics:
            updates += [dense.update(metric) for metric in self._batch_metrics]
        if observed:
            updates += observed.update(
                self._sampled, scoring, labels, sample_weight, columns, column_ids
            )
        with tf.control_dependencies([u for u in updates if u is not None]):
            loss = tf.identity(loss)
        note(loss, self.reduction, sample_weight, num_rows)
        return loss

    def _columns(self, num_rows, num_candidates, score_mask):
        columns = Columns(
            num_rows, num_candidates, self._global_negatives, bool(self._gather_dtype)
        )
        if columns.are_global and score_mask is not None:
            raise ValueError(
                "`score_mask` is about this replica's candidates, and with "
                "`global_negatives=True` there are others' too: expected None. Say it "
                "with keys, `known_positive_ids`, or without global negatives."
            )
        return columns

    def _recall(self, candidate_embeddings, num_rows, keys):
        """The candidates, checked to fit the memory, and the memory's entries."""
        _, all_rows = distribute.rows_before(num_rows)
        checked = self._memory.checked(candidate_embeddings, all_rows, keys.shape[1])
        return checked, self._memory.read(all_rows)

    def _loss_of_groups(
        self, repeats, groups, places, scoring, column_ids, sample_weight
    ):
        """The loss of all rows from those of distinct queries and columns.

        Args:
          repeats: `Repeats`.
          groups: `losses.repeats.Groups` of the rows.
          places: [columns] int32, which of the embeddings each column is.
          scoring: The loss's arguments, embeddings once each.
          column_ids: `Keys` [columns] or None.
          sample_weight: [B] or None.
        """
        embeddings, log_q = scoring["candidate_embeddings"], scoring["candidate_log_q"]
        distinct = distinct_columns(places, column_ids, log_q)
        hits = column_ids if self._remove_accidental_hits else Keys(None)
        return self._sampled.of_repeats(
            repeats.queries_of(groups),
            gather_rows(embeddings, tf.gather(places, distinct.first)),
            Layout(groups, distinct, scoring["rules"], hits.values, hits.mask),
            candidate_log_q=None if log_q is None else tf.gather(log_q, distinct.first),
            sample_weight=sample_weight,
        )

    def _ungrouped(self, scoring, groups, places, column_ids, observed):
        """The loss's arguments as they would be without repeats, row by row."""
        rules = [rule.of_rows(groups.of) for rule in scoring["rules"]]
        if self._remove_accidental_hits:
            num_rows = tf.size(groups.of)
            rules.append(accidental_hits(column_ids, num_rows, observed.rows))
        embeddings = gather_rows(scoring["candidate_embeddings"], places)
        return {**scoring, "candidate_embeddings": embeddings, "rules": rules}

    def _checked_labels(self, labels, num_rows, dtype):
        if labels is not None and self._uses_keras_loss():
            raise ValueError(
                "`labels` are for `losses.SampledSigmoid`, a Keras `loss` is given "
                "one-hot labels: expected None. Leave them out, or change the loss."
            )
        return self._sampled.checked_labels(labels, num_rows, dtype)

    def _uses_keras_loss(self):
        return self._loss is not None and self._loss is not self._sampled


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _first(values, num_rows):
    return None if values is None else values[:num_rows]


def _everyones(values, num_rows):
    """All replicas' values of their rows, strings as hashes."""
    if values is None:
        return None
    if values.dtype == tf.string:
        values = as_int64("candidate_ids", values)
    return distribute.gather(values[:num_rows])


def _with_memory(candidates, mask, entries, num_positives):
    """The candidates' embeddings and the score mask, with the memory's columns."""
    if entries is None:
        return candidates, mask
    if candidates.dtype != tf.float64:
        candidates = tf.cast(candidates, tf.float32)
    recalled = tf.cast(entries.embeddings, candidates.dtype)
    if mask is not None:
        shape = tf.stack([tf.shape(mask)[0], tf.size(entries.ids)])
        parts = [
            mask[:, :num_positives],
            tf.ones(shape, tf.bool),
            mask[:, num_positives:],
        ]
        mask = tf.concat(parts, axis=1)
    return insert(candidates, recalled, num_positives), mask


def _with_memory_log_q(log_q, entries, columns):
    if entries is None:
        return log_q
    return insert(log_q, tf.cast(entries.log_q, log_q.dtype), columns.num_positives)


def _check_no_negatives(negative_ids, negative_mask, negative_log_q):
    given = {
        "negative_ids": negative_ids,
        "negative_mask": negative_mask,
        "negative_log_q": negative_log_q,
    }
    given = [name for name, value in given.items() if value is not None]
    if given:
        raise ValueError(
            f"{given} tell about `negative_embeddings`: expected these too, received "
            "None. Run the candidate tower on the negatives and pass [B, M, d]."
        )


def _check_sampled_loss(loss, **options):
    defaults = {"positive": "all"}
    given = [name for name, v in options.items() if v != defaults.get(name)]
    if given:
        raise ValueError(
            f"`{type(loss).__name__}` has its own options: received {given} for the "
            "task too. Give them to the loss."
        )


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
