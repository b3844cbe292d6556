"""Strata of items from a clustering of their embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tfrs_negatives import _checks

# Numbers held at once, distances or coordinates: 64 MiB in float32.
_NUMBERS = 2**24


def cluster_strata(
    embeddings: ArrayLike,
    num_clusters: int,
    *,
    seed: int = 0,
    num_iterations: int = 20,
    smallest: int = 2,
) -> np.ndarray:
    """Numbers of the k-means clusters that items belong to, as `Stratified` takes them.

    Lloyd's iterations from the seeds of k-means++ (Arthur & Vassilvitskii, SODA 2007).
    Clusters that end with less than `smallest` items are dissolved: each of their items
    goes to the nearest of the others. In addition to the embeddings in float32 it takes
    some hundred MiB and 32 bytes an item. If embeddings are compared by their angle,
    pass unit vectors.

    Args:
      embeddings: [N, d] numbers, finite.
      num_clusters: From 1 to N / `smallest`; there may be fewer in the end.
      seed: Equal seeds give equal clusters.
      num_iterations: At most; it ends where no item moves.
      smallest: The fewest items of a cluster, at least 2, as a stratum needs.

    Returns:
      [N] int64, from 0 to one less than the number of clusters.

    Raises:
      ValueError: Embeddings of another rank, or not finite; numbers out of range.

    Example:
      >>> embeddings = [[0.0], [0.1], [5.0], [5.1], [5.2]]
      >>> strata = tn.samplers.cluster_strata(embeddings, 2)
      >>> bool(strata[0] == strata[1] != strata[2] == strata[3] == strata[4])
      True
    """
    points = np.asarray(embeddings, np.float32)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(
            "`embeddings` must be finite, one row an item: expected shape [N, d], "
            f"received {points.shape}, of which {(~np.isfinite(points)).sum()} numbers "
            "are not finite."
        )
    _checks.check_at_least("num_clusters", num_clusters, 1)
    _checks.check_at_least("seed", seed, 0)
    _checks.check_at_least("num_iterations", num_iterations, 1)
    _checks.check_at_least("smallest", smallest, 2)
    if num_clusters * smallest > len(points):
        raise ValueError(
            f"{num_clusters} clusters of at least {smallest} items need "
            f"{num_clusters * smallest}: received {len(points)}. Ask for fewer."
        )
    centres = _first_centres(points, num_clusters, np.random.default_rng(seed))
    nearest = _nearest(points, centres)
    for _ in range(num_iterations):
        centres = _means(points, nearest, centres)
        before, nearest = nearest, _nearest(points, centres)
        if np.array_equal(before, nearest):
            break
    return _without_small(points, nearest, centres, smallest)


def _first_centres(
    points: np.ndarray, num: int, rng: np.random.Generator
) -> np.ndarray:
    """Points [num, d], each drawn by its squared distance to those before it."""
    squares = np.einsum("nd,nd->n", points, points)
    chosen = [int(rng.integers(len(points)))]
    distances = np.full(len(points), np.inf)
    for _ in range(1, num):
        last = chosen[-1]
        to_last = squares + squares[last] - 2 * (points @ points[last])
        distances = np.minimum(distances, np.maximum(to_last, 0))
        distances[last] = 0
        total = distances.sum()
        # All points are centres already: they repeat.
        shares = distances / total if total > 0 else None
        chosen.append(int(rng.choice(len(points), p=shares)))
    return points[chosen]


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[N] int64, the nearest centre of each point; of equals the first."""
    squares = np.square(centres).sum(axis=1)
    return np.concatenate(
        [
            np.argmin(squares - 2 * points[rows] @ centres.T, axis=1)
            for rows in _blocks(len(points), len(centres))
        ]
    )


def _means(points: np.ndarray, nearest: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The mean of each centre's points; a centre without any stays."""
    counts = np.bincount(nearest, minlength=len(centres))
    sums = np.zeros(centres.shape)
    for rows in _blocks(*points.shape):
        order = np.argsort(nearest[rows], kind="stable")
        here, starts = np.unique(nearest[rows][order], return_index=True)
        in_order = points[rows][order]
        sums[here] += np.add.reduceat(in_order, starts, axis=0, dtype=np.float64)
    means = sums / np.maximum(counts, 1)[:, np.newaxis]
    return np.where(counts[:, np.newaxis] > 0, means, centres).astype(np.float32)


def _blocks(num_rows: int, width: int) -> list[slice]:
    """Rows of which so many numbers each are held at once."""
    size = max(_NUMBERS // max(width, 1), 1)
    return [slice(start, start + size) for start in range(0, num_rows, size)]


def _without_small(
    points: np.ndarray, nearest: np.ndarray, centres: np.ndarray, smallest: int
) -> np.ndarray:
    """Numbers of clusters, of which none has less than `smallest` points."""
    counts = np.bincount(nearest, minlength=len(centres))
    kept = np.flatnonzero(counts >= smallest)
    if not len(kept):
        return np.zeros(len(points), np.int64)
    moves = counts[nearest] < smallest
    number = np.searchsorted(kept, nearest)
    number[moves] = _nearest(points[moves], centres[kept]) if moves.any() else 0
    return number.astype(np.int64)
