"""The id of a user or an item, as a feature."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives.towers import vocabulary
from tfrs_negatives.towers.feature import Feature, embedding
from tfrs_negatives.types import Config, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class Id(Feature):
    """An embedding of each id, whole numbers or strings.

    Every whole number and every string is an id, negative ones and "" too. Ids that
    `adapt` did not see share one embedding, zeros at first: to it a new user or item is
    what its other features say.

    Args:
      column: Name of the column of ids.
      unknown_share: Share of a training batch's ids that are taken for unknown, so that
        the tower learns to do without the id, as it has to for new users and items. In
        [0, 1).
      dim, name: See `Feature`.

    Raises:
      ValueError: In `adapt`: ids that are missing, or neither whole numbers nor
        strings.

    Example:
      >>> ids = tn.towers.Id("item", dim=4).adapt(["tea", "milk"])
      >>> ids(tf.constant(["milk", "new"])).shape
      TensorShape([2, 4])
    """

    takes_missing = False

    def __init__(
        self,
        column: str,
        unknown_share: float = 0.0,
        dim: int | None = None,
        name: str | None = None,
    ) -> None:
        if not 0 <= unknown_share < 1:
            raise ValueError(
                f"`unknown_share` must be in [0, 1), received {unknown_share!r}."
            )
        super().__init__(column, dim, name)
        self.unknown_share = unknown_share
        self._vocabulary: np.ndarray | None = None

    @property
    def ids(self) -> np.ndarray:
        """The known ids in ascending order, [M] int64 or objects of `str`."""
        self._check_adapted()
        assert self._vocabulary is not None
        return self._vocabulary

    def _options(self) -> Config:
        return {**super()._options(), "unknown_share": self.unknown_share}

    def _learn(self, values: np.ndarray) -> str:
        self._vocabulary, _ = vocabulary.most_frequent(values)
        return f"{len(self._vocabulary):,} ids"

    def _learned(self) -> Config:
        return {"vocabulary": vocabulary.as_json(self.ids)}

    def _set_learned(self, learned: Config) -> None:
        self._vocabulary = vocabulary.from_json(learned["vocabulary"])

    def _make(self, dim: int) -> None:
        self.lookup = vocabulary.lookup(self.ids)
        self.embeddings = embedding(1 + len(self.ids), dim, num_zero=1)

    def numbers(self, values: TensorLike) -> tf.Tensor:
        """Rows of the table: 0 for unknown ids, else 1 and up; int64 of their shape."""
        if not self.built:
            self.build()
        values = self._as_kind(values)
        if values.dtype != tf.string:
            values = tf.cast(values, tf.int64)
        return tf.cast(self.lookup(values), tf.int64)

    def average_unknown(self) -> None:
        """Gives unknown ids the mean of the known, where nothing trained theirs."""
        table = self.embeddings.embeddings
        values = tf.convert_to_tensor(table)
        mean = tf.reduce_mean(values[1:], axis=0, keepdims=True)
        table.assign(tf.concat([mean, values[1:]], axis=0))

    @unconverted
    def call(self, values: TensorLike, training: bool = False) -> tf.Tensor:
        numbers = self.numbers(values)
        if self.unknown_share and training:
            is_kept = tf.random.uniform(tf.shape(numbers)) >= self.unknown_share
            numbers = tf.where(is_kept, numbers, 0)
        return self.embeddings(numbers)
