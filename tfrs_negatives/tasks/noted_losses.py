"""What tasks add to a model's loss, noted while the model computes it.

A task returns a scalar, and the model's author may scale it and add others. A mean over
many batches needs to know how much of the sum each task is, and over what it is a sum.
"""

from __future__ import annotations

import dataclasses
import threading

import tensorflow as tf

_threads = threading.local()  # Replicas of one process trace in a thread each.


@dataclasses.dataclass(frozen=True)
class Noted:
    """A loss that a task returned.

    Attributes:
      loss: The scalar.
      is_sum: Whether it is a sum over rows; else their mean.
      weight: Scalar float64, the sum of the rows' weights, or how many they are: what
        the mean divides by, or would. Of this replica alone.
    """

    loss: tf.Tensor
    is_sum: bool
    weight: tf.Tensor


class NotedLosses:
    """Notes what tasks return within a `with` block.

    What they return within a `tf.function`, `tf.cond` or loop inside the block cannot
    be followed out of there.

    Attributes:
      entries: The `Noted`, in the order of the calls.
      num_rows: Scalar float64, the rows of the first task called; None without any.
      hides_a_sum: Whether a sum was returned where it cannot be followed.
    """

    def __init__(self) -> None:
        self.entries: list[Noted] = []
        self.num_rows: tf.Tensor | None = None
        self.hides_a_sum = False
        self._graph = _current_graph()
        self._tape = tf.GradientTape(watch_accessed_variables=False)

    def __enter__(self) -> NotedLosses:
        self._outer = getattr(_threads, "noting", None)
        _threads.noting = self
        self._tape.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._tape.__exit__(*error)
        _threads.noting = self._outer

    def factors(self, total: tf.Tensor) -> list[tf.Tensor]:
        """What each entry's loss was multiplied by to be a part of `total`."""
        losses = [entry.loss for entry in self.entries]
        if not losses:
            return []
        zero = tf.UnconnectedGradients.ZERO
        return self._tape.gradient(total, losses, unconnected_gradients=zero)

    def _add(
        self,
        loss: tf.Tensor,
        reduction: str,
        sample_weight: tf.Tensor | None,
        num_rows: tf.Tensor,
    ) -> None:
        if _current_graph() is not self._graph:
            self.hides_a_sum |= reduction == "sum"
            return
        rows = tf.cast(num_rows, tf.float64)
        self.num_rows = rows if self.num_rows is None else self.num_rows
        if reduction == "none":
            return  # The caller reduces it.
        weight = rows
        if sample_weight is not None and reduction != "sum_over_batch_size":
            weight = tf.reduce_sum(tf.cast(sample_weight, tf.float64))
        self._tape.watch(loss)
        self.entries.append(Noted(loss, reduction == "sum", weight))


def note(
    loss: tf.Tensor,
    reduction: str,
    sample_weight: tf.Tensor | None,
    num_rows: tf.Tensor,
) -> None:
    """Notes a loss, where a model wants to know; see `NotedLosses`.

    Args:
      loss: What the task returns: a scalar, or [B] with reduction "none".
      reduction: One of `losses.reductions.REDUCTIONS`.
      sample_weight: [B] or None.
      num_rows: B, scalar.
    """
    noting = getattr(_threads, "noting", None)
    if noting is not None:
        noting._add(loss, reduction, sample_weight, num_rows)


def _current_graph() -> tf.Graph | None:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
