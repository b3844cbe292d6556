"""A column of dates, as a feature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._feature_columns import missing
from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives.towers.feature import Feature, embedding
from tfrs_negatives.types import Config, TensorLike

_DAY = 86_400
#: Of each part how many values there are, and which one a time has, from 0: of int64
#: seconds since 1970, in NumPy and in TensorFlow.
_PARTS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "month": (12, lambda seconds: _month(seconds // _DAY)),
    "weekday": (7, lambda seconds: seconds // _DAY % 7),
    "hour": (24, lambda seconds: seconds // 3600 % 24),
}
_FARTHEST = 5.0


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class Date(Feature):
    """A time: how long ago it is, and its month, day of the week and hour.

    It is the sum of a vector for each part in use, by default those that vary:

    * "age": the seconds, standardised, times a vector. The age of an item, or the time
      of an event, differs from it only by a constant.
    * "month", "weekday", "hour": an embedding of each of 12, 7 and 24, in UTC.

    A missing date (NaN) has an embedding of its own, zeros until it is trained.

    Args:
      column: Name of the column: dates, or seconds since 1970.
      parts: Which of the parts to use. None: `adapt` takes those of which the column
        has several, so no hours of dates without times of day.
      dim, name: See `Feature`.

    Call arguments:
      values: [B] seconds since 1970 (UTC), where NaN is missing.

    Raises:
      ValueError: Unknown parts. In `adapt`: strings, infinite numbers.

    Example:
      >>> released = tn.towers.Date("released", dim=4)
      >>> released = released.adapt(np.array(["1995-11-22", "1999-03-31"], "M8[D]"))
      >>> released.summary
      'released: age, month'
    """

    def __init__(
        self,
        column: str,
        parts: Sequence[str] | None = None,
        dim: int | None = None,
        name: str | None = None,
    ) -> None:
        if parts is not None and (not parts or not {"age", *_PARTS}.issuperset(parts)):
            raise ValueError(
                "`parts` must be of 'age', 'month', 'weekday' and 'hour', at least "
                f"one, or None, received {parts!r}."
            )
        super().__init__(column, dim, name)
        self.parts = None if parts is None else tuple(parts)
        self._used: tuple[str, ...] = ()
        self._mean = self._deviation = 0.0

    def _options(self) -> Config:
        parts = None if self.parts is None else list(self.parts)
        return {**super()._options(), "parts": parts}

    def _learn(self, values: np.ndarray) -> str:
        if values.dtype.kind == "O":
            raise ValueError(
                f"{self.column!r} must hold dates for `towers.Date`, or seconds since "
                "1970, received strings. Convert them, as by `np.asarray(column, "
                "'datetime64[s]')` or `pandas.to_datetime`."
            )
        values = values[~missing(values)].astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self.column!r} must hold finite times, received infinite ones. "
                "Replace them, such as by None for a missing value."
            )
        if not len(values):
            self._used = ()
            return "no dates"
        self._mean, self._deviation = float(values.mean()), float(values.std())
        varying = ["age"] if self._deviation else []
        varying += [
            part
            for part, (_, value_of) in _PARTS.items()
            if len(np.unique(value_of(np.floor(values).astype(np.int64)))) > 1
        ]
        self._used = tuple(varying) if self.parts is None else self.parts
        return ", ".join(self._used) or "one date"

    def _learned(self) -> Config:
        return {
            "used": list(self._used),
            "mean": self._mean,
            "deviation": self._deviation,
        }

    def _set_learned(self, learned: Config) -> None:
        self._used = tuple(learned["used"])
        self._mean, self._deviation = learned["mean"], learned["deviation"]

    def _make(self, dim: int) -> None:
        # One table: a missing date, its age, then the values of each part.
        self._starts, size = {}, 2
        for part in self._used:
            if part != "age":
                self._starts[part] = size
                size += _PARTS[part][0]
        self.embeddings = embedding(size, dim, num_zero=1)

    @unconverted
    def call(self, values: TensorLike, training: bool = False) -> tf.Tensor:
        # float64: float32 counts seconds of this century by minutes.
        values = tf.cast(self._as_kind(values), tf.float64)
        is_missing = tf.math.is_nan(values)
        values = tf.where(is_missing, tf.zeros_like(values), values)
        zeros = tf.zeros(tf.shape(values), tf.int32)
        found = self.embeddings(zeros)
        missing_vectors, vectors = found, tf.zeros_like(found)
        if "age" in self._used:
            age = tf.math.divide_no_nan(
                values - self._mean, tf.cast(self._deviation, tf.float64)
            )
            age = tf.clip_by_value(age, -_FARTHEST, _FARTHEST)
            scale = tf.cast(age, vectors.dtype)[:, tf.newaxis]
            vectors += scale * self.embeddings(zeros + 1)
        seconds = tf.cast(tf.math.floor(values), tf.int64)
        for part, start in self._starts.items():
            vectors += self.embeddings(start + _PARTS[part][1](seconds))
        return tf.where(is_missing[:, tf.newaxis], missing_vectors, vectors)


def _month(days: Any) -> Any:
    """Months, from 0 for January, of days since 1970 in the Gregorian calendar.

    Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: years begin
    in March, so that a leap day ends one.
    """
    day = (days + 719_468) % 146_097  # Of 400 years.
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    return ((5 * day_of_year + 2) // 153 + 2) % 12
