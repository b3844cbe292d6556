"""What all features of a tower share: a column, and a vector for each row."""

from __future__ import annotations

import abc
import re
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfrs_negatives._feature_columns import feature_values, missing
from tfrs_negatives._id_columns import id_column
from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives.types import Config, KerasLayer, TensorLike

#: Of the initial embeddings: small against 1, the length of a tower's.
STDDEV = 0.05

_Self = TypeVar("_Self", bound="Feature")


class Feature(keras.layers.Layer):
    """A Keras layer from the values of a column to vectors.

    `adapt` learns from a column what the layer needs to know, such as categories or
    means. This is part of the configuration and not a weight, so a layer that is made
    from `get_config` has it.

    Args:
      column: Name of the column that the layer reads.
      dim: Width of the vectors. None: that of the tower.
      name: Name of the layer; None: from the column's.

    Attributes:
      column, dim: As given.
      dtype_of_values: "string", "int64" or "float64": what the adapted column was.
      summary: What `adapt` found, in words; "" before.

    Call arguments:
      values: [B] values of the column, or [B, V] and ragged where a feature says so.
      training: Whether the layer trains.

    Returns:
      [B, dim].

    Example:
      ```python
      class Length(tn.towers.Feature):
          # How long a text is, times a vector.
          def _learn(self, values):
              return f"{len(values)} texts"

          def _make(self, dim):
              self.vector = self.add_weight(name="vector", shape=[dim])

          def call(self, values, training=False):
              length = tf.cast(tf.strings.length(values), tf.float32)
              return length[:, tf.newaxis] * self.vector


      feature = Length("title", dim=4).adapt(["Toy Story", "Heat"])
      assert feature.summary == "title: 2 texts"
      assert feature(tf.constant(["Alien"])).shape == [1, 4]
      ```
    """

    #: Whether a row may have several values.
    takes_lists = False
    #: Whether values may be missing; "" is one of strings then.
    takes_missing = True

    _is_made = False

    def __init__(
        self, column: str, dim: int | None = None, name: str | None = None
    ) -> None:
        if not isinstance(column, str) or not column:
            raise ValueError(
                f"`column` must be the name of a column, received {column!r}."
            )
        if dim is not None and (not isinstance(dim, int) or dim < 1):
            raise ValueError(f"`dim` must be a positive int or None, received {dim!r}.")
        kind = type(self).__name__.lower()
        legal = re.sub(r"[^A-Za-z0-9_]", "_", column)
        super().__init__(name=name or f"{kind}_{legal}", autocast=False)
        # Read by Keras 3: strings, lookups and ragged rows are not XLA's.
        self.supports_jit = False
        self.column = column
        self.dim = dim
        self.dtype_of_values: str | None = None
        self.summary = ""

    def __repr__(self) -> str:
        return described(self, **self._options())

    def _options(self) -> Config:
        """Arguments of the constructor, without the name."""
        return {"column": self.column, "dim": self.dim}

    @abc.abstractmethod
    def _learn(self, values: np.ndarray) -> str:
        """Learns from `feature_values`; returns what was found, in words."""

    def _learned(self) -> Config:
        """What was learned, for `_set_learned` of another layer, as JSON holds it."""
        return {}

    def _set_learned(self, learned: Config) -> None:
        """Takes what another layer's `_learned` returned."""

    @abc.abstractmethod
    def _make(self, dim: int) -> None:
        """Makes the weights."""

    def adapt(self: _Self, values: TensorLike) -> _Self:
        """Learns categories, means and the like from a column.

        Args:
          values: The column, a vector; for features that take lists also [n, V],
            ragged, or a list for each row. None, NaN, NaT, pandas's NA, and "" of
            strings are missing values.

        Returns:
          The layer.

        Raises:
          ValueError: Values of several kinds, or of a kind that the feature does not
            take; the layer has weights already.
        """
        if self.built:
            raise ValueError(
                f"`adapt` comes before the first call: {self!r} has weights by now. "
                "Adapt a new one."
            )
        found = self._values(values)
        if not self.takes_lists and found.ndim != 1:
            raise ValueError(
                f"{self.column!r} must hold one value a row for {type(self).__name__}, "
                "received lists. Use `towers.Categorical`, or join them to a text."
            )
        if not len(found):
            raise ValueError(f"{self.column!r} must hold at least one row.")
        absent = _absent(found) if self.takes_missing else ""
        self.summary = f"{self.column}: {self._learn(found)}{absent}"
        self.dtype_of_values = _dtype_of(found)
        return self

    def tensor(self, values: TensorLike) -> tf.Tensor:
        """A column of a table as the layer takes it, and `tf.data` keeps it.

        Raises:
          ValueError: As `adapt`.
        """
        found = self._values(values)
        if self.dtype_of_values == "string" and missing(found).all():
            found = np.full(found.shape, "", object)
        if self.dtype_of_values == "float64" and found.dtype.kind == "i":
            found = found.astype(np.float64)
        return tf.constant(found, tf.string if found.dtype.kind == "O" else found.dtype)

    def signature(self) -> tf.TensorSpec:
        """What the layer takes, for `index.export_retrieval`."""
        self._check_adapted()
        return tf.TensorSpec([None], self.dtype_of_values, name=self.column)

    def get_config(self) -> Config:
        learned = None
        if self.dtype_of_values is not None:
            learned = {
                "dtype_of_values": self.dtype_of_values,
                "summary": self.summary,
                **self._learned(),
            }
        return {"name": self.name, **self._options(), "learned": learned}

    @classmethod
    def from_config(cls: type[_Self], config: Config) -> _Self:
        config = dict(config)
        learned = config.pop("learned", None)
        feature = cls(**config)
        if learned is not None:
            feature.dtype_of_values = learned["dtype_of_values"]
            feature.summary = learned["summary"]
            feature._set_learned(learned)
        return feature

    def build(self, input_shape: Any = None) -> None:
        self._check_adapted()
        if self.dim is None:
            raise ValueError(
                f"{self!r} is called without a tower: expected a `dim`. Pass it."
            )
        self._make(self.dim)
        self._is_made = True

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        return self._is_made

    @built.setter
    def built(self, value: bool) -> None:
        # Keras 3 says so of each layer that it has loaded, whatever that did.
        pass

    def is_ready(self) -> bool:
        """Whether `build` has what it needs."""
        return self.dtype_of_values is not None and self.dim is not None

    def build_from_config(self, config: Config) -> None:
        # A `History` waits for its model to share the items' embeddings.
        if self.is_ready():
            self.build()

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int | None]:
        return (None, self.dim)

    def _values(self, values: TensorLike) -> np.ndarray:
        if not self.takes_missing:
            if isinstance(values, (list, tuple)):  # Which NumPy would make all strings.
                values = np.array(values, object)
            values = id_column(self.column, values)
        return feature_values(self.column, values)

    def _check_adapted(self) -> None:
        if self.dtype_of_values is None:
            raise ValueError(
                f"{self!r} knows no values yet. Call `adapt` on the column, or the "
                "tower's `adapt` on the table."
            )

    def _as_kind(self, values: Any) -> Any:
        """Values as a tensor, checked to be of the kind that was adapted."""
        if not tf.is_tensor(values):
            values = tf.convert_to_tensor(values)
        expected = "strings" if self.dtype_of_values == "string" else "numbers"
        if (values.dtype == tf.string) != (expected == "strings"):
            raise ValueError(
                f"{self.column!r} must hold {expected}, as the column did that `adapt` "
                f"was given, received {values.dtype.name}."
            )
        rank = values.shape.rank
        if rank != 1 and not (self.takes_lists and rank == 2):
            raise ValueError(
                f"{self.column!r} must have shape "
                f"{'[B] or [B, V]' if self.takes_lists else '[B]'}, received "
                f"{values.shape}."
            )
        return values


