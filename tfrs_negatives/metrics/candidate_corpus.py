"""The candidates that positives are ranked among: embeddings, and rows by id."""

from __future__ import annotations

import abc

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.index.brute_force import BruteForce
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.metrics.corpus_ids import KnownIds, ids_of_layer
from tfrs_negatives.metrics.corpus_inputs import IdLists
from tfrs_negatives.metrics.ranks import ranks_of_embeddings, ranks_of_positions

_NORM_BLOCK = 2**16


class CandidateCorpus(abc.ABC):
    """Ranks positives among candidates; what `CorpusRecall` asks."""

    @property
    def width(self) -> int | None:
        """d, or None where only a step can tell."""
        return None

    @property
    def searcher(self) -> Searcher | None:
        """That of an index, which a function keeps when it is traced."""
        return None

    @abc.abstractmethod
    def is_exact(self) -> bool:
        """Whether ranks are those among all candidates."""

    @abc.abstractmethod
    def known_ids(self) -> KnownIds:
        """`corpus_ids.KnownIds` of the candidates."""

    def invalidate(self) -> None:  # noqa: B027
        """A new evaluation begins: forgets what was read for the last one."""

    @abc.abstractmethod
    def ranks_of_ids(
        self,
        queries: tf.Tensor,
        positives: IdLists,
        excluded: IdLists | None,
        deepest: int,
    ) -> tf.Tensor:
        """Ranks of positives by id.

        Args:
          queries: `[B, d]` float32, finite.
          positives: `corpus_inputs.IdLists` `[B, M]`, none present for a second time.
          excluded: `IdLists` `[B, E]`, or None.
          deepest: An int: ranks beyond it need not be exact. May be more than there
            are candidates.

        Returns:
          `[B, M]` int32, 0 for what was not found.
        """

    @abc.abstractmethod
    def ranks_of_embeddings(
        self, queries: tf.Tensor, positives: tf.Tensor, deepest: int
    ) -> tf.Tensor:
        """Ranks `[B, 1]` int32 of one positive of each query, `[B, d]`."""


class EmbeddedCorpus(CandidateCorpus):
    """A corpus of which all embeddings are there to be scored."""

    def is_exact(self) -> bool:
        """True."""
        return True

    @abc.abstractmethod
    def read(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The embeddings `[N, d]` float32, and their `largest_norm`."""

    @abc.abstractmethod
    def positions(self, name: str, ids: tf.Tensor) -> tf.Tensor:
        """Row numbers of ids.

        Args:
          name: The argument's name, for messages.
          ids: `[B, n]`.

        Returns:
          `[B, n, c]` int32: c is how many rows an id may have; -1 for none.
        """

    def ranks_of_ids(
        self,
        queries: tf.Tensor,
        positives: IdLists,
        excluded: IdLists | None,
        deepest: int,
    ) -> tf.Tensor:
        embeddings, norm = self._read(queries)
        rows = self._positions_of("true_candidate_ids", positives)
        if excluded is None:
            out = tf.zeros(tf.stack([tf.shape(queries)[0], 0]), tf.int32)
        else:
            out = _flat(self._positions_of("excluded_ids", excluded))
        ranks = ranks_of_positions(queries, embeddings, norm, _flat(rows), out, deepest)
        # Of the rows of one id the best counts.
        ranks = tf.reshape(ranks, tf.shape(rows))
        ranks = tf.reduce_min(tf.where(ranks > 0, ranks, tf.int32.max), axis=2)
        return tf.where(ranks < tf.int32.max, ranks, 0)

    def ranks_of_embeddings(
        self, queries: tf.Tensor, positives: tf.Tensor, deepest: int
    ) -> tf.Tensor:
        embeddings, norm = self._read(queries)
        return ranks_of_embeddings(queries, embeddings, norm, positives, deepest)

    def _positions_of(self, name: str, lists: IdLists) -> tf.Tensor:
        rows = self.positions(name, lists.ids)
        return tf.where(lists.present[:, :, tf.newaxis], rows, -1)

    def _read(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        embeddings, norm = self.read()
        check = tf.debugging.assert_equal(
            tf.shape(queries)[1],
            tf.shape(embeddings)[1],
            "Query embeddings must be as wide as the candidates.",
        )
        return _checks.guard(embeddings, check), norm


def _flat(rows: tf.Tensor) -> tf.Tensor:
    """`[B, n * c]` of `[B, n, c]`."""
    shape = tf.shape(rows)
    return tf.reshape(rows, [shape[0], shape[1] * shape[2]])


class IndexCorpus(EmbeddedCorpus):
    """What an exact index holds at the time.

    Args:
      index: `index.BruteForce`.
      row_numbers_are_ids: Whether candidates without ids are found by the row numbers
        that the index answers with.
    """

    def __init__(self, index: BruteForce, row_numbers_are_ids: bool = True) -> None:
        self._index, self._row_numbers_are_ids = index, row_numbers_are_ids

    @property
    def searcher(self) -> Searcher:
        return self._index.searcher

    @property
    def width(self) -> int:
        return self.searcher.width

    def known_ids(self) -> KnownIds:
        known = ids_of_layer(self._index)
        if known.may_be_row_numbers and not self._row_numbers_are_ids:
            return KnownIds(False)
        return known

    def read(self) -> tuple[tf.Tensor, tf.Tensor]:
        embeddings = tf.convert_to_tensor(self.searcher._candidates)
        norm = largest_norm(embeddings)
        return _checks.guard(embeddings, self._is_there(), norm_check(norm)), norm

    def positions(self, name: str, ids: tf.Tensor) -> tf.Tensor:
        ids = _checks.guard(ids, self._is_there())
        found = self.searcher.identifiers.positions_of_any(name, ids)
        return found[:, :, tf.newaxis]

    def _is_there(self) -> tf.Operation | None:
        return tf.debugging.assert_equal(
            self.searcher.identifiers.num_rows(),
            tf.shape(self.searcher._candidates)[0],
            "The index was built again with ids of another dtype or none, since this "
            "function was traced. Trace it again.",
        )


def norm_check(largest_norm: tf.Tensor) -> tf.Operation | None:
    """The assertion that scores are finite; see `_checks.guard`."""
    return tf.debugging.assert_less(
        largest_norm,
        np.sqrt(float(tf.float32.max)),
        "`candidates` hold NaN or infinite embeddings, or some longer than 1e19. Has "
        "training diverged?",
    )


def largest_norm(embeddings: tf.Tensor) -> tf.Tensor:
    """The greatest length of a row, float64; NaN or inf if a row holds such.

    Infinite too where float32 cannot hold the square. In blocks, without a copy.
    """
    num_rows = tf.shape(embeddings)[0]

    def step(start: tf.Tensor, square: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        block = embeddings[start : start + _NORM_BLOCK]
        squares = tf.reduce_sum(block**2, axis=1)
        # A maximum would drop NaN.
        squares = tf.where(tf.math.is_finite(squares), squares, float("inf"))
        return start + _NORM_BLOCK, tf.maximum(square, tf.reduce_max(squares))

    _, square = tf.while_loop(
        lambda start, _: start < num_rows, step, [0, 0.0], parallel_iterations=1
    )
    return tf.sqrt(tf.cast(square, tf.float64))
