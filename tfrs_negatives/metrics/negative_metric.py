"""Base of the metrics of negatives."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.metrics.negatives import SOURCES, Negatives
from tfrs_negatives.types import Config

if TYPE_CHECKING:
    from typing_extensions import Self


class NegativeMetric(keras.metrics.Metric):
    """A ratio of two sums over what rows were trained against.

    Give it to `tasks.Retrieval(negative_metrics=[...])`. To write one, implement
    `parts`, and name in `NEEDS` the fields of `Negatives` that it reads beyond those
    that are always there: "positives", "ids" or "keys". The task then raises a
    `ValueError` where a call lacks what they are made from. `check` may look further.

    The result is a float32 scalar, 0 before the first update, and the same on all
    replicas.

    Args:
      name: Name of the metric.
      source: One of `SOURCES`: what counts are negatives of this source alone. None:
        all.

    Raises:
      ValueError: Another source.

    Example:
      ```python
      class MeanNegatives(tn.metrics.NegativeMetric):
          # How many negatives a row has.
          def parts(self, negatives):
              return negatives.total(negatives.kept), negatives.total_of_rows()


      metric = MeanNegatives("mean_negatives")
      task = tn.tasks.Retrieval(negative_metrics=[metric])
      task(tf.ones([4, 2]), tf.ones([4, 2]))
      assert metric.result() == 3.0
      ```
    """

    NEEDS: tuple[str, ...] = ()

    def __init__(self, name: str, source: str | None = None) -> None:
        _checks.check_choice("source", source, (None, *SOURCES))
        super().__init__(name=name)
        self.source = source
        # Pairs of many steps add up to more than float32 can count.
        self._numerator, self._denominator = (
            self.add_weight(name=part, shape=(), initializer="zeros", dtype="float64")
            for part in ("numerator", "denominator")
        )

    @classmethod
    def each_source(cls, *args: Any, **options: Any) -> list[Self]:
        """One such metric for each of `SOURCES`; arguments as of the class."""
        make: Callable[..., Self] = cls
        return [make(*args, source=source, **options) for source in SOURCES]

    def check(
        self, candidate_ids: tf.Tensor | None, query_keys: Mapping[str | None, Any]
    ) -> None:
        """Raises `ValueError` where a call does not fit the metric's own options.

        The task calls it with what it was given, before any state changes.

        Args:
          candidate_ids: Tensor or None.
          query_keys: Dict of tensors by name; a single key has the name None.
        """

    @abc.abstractmethod
    def parts(self, negatives: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
        """What a batch adds to numerator and denominator.

        Args:
          negatives: `Negatives`.

        Returns:
          Two scalars, float64.
        """

    def get_config(self) -> Config:
        return {"name": self.name, "source": self.source}

    def update_state(self, negatives: Negatives) -> Any:  # Keras 2 returns a tensor.
        """Adds a batch.

        Args:
          negatives: `Negatives`.
        """
        numerator, denominator = self.parts(negatives)
        self._numerator.assign_add(numerator)
        self._denominator.assign_add(denominator)

    def result(self) -> tf.Tensor:
        numerator, denominator = (
            _of_all_replicas(part) for part in (self._numerator, self._denominator)
        )
        return tf.cast(tf.math.divide_no_nan(numerator, denominator), tf.float32)


def named(measure: str, source: str | None) -> str:
    """The default name of a metric of a source."""
    return measure if source is None else f"{measure}_{source}"


def _of_all_replicas(variable: tf.Variable) -> tf.Tensor:
    value = tf.convert_to_tensor(variable)
    # Keras 2 has added up the replicas' states when it asks for the result.
    return distribute.total(value) if IS_KERAS_3 else value
