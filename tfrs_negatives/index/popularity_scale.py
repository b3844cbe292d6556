"""Popularity of items as log q, and how one more dimension holds it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfrs_negatives.types import TensorLike

#: The largest discount, in size: beyond it float32 has no digits left for the scores.
MAX_DISCOUNT = 1e6

# The standard deviation of the further dimension of candidates, as a share of that of
# all others together. Any is exact; docs/retrieval_index.md says what it does to ScaNN.
_SHARE = 0.125


@dataclasses.dataclass(frozen=True)
class PopularityScale:
    """How log q becomes a dimension of the candidates.

    ScaNN sorts candidates by where they lie, so that a dimension much longer than the
    others would hide these. The scale is a power of two, and rounds nothing.

    Attributes:
      centre: What is taken off log q.
      scale: What the rest is divided by.
    """

    centre: float
    scale: float

    @classmethod
    def of(cls, log_q: np.ndarray, candidates: np.ndarray) -> PopularityScale:
        """The scale for candidates.

        Args:
          log_q: `[N]` float64, finite, as `checked_log_q` returns it.
          candidates: `[N, d]`.
        """
        spread = _SHARE * math.sqrt(float(np.var(candidates, axis=0).sum()))
        exponent = 0
        if spread > 0 and log_q.std() > 0:
            # Within bounds, so that neither side can leave float32.
            exponent = max(-20, min(20, round(math.log2(log_q.std() / spread))))
        return cls(float(np.float32(log_q.mean())), 2.0**exponent)

    def column(self, log_q: np.ndarray) -> np.ndarray:
        """The further dimension of candidates, `[N]` float32."""
        return ((log_q - self.centre) / self.scale).astype(np.float32)


def checked_log_q(popularity: TensorLike, num_rows: int) -> np.ndarray:
    """Popularity as log q, `[num_rows]` float64.

    Args:
      popularity: log q (floating-point numbers), or counts (integers), of which 0 is
        taken as 1.
      num_rows: Number of candidates.

    Raises:
      ValueError: Another number, NaN or infinity, positive log q, negative counts, or
        none above 0.
    """
    values = np.asarray(popularity)
    if values.shape != (num_rows,):
        raise ValueError(
            f"`popularity` must have one value per indexed candidate ({num_rows}), "
            f"received shape {values.shape}."
        )
    if values.dtype.kind in "iu":
        if values.min() < 0 or not values.any():
            raise ValueError(
                "`popularity` of integers are counts, at least 0 and not all 0, "
                f"received {values.min()} to {values.max()}. Pass log q as "
                "floating-point numbers."
            )
        counts = values.astype(np.float64)
        return np.log(np.maximum(counts, 1)) - math.log(counts.sum())
    try:
        if values.dtype.kind in "bOSU":
            raise ValueError
        # Through TensorFlow's dtypes, for bfloat16.
        log_q = values.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            "`popularity` must be log q, floating-point numbers, or counts, integers, "
            f"received {values.dtype.name}."
        ) from None
    bad = np.flatnonzero(~np.isfinite(log_q))
    if len(bad):
        raise ValueError(
            f"`popularity` must be finite, but {len(bad)} values are NaN or infinite, "
            f"the first of them {log_q[bad[0]]} in row {bad[0]}. Where it is the log "
            "of counts of 0, pass the counts, as integers: 0 is then taken as 1."
        )
    if log_q.max() > 0:
        raise ValueError(
            "`popularity` of floating-point numbers is log q, at most 0, received "
            f"{log_q.max():g} in row {log_q.argmax()}. Pass counts as integers, and "
            "the log of probabilities."
        )
    return log_q
