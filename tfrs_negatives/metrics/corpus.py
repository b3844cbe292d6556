"""The candidates that positives are ranked among: embeddings, and rows by id."""

import abc

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.metrics.ranks import ranks_of_embeddings, ranks_of_positions

_NORM_BLOCK = 2**16


class Corpus(abc.ABC):
    """Ranks positives among candidates; what `CorpusRecall` asks.

    `width` is d and `num_rows` N, ints, or None where only a step can tell.
    """

    width = None
    num_rows = None
    # The searcher of an index, which a function keeps when it is traced.
    searcher = None

    @abc.abstractmethod
    def is_exact(self):
        """Whether ranks are those among all candidates."""

    def invalidate(self):  # noqa: B027
        """A new evaluation begins: forgets what was read for the last one."""

    @abc.abstractmethod
    def ranks_of_ids(self, queries, ids, present, excluded, deepest):
        """Ranks of positives by id.

        Args:
          queries: `[B, d]` float32, finite.
          ids: `[B, M]` ids.
          present: `[B, M]` bool, which are no padding and none for a second time.
          excluded: `[B, E]` ids, padded, or None.
          deepest: An int: ranks beyond it need not be exact.

        Returns:
          `[B, M]` int32, 0 for what was not found.
        """

    @abc.abstractmethod
    def ranks_of_embeddings(self, queries, positives, deepest):
        """Ranks `[B, 1]` int32 of one positive of each query, `[B, d]`."""

    def check_depth(self, deepest):
        """Raises `ValueError` where k is known to be beyond the corpus."""
        if self.num_rows is not None and deepest > self.num_rows:
            raise ValueError(
                f"`ks` must be at most the number of candidates ({self.num_rows}), "
                f"received {deepest}. Leave out the larger ones."
            )


class EmbeddedCorpus(Corpus):
    """A corpus of which all embeddings are there to be scored."""

    def is_exact(self):
        """True."""
        return True

    @abc.abstractmethod
    def read(self):
        """The embeddings `[N, d]` float32, and their `largest_norm`."""

    @abc.abstractmethod
    def positions(self, name, ids):
        """Row numbers of ids `[B, n]`, int32; -1 for padding and what is not there."""

    def ranks_of_ids(self, queries, ids, present, excluded, deepest):
        embeddings, norm = self._read(queries, deepest)
        positives = self.positions("true_candidate_ids", ids)
        if excluded is None:
            excluded = tf.zeros(tf.stack([tf.shape(queries)[0], 0]), tf.int32)
        else:
            excluded = self.positions("excluded_ids", excluded)
        positives = tf.where(present, positives, -1)
        return ranks_of_positions(
            queries, embeddings, norm, positives, excluded, deepest
        )

    def ranks_of_embeddings(self, queries, positives, deepest):
        embeddings, norm = self._read(queries, deepest)
        return ranks_of_embeddings(queries, embeddings, norm, positives, deepest)

    def _read(self, queries, deepest):
        self.check_depth(deepest)
        embeddings, norm = self.read()
        checks = [
            tf.debugging.assert_less_equal(
                deepest,
                tf.shape(embeddings)[0],
                "`ks` must be at most the number of candidates. Leave out the larger "
                "ones.",
            ),
            tf.debugging.assert_equal(
                tf.shape(queries)[1],
                tf.shape(embeddings)[1],
                "Query embeddings must be as wide as the candidates.",
            ),
        ]
        return _checks.guard(embeddings, *checks), norm


class IndexCorpus(EmbeddedCorpus):
    """What an exact index holds at the time.

    Args:
      index: `index.BruteForce`.
    """

    def __init__(self, index):
        self._index = index

    @property
    def searcher(self):
        return self._index.searcher

    @property
    def width(self):
        return self.searcher.width

    @property
    def num_rows(self):
        return self.searcher.num_rows

    def read(self):
        embeddings = tf.convert_to_tensor(self.searcher._candidates)
        norm = largest_norm(embeddings)
        same = tf.debugging.assert_equal(
            self.searcher.identifiers.num_rows(),
            tf.shape(embeddings)[0],
            "The index was built again with ids of another dtype, since this function "
            "was traced. Trace it anew.",
        )
        return _checks.guard(embeddings, same, norm_check(norm)), norm

    def positions(self, name, ids):
        identifiers = self.searcher.identifiers
        return identifiers.positions(as_ids_of(name, ids, identifiers))


def as_ids_of(name, ids, identifiers):
    """Ids in the dtype of an index's; -1 for those that this dtype cannot hold.

    Raises:
      ValueError: They cannot be equal. `tf.errors.InvalidArgumentError` where the
        index has negative ids, which stand for none here.
    """
    dtype = identifiers.dtype
    if (ids.dtype == tf.string) != (dtype == tf.string):
        raise ValueError(
            f"`{name}` ({ids.dtype.name}) can never equal the ids of the index "
            f"({dtype.name}): pass both as strings or both as numbers. An index made "
            "without ids has row numbers."
        )
    check = tf.debugging.assert_equal(
        identifiers.any_negative(),
        False,
        "The index holds negative ids, which stand for none in `true_candidate_ids` "
        "and `excluded_ids`. Give these candidates other ids, from 0 or strings.",
    )
    ids = _checks.guard(ids, check)
    if ids.dtype == dtype:
        return ids
    # A cast to a narrower dtype would make other ids of them.
    cast = tf.cast(ids, dtype)
    return tf.where(tf.equal(tf.cast(cast, ids.dtype), ids), cast, -1)


def norm_check(largest_norm):
    """The assertion that scores are finite; see `_checks.guard`."""
    return tf.debugging.assert_less(
        largest_norm,
        np.sqrt(float(tf.float32.max)),
        "`candidates` hold NaN or infinite embeddings, or some longer than 1e19. Has "
        "training diverged?",
    )


def largest_norm(embeddings):
    """The greatest length of a row, float64; NaN or inf if a row holds such.

    Infinite too where float32 cannot hold the square. In blocks, without a copy.
    """
    num_rows = tf.shape(embeddings)[0]

    def step(start, square):
        block = embeddings[start : start + _NORM_BLOCK]
        squares = tf.reduce_sum(block**2, axis=1)
        # A maximum would drop NaN.
        squares = tf.where(tf.math.is_finite(squares), squares, float("inf"))
        return start + _NORM_BLOCK, tf.maximum(square, tf.reduce_max(squares))

    _, square = tf.while_loop(
        lambda start, _: start < num_rows, step, [0, 0.0], parallel_iterations=1
    )
    return tf.sqrt(tf.cast(square, tf.float64))
