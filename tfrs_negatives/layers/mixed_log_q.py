"""log q of a mixture of sources of negatives."""

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._keras import keras


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class MixedLogQ(keras.layers.Layer):
    """Corrects every column by the mixture that the columns were drawn from.

    With B columns from the batch (probability q_0 a draw) and K from a uniform
    sampler (u = 1/N), a column holding item j, in either block, was drawn with

        Q*(j) = (B q_0(j) + K u) / (B + K),

    and with more sources likewise (mixed negative sampling, Yang et al., WWW
    2020, who state the ratio B : K). Correcting each block by its own source alone
    has the same limit and more noise; the mixture is the balance heuristic of multiple
    importance sampling (Veach & Guibas, SIGGRAPH 1995). Correcting both blocks by the
    batch's q is biased.

    Args:
      sources: One source for each block of columns, the batch first. A source is
        a layer giving log q for ids (`StreamingFrequency`, `StaticFrequency`) or
        the `log_q` of a sampler, a number when it is uniform.
      sizes: Numbers of columns of the blocks after the first; None with two
        sources: all columns that are not the batch's.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives: B, how many leading ids are the batch's own; the first
        source alone learns from them. None: all.
      num_columns: C, how many leading ids are columns, whose numbers weigh the
        mixture; ids after them are only looked up. None: all.
      training: Whether the first source learns.

    Returns:
      [n] float32, log Q*.

    Raises:
      ValueError: No source, a number above 0, sizes that do not match the
        sources.
      tf.errors.InvalidArgumentError: Sizes that do not add up to the columns.
    """

    def __init__(self, sources, sizes=None, name=None):
        sources = list(sources)
        if len(sources) < 2 or (sizes is None and len(sources) != 2):
            raise ValueError(
                "`MixedLogQ` mixes the batch's log q with those of samplers: expected "
                f"two sources, or more and their `sizes`, received {len(sources)}."
            )
        if sizes is not None and len(sizes) != len(sources) - 1:
            raise ValueError(
                "`sizes` holds the numbers of columns of the sources after the "
                f"first: expected {len(sources) - 1}, received {len(sizes)}."
            )
        for source in sources:
            if isinstance(source, (int, float)) and not source <= 0:
                raise ValueError(
                    f"A constant source is a log probability: expected at most 0, "
                    f"received {source}. Pass log q, not q."
                )
        super().__init__(name=name, autocast=False, dtype="float32")
        self.sources = sources
        self.sizes = sizes
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    def get_config(self):
        return {
            "name": self.name,
            "sources": serialized(self.sources),
            "sizes": self.sizes,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "sources": deserialized(config["sources"])})

    def call(self, ids, num_positives=None, num_columns=None, training=False):
        ids = tf.convert_to_tensor(ids)
        if num_columns is None:
            num_columns = _checks.size(ids)
        if num_positives is None:
            num_positives = num_columns
        num_others = num_columns - num_positives
        sizes = [num_positives, *(self.sizes or [num_others])]
        if self.sizes is not None:
            num_columns = _checks.guard(
                num_columns,
                tf.debugging.assert_equal(
                    num_others,
                    sum(self.sizes),
                    message="`sizes` must add up to the columns beyond the batch.",
                ),
            )
        weighted = []
        for index, (source, size) in enumerate(zip(self.sources, sizes, strict=True)):
            if isinstance(source, (int, float)):
                log_q = tf.fill(tf.shape(ids), tf.constant(source, tf.float32))
            elif index == 0:
                log_q = source(ids, num_positives=num_positives, training=training)
            else:
                log_q = source(ids, training=False)
            size = distribute.total(tf.cast(size, tf.float32))
            weighted.append(log_q + tf.math.log(size))
        total = tf.math.log(distribute.total(tf.cast(num_columns, tf.float32)))
        return tf.reduce_logsumexp(tf.stack(weighted), axis=0) - total


def serialized(sources):
    """Sources of log q, numbers and layers, for a config."""
    return [
        source
        if isinstance(source, (int, float))
        else keras.utils.serialize_keras_object(source)
        for source in sources
    ]


def deserialized(sources):
    """The reverse of `serialized`."""
    return [
        source
        if isinstance(source, (int, float))
        else keras.utils.deserialize_keras_object(source)
        for source in sources
    ]
