"""What an index retrieves, as a corpus of which only the best candidates are seen."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.metrics.candidate_corpus import CandidateCorpus
from tfrs_negatives.metrics.corpus_ids import KnownIds, ids_of_layer
from tfrs_negatives.metrics.corpus_inputs import IdLists
from tfrs_negatives.metrics.ranks import (
    are_among,
    ranks_of_retrieved,
    ranks_of_scores,
)

# Of the vectors' lengths: scores of one pair, computed in two ways, are nearer.
_SAME_SCORE = 1e-5


class RetrievedCorpus(CandidateCorpus):
    """The candidates that a layer retrieves.

    Args:
      layer: Called as `layer(queries, k=k)` for scores and ids, `[B, up to k]` both.
        Where nothing was retrieved, scores that are not finite.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._is_ours = isinstance(layer, TopK)

    @property
    def searcher(self) -> Searcher | None:
        return self._layer.searcher if self._is_ours else None

    @property
    def width(self) -> int | None:
        return self._layer.searcher.width if self._is_ours else None

    def known_ids(self) -> KnownIds:
        return ids_of_layer(self._layer)

    def is_exact(self) -> bool:
        is_exact = getattr(self._layer, "is_exact", None)
        return bool(is_exact and is_exact())

    def ranks_of_ids(
        self,
        queries: tf.Tensor,
        positives: IdLists,
        excluded: IdLists | None,
        deepest: int,
    ) -> tf.Tensor:
        find = self._ranks_in_index if self._is_ours else self._ranks_in_answer
        return find(queries, positives, excluded, deepest)

    def _ranks_in_index(
        self,
        queries: tf.Tensor,
        positives: IdLists,
        excluded: IdLists | None,
        deepest: int,
    ) -> tf.Tensor:
        """By row numbers, of which -1 can stand for none."""
        rows_of = self._layer.searcher.identifiers.positions_of_any
        wanted = rows_of("true_candidate_ids", positives.ids)
        present = positives.present & (wanted >= 0)
        if excluded is not None:
            rows = rows_of("excluded_ids", excluded.ids)
            is_out = excluded.present & ~are_among(rows, wanted, present)
            excluded = tf.where(is_out, rows, -1)
        scores, found = self._search(queries, excluded, deepest)
        return ranks_of_retrieved(found, scores, wanted, present)

    def _ranks_in_answer(
        self,
        queries: tf.Tensor,
        positives: IdLists,
        excluded: IdLists | None,
        deepest: int,
    ) -> tf.Tensor:
        """By the ids that a foreign layer answers with."""
        num_excluded = 0 if excluded is None else _checks.size(excluded.ids, 1)
        scores, found = self._layer(queries, k=deepest + num_excluded)
        check_comparable("true_candidate_ids", positives.ids, "ids of the index", found)
        found = as_int64("ids of the index", found)
        wanted = as_int64("true_candidate_ids", positives.ids)
        if excluded is not None:
            name = "excluded_ids"
            check_comparable(name, excluded.ids, "true_candidate_ids", positives.ids)
            out = as_int64(name, excluded.ids)
            is_out = are_among(found, out, excluded.present)
            is_out &= ~are_among(found, wanted, positives.present)
            scores = tf.where(is_out, float("-inf"), scores)
        return ranks_of_retrieved(found, scores, wanted, positives.present)

    def ranks_of_embeddings(
        self, queries: tf.Tensor, positives: tf.Tensor, deepest: int
    ) -> tf.Tensor:
        if self._is_ours:
            scores, _ = self._search(queries, None, deepest)
        else:
            scores, _ = self._layer(queries, k=deepest)
        own = tf.reduce_sum(queries * positives, axis=1, keepdims=True)
        lengths = tf.norm(queries, axis=1, keepdims=True)
        lengths *= tf.norm(positives, axis=1, keepdims=True)
        return ranks_of_scores(scores, own, _SAME_SCORE * lengths)

    def _search(
        self, queries: tf.Tensor, excluded: tf.Tensor | None, deepest: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and row numbers of the best candidates of an index of ours."""
        # One more, among which ties with the last are seen; as many as there are by
        # then, after a refresh. And not by the layer's call: a query model of it has
        # no part in this.
        searcher = self._layer.searcher
        k = tf.minimum(deepest + 1, searcher.identifiers.num_rows())
        return searcher.retrieve(queries, k, excluded)
