"""log q of ids drawn in proportion to their weights."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives.layers.static_frequency import StaticFrequency
from tfrs_negatives.types import Config, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class PopularityLogQ(StaticFrequency):
    """Gives log q of ids, some of which may never be drawn.

    Called alone, it gives those a floor, the q of a weight of 1, so that columns from
    elsewhere have a finite correction. Mixtures of sources ask `drawn_log_q` instead,
    in which such ids have no probability.

    Args:
      ids: [V] distinct ids, integers or strings (text, or bytes of any kind). None:
        0 to V - 1.
      weights: [V] weights that draws are in proportion to, some of them 0.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives, num_columns, training: Ignored; the interface of
        `sampling_correction`.

    Attributes:
      floor: log q of ids that are never drawn.

    Returns:
      [n] float32, log q: finite, at most 0.
    """

    def __init__(
        self, ids: ArrayLike | None, weights: ArrayLike, name: str | None = None
    ) -> None:
        weights = np.asarray(weights, np.float64)
        ids = np.arange(len(weights)) if ids is None else np.asarray(ids)
        drawn = weights > 0
        super().__init__((ids[drawn], weights[drawn]), name=name)
        self.floor, self._unseen_log_q = self._unseen_log_q, -float("inf")

    def __repr__(self) -> str:
        return described(self, num_ids=len(self._ids))

    def get_config(self) -> Config:
        config = super().get_config()
        return {
            "name": self.name,
            "ids": config["ids"],
            "weights": config["counts"],
        }

    @classmethod
    def from_config(cls, config: Config) -> PopularityLogQ:
        return cls(**config)

    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        log_q = self.drawn_log_q(ids)
        return tf.where(log_q > -float("inf"), log_q, self.floor)

    def drawn_log_q(self, ids: TensorLike) -> tf.Tensor:
        """log q of ids [n], -inf for those that are never drawn."""
        return super().call(ids)
