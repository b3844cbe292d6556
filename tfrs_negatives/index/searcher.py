"""What every index does once it holds candidates, apart from Keras.

A searcher owns the variables of an index: it is what a layer queries and what an
export writes, so that the two cannot differ.
"""

import abc
import contextlib

import numpy as np
import tensorflow as tf

from tfrs_negatives.index.identifiers import Identifiers


class Searcher(tf.__internal__.tracking.AutoTrackable, abc.ABC):
    """Candidates and their ids, refreshed in place.

    All variables keep their identity in `refresh`, whatever the number of rows and
    the width, so that functions traced before it answer from the new candidates.

    Args:
      candidates: `[N, d]` float32, checked.
      identifiers: `[N]` ids, checked.
    """

    def __init__(self, candidates, identifiers):
        super().__init__()
        self.num_rows, self.width = candidates.shape
        self.identifiers = Identifiers(identifiers)

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        # Candidates follow from the towers, and a checkpoint restored under a built
        # index would leave what was derived from them (sizes, ScaNN's resource).
        if save_type == "checkpoint":
            return {}
        return super()._trackable_children(save_type, **kwargs)

    def refresh(self, candidates, identifiers):
        """Replaces all candidates and ids; the ids' dtype stays.

        Queries from other threads must wait until this returns.
        """
        self._replace(candidates)
        self.identifiers.assign(identifiers)
        self.num_rows, self.width = candidates.shape

    def retire(self):
        """Drops all ids, so that functions traced with this searcher fail.

        They hold its variables, and would answer from them for ever.
        """
        self.identifiers.assign(tf.zeros([0], self.identifiers.dtype))

    @abc.abstractmethod
    def _replace(self, candidates):
        """Replaces the candidates; leaves everything as it was if it raises."""

    @abc.abstractmethod
    def search(self, queries, k):
        """The best candidates of each query.

        Args:
          queries: `[B, d]` float32, finite.
          k: Scalar int32 tensor, from 1 to the number of rows.

        Returns:
          Scores `[B, k]` float32, descending, and row numbers `[B, k]` int32. Where
          fewer than k were found: -inf and -1.
        """

    @abc.abstractmethod
    def num_dimensions(self):
        """Width d of the candidates, a scalar int32 tensor."""

    def traced_for_export(self):
        """Context in which to trace the functions of a SavedModel."""
        return contextlib.nullcontext()

    def settings(self):
        """Build settings worth writing down, a dict for JSON."""
        return {}

    def retrieve(self, queries, k, exclusions=None):
        """Checked search, with excluded ids taken out.

        A query that is NaN, infinite or longer than 1e19 gets padding only: one bad
        row of a batch must not fail the others.

        Args:
          queries: `[B, d]` floating-point tensor.
          k: Int or scalar integer tensor, from 1 to the number of rows.
          exclusions: `[B, E]` ids, padded with -1 or "", or None.

        Returns:
          As `search`.

        Raises:
          ValueError: for the wrong rank, width, dtype or k, as far as known while
            tracing; `tf.errors.InvalidArgumentError` when the values tell.
        """
        queries = self._check_queries(queries)
        k, size = self._check_k(k)
        # The square, so that scores cannot overflow either.
        norms = tf.reduce_sum(tf.square(queries), axis=1, keepdims=True)
        finite = tf.math.is_finite(norms)
        queries = tf.where(finite, queries, 0.0)
        if exclusions is None:
            scores, positions = self.search(queries, k)
        else:
            excluded = self._excluded_positions(queries, exclusions)
            scores, positions = self._search_without(queries, k, excluded)
        scores = tf.where(finite, scores, float("-inf"))
        positions = tf.where(finite, positions, -1)
        shape = [queries.shape[0], size]
        return tf.ensure_shape(scores, shape), tf.ensure_shape(positions, shape)

    def _search_without(self, queries, k, excluded):
        """Searches for as many more candidates as a query can lose, then drops them.

        Args:
          queries: `[B, d]`.
          k: Scalar int32 tensor.
          excluded: `[B, E + 1]` row numbers, ascending; -1 is padding.
        """
        lost = tf.reduce_sum(tf.cast(excluded >= 0, tf.int32), axis=1)
        # The maximum over an empty batch is the lowest int32.
        more = tf.maximum(tf.reduce_max(lost), 0)
        wide = tf.minimum(k + more, self.identifiers.num_rows())
        scores, positions = self.search(queries, wide)
        place = tf.searchsorted(excluded, positions)
        place = tf.minimum(place, tf.shape(excluded)[1] - 1)
        drop = tf.equal(tf.gather(excluded, place, batch_dims=1), positions)
        scores = tf.where(drop, float("-inf"), scores)
        positions = tf.where(drop, -1, positions)
        # `top_k` keeps the order of equals, so what stays keeps its order.
        scores, kept = tf.math.top_k(scores, k)
        return scores, tf.gather(positions, kept, batch_dims=1)

    def _excluded_positions(self, queries, exclusions):
        exclusions = self.identifiers.convert(exclusions)
        rows, expected = exclusions.shape[0], queries.shape[0]
        if None not in (rows, expected) and rows != expected:
            raise ValueError(
                f"`exclusions` must have one row per query ({expected}), received "
                f"shape {exclusions.shape}."
            )
        check = tf.debugging.assert_equal(
            tf.shape(exclusions)[0],
            tf.shape(queries)[0],
            message="`exclusions` must have one row per query.",
        )
        with tf.control_dependencies(_present(check)):
            excluded = self.identifiers.positions(exclusions)
        # One more column, so that a gather from it works without any exclusion.
        return tf.sort(tf.pad(excluded, [[0, 0], [0, 1]], constant_values=-1), axis=1)

    def _check_queries(self, queries):
        if not tf.is_tensor(queries):
            queries = tf.convert_to_tensor(queries)
        hint = "Pass a matrix with one query embedding per row."
        if queries.shape.rank not in (None, 2):
            raise ValueError(
                f"Query embeddings must have shape [queries, {self.width}], received "
                f"shape {queries.shape}. {hint}"
            )
        if not queries.dtype.is_floating:
            raise ValueError(
                "Query embeddings must be floating-point numbers, received "
                f"{queries.dtype.name}. Raw features need a query model: "
                "`query_model=` of the index."
            )
        if queries.shape.rank == 2 and queries.shape[1] not in (None, self.width):
            raise ValueError(
                f"Query embeddings must have width {self.width} like the indexed "
                f"candidates, received shape {queries.shape}. {hint}"
            )
        check = tf.debugging.assert_equal(
            tf.shape(queries)[1],
            self.num_dimensions(),
            message="Query embeddings must be as wide as the indexed candidates.",
        )
        with tf.control_dependencies(_present(check)):
            return tf.cast(tf.ensure_shape(queries, [None, None]), tf.float32)

    def _check_k(self, k):
        static = tf.get_static_value(k)
        if static is not None:
            if np.ndim(static) or not _is_integer(static):
                raise ValueError(f"`k` must be an integer, received {k!r}.")
            if not 1 <= static <= self.num_rows:
                raise ValueError(
                    "`k` must be from 1 to the number of candidates "
                    f"({self.num_rows}), received {int(static)}."
                )
        elif not k.dtype.is_integer or k.shape.rank not in (None, 0):
            raise ValueError(f"`k` must be a scalar integer, received {k!r}.")
        size = None if static is None else int(static)
        k = tf.cast(k, tf.int32)
        message = "`k` must be from 1 to the number of candidates."
        checks = _present(
            tf.debugging.assert_positive(k, message=message),
            tf.debugging.assert_less_equal(
                k, self.identifiers.num_rows(), message=message
            ),
        )
        with tf.control_dependencies(checks):
            return tf.identity(k), size


def _present(*checks):
    """Checks that run later: in eager mode they have run, and are None."""
    return [check for check in checks if check is not None]


def _is_integer(value):
    return np.asarray(value).dtype.kind in "iu"
