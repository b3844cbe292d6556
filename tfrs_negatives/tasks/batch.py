"""What a call of a task was given, converted and checked once."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias, TypeVar

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._ids import as_int64
from tfrs_negatives.losses import inputs, reductions
from tfrs_negatives.losses.false_negative_filter import Guide, guide_of
from tfrs_negatives.metrics.corpus_ids import eval_ids
from tfrs_negatives.tasks import (
    catalogue_options,
    observed_rows,
    row_negatives,
    row_targets,
)
from tfrs_negatives.tasks import log_q as log_q_lib
from tfrs_negatives.tasks import strata as strata_lib
from tfrs_negatives.tasks.keys import (
    KnownPositives,
    NamedKeys,
    keys_of_batch,
    need,
    vector,
)
from tfrs_negatives.tasks.observed_rows import ObservedRows
from tfrs_negatives.tasks.options import Options
from tfrs_negatives.tasks.repeats import Repeats
from tfrs_negatives.tasks.row_negatives import RowNegatives
from tfrs_negatives.tasks.row_targets import RowTargets
from tfrs_negatives.tasks.strata import Strata
from tfrs_negatives.types import KerasMetric, ListsLike, NamedLike, TensorLike

_T = TypeVar("_T")
_FourOf: TypeAlias = tuple[_T, _T, _T, _T]


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """B rows, C candidates of which the first B are the rows' own, and what is known.

    Nothing has changed any state when a batch is made, and no later stage checks or
    converts an argument again.

    Attributes:
      num_rows, num_candidates: B and C, scalars int32.
      all_rows: How many rows all replicas have, scalar int32; None without a memory.
      queries: [B, d] or [B, H, d].
      candidates: [C, d].
      temperature: Scalar, of the dtype that the loss computes in.
      negative_weight: The same, or None.
      guide: What tells false negatives, of candidates, or None.
      repeats: Embeddings given once each and which rows use them, or None.
      candidate_ids: [C] integers or strings, or None.
      item_ids: [C] int64, the same with strings as hashes; None where nothing needs
        them.
      compares_ids: Whether a rule or a metric compares them with each other.
      keys: `Keys` [B] of the rows by name.
      candidate_keys: `Keys` [C] by name, for names of which candidates have their own.
      strata: Those of rows and candidates, or None.
      known: The rows' known positives, or None.
      negatives: Negatives of single rows, or None.
      targets: The rows' targets beside their own positives, or None.
      observed: What the metrics of negatives look at, or None.
      candidate_log_q: [C], log q that the caller gave, as such or as a probability; or
        None.
      labels, sample_weight: [B] or None.
      score_mask: [B, C] bool or None.
      true_ids: For each corpus metric, [B] ids or None to compare scores.
      measures_scores: Whether metrics of labels and scores are updated.
      training: Whether layers learn from the batch.
    """

    num_rows: tf.Tensor
    num_candidates: tf.Tensor
    all_rows: tf.Tensor | None
    queries: tf.Tensor
    candidates: tf.Tensor
    temperature: tf.Tensor
    negative_weight: tf.Tensor | None
    guide: Guide | None
    repeats: Repeats | None
    candidate_ids: tf.Tensor | None
    item_ids: tf.Tensor | None
    compares_ids: bool
    keys: NamedKeys
    candidate_keys: NamedKeys
    strata: Strata | None
    known: KnownPositives | None
    negatives: RowNegatives | None
    targets: RowTargets | None
    observed: ObservedRows | None
    candidate_log_q: tf.Tensor | None
    labels: tf.Tensor | None
    sample_weight: tf.Tensor | None
    score_mask: tf.Tensor | None
    true_ids: list[tf.Tensor | None]
    measures_scores: bool
    training: bool | tf.Tensor | None

    @classmethod
    @tf.autograph.experimental.do_not_convert  # An error is to show the user's lines.
    def checked(
        cls,
        options: Options,
        embeddings: tuple[TensorLike, TensorLike, TensorLike | None, TensorLike | None],
        candidate_ids: TensorLike | None,
        *,
        keys: _FourOf[NamedLike | None],
        strata: tuple[TensorLike | None, TensorLike | None, TensorLike | None],
        positives: tuple[ListsLike | None, ListsLike | None],
        negatives: _FourOf[TensorLike | None],
        targets: _FourOf[ListsLike | None],
        log_q: tuple[TensorLike | None, TensorLike | None],
        rows: tuple[TensorLike | None, TensorLike | None],
        guide: tuple[TensorLike | None, TensorLike | None],
        score_mask: TensorLike | None,
        corpus: tuple[list[KerasMetric], TensorLike | None],
        observes: bool,
        training: bool | tf.Tensor | None,
    ) -> Batch:
        """Checks the arguments of a call; their forms are those of `tasks.Retrieval`.

        Args:
          options: The task's.
          embeddings: `(query_embeddings, candidate_embeddings, query_rows,
            candidate_rows)`.
          candidate_ids, score_mask, training: By their names.
          keys: `(query_keys, query_key_mask, candidate_keys, candidate_key_mask)`.
          strata: `(query_strata, candidate_strata, candidate_stratum_mask)`.
          positives: `(known_positive_ids, measured_positive_ids)`.
          negatives: `negative_*` of `(embeddings, ids, mask, log_q)`.
          targets: `target_*` of `(ids, weights, embeddings, log_q)`.
          log_q: `(candidate_sampling_probability, candidate_log_q)`.
          rows: `(labels, sample_weight)`.
          guide: `(guide_query_embeddings, guide_candidate_embeddings)`.
          corpus: The task's corpus metrics, and `eval_candidate_ids`.
          observes: Whether metrics of negatives, and of labels and scores, are updated.

        Raises:
          ValueError, tf.errors.InvalidArgumentError: As `tasks.Retrieval.call`.
        """
        queries, candidates, repeats = _embeddings(*embeddings)
        num_rows, num_candidates = _checks.size(queries), _checks.size(candidates)
        dtype = inputs.computed_in(queries, candidates)
        score_mask = inputs.check_score_mask(score_mask, num_rows, num_candidates)
        _check_global(options, score_mask)
        labels, sample_weight = rows
        sample_weight = reductions.check_row_weights(sample_weight, num_rows)
        labels = _labels(options, labels, num_rows, dtype)

        if candidate_ids is not None:
            candidate_ids = vector("candidate_ids", candidate_ids, num_candidates)
        # Also where they are not computed, so that an error comes before training.
        true_ids = _true_ids(options, candidate_ids, num_rows, *corpus)
        own_keys, candidate_keys = keys_of_batch(*keys, num_rows, num_candidates)
        has_memory = options.memory is not None
        checked_strata = strata_lib.checked(
            *strata, num_rows, num_candidates, has_memory
        )
        known_positive_ids, measured_positive_ids = positives
        asked = _asked(options, known_positive_ids is not None)
        for rule in asked:
            need(candidate_ids, rule, "candidate_ids", "[C]")
        if options.mask_shared_positives:
            need(own_keys or None, "mask_shared_positives=True", "query_keys", "[B]")
        catalogue_options.check_keys(options, bool(own_keys))
        known = None
        if known_positive_ids is not None:
            known = KnownPositives(known_positive_ids, candidate_ids, num_rows)

        all_rows = None
        if options.memory is not None:
            log_q_lib.check_training("memory", training)
            _, all_rows = distribute.rows_before(num_rows)
            candidates = options.memory.checked(candidates, all_rows, len(own_keys))
        own_targets = row_targets.checked(
            options, *targets, queries, candidate_ids, dtype
        )
        metrics = options.negative_metrics if observes else []
        finds_targets = own_targets is not None and own_targets.embeddings is None
        compares_ids = (
            bool(asked) or finds_targets or observed_rows.compare_ids(metrics)
        )
        own_negatives = row_negatives.checked(
            *negatives, queries, candidate_ids, compares_ids
        )
        if own_negatives is not None:
            _check_negative_ids(own_negatives, asked)
        observed = None
        if metrics:
            observed = ObservedRows(
                metrics,
                options.negative_metric_rows,
                num_rows,
                candidate_ids,
                own_keys,
                own_negatives,
                known if measured_positive_ids is None else measured_positive_ids,
            )
        candidate_log_q = log_q_lib.checked(
            options,
            *log_q,
            candidate_ids,
            own_negatives,
            num_rows,
            num_candidates,
            dtype,
            training,
        )
        if own_targets is not None:
            is_corrected = candidate_log_q is not None
            is_corrected |= options.sampling_correction is not None
            row_targets.check_corrected(own_targets, options, is_corrected)
        temperature = options.sampled.checked_temperature(dtype)
        negative_weight = options.sampled.checked_negative_weight(dtype)
        guide_of_batch = guide_of(
            options.sampled.false_negative_filter,
            *guide,
            num_rows,
            num_candidates,
            temperature,
        )
        if options.memory is not None and any(x is not None for x in guide):
            raise ValueError(
                "The memory keeps the towers' embeddings alone, which another guide "
                "cannot judge: expected `guide_query_embeddings` and "
                "`guide_candidate_embeddings` of None beside a `memory`. Leave one out."
            )
        item_ids = None
        if candidate_ids is not None and (compares_ids or options.memory is not None):
            item_ids = as_int64("candidate_ids", candidate_ids)
        return cls(
            num_rows=num_rows,
            num_candidates=num_candidates,
            all_rows=all_rows,
            queries=queries,
            candidates=candidates,
            temperature=temperature,
            negative_weight=negative_weight,
            guide=guide_of_batch,
            repeats=repeats,
            candidate_ids=candidate_ids,
            item_ids=item_ids,
            compares_ids=compares_ids,
            keys=own_keys,
            candidate_keys=candidate_keys,
            strata=checked_strata,
            known=known,
            negatives=own_negatives,
            targets=own_targets,
            observed=observed,
            candidate_log_q=candidate_log_q,
            labels=labels,
            sample_weight=sample_weight,
            score_mask=score_mask,
            true_ids=true_ids,
            measures_scores=bool(options.batch_metrics) and observes,
            training=training,
        )

    def of_rows(self, values: tf.Tensor) -> tf.Tensor:
        """[B, ...] from values of candidates [C, ...]: the rows' own come first."""
        return values[: self.num_rows]

    def row_respects(self) -> list[tf.Tensor]:
        """Integers [B] each: to rules on data of rows, rows with equal ones are alike.

        Whoever adds such data adds them here, so that repeats are grouped by them.
        """
        respects = []
        for keys in self.keys.values():
            respects += keys.respects()
        if self.known is not None:
            respects.append(self.known.identities(self.num_rows))
        return respects

    def all_checked(self) -> list[tf.Tensor]:
        """Tensors that are computed only if every check holds.

        A graph is to compute them before it changes any state.
        """
        tensors = [
            self.queries,
            self.candidates,
            self.temperature,
            self.negative_weight,
            self.candidate_ids,
            self.candidate_log_q,
            self.labels,
            self.sample_weight,
            self.score_mask,
        ]
        for keys in (*self.keys.values(), *self.candidate_keys.values()):
            tensors += keys
        if self.strata is not None:
            tensors += [self.strata.rows, *self.strata.candidates]
        if self.known is not None:
            tensors.append(self.known.ids)
        if self.negatives is not None:
            tensors += self.negatives
        if self.guide is not None:
            guide = self.guide
            tensors += [guide.amount, guide.queries, guide.candidates]
        if self.targets is not None:
            tensors += self.targets.tensors()
        if self.observed is not None and self.observed.measured is not None:
            tensors.append(self.observed.measured.ids)
        return [tensor for tensor in tensors if tensor is not None]


