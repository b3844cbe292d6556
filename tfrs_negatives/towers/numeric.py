"""A column of numbers, as a feature."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._feature_columns import missing
from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives.towers.feature import Feature, embedding
from tfrs_negatives.types import Config, TensorLike

# Standard deviations beyond which a number counts as that far.
_FARTHEST = 5.0


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class Numeric(Feature):
    """A number: standardised, or by the bucket that it falls into.

    Standardised, it is (value - mean) / deviation, clipped to 5, times a vector. In
    buckets of about equally many rows, each bucket has an embedding. Use buckets for
    effects that do not rise or fall with the number, and for long tails.

    A missing value (NaN) has an embedding of its own, zeros until it is trained. In
    standardised columns its number is the mean.

    Args:
      column: Name of the column.
      buckets: How many buckets; None: standardised.
      dim, name: See `Feature`.

    Raises:
      ValueError: In `adapt`: strings, infinite numbers.

    Example:
      >>> age = tn.towers.Numeric("age", dim=4).adapt([20, 30, None, 40])
      >>> age.summary
      'age: mean 30, deviation 8.16, 25.0% missing'
    """

    def __init__(
        self,
        column: str,
        buckets: int | None = None,
        dim: int | None = None,
        name: str | None = None,
    ) -> None:
        if buckets is not None and buckets < 2:
            raise ValueError(
                f"`buckets` must be at least 2, or None, received {buckets!r}."
            )
        super().__init__(column, dim, name)
        self.buckets = buckets
        self._mean = self._deviation = 0.0
        self._boundaries: list[float] = []

    def _options(self) -> Config:
        return {**super()._options(), "buckets": self.buckets}

    def _learn(self, values: np.ndarray) -> str:
        if values.dtype.kind == "O":
            raise ValueError(
                f"{self.column!r} must hold numbers for `towers.Numeric`, received "
                "strings. Use `towers.Categorical` or `towers.Text`, or convert them."
            )
        values = values[~missing(values)].astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self.column!r} must hold finite numbers, received infinite ones. "
                "Replace them, such as by None for a missing value."
            )
        if not len(values):
            return "no numbers"
        if self.buckets is not None:
            self._boundaries = _boundaries(values, self.buckets)
            return f"{len(self._boundaries) + 1} buckets"
        self._mean, self._deviation = float(values.mean()), float(values.std())
        return f"mean {self._mean:.3g}, deviation {self._deviation:.3g}"

    def _learned(self) -> Config:
        return {
            "mean": self._mean,
            "deviation": self._deviation,
            "boundaries": self._boundaries,
        }

    def _set_learned(self, learned: Config) -> None:
        self._mean, self._deviation = learned["mean"], learned["deviation"]
        self._boundaries = list(learned["boundaries"])

    def _make(self, dim: int) -> None:
        # Row 0 is a missing value's.
        num_rows = 2 if self.buckets is None else 2 + len(self._boundaries)
        self.embeddings = embedding(num_rows, dim, num_zero=1)

    @unconverted
    def call(self, values: TensorLike, training: bool = False) -> tf.Tensor:
        # float64 until it is standardised: float32 counts seconds by minutes.
        values = tf.cast(self._as_kind(values), tf.float64)
        is_missing = tf.math.is_nan(values)
        values = tf.where(is_missing, tf.cast(self._mean, tf.float64), values)
        if self.buckets is not None:
            boundaries = tf.constant(self._boundaries, tf.float64)
            place = tf.searchsorted(boundaries, values, side="right")
            return self.embeddings(tf.where(is_missing, 0, 1 + place))
        standardised = tf.math.divide_no_nan(
            values - self._mean, tf.cast(self._deviation, tf.float64)
        )
        standardised = tf.clip_by_value(standardised, -_FARTHEST, _FARTHEST)
        vectors = self.embeddings(tf.cast(~is_missing, tf.int32))
        scale = tf.where(is_missing, tf.ones_like(standardised), standardised)
        return vectors * tf.cast(scale, vectors.dtype)[:, tf.newaxis]


def _boundaries(values: np.ndarray, buckets: int) -> list[float]:
    """The least value of each bucket but the first, ascending."""
    distinct = np.unique(values)
    if len(distinct) > buckets:
        shares = np.arange(1, buckets) / buckets
        found = np.unique(np.quantile(values, shares, method="higher"))
        # One at the least value would begin a bucket that has no rows before it.
        return found[found > distinct[0]].tolist()
    return distinct[1:].tolist()
