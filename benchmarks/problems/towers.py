"""Towers of problems: tables of ids, of unit length."""

import tensorflow as tf

keras = tf.keras


def dense_lookup(table, ids):
    """Rows of a table whose gradient is dense, as Adam moves every row anyway."""
    return tf.gather(table * 1.0, ids)


class Table(keras.layers.Layer):
    """Embeddings of ids, of unit length.

    Args:
      num_ids: Rows of the table.
      width: Numbers a row.
      lookup: `tf.gather` for an optimiser that moves only the rows it finds.
    """

    def __init__(self, num_ids, width, lookup=dense_lookup):
        super().__init__()
        self.lookup = lookup
        initializer = keras.initializers.RandomUniform(-0.05, 0.05)
        self.table = self.add_weight(
            name="table", shape=[num_ids, width], initializer=initializer
        )

    def call(self, ids):
        return tf.math.l2_normalize(self.lookup(self.table, ids), axis=-1)


class History(Table):
    """The mean of a session's last clicks, padded with -1."""

    def call(self, ids):
        clicked = tf.cast(ids >= 0, tf.float32)[..., tf.newaxis]
        embeddings = self.lookup(self.table, tf.maximum(ids, 0)) * clicked
        return tf.math.l2_normalize(tf.reduce_sum(embeddings, axis=1), axis=-1)