def _embeddings(
    queries: TensorLike,
    candidates: TensorLike,
    query_rows: TensorLike | None,
    candidate_rows: TensorLike | None,
) -> tuple[tf.Tensor, tf.Tensor, Repeats | None]:
    """The embeddings of all rows and candidates, and `Repeats` of those given once."""
    if query_rows is None and candidate_rows is None:
        return *inputs.check_scored(queries, candidates), None
    repeats = Repeats(queries, candidates, query_rows, candidate_rows)
    return *repeats.expanded(), repeats


def _labels(
    options: Options,
    labels: TensorLike | None,
    num_rows: tf.Tensor,
    dtype: tf.DType,
) -> tf.Tensor | None:
    if labels is not None and options.keras_loss is not None:
        raise ValueError(
            "`labels` are for `losses.SampledSigmoid`, a Keras `loss` is given "
            "one-hot labels: expected None. Leave them out, or change the loss."
        )
    return options.sampled.checked_labels(labels, num_rows, dtype)


def _true_ids(
    options: Options,
    candidate_ids: tf.Tensor | None,
    num_rows: tf.Tensor,
    metrics: list[KerasMetric],
    eval_candidate_ids: TensorLike | None,
) -> list[tf.Tensor | None]:
    """By which ids each corpus metric finds the true candidates; None by scores."""
    if options.eval_by_scores:
        return [None] * len(metrics)
    own_ids = None if candidate_ids is None else candidate_ids[:num_rows]
    return [eval_ids(metric, own_ids, eval_candidate_ids) for metric in metrics]


def _asked(options: Options, has_known: bool) -> list[str]:
    """The rules that compare ids, as a user turns them on."""
    asked = {
        "remove_accidental_hits=True": options.remove_accidental_hits,
        "known_positive_ids": has_known,
        "mask_shared_positives=True": options.mask_shared_positives,
    }
    return [rule for rule, is_asked in asked.items() if is_asked]


def _check_global(options: Options, score_mask: tf.Tensor | None) -> None:
    if not options.global_negatives:
        return
    distribute.check_in_step()
    if distribute.num_replicas() > 1 and score_mask is not None:
        raise ValueError(
            "`score_mask` is about this replica's candidates, and with "
            "`global_negatives=True` there are others' too: expected None. Say it "
            "with keys, `known_positive_ids`, or without global negatives."
        )


def _check_negative_ids(negatives: RowNegatives, asked: list[str]) -> None:
    if asked and negatives.ids is None:
        raise ValueError(
            f"`{asked[0]}` compares ids: expected `negative_ids` of shape [B, M] "
            "beside `negative_embeddings`, received None. Pass them, or leave "
            "the rule out."
        )
