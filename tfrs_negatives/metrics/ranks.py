"""Ranks of positives among the candidates of a corpus, or among those retrieved.

A rank is the positive's place, 1 the best, in the list of all candidates that are not
excluded, in descending order of score, in which ties count against the positive:
candidates of equal score that are no positives of the query stand before it. Positives
of equal score stand one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import tensorflow as tf

from tfrs_negatives.metrics.exact_counts import count_among, count_at_least

#: From queries, scores, norms and limits, as `count_at_least` has them, to its counts.
Count: TypeAlias = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

_BLOCK_QUERIES = 1024
# Float64 numbers of gathered candidates at once: 32 MiB.
_GATHERED = 2**22


def ranks_of_positions(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    largest_norm: tf.Tensor,
    positives: tf.Tensor,
    excluded: tf.Tensor,
    deepest: int,
    count: Count | None = None,
) -> tf.Tensor:
    """Ranks of positives whose rows in the corpus are known.

    A query's positives are never excluded.

    Args:
      queries: `[B, d]` float32, finite.
      candidates: `[N, d]` float32, finite.
      largest_norm: Scalar float64, the greatest length of a candidate.
      positives: `[B, M]` int32 row numbers, distinct in a row; -1 for none.
      excluded: `[B, E]` int32 row numbers; -1 for none.
      deepest: An int: ranks beyond it need not be exact.
      count: What `count_at_least` counts, as a function of the queries, scores, norms
        and limits, where `candidates` are only a part of the corpus: the positives and
        the excluded. None: it counts among `candidates`.

    Returns:
      `[B, M]` int32; where a rank is beyond `deepest`, any number that is; 0 for none.
    """
    num_positives = tf.shape(positives)[1]
    members = tf.concat([positives, excluded], axis=1)
    num_members = tf.shape(members)[1]

    def rank(queries: tf.Tensor, positives: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
        vectors = tf.gather(candidates, tf.maximum(members, 0))
        vectors = tf.cast(vectors, tf.float64)
        scores = tf.linalg.matvec(vectors, tf.cast(queries, tf.float64))
        norms = tf.norm(vectors, axis=2)
        known = positives >= 0
        own = tf.where(known, scores[:, :num_positives], -float("inf"))
        # Best first: the m-th best cannot rank above m.
        order = tf.argsort(own, axis=1, direction="DESCENDING", stable=True)
        own = tf.gather(own, order, batch_dims=1)
        own = tf.where(tf.math.is_finite(own), own, float("inf"))[:, :deepest]
        own_norms = tf.gather(norms, order[:, :deepest], batch_dims=1)
        limits = tf.fill(tf.shape(queries)[:1], deepest + num_members)
        if count is None:
            counts, _ = count_at_least(
                queries, candidates, largest_norm, own, own_norms, limits
            )
        else:
            counts = count(queries, own, own_norms, limits)
        # Neither excluded candidates nor positives stand before it as others.
        present = first_occurrences(members, members >= 0)
        counts -= count_among(queries, own, own_norms, scores, norms, present)
        places = tf.range(num_positives)
        missing = [[0, 0], [0, num_positives - tf.shape(own)[1]]]
        ranks = 1 + tf.pad(counts, missing) + places
        ranks = tf.gather(ranks, tf.argsort(order, axis=1), batch_dims=1)
        return tf.where(known, ranks, 0)

    gathered = tf.maximum(num_members * tf.shape(queries)[1], 1)
    rows = tf.clip_by_value(_GATHERED // gathered, 1, _BLOCK_QUERIES)
    return _by_blocks(rank, [queries, positives, members], rows, [None, None])


def ranks_of_embeddings(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    largest_norm: tf.Tensor,
    positives: tf.Tensor,
    deepest: int,
) -> tf.Tensor:
    """Ranks of positives of which only the embeddings are known.

    Of the candidates whose embedding is the positive's up to rounding (1e-5 of its
    length), one is the positive itself and the others tie with it. Where there is
    none, the positive is ranked as one more candidate.

    Args:
      queries, candidates, largest_norm, deepest: As in `ranks_of_positions`.
      positives: `[B, d]` float32, finite.

    Returns:
      `[B, 1]` int32, as `ranks_of_positions`.
    """

    def rank(queries: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
        own = tf.cast(positives, tf.float64)
        scores = tf.cast(queries, tf.float64) * own
        scores = tf.reduce_sum(scores, axis=1, keepdims=True)
        counts, twins = count_at_least(
            queries,
            candidates,
            largest_norm,
            scores,
            tf.norm(own, axis=1, keepdims=True),
            tf.fill(tf.shape(queries)[:1], deepest + 1),
            positives,
        )
        return 1 + counts - tf.minimum(twins, 1)[:, tf.newaxis]

    return _by_blocks(rank, [queries, positives], _BLOCK_QUERIES, [None, 1])


def ranks_of_retrieved(
    keys: tf.Tensor, scores: tf.Tensor, positives: tf.Tensor, present: tf.Tensor
) -> tf.Tensor:
    """Ranks of positives among what an index retrieved.

    Args:
      keys: `[B, K]` integers that tell the retrieved candidates apart, the best first.
      scores: `[B, K]`, not finite where nothing was retrieved.
      positives: `[B, M]` the same of the positives, distinct in a row.
      present: `[B, M]` bool, which positives there are.

    Returns:
      `[B, M]` int32; 0 where the positive was not retrieved.
    """
    found = tf.math.is_finite(scores)
    match = tf.equal(positives[:, :, tf.newaxis], keys[:, tf.newaxis])
    match &= present[:, :, tf.newaxis] & found[:, tf.newaxis]
    lowest = scores.dtype.min
    own = tf.reduce_max(tf.where(match, scores[:, tf.newaxis], lowest), axis=2)
    is_positive = tf.reduce_any(match, axis=1)
    ahead = scores[:, tf.newaxis] >= own[:, :, tf.newaxis]
    ahead &= (found & ~is_positive)[:, tf.newaxis]
    place = tf.argmax(match, axis=2, output_type=tf.int32)
    earlier = tf.range(tf.shape(keys)[1]) < place[:, :, tf.newaxis]
    ahead |= earlier & is_positive[:, tf.newaxis]
    ranks = 1 + tf.reduce_sum(tf.cast(ahead, tf.int32), axis=2)
    return tf.where(tf.reduce_any(match, axis=2), ranks, 0)


def ranks_of_scores(
    scores: tf.Tensor, positives: tf.Tensor, tolerance: float | tf.Tensor
) -> tf.Tensor:
    """Ranks of positives of which only the scores are known, among retrieved ones.

    Of the retrieved candidates that score the same up to rounding, one is the
    positive itself.

    Args:
      scores: `[B, K]`, not finite where nothing was retrieved.
      positives: `[B, 1]`, of the same dtype.
      tolerance: `[B, 1]`, how far equal scores may be apart.

    Returns:
      `[B, 1]` int32.
    """
    found = tf.math.is_finite(scores)
    ahead = found & (scores >= positives - tolerance)
    same = ahead & (scores <= positives + tolerance)
    ahead, same = (
        tf.reduce_sum(tf.cast(chosen, tf.int32), axis=1, keepdims=True)
        for chosen in (ahead, same)
    )
    return 1 + ahead - tf.minimum(same, 1)


def first_occurrences(values: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """`[B, R]` bool: which are present and equal none that is present before them.

    Args:
      values: `[B, R]` integers.
      present: `[B, R]` bool.
    """
    order = _by_value(values, present)
    ordered = tf.gather(values, order, batch_dims=1)
    differs = tf.not_equal(ordered[:, 1:], ordered[:, :-1])
    first = tf.pad(differs, [[0, 0], [1, 0]], constant_values=True)
    first = first[:, : tf.shape(values)[1]]  # Of no columns there is no first.
    return present & tf.gather(first, tf.argsort(order, axis=1), batch_dims=1)


def are_among(values: tf.Tensor, lists: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Which of `values` `[B, n]` are in their row's list, `[B, n]` bool.

    Args:
      values: `[B, n]` integers.
      lists: `[B, m]` integers of the same dtype.
      present: `[B, m]` bool, which entries of the lists there are.
    """
    # One that is not present, so that there is one to look at.
    lists = tf.pad(lists, [[0, 0], [0, 1]])
    present = tf.pad(present, [[0, 0], [0, 1]], constant_values=False)
    order = _by_value(lists, present)
    lists = tf.gather(lists, order, batch_dims=1)
    places = tf.searchsorted(lists, values)
    places = tf.minimum(places, tf.shape(lists)[1] - 1)
    same = tf.equal(tf.gather(lists, places, batch_dims=1), values)
    order = tf.gather(order, places, batch_dims=1)
    return same & tf.gather(present, order, batch_dims=1)


def _by_value(values: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """The order of each row: by value, and of equal values those present first."""
    order = tf.argsort(tf.cast(~present, tf.int32), axis=1, stable=True)
    values = tf.gather(values, order, batch_dims=1)
    by_value = tf.argsort(values, axis=1, stable=True)
    return tf.gather(order, by_value, batch_dims=1)


def _by_blocks(
    function: Callable[..., tf.Tensor],
    arguments: Sequence[tf.Tensor],
    rows: int | tf.Tensor,
    shape: Sequence[int | None],
) -> tf.Tensor:
    """Applies a function to so many rows of all arguments at a time."""
    num_rows = tf.shape(arguments[0])[0]
    # One even of no rows, so that there is something to concatenate.
    num_blocks = tf.maximum((num_rows + rows - 1) // rows, 1)
    results = tf.TensorArray(
        tf.int32, num_blocks, infer_shape=False, element_shape=shape
    )

    def step(
        block: tf.Tensor, results: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.TensorArray]:
        some = [a[block * rows : (block + 1) * rows] for a in arguments]
        return block + 1, results.write(block, function(*some))

    _, results = tf.while_loop(
        lambda block, _: block < num_blocks,
        step,
        [0, results],
        parallel_iterations=1,
    )
    return results.concat()
