"""What an index retrieves, as a corpus of which only the best candidates are seen."""

import tensorflow as tf

from tfrs_negatives._ids import as_int64, check_comparable, is_padding
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.metrics.corpus import Corpus, as_ids_of
from tfrs_negatives.metrics.ranks import ranks_of_retrieved, ranks_of_scores

# Of the vectors' lengths: scores of one pair, computed in two ways, are nearer.
_SAME_SCORE = 1e-5


class RetrievedCorpus(Corpus):
    """The candidates that a layer retrieves.

    Args:
      layer: Called as `layer(queries, k=k)` for scores and ids, `[B, k]` both, and for
        exclusions as `layer.query_with_exclusions(queries, ids, k=k)`.
    """

    def __init__(self, layer):
        self._layer = layer
        self._is_ours = isinstance(layer, TopK)

    @property
    def searcher(self):
        return self._layer.searcher if self._is_ours else None

    @property
    def width(self):
        return self.searcher.width if self._is_ours else None

    @property
    def num_rows(self):
        return self.searcher.num_rows if self._is_ours else None

    def is_exact(self):
        is_exact = getattr(self._layer, "is_exact", None)
        return bool(is_exact and is_exact())

    def ranks_of_ids(self, queries, ids, present, excluded, deepest):
        if excluded is not None:
            excluded = _without_positives(excluded, ids)
        scores, found = self._retrieve(queries, excluded, deepest)
        check_comparable("true_candidate_ids", ids, "ids of the index", found)
        if self._is_ours:
            ids = as_ids_of("true_candidate_ids", ids, self.searcher.identifiers)
        # What fills rows is no id.
        scores = tf.where(is_padding(found), float("-inf"), scores)
        keys = tf.where(present, as_int64("true_candidate_ids", ids), -1)
        ranks = ranks_of_retrieved(as_int64("ids of the index", found), scores, keys)
        return tf.where(present, ranks, 0)

    def ranks_of_embeddings(self, queries, positives, deepest):
        scores, _ = self._retrieve(queries, None, deepest)
        own = tf.reduce_sum(queries * positives, axis=1, keepdims=True)
        lengths = tf.norm(queries, axis=1, keepdims=True)
        lengths *= tf.norm(positives, axis=1, keepdims=True)
        return ranks_of_scores(scores, own, _SAME_SCORE * lengths)

    def _retrieve(self, queries, excluded, deepest):
        self.check_depth(deepest)
        if self._is_ours:
            searcher = self.searcher
            if excluded is not None:
                excluded = as_ids_of("excluded_ids", excluded, searcher.identifiers)
            # One more, among which ties with the last are seen; as many as there are
            # by then, after a refresh. And not by the layer's call: a query model of
            # it has no part in this.
            num_rows = searcher.identifiers.num_rows()
            k = tf.clip_by_value(num_rows, deepest, deepest + 1)
            scores, positions = searcher.retrieve(queries, k, excluded)
            return scores, searcher.identifiers.gather(positions)
        if excluded is None:
            return self._layer(queries, k=deepest)
        return self._layer.query_with_exclusions(queries, excluded, k=deepest)


def _without_positives(excluded, ids):
    """Exclusions, with padding for those that are positives of the query."""
    check_comparable("excluded_ids", excluded, "true_candidate_ids", ids)
    keys, ids = as_int64("excluded_ids", excluded), as_int64("true_candidate_ids", ids)
    match = tf.equal(keys[:, :, tf.newaxis], ids[:, tf.newaxis])
    padding = tf.constant("" if excluded.dtype == tf.string else -1, excluded.dtype)
    return tf.where(tf.reduce_any(match, axis=2), padding, excluded)
