"""A column of categories, as a feature."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._feature_columns import missing
from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives.towers import vocabulary
from tfrs_negatives.towers.feature import Feature, embedding
from tfrs_negatives.towers.pooling import mean_of_rows
from tfrs_negatives.types import Config, TensorLike

_MISSING, _UNKNOWN, _NUM_OTHERS = 0, 1, 2


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class Categorical(Feature):
    """An embedding of each category: strings or whole numbers, one or several a row.

    Missing values have an embedding of their own, and so have unknown ones, which
    `adapt` did not see or did not keep. Both are zeros until they are trained. Of
    several categories a row, as genres, the mean is taken over those that are not
    missing.

    Args:
      column: Name of the column.
      separator: What stands between the categories of a row, such as "|". None: each
        value is one category.
      max_categories: How many `adapt` keeps, the most frequent ones; the others are
        unknown. So the table is bounded, whatever the column holds.
      dim, name: See `Feature`.

    Call arguments:
      values: [B]; or several a row, [B, V] where missing ones fill up, or ragged.
        Missing are "" of strings and NaN of numbers.

    Raises:
      ValueError: In `adapt`: numbers that are not whole.

    Example:
      >>> genres = tn.towers.Categorical("genres", separator="|", dim=4)
      >>> genres = genres.adapt(["Action|Drama", "Drama", None])
      >>> genres.summary
      'genres: 2 categories, 33.3% missing'
      >>> genres(tf.constant(["Drama|Western", ""])).shape
      TensorShape([2, 4])
    """

    takes_lists = True

    def __init__(
        self,
        column: str,
        separator: str | None = None,
        max_categories: int = 100_000,
        dim: int | None = None,
        name: str | None = None,
    ) -> None:
        if max_categories < 1:
            raise ValueError(
                f"`max_categories` must be at least 1, received {max_categories!r}."
            )
        if separator == "":
            raise ValueError(
                "`separator` must be a string that is not empty, or None, received ''."
            )
        super().__init__(column, dim, name)
        self.separator = separator
        self.max_categories = max_categories
        self._vocabulary: np.ndarray | None = None

    @property
    def categories(self) -> np.ndarray:
        """The known categories in ascending order, [M] int64 or objects of `str`."""
        self._check_adapted()
        assert self._vocabulary is not None
        return self._vocabulary

    def _options(self) -> Config:
        return {
            **super()._options(),
            "separator": self.separator,
            "max_categories": self.max_categories,
        }

    def _learn(self, values: np.ndarray) -> str:
        flat = values[~missing(values)]
        if flat.dtype.kind == "f":
            if not (np.isfinite(flat) & (flat == np.floor(flat))).all():
                raise ValueError(
                    f"{self.column!r} must hold categories, strings or whole numbers, "
                    "received other numbers. Use `towers.Numeric`, or convert them."
                )
            flat = flat.astype(np.int64)
        if self.separator is not None:
            if flat.dtype.kind != "O" and len(flat):
                raise ValueError(
                    f"{self.column!r} must hold strings to be cut at "
                    f"{self.separator!r}, received numbers. Leave out `separator`."
                )
            parts = [part for text in flat for part in text.split(self.separator)]
            flat = np.array([part for part in parts if part], object)
        kept, rare = vocabulary.most_frequent(flat, self.max_categories)
        self._vocabulary = kept
        told = f"{len(kept):,} categories"
        if rare:
            return f"the {told} that are most frequent, {rare:.1%} of values are others"
        return told

    def _learned(self) -> Config:
        return {"vocabulary": vocabulary.as_json(self.categories)}

    def _set_learned(self, learned: Config) -> None:
        self._vocabulary = vocabulary.from_json(learned["vocabulary"])

    def _make(self, dim: int) -> None:
        if len(self.categories):
            self.lookup = vocabulary.lookup(self.categories)
        num_rows = _NUM_OTHERS + len(self.categories)
        self.embeddings = embedding(num_rows, dim, num_zero=_NUM_OTHERS)

    @unconverted
    def call(self, values: TensorLike, training: bool = False) -> tf.Tensor:
        values = self._as_kind(values)
        if self.separator is not None and self.dtype_of_values == "string":
            values = tf.strings.split(values, self.separator)
        if values.shape.rank == 1:
            return self.embeddings(self._numbers(values))
        if not isinstance(values, tf.RaggedTensor):
            values = tf.RaggedTensor.from_tensor(values)
        numbers = values.with_flat_values(self._numbers(values.flat_values))
        numbers = tf.ragged.boolean_mask(numbers, numbers != _MISSING)
        # A row that has nothing else is missing.
        is_empty = tf.cast(numbers.row_lengths() == 0, numbers.row_splits.dtype)
        missing_rows = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.reduce_sum(is_empty)], tf.cast(_MISSING, tf.int64)), is_empty
        )
        numbers = tf.concat([numbers, missing_rows], axis=1)
        vectors = numbers.with_flat_values(self.embeddings(numbers.flat_values))
        return mean_of_rows(vectors)

    def _numbers(self, values: tf.Tensor) -> tf.Tensor:
        """Rows of the table for a vector of values."""
        if values.dtype == tf.string:
            is_missing = values == ""
        elif values.dtype.is_floating:
            is_missing = tf.math.is_nan(values)
            values = tf.cast(
                tf.where(is_missing, tf.zeros_like(values), values), tf.int64
            )
        else:
            is_missing = tf.zeros(tf.shape(values), tf.bool)
            values = tf.cast(values, tf.int64)
        if not len(self.categories):
            known = tf.zeros(tf.shape(values), tf.int64)
        else:
            known = tf.cast(self.lookup(values), tf.int64)
        return tf.where(is_missing, tf.cast(_MISSING, tf.int64), known + _UNKNOWN)
