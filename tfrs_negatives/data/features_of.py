"""The features of users or items from a table of them, which join a dataset."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.types import TensorLike


def features_of(tensors: Mapping[str, TensorLike], key: str) -> KeyedFeatures:
    """Finds the features of each id of a batch in a table of users, or of items.

    ```python
    item_features = data.features_of(item_tower.tensors(items), key="item")
    rows = item_features.attach(rows, "item")
    ```

    Args:
      tensors: Columns by name, as `towers.Tower.tensors` makes them of a table: one row
        for each user or item.
      key: Which column has their distinct ids.

    Returns:
      `KeyedFeatures`.

    Raises:
      ValueError: No such column, ids that repeat, columns of different lengths.
    """
    return KeyedFeatures(tensors, key)


class KeyedFeatures:
    """The features by id; made by `features_of`.

    Called with ids [B] it gives a dict of the other columns, [B, ...] each. Ids that
    the table lacks have missing values: "", or NaN, for which whole numbers become
    float64.

    Args:
      tensors, key: See `features_of`.

    Attributes:
      names: The columns but for `key`.

    Example:
      >>> items = {"item": ["tea", "milk"], "price": [3.0, 1.0]}
      >>> features = tn.data.features_of(items, key="item")
      >>> features(tf.constant(["milk", "new"]))["price"].numpy().tolist()
      [1.0, nan]
    """

    def __init__(self, tensors: Mapping[str, TensorLike], key: str) -> None:
        self._key = key
        self._corpus = ItemCorpus(dict(tensors), key)
        self._lookup = self._corpus.lookup
        with tf.init_scope(), tf.device("CPU:0"):
            # One row more, for ids that are not found.
            self._columns = {
                name: with_missing(column)
                for name, column in self._corpus.features.items()
                if name != key
            }

    @property
    def names(self) -> tuple[str, ...]:
        """The columns but for `key`."""
        return tuple(self._columns)

    def __call__(self, ids: TensorLike) -> dict[str, tf.Tensor]:
        places = self._lookup(self._key, ids)
        return {
            name: tf.gather(column, places) for name, column in self._columns.items()
        }

    # Nothing here depends on tensors' values; converting would only warn.
    @tf.autograph.experimental.do_not_convert
    def attach(
        self, dataset: tf.data.Dataset, key_feature: str | None = None
    ) -> tf.data.Dataset:
        """Adds the features of each row's user or item to the batches of a dataset.

        Args:
          dataset: Yields dicts of batches.
          key_feature: Which feature has the ids, [B]. None: that of the key's name.

        Returns:
          The dataset with the features `names`.

        Raises:
          ValueError: Elements that are not dicts, lack the key, or have one of the
            names
            already: users and items may not share names of columns.
        """
        key_feature = self._key if key_feature is None else key_feature
        _checks.check_batches(dataset, key_feature, self.names)
        return dataset.map(
            lambda element: {**element, **self(element[key_feature])},
            num_parallel_calls=tf.data.AUTOTUNE,
        )


def with_missing(column: tf.Tensor) -> tf.Tensor:
    """A column and a row of missing values."""
    if column.dtype == tf.string:
        return tf.concat([column, tf.zeros_like(column[:1])], axis=0)
    if not column.dtype.is_floating:
        column = tf.cast(column, tf.float64)
    nothing = tf.fill(tf.shape(column[:1]), tf.cast(float("nan"), column.dtype))
    return tf.concat([column, nothing], axis=0)
