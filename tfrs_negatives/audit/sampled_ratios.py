"""Ratios over a sample of batches, with their standard errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def sampled_batches(
    num_batches: int, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Numbers of at most `most` batches, drawn without replacement, ascending."""
    if num_batches <= most:
        return np.arange(num_batches)
    return np.sort(rng.choice(num_batches, most, replace=False))


def ratio(
    parts: ArrayLike, wholes: ArrayLike, num_batches: int
) -> dict[str, float | None]:
    """The ratio of two totals of an epoch, from a sample of its batches.

    The standard error is that of the ratio estimator under sampling without
    replacement (Cochran, Sampling Techniques, 1977, eq. 6.13).

    Args:
      parts, wholes: [m] numbers of the sampled batches.
      num_batches: How many batches the epoch has.

    Returns:
      `{"value": ..., "standard_error": ...}`: the error is 0 if all batches were
      sampled; both are None where the wholes add up to 0.
    """
    parts, wholes = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    total = wholes.sum()
    if not total:
        return {"value": None, "standard_error": None}
    value = parts.sum() / total
    size = len(parts)
    if size == num_batches:
        error = 0.0
    elif size < 2:
        error = None
    else:
        variance = ((parts - value * wholes) ** 2).sum() / (size - 1)
        unseen = 1 - size / num_batches
        error = float(np.sqrt(unseen * variance / size) / wholes.mean())
    return {"value": float(value), "standard_error": error}
