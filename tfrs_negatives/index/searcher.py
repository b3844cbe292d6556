"""What every index does once it holds candidates, apart from Keras.

A searcher owns the variables of an index: it is what a layer queries and what an
export writes, so that the two cannot differ.
"""

from __future__ import annotations

import abc
import contextlib
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._checks import size
from tfrs_negatives.index.identifiers import Identifiers
from tfrs_negatives.index.row_options import assert_that
from tfrs_negatives.types import TensorLike


class Searcher(tf.__internal__.tracking.AutoTrackable, abc.ABC):
    """Candidates and their ids, refreshed in place.

    All variables keep their identity in `refresh`, whatever the number of rows and
    the width, so that functions traced before it answer from the new candidates.

    Args:
      candidates: `[N, d]` float32, checked.
      identifiers: `[N]` ids, checked.
    """

    def __init__(self, candidates: tf.Tensor, identifiers: tf.Tensor) -> None:
        super().__init__()
        self.num_rows, self.width = candidates.shape
        self.identifiers = Identifiers(identifiers)
        # The same for graphs, which outlive a refresh.
        with tf.device("CPU:0"):
            self._size = tf.Variable(self.num_rows, trainable=False, name="size")
            self._depth = tf.Variable(self.width, trainable=False, name="depth")

    def _trackable_children(
        self, save_type: str = "checkpoint", **kwargs: Any
    ) -> dict[str, Any]:
        # Candidates follow from the towers, and a checkpoint restored under a built
        # index would leave what was derived from them (sizes, ScaNN's resource).
        if save_type == "checkpoint":
            return {}
        return super()._trackable_children(save_type, **kwargs)

    def refresh(self, candidates: tf.Tensor, identifiers: tf.Tensor) -> None:
        """Replaces all candidates and ids; the ids' dtype stays.

        Queries from other threads must wait until this returns.
        """
        self._replace(candidates)
        self.identifiers.assign(identifiers)
        self.num_rows, self.width = candidates.shape
        self._size.assign(self.num_rows)
        self._depth.assign(self.width)

    def retire(self) -> None:
        """Drops all ids, so that functions traced with this searcher fail.

        They hold its variables, and would answer from them for ever.
        """
        self.identifiers.assign(tf.zeros([0], self.identifiers.dtype))
        self._size.assign(0)

    @abc.abstractmethod
    def _replace(self, candidates: tf.Tensor) -> None:
        """Replaces the candidates; leaves everything as it was if it raises."""

    @abc.abstractmethod
    def candidates(self) -> tf.Tensor:
        """The candidates, `[N, d]` float32.

        Raises:
          ValueError: Only rounded ones are held.
        """

    @abc.abstractmethod
    def search(
        self, queries: tf.Tensor, k: int | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best candidates of each query.

        Args:
          queries: `[B, d]` float32, finite.
          k: From 1 to the number of rows: an int or a scalar int32 tensor.

        Returns:
          Scores `[B, k]` float32, descending, and row numbers `[B, k]` int32. Where
          fewer than k were found, scores that are not finite, and any number.
        """

    @abc.abstractmethod
    def _variables(self) -> list[tf.Variable]:
        """What holds the candidates, a list of variables."""

    def num_bytes(self) -> int:
        """Size of the candidates and ids, which is what an export of them takes."""
        held = [*self._variables(), *self.identifiers.variables()]
        return sum(_num_bytes(variable) for variable in held)

    def traced_for_export(self) -> contextlib.AbstractContextManager[None]:
        """Context in which to trace the functions of a SavedModel."""
        return contextlib.nullcontext()

    def settings(self) -> dict[str, Any]:
        """Build settings worth writing down, a dict for JSON."""
        return {}

    def retrieve(
        self, queries: TensorLike, k: int | tf.Tensor, excluded: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Checked search, with excluded rows taken out.

        A query that is NaN, infinite or longer than 1e19 gets no hit: one bad row of a
        batch must not fail the others.

        Args:
          queries: `[B, d]` floating-point tensor.
          k: Int or scalar integer tensor, from 1 to the number of rows.
          excluded: `[B, E]` int32 row numbers, -1 for none, or None. See
            `Identifiers.positions_of_exclusions`.

        Returns:
          Scores `[B, k]` float32, descending, and row numbers `[B, k]` int32. Where
          fewer than k were found: -inf and -1.

        Raises:
          ValueError: for the wrong rank, width, dtype or k, as far as known while
            tracing; `tf.errors.InvalidArgumentError` when the values tell.
        """
        eager = tf.executing_eagerly()
        queries = self.checked_queries(queries)
        k, columns = self._check_k(k)
        if not eager:
            queries, k = self._check_values(queries, k)
        rows = queries.shape[0]
        finite = None
        if not (eager and _are_moderate(queries)):
            # The square, so that scores cannot overflow either.
            norms = tf.reduce_sum(tf.square(queries), axis=1, keepdims=True)
            finite = tf.math.is_finite(norms)
            queries = tf.where(finite, queries, 0.0)
        if excluded is None:
            scores, positions = self.search(queries, k)
        else:
            excluded = self._checked_excluded(queries, excluded)
            scores, positions = self._search_without(queries, k, excluded)
        if finite is not None or not (eager and _are_finite(scores)):
            found = tf.math.is_finite(scores)
            found = found if finite is None else found & finite
            scores = tf.where(found, scores, float("-inf"))
            positions = tf.where(found, positions, -1)
        if not eager:
            scores.set_shape([rows, columns])
            positions.set_shape([rows, columns])
        return scores, positions

    def _search_without(
        self, queries: tf.Tensor, k: int | tf.Tensor, excluded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches for as many more candidates as a query can lose, then drops them.

        Args:
          queries: `[B, d]`.
          k: An int or a scalar int32 tensor.
          excluded: `[B, E + 1]` row numbers, ascending; -1 is none.
        """
        # The first is none; the same again is lost once.
        is_new = tf.not_equal(excluded[:, 1:], excluded[:, :-1])
        lost = tf.reduce_sum(tf.cast(is_new, tf.int32), axis=1)
        # The maximum over an empty batch is the lowest int32.
        more = tf.maximum(tf.reduce_max(lost), 0)
        wide = tf.minimum(k + more, self._size)
        scores, positions = self.search(queries, wide)
        place = tf.searchsorted(excluded, positions)
        place = tf.minimum(place, tf.shape(excluded)[1] - 1)
        drop = tf.equal(tf.gather(excluded, place, batch_dims=1), positions)
        drop |= ~tf.math.is_finite(scores)
        scores = tf.where(drop, float("-inf"), scores)
        positions = tf.where(drop, -1, positions)
        # `top_k` keeps the order of equals, so what stays keeps its order.
        scores, kept = tf.math.top_k(scores, k)
        return scores, tf.gather(positions, kept, batch_dims=1)

    def _checked_excluded(self, queries: tf.Tensor, excluded: tf.Tensor) -> tf.Tensor:
        """Ascending, of as many rows as there are queries."""
        rows, expected = excluded.shape[0], queries.shape[0]
        if None not in (rows, expected) and rows != expected:
            raise ValueError(
                f"`exclusions` must have one row per query ({expected}), received "
                f"shape {excluded.shape}."
            )
        if None in (rows, expected):
            same = tf.equal(tf.shape(excluded)[0], tf.shape(queries)[0])
            check = assert_that(same, "`exclusions` must have one row per query.")
            with tf.control_dependencies([check]):
                excluded = tf.identity(excluded)
        # One more column, so that a gather from it works without any exclusion.
        return tf.sort(tf.pad(excluded, [[0, 0], [0, 1]], constant_values=-1), axis=1)

    def checked_queries(self, queries: TensorLike) -> tf.Tensor:
        """Returns `queries` as a `[B, d]` float32 tensor.

        Raises:
          ValueError: Another rank, width or dtype, as far as known while tracing.
        """
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
        if queries.shape.rank is None:
            queries = tf.ensure_shape(queries, [None, None])
        return queries if queries.dtype == tf.float32 else tf.cast(queries, tf.float32)

    def _check_k(self, k: Any) -> tuple[int | tf.Tensor, int | None]:
        static = k if isinstance(k, int) else tf.get_static_value(k)
        if static is not None:
            # A plain int, as in most calls, needs no look by NumPy.
            if type(k) is not int and (np.ndim(static) or not _is_integer(static)):
                raise ValueError(f"`k` must be an integer, received {k!r}.")
            if not 1 <= static <= self.num_rows:
                raise ValueError(
                    "`k` must be from 1 to the number of candidates "
                    f"({self.num_rows}), received {int(static)}."
                )
        elif not k.dtype.is_integer or k.shape.rank not in (None, 0):
            raise ValueError(f"`k` must be a scalar integer, received {k!r}.")
        if static is None:
            return tf.cast(k, tf.int32), None
        return int(static), int(static)

    def _check_values(
        self, queries: tf.Tensor, k: int | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Checks what a graph sees only when it runs, maybe after a refresh."""
        in_range = tf.less_equal(k, self._size)
        if tf.is_tensor(k):
            in_range &= k > 0
        checks = [
            assert_that(
                tf.equal(size(queries, 1), self._depth),
                "Query embeddings must be as wide as the indexed candidates.",
            ),
            assert_that(in_range, "`k` must be from 1 to the number of candidates."),
        ]
        with tf.control_dependencies(checks):
            return tf.identity(queries), tf.identity(k)


def _num_bytes(variable: tf.Variable) -> int:
    if variable.dtype != tf.string:
        return int(tf.size(variable)) * variable.dtype.size
    return int(tf.reduce_sum(tf.strings.length(variable)))


def _are_moderate(queries: tf.Tensor) -> bool:
    """Whether surely no query, an eager tensor, is NaN, infinite or too long."""
    # Eager tensors lend NumPy their memory; operations would cost more than a search.
    values = np.asarray(queries)
    return math.isfinite(np.vdot(values, values))


def _are_finite(scores: tf.Tensor) -> bool:
    """Whether surely all scores, an eager tensor, are finite."""
    return math.isfinite(np.asarray(scores).sum())


def _is_integer(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iu"
