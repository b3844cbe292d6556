"""log q where the columns are a batch's positives and the whole catalogue."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives._sorted_keys import SortedKeys
from tfrs_negatives.types import Config, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class CatalogueLogQ(keras.layers.Layer):
    """Gives the log of how many of the columns hold each id; of `samplers.Catalogue`.

    Args:
      num_items: N, the size of the catalogue.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string: B positives, then the N items of the catalogue;
        ids of negatives of single rows may follow.
      num_positives: B. None: n - N.
      num_columns: B + N. None: n.
      training: Ignored; the interface of `sampling_correction`.

    Returns:
      [n] float32, log(1 + how often the batch has the id): at least 0, as it is no
      probability.

    Raises:
      ValueError: Columns that are not B + N.
      tf.errors.InvalidArgumentError: The same where only values tell.
    """

    def __init__(self, num_items: int, name: str | None = None) -> None:
        _checks.check_at_least("num_items", num_items, 1)
        super().__init__(name=name, autocast=False, dtype="float32")
        self.num_items = num_items
        # Nothing depends on the shapes of a call.
        self.built = True

    def __repr__(self) -> str:
        return described(self, num_items=self.num_items)

    def get_config(self) -> Config:
        return {"name": self.name, "num_items": self.num_items}

    @unconverted
    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        keys = as_int64("ids", ids)
        if num_columns is None:
            num_columns = _checks.size(keys)
        if num_positives is None:
            num_positives = num_columns - self.num_items
        keys = self._checked(keys, num_columns - num_positives)
        first, last = SortedKeys(keys[:num_positives]).ranges(keys)
        return tf.math.log(tf.cast(1 + last - first, tf.float32))

    def _checked(self, keys: tf.Tensor, num_others: int | tf.Tensor) -> tf.Tensor:
        """The keys, computed only if the columns are as many as they should be."""
        message = (
            f"Columns must be the batch's positives and the {self.num_items} items of "
            "the catalogue: pass the task what `samplers.Catalogue.columns` returns"
        )
        known = tf.get_static_value(num_others)
        if known is None:
            return _checks.guard(
                keys,
                tf.debugging.assert_equal(num_others, self.num_items, f"{message}."),
            )
        if int(known) != self.num_items:
            raise ValueError(
                f"{message}. Expected {self.num_items} candidates beside the "
                f"positives, received {int(known)}."
            )
        return keys
