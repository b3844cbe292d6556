"""log q of ids drawn from a mixture of samplers."""

import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers.mixed_log_q import deserialized, serialized


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class MixtureLogQ(keras.layers.Layer):
    """Gives log sum_c w_c q_c(id), with weights that may change.

    Args:
      sources: [S] samplers' `log_q`: numbers, or layers giving log q for ids.
      weights: [S] shares, normalised when used: numbers, or the `tf.Variable` of a
        `samplers.Mixture`, whose present value counts.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives, num_columns, training: Ignored; the interface of
        `sampling_correction`.

    Returns:
      [n] float32, log q.
    """

    def __init__(self, sources, weights, name=None):
        super().__init__(name=name, autocast=False, dtype="float32")
        self.sources = list(sources)
        self._weights = weights
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    def get_config(self):
        return {
            "name": self.name,
            "sources": serialized(self.sources),
            "weights": tf.convert_to_tensor(self._weights).numpy().tolist(),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "sources": deserialized(config["sources"])})

    def call(self, ids, num_positives=None, num_columns=None, training=False):
        ids = tf.convert_to_tensor(ids)
        weights = tf.convert_to_tensor(self._weights, tf.float32)
        log_weights = tf.math.log(weights / tf.reduce_sum(weights))
        log_q = [
            tf.fill(tf.shape(ids), tf.constant(source, tf.float32))
            if isinstance(source, float)
            else source(ids)
            for source in self.sources
        ]
        log_q = tf.stack(log_q) + log_weights[:, tf.newaxis]
        return tf.reduce_logsumexp(log_q, axis=0)
