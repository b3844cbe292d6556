"""Recall, NDCG, MRR and hit rate over a whole corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import Untracked, keras
from tfrs_negatives.index.brute_force import BruteForce
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.metrics.candidate_corpus import CandidateCorpus, IndexCorpus
from tfrs_negatives.metrics.corpus_ids import KnownIds
from tfrs_negatives.metrics.corpus_inputs import (
    IdLists,
    checked_ids,
    checked_ks,
    finite,
)
from tfrs_negatives.metrics.dataset_corpus import DatasetCorpus
from tfrs_negatives.metrics.evaluation_mean import EvaluationMean
from tfrs_negatives.metrics.popularity_bands import PopularityBands
from tfrs_negatives.metrics.rank_measures import MEASURES
from tfrs_negatives.metrics.ranks import first_occurrences
from tfrs_negatives.metrics.retrieved_corpus import RetrievedCorpus
from tfrs_negatives.types import Config, ListsLike, TensorLike

# What TFRS calls its metric, and the hit rate.
_TFRS_NAME = "factorized_top_k"
_TFRS_MEASURE = "top_{}_categorical_accuracy"


class CorpusRecall(keras.layers.Layer):
    """Ranks positives among all candidates and averages measures of the ranks.

    A drop-in replacement for `tfrs.metrics.FactorizedTopK`, for the `metrics=` of a
    retrieval task or to be called by itself. It has the same arguments and, without
    `measures`, the same names in the logs, so that callbacks still find them. It
    differs in four ways:

    * Ranks are counted in one pass over blocks of candidates, without sorting.
    * A dataset of candidates is embedded once in each evaluation, at the first update
      after `reset_state`, and kept until the next `reset_state`. So in training steps
      it is of the epoch's first step: leave `compute_metrics` to evaluation.
    * Ties count against the positive. (In TFRS they count for it, so a model that
      embeds everything alike seems perfect.) Scores are float64 dot products, and tie
      if float64 cannot tell them apart; those of copies always tie.
    * If ids are given, the positive is looked up in the corpus, and the embedding there
      counts. A positive that is not there is a miss. If a dataset of candidates repeats
      an id, the best of its places counts. Without ids, the candidate whose embedding
      is the positive's up to rounding (1e-5 of its length) is the positive itself, and
      further ones tie. Give ids where you can: embeddings cannot be told apart from
      their copies, nor recognised if towers compute in half precision.

    A query's mean is over the queries with a positive, weighted by `sample_weight`.
    On several replicas the results are those of one with all rows.

    Args:
      candidates: The corpus: a finite `tf.data.Dataset` of batches of embeddings, or
        of pairs (ids, embeddings); a `[N, d]` array of embeddings; an
        `index.BruteForce`, whatever it holds at the time; or a layer that retrieves,
        called as `layer(queries, k=k)`, such as `index.ScaNN` or those of TFRS. With
        such, ranks are among what was retrieved, and one that is not exact needs ids.
      ks: Values of k, distinct. Where k is more than there are candidates, all of
        them are among the first k.
      name: Name of the layer, and the prefix of its measures' names. None: "corpus",
        or TFRS's "factorized_top_k" without `measures`.
      candidate_ids: `[N]` distinct ids of an array of candidates. None: they have no
        ids, and positives are known by their embeddings.
      measures: None: the hit rate, by TFRS's name
        "factorized_top_k/top_10_categorical_accuracy". Or some of "recall", "ndcg",
        "mrr" and "hit_rate", named as in "corpus/ndcg@10".
      popularity: `PopularityBands`, to average also over the positives of each band
        alone, named as in "corpus/tail/ndcg@10"; needs ids.

    Raises:
      ValueError: Options out of range; candidates that are nothing of the above, NaN
        or infinite; ids that are repeated or not one per candidate; `popularity` of
        candidates without ids.

    Example:
      >>> ids = ["tea", "milk", "jam"]
      >>> recall = tn.metrics.CorpusRecall(
      ...     np.eye(3), ks=[1, 2], candidate_ids=ids, measures="recall"
      ... )
      >>> queries = tf.constant([[0.9, 0.5, 0.0], [0.1, 0.8, 0.3]])
      >>> _ = recall.update_state(queries, true_candidate_ids=["milk", "milk"])
      >>> dict(zip(recall.names, np.array(recall.result()).tolist()))
      {'corpus/recall@1': 0.5, 'corpus/recall@2': 1.0}
    """

    def __init__(
        self,
        candidates: tf.data.Dataset | TensorLike | Callable[..., Any],
        ks: int | Sequence[int] = (1, 5, 10, 50, 100),
        name: str | None = None,
        *,
        candidate_ids: TensorLike | None = None,
        measures: str | Iterable[str] | None = None,
        popularity: PopularityBands | None = None,
    ) -> None:
        if name is None:
            name = _TFRS_NAME if measures is None else "corpus"
        super().__init__(name=name, dtype="float32")
        self._ks = checked_ks(ks)
        if measures is not None:
            measures = [measures] if isinstance(measures, str) else list(measures)
            for chosen in measures:
                _checks.check_choice("measures", chosen, tuple(MEASURES))
        if popularity is not None and not isinstance(popularity, PopularityBands):
            raise ValueError(
                "`popularity` must be a metrics.PopularityBands, received "
                f"{type(popularity).__name__}. Make one of the items' counts."
            )
        # Not attributes that Keras would look into: an index is no part of a metric.
        self._corpus = Untracked(_corpus_of(candidates, candidate_ids))
        self._bands = Untracked(popularity)
        if popularity is not None and self.known_ids().are_there is False:
            raise ValueError(
                "`popularity` needs candidates with ids, received candidates without. "
                "Let the dataset yield (ids, embeddings), or pass `candidate_ids` "
                "beside an array."
            )
        wanted: list[str | None] = [*measures] if measures else [None]
        averages = []
        for band in (None, *(popularity.names if popularity else ())):
            for measure in wanted:
                for k in self._ks:
                    average = EvaluationMean(
                        _name_of(name, band, measure, k),
                        MEASURES[measure or "hit_rate"],
                        k,
                        band,
                        on_reset=self._corpus.value.invalidate,
                    )
                    averages.append(average)
        # At once: Keras 2 tracks the metrics that a list holds when it is assigned.
        self._averages = averages
        # A function that Keras saw would be exported, with the corpus.
        self._measure = Untracked(None)
        self._traced_for = Untracked(None)
        self.built = True

    def get_config(self) -> Config:
        raise NotImplementedError(
            "A CorpusRecall cannot be serialised, since its candidates are data. Leave "
            "it out of the task, and set `task.factorized_metrics` after loading."
        )

    @property
    def names(self) -> list[str]:
        """Names of the measures, in the order of `result`."""
        return [average.name for average in self._averages]

    def known_ids(self) -> KnownIds:
        """`corpus_ids.KnownIds` of the candidates, for `corpus_ids.eval_ids`."""
        known = self._corpus.value.known_ids()
        needed = known.are_needed or self._bands.value is not None
        return known._replace(are_needed=needed)

    def update_state(
        self,
        query_embeddings: TensorLike,
        true_candidate_embeddings: TensorLike | None = None,
        true_candidate_ids: ListsLike | None = None,
        sample_weight: TensorLike | None = None,
        excluded_ids: ListsLike | None = None,
    ) -> tf.Operation | None:
        """Adds a batch of queries.

        Args:
          query_embeddings: `[B, d]` floating-point.
          true_candidate_embeddings: `[B, d]`, the positives; not looked at where there
            are ids.
          true_candidate_ids: Ids of the corpus: `[B]`, or `[B, M]` for several
            positives of a query, of which each counts; or a `tf.RaggedTensor`.
            Repeated ones count once.
          sample_weight: `[B]` or `[B, 1]`, the queries' weights.
          excluded_ids: `[B, E]`, candidates that are no answer to a query, such as
            what the user has seen; or ragged. Ids that the corpus does not have, and
            the query's own positives, are ignored.

        Returns:
          An operation in a graph, None in eager mode.

        Raises:
          ValueError: Neither embeddings nor ids of positives; exclusions without ids;
            ids where the candidates have none; shapes or dtypes that do not fit; an
            index that is not built. `tf.errors.InvalidArgumentError` where only the
            values tell, also for NaN and infinite embeddings.
        """
        sums = self.sums(
            query_embeddings,
            true_candidate_embeddings,
            true_candidate_ids,
            sample_weight,
            excluded_ids,
        )
        updates = []
        for average, parts in zip(self._averages, sums, strict=True):
            # Of which Keras 2 makes what returns an operation.
            update: Callable[..., Any] = average.update_state
            updates.append(update(*parts))
        return tf.group([u for u in updates if u is not None])

    def sums(
        self,
        query_embeddings: TensorLike,
        true_candidate_embeddings: TensorLike | None = None,
        true_candidate_ids: ListsLike | None = None,
        sample_weight: TensorLike | None = None,
        excluded_ids: ListsLike | None = None,
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """What `update_state` would add, without adding it.

        Arguments and errors are those of `update_state`.

        Returns:
          For each of `names` a pair of float64 scalars: the sum of the measure times
          the weights of the queries, and the sum of the weights.
        """
        queries = self._checked_embeddings("query_embeddings", query_embeddings)
        given = {"queries": queries}
        rows = _checks.size(queries)
        if true_candidate_ids is not None:
            self._check_has_ids()
            given["ids"] = checked_ids("true_candidate_ids", true_candidate_ids, rows)
        elif true_candidate_embeddings is None:
            raise ValueError(
                "Expected `true_candidate_embeddings` or `true_candidate_ids`, "
                "received neither."
            )
        else:
            positives = self._checked_embeddings(
                "true_candidate_embeddings", true_candidate_embeddings
            )
            hint = "Give each query one positive, in the same order."
            given["positives"] = _checks.check_size(
                "true_candidate_embeddings", positives, 0, rows, hint
            )
            self._check_no_ids_needed(excluded_ids)
        if excluded_ids is not None:
            given["excluded"] = checked_ids("excluded_ids", excluded_ids, rows)
        if sample_weight is not None:
            weight = tf.cast(tf.convert_to_tensor(sample_weight), tf.float64)
            _checks.check_rank("sample_weight", weight, (1, 2), "Pass one per query.")
            weight = tf.reshape(weight, [-1])
            hint = "Pass one weight per query."
            given["weight"] = _checks.check_size("sample_weight", weight, 0, rows, hint)
        if not tf.executing_eagerly():
            # It is part of that graph, whatever the replica.
            return self._measured(**given)
        searcher = self._corpus.value.searcher
        if self._measure.value is None or searcher is not self._traced_for.value:
            # An index whose ids have another dtype than before has another searcher.
            self._traced_for.value = searcher
            self._measure.value = tf.function(
                self._measured, reduce_retracing=True, autograph=False
            )
        return self._measure.value(**given)

    def result(self) -> list[tf.Tensor]:
        """The measures, a list of scalars in the order of `names`."""
        return [average.result() for average in self._averages]

    def reset_state(self) -> None:
        """Begins a new evaluation, in which a dataset of candidates is read again."""
        for average in self._averages:
            average.reset_state()

    def reset_states(self) -> None:
        """The same, by the name that TFRS's metrics have."""
        self.reset_state()

    def _checked_embeddings(self, name: str, embeddings: TensorLike) -> tf.Tensor:
        embeddings = tf.convert_to_tensor(embeddings)
        _checks.check_rank(name, embeddings, (2,), "Pass one embedding per row.")
        if not embeddings.dtype.is_floating:
            raise ValueError(
                f"`{name}` must be floating-point, received {embeddings.dtype.name}."
            )
        width = self._corpus.value.width
        if None not in (width, embeddings.shape[1]) and embeddings.shape[1] != width:
            raise ValueError(
                f"`{name}` must have width {width} like the candidates, received shape "
                f"{embeddings.shape}. Pass embeddings of the towers of this corpus."
            )
        return tf.cast(embeddings, tf.float32)

    def _check_no_ids_needed(self, excluded_ids: ListsLike | None) -> None:
        needs = None
        if excluded_ids is not None:
            needs = "`excluded_ids`: a positive may be among them"
        elif self._bands.value is not None:
            needs = "`popularity`"
        elif not self._corpus.value.is_exact():
            needs = "this index: it is not exact, so that its scores say little"
        if needs:
            raise ValueError(f"`true_candidate_ids` are needed for {needs}.")

    def _check_has_ids(self) -> None:
        if self.known_ids().are_there is False:
            raise ValueError(
                "`true_candidate_ids` cannot be found: the candidates were given no "
                "ids. Let the dataset yield (ids, embeddings), or pass `candidate_ids` "
                "beside an array: np.arange(n) where row numbers are meant."
            )

    def _measured(
        self,
        queries: tf.Tensor,
        ids: IdLists | None = None,
        positives: tf.Tensor | None = None,
        excluded: IdLists | None = None,
        weight: tf.Tensor | None = None,
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Sums of measures and of weights, a pair for each average."""
        corpus = self._corpus.value
        deepest = max(self._ks)
        checks = finite("query_embeddings", queries)
        if positives is not None:
            checks += finite("true_candidate_embeddings", positives)
        with tf.control_dependencies(checks):
            queries = tf.identity(queries)
        if ids is None:
            ranks = corpus.ranks_of_embeddings(queries, positives, deepest)
            present = tf.ones_like(ranks, tf.bool)
        else:
            keys = as_int64("true_candidate_ids", ids.ids)
            present = first_occurrences(keys, ids.present)
            ids = ids._replace(present=present)
            ranks = corpus.ranks_of_ids(queries, ids, excluded, deepest)
        bands = self._bands.value
        number = None if bands is None or ids is None else bands(ids.ids)
        if weight is None:
            weight = tf.ones(tf.shape(queries)[:1], tf.float64)
        sums = []
        for average in self._averages:
            counted = present
            if average.band is not None:
                counted &= tf.equal(number, bands.names.index(average.band))
            counts = tf.reduce_sum(tf.cast(counted, tf.int32), axis=1)
            values = average.compute(tf.where(counted, ranks, 0), counts, average.k)
            weights = tf.where(counts > 0, weight, 0.0)
            sums.append((tf.reduce_sum(weights * values), tf.reduce_sum(weights)))
        return sums


def _corpus_of(candidates: Any, ids: TensorLike | None) -> CandidateCorpus:
    if ids is not None and (
        isinstance(candidates, tf.data.Dataset) or callable(candidates)
    ):
        raise ValueError(
            "`candidate_ids` are for an array of candidates. Let a dataset yield "
            "(ids, embeddings), and give ids to an index where it is built."
        )
    if isinstance(candidates, CandidateCorpus):
        return candidates
    if isinstance(candidates, tf.data.Dataset):
        return DatasetCorpus(candidates)
    if isinstance(candidates, BruteForce):
        return IndexCorpus(candidates)
    if isinstance(candidates, TopK) or callable(candidates):
        return RetrievedCorpus(candidates)
    if isinstance(candidates, (np.ndarray, tf.Tensor, tf.Variable)):
        index = BruteForce().index(candidates, ids)
        return IndexCorpus(index, row_numbers_are_ids=False)
    raise ValueError(
        "`candidates` must be a tf.data.Dataset of batches of embeddings or of (ids, "
        "embeddings), an array of embeddings, or an index, received "
        f"{type(candidates).__name__}."
    )


def _name_of(name: str, band: str | None, measure: str | None, k: int) -> str:
    parts = [name] if band is None else [name, band]
    ending = _TFRS_MEASURE.format(k) if measure is None else f"{measure}@{k}"
    return "/".join([*parts, ending])