def embedding(num_rows: int, dim: int, num_zero: int = 0) -> KerasLayer:
    """A built `keras.layers.Embedding` whose first rows are zeros.

    A row of zeros adds nothing to a tower until it is trained.
    """

    initial = ZerosThenNormal(num_zero)
    layer = keras.layers.Embedding(num_rows, dim, embeddings_initializer=initial)
    layer.build([None])
    return layer


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class ZerosThenNormal(keras.initializers.Initializer):
    """Zeros in the first rows, and small random numbers in the others.

    Args:
      num_zero: How many rows are zeros.
    """

    def __init__(self, num_zero: int) -> None:
        self.num_zero = num_zero

    def __call__(self, shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
        values = keras.initializers.RandomNormal(stddev=STDDEV)(shape, dtype)
        values = tf.convert_to_tensor(values)
        zeros = tf.zeros_like(values[: self.num_zero])
        return tf.concat([zeros, values[self.num_zero :]], axis=0)

    def get_config(self) -> Config:
        return {"num_zero": self.num_zero}


def _dtype_of(values: np.ndarray) -> str:
    return {"O": "string", "i": "int64", "f": "float64"}[values.dtype.kind]


def _absent(values: np.ndarray) -> str:
    absent: np.ndarray = missing(values)
    if values.ndim == 2:
        absent = np.all(absent, axis=1)
    if not absent.any():
        return ""
    if absent.all():
        return ", all missing"
    return f", {absent.mean():.1%} missing"
