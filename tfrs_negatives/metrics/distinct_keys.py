"""How many users, sessions or requests a batch holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import keras
from tfrs_negatives.metrics.negative_metric import NegativeMetric
from tfrs_negatives.metrics.negatives import Negatives
from tfrs_negatives.metrics.ranks import first_occurrences
from tfrs_negatives.types import Config


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class DistinctKeys(NegativeMetric):
    """The mean number of distinct `query_keys` in a batch, that of all replicas.

    A batch of few keys has few rows that are negatives of each other: of a batch in
    the order of a log, sorted by request, this is a small part of its size. Each row
    without a key (`query_key_mask`) counts as one, as it does for `data` and the masks.

    Args:
      key: Name of the key, where the task is called with a dict of several.
      name: Name of the metric.

    Example:
      >>> metric = tn.metrics.DistinctKeys()
      >>> task = tn.tasks.Retrieval(negative_metrics=[metric])
      >>> embeddings = tf.ones([4, 2])
      >>> _ = task(embeddings, embeddings, query_keys=tf.constant([7, 7, 8, 9]))
      >>> round(float(metric.result()), 3)
      3.0
    """

    NEEDS = ("keys",)

    def __init__(self, key: str | None = None, name: str | None = None) -> None:
        super().__init__(name or ("distinct_keys" + (f"_{key}" if key else "")))
        self.key = key

    def get_config(self) -> Config:
        return {"name": self.name, "key": self.key}

    def check(
        self, candidate_ids: tf.Tensor | None, query_keys: Mapping[str | None, Any]
    ) -> None:
        self._chosen(query_keys)

    def parts(self, negatives: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
        keys, mask = self._chosen(negatives.keys)
        mask = tf.ones_like(keys, tf.bool) if mask is None else mask
        keys, mask = distribute.gather(keys), distribute.gather(mask)
        is_first = first_occurrences(keys[tf.newaxis], mask[tf.newaxis])[0]
        distinct = tf.math.count_nonzero(is_first | ~mask)
        return tf.cast(distinct, tf.float64), tf.ones([], tf.float64)

    def _chosen(self, keys: Mapping[str | None, Any]) -> Any:
        if self.key in keys:
            return keys[self.key]
        if self.key is None and len(keys) == 1:
            return next(iter(keys.values()))
        names = sorted(str(name) for name in keys)
        raise ValueError(
            f"`{self.name}` counts one of the `query_keys`: expected `key` to be one "
            f"of their names, received key={self.key!r} and the keys {names}."
        )
