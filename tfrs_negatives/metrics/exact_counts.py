"""How many candidates score at least as high as a positive, in one blocked pass.

A rank needs no sorting: it follows from a count, and counts of blocks add up. Scores
are float64 dot products, and those tie that float64 cannot tell apart, so that a tie
is a tie wherever the rows lie. Nearly all comparisons are decided in float32 by more
than its rounding can be; the few that are not are decided in float64.
"""

from __future__ import annotations

import tensorflow as tf

# Scores held at once: 16 MiB of float32.
_BLOCK_SCORES = 2**22

# From so many positives a query on, the best candidates of a block are found first, if
# they are no more than this share of it: all comparisons are then with them.
_MANY_SCORES, _SHARE_OF_BEST = 8, 0.25

# How many more are found than are needed: of so many, float32 may not know the order.
_MORE = 64

# Of its length: an embedding so near the positive's is the positive's, computed in
# another batch.
_TWIN = 1e-5


def count_at_least(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    largest_norm: tf.Tensor,
    scores: tf.Tensor,
    norms: tf.Tensor,
    limits: tf.Tensor,
    twins_of: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Counts the candidates that score at least as high as given scores.

    Args:
      queries: `[B, d]` float32, finite.
      candidates: `[N, d]` float32, finite.
      largest_norm: Scalar float64, the greatest length of a candidate.
      scores: `[B, M]` float64 dot products of the queries with their positives; inf
        for none.
      norms: `[B, M]` float64, the lengths of the positives.
      limits: `[B]` int32: counts from here on need not be exact.
      twins_of: `[B, d]` float32 or None: the one positive's embedding of each query.
        Candidates equal to it up to rounding are counted, and counted apart.

    Returns:
      Counts `[B, M]` int32, exact below the limit and at least the limit otherwise;
      and `[B]` int32, how many of them are twins (exact while counts are).
    """
    queries64 = tf.cast(queries, tf.float64)
    lengths = tf.norm(queries64, axis=1, keepdims=True)
    width = tf.cast(tf.shape(queries)[1], tf.float64)
    # Of float32 sums in any order (Higham, "Accuracy and Stability of Numerical
    # Algorithms", section 3.1), and of the rounding of the bounds themselves.
    rounding = 1.1 * (width + 4) * 2.0**-24 + _input_rounding()
    if twins_of is not None:
        rounding += _TWIN
    # The last term: products that float32 rounds to zero.
    reach = tf.maximum(largest_norm, norms)
    doubt = rounding * lengths * reach + 1e-37 * width
    upper = tf.cast(scores + doubt, tf.float32)
    lower = tf.cast(scores - doubt, tf.float32)
    least = scores - tie(queries) * norms

    num_candidates, num_scores = tf.shape(candidates)[0], tf.shape(scores)[1]
    columns = tf.maximum(_BLOCK_SCORES // tf.maximum(tf.shape(queries)[0], 1), 256)

    def add_block(
        start: tf.Tensor, counts: tf.Tensor, twins: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        block = candidates[start : start + columns]
        found = tf.matmul(queries, block, transpose_b=True)

        num_best = tf.reduce_max(limits) + _MORE
        num_found = tf.cast(tf.shape(block)[0], tf.float32)
        by_best = (num_scores >= _MANY_SCORES) & (
            tf.cast(num_best, tf.float32) <= _SHARE_OF_BEST * num_found
        )

        def add_best() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            best, places = tf.math.top_k(found, num_best, sorted=False)
            return add_scores(best, places, counts, twins)

        def add_scores(
            found: tf.Tensor,
            places: tf.Tensor | None,
            counts: tf.Tensor,
            twins: tf.Tensor,
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            least_found = tf.reduce_min(found, axis=1)

            def add_score(
                m: tf.Tensor, counts: tf.Tensor, twins: tf.Tensor, is_exact: tf.Tensor
            ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
                high, low = upper[:, m, tf.newaxis], lower[:, m, tf.newaxis]
                enough = counts[:, m, tf.newaxis] >= limits[:, tf.newaxis]
                above = found >= high
                doubtful = tf.not_equal(above, found >= tf.where(enough, high, low))
                more, new_twins = _resolve(
                    doubtful,
                    places,
                    queries64,
                    tie(queries),
                    block,
                    least[:, m],
                    twins_of,
                )
                surely = tf.reduce_sum(tf.cast(above, tf.int32), axis=1)
                # Others than the best may count too, if the last of these may.
                is_short = (least_found >= low[:, 0]) & (counts[:, m] + surely < limits)
                more = (more + surely)[:, tf.newaxis]
                counts += more * tf.one_hot(m, num_scores, dtype=tf.int32)
                is_exact &= ~tf.reduce_any(is_short)
                return m + 1, counts, twins + new_twins, is_exact

            _, counts, twins, is_exact = tf.while_loop(
                lambda m, *_: m < num_scores,
                add_score,
                [0, counts, twins, True],
                shape_invariants=[tf.TensorShape([]), *_INVARIANTS, tf.TensorShape([])],
                parallel_iterations=1,
            )
            return counts, twins, is_exact

        of_best = tf.cond(by_best, add_best, lambda: (counts, twins, False))
        counts, twins = tf.cond(
            of_best[2],
            lambda: of_best[:2],
            lambda: add_scores(found, None, counts, twins)[:2],
        )
        return start + columns, counts, twins

    counts = tf.zeros(tf.shape(scores), tf.int32)
    _, counts, twins = tf.while_loop(
        lambda start, *_: start < num_candidates,
        add_block,
        [0, counts, tf.zeros(tf.shape(queries)[:1], tf.int32)],
        shape_invariants=[tf.TensorShape([]), *_INVARIANTS],
        # Blocks side by side would hold their scores side by side.
        parallel_iterations=1,
    )
    return counts, twins


_INVARIANTS = tf.TensorShape([None, None]), tf.TensorShape([None])


def count_among(
    queries: tf.Tensor,
    scores: tf.Tensor,
    norms: tf.Tensor,
    others: tf.Tensor,
    other_norms: tf.Tensor,
    present: tf.Tensor,
) -> tf.Tensor:
    """The same count among a few candidates of each query, whose scores are known.

    Args:
      queries: `[B, d]` float32.
      scores, norms: `[B, M]` float64, as in `count_at_least`.
      others, other_norms: `[B, R]` float64, the same of the candidates.
      present: `[B, R]` bool, which to count.

    Returns:
      `[B, M]` int32.
    """
    least = scores - tie(queries) * norms
    counted = (others + tie(queries) * other_norms)[:, tf.newaxis] >= least[..., None]
    counted &= present[:, tf.newaxis]
    return tf.reduce_sum(tf.cast(counted, tf.int32), axis=2)


def tie(queries: tf.Tensor) -> tf.Tensor:
    """How far float64 may round a dot product, `[B, 1]`, over the candidate's length.

    Scores that two such roundings could make equal tie.
    """
    lengths = tf.norm(tf.cast(queries, tf.float64), axis=1, keepdims=True)
    return tf.cast(tf.shape(queries)[1] + 4, tf.float64) * 2.0**-53 * lengths


def _resolve(
    doubtful: tf.Tensor,
    places: tf.Tensor | None,
    queries64: tf.Tensor,
    tie: tf.Tensor,
    block: tf.Tensor,
    least: tf.Tensor,
    twins_of: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decides the doubtful pairs of a block, over the rows and columns that have any.

    Args:
      doubtful: `[B, n]` bool.
      places: `[B, n]` int32, the candidates in the block; None: all, in their order.
      queries64, tie, block, least, twins_of: Of the block's queries and candidates.

    Returns:
      `[B]` int32 each: how many count, and how many are twins.
    """
    pairs = tf.where(doubtful)
    columns = pairs[:, 1]
    if places is not None:
        columns = tf.cast(tf.gather_nd(places, pairs), tf.int64)
    rows, row_numbers = tf.unique(pairs[:, 0])
    columns, column_numbers = tf.unique(columns)
    doubtful = tf.scatter_nd(
        tf.stack([row_numbers, column_numbers], axis=1),
        tf.ones_like(row_numbers),
        tf.stack([tf.size(rows), tf.size(columns)]),
    )
    some = tf.cast(tf.gather(block, columns), tf.float64)
    scores = tf.matmul(tf.gather(queries64, rows), some, transpose_b=True)
    scores += tf.gather(tie, rows) * tf.norm(some, axis=1)
    counted = scores >= tf.gather(least, rows)[:, tf.newaxis]
    if twins_of is not None:
        own = tf.cast(tf.gather(twins_of, rows), tf.float64)
        square = tf.reduce_sum(own**2, axis=1, keepdims=True)
        distance = square + tf.reduce_sum(some**2, axis=1)
        distance -= 2 * tf.matmul(own, some, transpose_b=True)
        twins = distance <= _TWIN**2 * square
        counted |= twins
    num_rows = tf.shape(queries64)[0]

    def per_row(chosen: tf.Tensor) -> tf.Tensor:
        chosen = tf.reduce_sum(tf.cast(chosen, tf.int32) * doubtful, axis=1)
        return tf.scatter_nd(
            rows[:, tf.newaxis], chosen, [tf.cast(num_rows, rows.dtype)]
        )

    if twins_of is None:
        return per_row(counted), tf.zeros([num_rows], tf.int32)
    return per_row(counted), per_row(twins)


def _input_rounding() -> float:
    """What GPUs round off both factors of a float32 product, relative."""
    rounds = tf.config.experimental.tensor_float_32_execution_enabled()
    return 2.0**-10 if rounds and tf.config.list_logical_devices("GPU") else 0.0
