"""log q of ids drawn from a mixture of samplers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives.layers.mixed_log_q import (
    deserialized,
    drawn_log_q,
    log_floor,
    log_mixture,
    serialized,
    with_floor,
)
from tfrs_negatives.types import Config, LogQSource, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class MixtureLogQ(keras.layers.Layer):
    """Gives log sum_c w_c q_c(id), with weights that may change.

    Args:
      sources: [S] samplers' `log_q`: numbers, or layers giving log q for ids.
      weights: [S] shares, normalised when used: numbers, or the `tf.Variable` of a
        `samplers.Mixture`, whose present value counts. A config has the numbers of
        the moment: what is rebuilt from it no longer follows the sampler.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives, num_columns, training: Ignored; the interface of
        `sampling_correction`.

    Returns:
      [n] float32, log q, finite. What a source never draws adds nothing; an id that
      no source draws gets the mixture of the sources' floors.
    """

    def __init__(
        self,
        sources: Iterable[LogQSource],
        weights: Sequence[float] | tf.Variable,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, autocast=False, dtype="float32")
        self.sources = list(sources)
        self._weights = weights
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    def __repr__(self) -> str:
        return described(self, sources=self.sources, weights=self._weights)

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "sources": serialized(self.sources),
            "weights": tf.convert_to_tensor(self._weights).numpy().tolist(),
        }

    @classmethod
    def from_config(cls, config: Config) -> MixtureLogQ:
        return cls(**{**config, "sources": deserialized(config["sources"])})

    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        return with_floor(self.drawn_log_q(ids), self.floor)

    def drawn_log_q(self, ids: TensorLike) -> tf.Tensor:
        """log q of ids [n], -inf where no source draws them."""
        ids = tf.convert_to_tensor(ids)
        log_q = [drawn_log_q(source, ids) for source in self.sources]
        return log_mixture(log_q, self._log_weights())

    @property
    def floor(self) -> tf.Tensor | None:
        """What ids get that no source draws: a scalar, None if there are none."""
        floors = [getattr(source, "floor", None) for source in self.sources]
        return log_floor(floors, self._log_weights())

    def _log_weights(self) -> tf.Tensor:
        weights = tf.convert_to_tensor(self._weights, tf.float32)
        return tf.math.log(weights / tf.reduce_sum(weights))
