"""A tower applied to all batches of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives.index.identifiers import check_distinct
from tfrs_negatives.types import Tower


class TowerEncoder:
    """Embeds a dataset of (ids, features) as often as asked, by one trace.

    Args:
      name: The dataset's name, for messages.
      dataset: A finite `tf.data.Dataset` of pairs of batches (ids `[b]`, features).
      tower: A Keras layer or model, or a function, from features to embeddings
        `[b, d]`. Called without `training`, so for inference.

    Raises:
      ValueError: Elements of another structure, an infinite dataset.
    """

    def __init__(self, name: str, dataset: tf.data.Dataset, tower: Tower) -> None:
        spec = getattr(dataset, "element_spec", None)
        if not isinstance(spec, tuple) or len(spec) != 2:
            raise ValueError(
                f"`{name}` must be a tf.data.Dataset of batches (ids, features), "
                f"received {spec if spec is not None else type(dataset).__name__}. "
                "Map it to pairs."
            )
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(f"`{name}` must be finite: pass `dataset.take(n)`.")
        if not callable(tower):
            raise ValueError(
                f"The tower of `{name}` must be a Keras layer or a function, received "
                f"{type(tower).__name__}."
            )
        self._name, self._dataset, self._tower = name, dataset, tower
        # The last batch may be smaller than the others.
        signature = tf.nest.map_structure(_any_batch, spec[1])
        self._embed = tf.function(
            lambda features: tf.cast(tower(features), tf.float32),
            input_signature=[signature],
        )
        self._traced: Any = None

    def trace(self) -> None:
        """Traces the tower, and builds it if it was not; once."""
        # Called as it was traced: in another thread, outside of the strategy that
        # training is in, `tf.function` would trace again.
        if self._traced is None:
            # A first batch builds the tower outside of any function: inside, Keras 3
            # cannot make variables of several replicas.
            for _, features in self._dataset.take(1):
                self._tower(features)
            self._traced = self._embed.get_concrete_function()

    def check_distinct(self) -> None:
        """Raises `ValueError` where an id has several rows, before any is embedded."""
        ids = [batch.numpy() for batch in self._dataset.map(lambda ids, _: ids)]
        if ids:
            check_distinct(f"ids of {self._name}", np.concatenate(ids))

    def encode(self) -> tuple[np.ndarray, np.ndarray]:
        """Embeds the whole dataset with the tower's present weights.

        Returns:
          Ids `[n]`, and finite float32 embeddings `[n, d]`, NumPy arrays.

        Raises:
          ValueError: An empty dataset, ids that are not one per embedding,
            embeddings that are NaN or infinite.
        """
        self.trace()
        batches = []
        for batch, features in self._dataset:
            ids, embeddings = batch.numpy(), self._traced(features).numpy()
            if embeddings.shape[:-1] != ids.shape or ids.ndim != 1:
                raise ValueError(
                    f"`{self._name}` must have one id for each embedding [b, d], "
                    f"received {ids.shape} ids and embeddings of shape "
                    f"{embeddings.shape}."
                )
            batches.append((ids, embeddings))
        if not batches:
            raise ValueError(f"`{self._name}` is empty.")
        ids, embeddings = map(np.concatenate, zip(*batches, strict=True))
        bad = ~np.isfinite(embeddings).all(axis=1)
        if bad.any():
            raise ValueError(
                f"The tower of `{self._name}` returns NaN or infinity for "
                f"{bad.sum()} of {len(ids)} rows. Has training diverged?"
            )
        return ids, embeddings


def _any_batch(spec: tf.TypeSpec) -> tf.TypeSpec:
    if isinstance(spec, tf.TensorSpec):
        return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)
    return spec
