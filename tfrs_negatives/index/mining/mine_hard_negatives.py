"""Hard-negative mining: the best candidates of a query that are not its positives."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.index.mining.mining_queries import (
    batches,
    checked,
    is_dataset,
    pieces,
)
from tfrs_negatives.index.mining.mining_sources import (
    MinedFrom,
    MiningSource,
    as_source,
)
from tfrs_negatives.index.mining.query_positives import QueryPositives
from tfrs_negatives.index.mining.rank_range import (
    check_range,
    choose,
    kept,
    ordered,
    range_of,
)
from tfrs_negatives.index.mining.score_limits import (
    LIMITS,
    ScoreFunction,
    ScoreLimits,
    check_limits,
)
from tfrs_negatives.types import ListsLike, TensorLike


def mine_hard_negatives(
    index: MinedFrom,
    queries: TensorLike | tf.data.Dataset,
    num_negatives: int,
    *,
    positives: ListsLike | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    positive_scores: TensorLike | None = None,
    positive_embeddings: TensorLike | None = None,
    sampling: str = "uniform",
    score_function: ScoreFunction | None = None,
    ids: TensorLike | None = None,
    seed: int = 0,
    batch_size: int = 1024,
    progress: bool = True,
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Finds hard negatives of every query.

    For each query, with the words of sentence-transformers' function of this name:

    1. the index returns `range_max` items and as many more as there are known
       positives;
    2. `score_function`, if there is one, scores these items again and sets their order;
    3. known positives are left out, and the best `range_max` of the rest are kept;
    4. items above `max_score` or a margin are left out, as likely positives;
    5. the best `range_min` of the rest are skipped, so ranks count neither positives
       nor filtered items;
    6. M of the others are drawn without replacement, or the best M are taken.

    From the query side, `queries` are query embeddings and `positives` the items that
    each query is known to like. From the item side, `queries` are the embeddings of
    positive items, and `positives` at least their own ids.

    Candidates of equal score are ranked as the index ranks them. Memory: one batch of
    queries by the depth of the search, and the results.

    Args:
      index: A built `BruteForce` or `ScaNN` (queried by embeddings, whatever its
        `query_model`); a `RankedPairs` (queried by query ids); a searcher of
        `scann.scann_ops_pybind` by dot product; or a function from (queries, k) to
        (scores, ids), `[b, up to k]` each, best first. Where it found fewer, a score
        of -inf says so, whatever the id.
      queries: `[Q, d]` embeddings, or `[Q]` ids for `RankedPairs`; or a finite
        `tf.data.Dataset` of batches of them, read once.
      num_negatives: M.
      positives: Known positives: ids `[Q]`, or `[Q, P]`, of which each counts; or, of
        different lengths, a `tf.RaggedTensor` or a sequence of Q sequences.
      range_min: How many of the best candidates to skip.
      range_max: How many candidates to look at. None: `range_min` plus the larger of
        100 and 10 M.
      max_score: The highest score of a negative.
      absolute_margin: A negative scores at most the positive score less this.
      relative_margin: A negative scores at most the positive score less this share of
        its size, `p - relative_margin * |p|`: 0.05 is 95% of a positive score above
        0. (For negative p, sentence-transformers has `p * (1 - relative_margin)`,
        which lies above p.) With both margins, both hold.
      positive_scores: `[Q]` scores of the positives, which margins refer to.
      positive_embeddings: `[Q, d]` instead: the dot product with the query is the
        score.
      sampling: "uniform": M at random from the range; "top": the M best.
      score_function: Function from (rows `[b]` of the queries, ids `[b, k]`) to scores
        `[b, k]`, such as a ranking model. Where fewer were found, an id of the batch
        is repeated, and its score is not looked at.
      ids: `[N]` ids of the rows of a scann_ops_pybind searcher.
      seed: For "uniform". What a row draws depends on the seed, the row number and
        what is in its range, not on `batch_size`.
      batch_size: Queries a search. Datasets' batches are cut, not joined.
      progress: Whether to show how many queries were mined.

    Returns:
      `(ids, scores)`: `tf.RaggedTensor`s `[Q, up to M]`, best rank first: ids of the
      index's dtype, and float32. A `UserWarning` counts the rows with fewer than M;
      without such rows `.to_tensor()` is `[Q, M]`. `samplers.Mined` takes the ids.

    Raises:
      ValueError: No queries, NaN or infinite ones, `range_min >= range_max`, other
        options out of range, arrays of the wrong height, ids in `positives` that the
        index does not have.

    Example:
      >>> index = tn.index.BruteForce().index(tf.eye(3), tf.constant(["a", "b", "c"]))
      >>> queries = tf.constant([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
      >>> ids, scores = tn.index.mine_hard_negatives(
      ...     index, queries, 2, positives=["a", "b"], sampling="top", progress=False
      ... )
      >>> ids.to_list()
      [[b'b', b'c'], [b'c', b'a']]
    """
    mined = mine(
        index,
        queries,
        num_negatives,
        positives=positives,
        range_min=range_min,
        range_max=range_max,
        max_score=max_score,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin,
        positive_scores=positive_scores,
        positive_embeddings=positive_embeddings,
        sampling=sampling,
        score_function=score_function,
        ids=ids,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    if mined.num_short_rows:
        rows = mined.ids.shape[0]
        warnings.warn(
            f"{mined.num_short_rows} of {rows} rows "
            f"({mined.num_short_rows / rows:.1%}) have fewer than {num_negatives} "
            "negatives in the range. Raise `range_max`, lower "
            "`num_negatives` or `range_min`, or loosen the filters.",
            stacklevel=2,
        )
    return mined.ids, mined.scores


@dataclasses.dataclass(frozen=True)
class MinedNegatives:
    """What `mine` found, and how many rows have fewer than was asked for."""

    ids: tf.RaggedTensor
    scores: tf.RaggedTensor
    num_short_rows: int


def mine(
    index: MinedFrom,
    queries: TensorLike | tf.data.Dataset,
    num_negatives: int,
    *,
    ids: TensorLike | None = None,
    progress: bool = True,
    first_row: int = 0,
    **options: Any,
) -> MinedNegatives:
    """`mine_hard_negatives` without its warning; returns a `MinedNegatives`.

    Queries may be the rows from `first_row` on of more: what a row draws is the same.
    """
    options = _with_defaults(options)
    batch_size = options["batch_size"]
    _checks.check_at_least("num_negatives", num_negatives, 1)
    check_options(options)
    source = as_source(index, ids)
    range_ = range_of(source, num_negatives, options)
    limits = ScoreLimits(source, **{name: options[name] for name in LIMITS})
    known = QueryPositives(options["positives"], source)
    num_queries = None if is_dataset(queries) else len(checked(queries))
    heights = {"positives": known.num_rows, **limits.heights}
    if num_queries is not None:
        _check_heights(heights, num_queries)

    bar = keras.utils.Progbar(num_queries, unit_name="query") if progress else None
    parts, start = [], 0
    for batch in batches(queries, batch_size):
        stop = start + len(batch)
        if any(h is not None and h < stop for h in heights.values()):
            _check_heights(heights, f"at least {stop}")
        depths = range_.range_max + known.counts(start, stop)
        for piece in pieces(depths):
            some, row = batch[piece], start + piece.start
            found = _find(
                source, known, some, row, range_.range_max, options["score_function"]
            )
            limit = limits.of(some, row)
            parts.append(choose(*found, limit, range_, first_row + row))
        start = stop
        if bar is not None:
            bar.add(len(batch))
    if not start:
        raise ValueError("`queries` must hold at least one query, received none.")
    _check_heights(heights, start)
    positions, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    is_hit = positions >= 0
    lengths = np.count_nonzero(is_hit, axis=1)
    ids = _tensor(source.ids(positions[is_hit]))
    ids = tf.RaggedTensor.from_row_lengths(ids, lengths)
    scores = ids.with_flat_values(scores[is_hit])
    num_short_rows = int(np.count_nonzero(lengths < num_negatives))
    return MinedNegatives(ids, scores, num_short_rows)


def _tensor(ids: np.ndarray) -> tf.Tensor:
    # Of no strings at all, a tensor would be of numbers.
    return tf.constant(ids, tf.string if ids.dtype == object else None)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises `ValueError` for options of mining that no index could make right.

    Args:
      options: Dict of those of `mine_hard_negatives`; what is missing is its default.
    """
    options = _with_defaults(options)
    _checks.check_at_least("batch_size", options["batch_size"], 1)
    check_range(options)
    names = "max_score", "absolute_margin", "relative_margin", "score_function"
    check_limits(**{name: options[name] for name in names})


def _with_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**(mine_hard_negatives.__kwdefaults__ or {}), **options}


def _find(
    source: MiningSource,
    known: QueryPositives,
    queries: np.ndarray,
    start: int,
    range_max: int,
    score_function: ScoreFunction | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best `range_max` candidates that are no positives: positions and scores."""
    rows = np.arange(start, start + len(queries))
    k = range_max + int(known.counts(start, start + len(queries)).max(initial=0))
    if source.num_items is not None:
        k = min(k, source.num_items)
    scores, positions = source.find(queries, k)
    scores = np.where(positions < 0, -np.inf, scores)
    if np.isnan(scores).any() or (scores[:, 1:] > scores[:, :-1]).any():
        raise ValueError(
            "`index` must return the best candidates first, received scores that rise "
            "or are NaN."
        )
    if not source.complete:
        _check_distinct(positions)
    if score_function is not None:
        scores = _scored(score_function, rows, source, positions)
        positions, scores = ordered(
            np.argsort(-scores, kind="stable"), positions, scores
        )
    keep = (positions >= 0) & (scores > -np.inf) & ~known.among(positions, start)
    positions, scores = kept(keep, positions, scores)
    return positions[:, :range_max], scores[:, :range_max]


def _scored(
    score_function: ScoreFunction,
    rows: np.ndarray,
    source: MiningSource,
    positions: np.ndarray,
) -> np.ndarray:
    """Scores of the score function, -inf where there is no candidate."""
    some = positions.max(initial=-1)
    if some < 0:
        return np.full(positions.shape, -np.inf)
    # A function may not know what to make of an id that is none.
    ids = source.ids(np.where(positions < 0, some, positions))
    scores = np.asarray(score_function(rows, ids), np.float64)
    if scores.shape != positions.shape:
        raise ValueError(
            f"`score_function` must return scores of shape {positions.shape}, received "
            f"{scores.shape}."
        )
    scores = np.where(positions < 0, -np.inf, scores)
    if np.isnan(scores).any():
        raise ValueError("`score_function` must return numbers, received NaN.")
    return scores


def _check_distinct(positions: np.ndarray) -> None:
    ranked = np.sort(positions, axis=1)
    repeats = ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)).any(axis=1)
    if repeats.any():
        raise ValueError(
            "`index` must return each id once per query, received an id twice for "
            f"{repeats.sum()} queries of a batch."
        )


def _check_heights(heights: Mapping[str, int | None], num_queries: int | str) -> None:
    for name, height in heights.items():
        if height is not None and height != num_queries:
            raise ValueError(
                f"`{name}` must have one row per query ({num_queries}), received "
                f"{height}."
            )
