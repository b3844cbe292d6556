"""Adam that leaves alone the rows of a table that a batch does not use."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.types import KerasVariable


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class LazyAdam(keras.optimizers.Adam):
    """Adam for large embedding tables: a step costs what its batch's rows cost.

    Keras's Adam changes every row of every table in every step. Rows that the batch
    does not use change too, because their moments decay. With a million rows that takes
    longer than the loss. Here a row and its moments m and v change only if the batch
    has a gradient g for it, by the same formula:

        m <- m + (1 - beta_1) (g - m),    v <- v + (1 - beta_2) (g^2 - v),
        w <- w - a_t m / (sqrt(v) + epsilon)

    with a_t = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) at step t, where g is
    the sum over the places of the batch that hold the row. This is
    `torch.optim.SparseAdam`, and what TensorFlow Addons called `LazyAdam`. Variables
    whose gradient is dense (hidden layers) are updated as by Keras's Adam, and so are
    tables whose every row is in every batch.

    The state is that of Adam, two numbers for each number of a table, and each
    optimizer reads the other's checkpoints. Three options of Keras still touch every
    row: `weight_decay`, `use_ema` and accumulated gradients.

    Args:
      learning_rate: A number or a schedule, as in Keras's Adam; one that suits Adam
        suits this.
      beta_1, beta_2, epsilon: As in Keras's Adam.
      **kwargs: Others of Keras's Adam, but for `amsgrad` and `adaptive_epsilon` and,
        under Keras 2, `jit_compile=True`.

    Raises:
      ValueError: One of these is asked for.

    Example:
      >>> table = tf.keras.layers.Embedding(1000, 8)
      >>> model = tf.keras.Sequential([table])
      >>> model.compile(tn.optimizers.LazyAdam(0.01), loss="mse")
      >>> before = table(tf.range(1000)).numpy()
      >>> _ = model.fit(tf.constant([[7], [8]]), tf.ones([2, 1, 8]), verbose=0)
      >>> changed = np.any(table(tf.range(1000)).numpy() != before, axis=1)
      >>> np.flatnonzero(changed).tolist()
      [7, 8]
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        for name in ("amsgrad", "adaptive_epsilon"):
            if kwargs.get(name):
                raise ValueError(
                    f"`LazyAdam` has no `{name}`: expected False, received "
                    f"{kwargs[name]!r}. Leave it out, or use Keras's Adam."
                )
        if not IS_KERAS_3:
            # Keras 2 would have XLA compile each number of rows again: its default on a
            # GPU.
            if kwargs.get("jit_compile"):
                raise ValueError(
                    "XLA would compile `LazyAdam` again for each number of rows: "
                    "expected `jit_compile` False under Keras 2, received "
                    f"{kwargs['jit_compile']!r}. Leave it out, or use Keras's Adam."
                )
            kwargs["jit_compile"] = False
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)

    def update_step(
        self,
        gradient: tf.Tensor | tf.IndexedSlices,
        variable: KerasVariable,
        *learning_rate: tf.Tensor,
    ) -> None:
        """Updates a variable, or the rows of it that a sparse gradient has.

        Args:
          gradient: Dense, or `tf.IndexedSlices` whose indices may repeat.
          variable: One of those that the optimizer was built with.
          *learning_rate: A scalar, which Keras 3 passes and Keras 2 does not.
        """
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, *learning_rate)
            return
        rows, sums = _summed(gradient)
        mean, square = self._moments(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = (
            tf.constant(self.beta_1, dtype),
            tf.constant(self.beta_2, dtype),
        )
        (rate,) = learning_rate or (self.learning_rate,)
        rate = tf.cast(rate, dtype) * tf.sqrt(1 - beta_2**step) / (1 - beta_1**step)

        means, squares = tf.gather(mean, rows), tf.gather(square, rows)
        means += (sums - means) * (1 - beta_1)
        squares += (sums * sums - squares) * (1 - beta_2)
        values = tf.gather(variable, rows)
        values -= rate * means / (tf.sqrt(squares) + self.epsilon)
        # Equal values where XLA lists a row several times.
        for table, new in ((mean, means), (square, squares), (variable, values)):
            table.scatter_update(tf.IndexedSlices(new, rows))
        if IS_KERAS_3 and not compiled_by_xla():
            # After a sparse update TensorFlow copies a variable whenever it is read as
            # a whole, which Keras 3's `Embedding` does to gather rows of it. Without
            # this mode it is the next update that copies, if a reader still holds it.
            tf.raw_ops.DisableCopyOnRead(resource=variable.handle)

    def _moments(self, variable: KerasVariable) -> tuple[tf.Variable, tf.Variable]:
        """m and v of a variable."""
        if IS_KERAS_3:
            place = self._get_variable_index(variable)
            return self._momentums[place].value, self._velocities[place].value
        place = self._index_dict[self._var_key(variable)]
        return self._momentums[place], self._velocities[place]


def _summed(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows, and the sum of each one's gradients.

    Each row once; under XLA, which must know how many there are, as often as it comes,
    each time with the sum.
    """
    indices = gradient.indices
    if not compiled_by_xla():
        rows, places = tf.unique(indices)
        size = tf.shape(rows)[0]
        return rows, tf.math.unsorted_segment_sum(gradient.values, places, size)
    order = tf.argsort(indices, stable=True)
    rows = tf.gather(indices, order)
    is_next = tf.cast(rows[1:] != rows[:-1], tf.int32)
    # One more than differences; none where there are no rows.
    places = tf.pad(tf.cumsum(is_next), [[1, 0]])[: tf.size(rows)]
    sums = tf.math.unsorted_segment_sum(
        tf.gather(gradient.values, order), places, tf.shape(rows)[0]
    )
    return rows, tf.gather(sums, places)
