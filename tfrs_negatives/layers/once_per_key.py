"""A tower that runs once for each request of a batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._gather_rows import gather_rows
from tfrs_negatives._ids import as_int64, keys_or_own, pairs
from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.types import (
    Config,
    KerasLayer,
    ListsLike,
    NamedLike,
    TensorLike,
)


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class OncePerKey(keras.layers.Layer):
    """Runs a tower once for each distinct key of a batch, and repeats its rows.

    In a batch of whole requests (`data.group_by_request`) the rows of a request share
    their query, so that a query tower computes the same embedding many times. This
    layer takes the first row of each key, runs the tower on those U <= B rows, and
    gathers the embeddings of all B. With features that are a function of the key it
    returns what the tower returns, and its gradients are the tower's: those of a key's
    rows are added up before they enter it.

    What depends on the batch in the tower sees each key once: dropout drops the same
    units for all rows of a key, and `BatchNormalization` averages over keys, not rows.

    Rows with a key that other rows have and features of their own would silently get
    the first row's embedding: `check_features` finds them.

    XLA knows no sizes that depend on values, so under `jit_compile=True` the tower runs
    on B rows, the distinct ones first, then repetitions of the first: the same result
    without the saving, but for `BatchNormalization`, which averages over those B. Keras
    3's `jit_compile="auto"` compiles no model that holds this layer.

    Args:
      tower: A Keras layer or model: features to embeddings, of any structure, with one
        row for each of theirs.
      check_features: Whether to raise an error unless rows of one key have the same
        features. It costs a comparison of all features in each call, for debugging.
      name: Name of the layer.

    Call arguments:
      features: What the tower takes: a tensor [B, ...] or a nested structure of them.
      keys: [B] int32, int64 or string, or a dict of several, which then have to agree.
        Every value is a key, negative numbers and "" too.
      training: As the tower's.
      key_mask: [B] bool, False where a row has no key: it is not merged with others.
        None: every row has one.

    Returns:
      What the tower returns, [B, ...].

    Raises:
      ValueError: A tower that is no Keras layer; keys of another dtype, rank or number.
      tf.errors.InvalidArgumentError: Numbers of rows that differ, features that differ
        with `check_features` (XLA cannot raise).

    Example:
      >>> tower = tf.keras.layers.Dense(4)
      >>> users = tf.constant([[1.0], [1.0], [2.0]])
      >>> tn.layers.OncePerKey(tower)(users, keys=tf.constant([7, 7, 9])).shape
      TensorShape([3, 4])
    """

    def __init__(
        self, tower: KerasLayer, check_features: bool = False, name: str | None = None
    ) -> None:
        if not isinstance(tower, keras.layers.Layer):
            raise ValueError(
                "`tower` must be a Keras layer or model, received "
                f"{type(tower).__name__}. Wrap a function as `keras.layers.Lambda`."
            )
        super().__init__(name=name, autocast=False)
        # Read by Keras 3: XLA would take the saving away.
        self.supports_jit = False
        self.tower = tower
        self.check_features = check_features
        # The tower builds itself when it is called.
        self.built = True

    def __repr__(self) -> str:
        return described(self, tower=self.tower, check_features=self.check_features)

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "tower": keras.utils.serialize_keras_object(self.tower),
            "check_features": self.check_features,
        }

    @classmethod
    def from_config(cls, config: Config) -> OncePerKey:
        tower = keras.utils.deserialize_keras_object(config["tower"])
        return cls(**{**config, "tower": tower})

    def call(
        self,
        features: Any,
        keys: NamedLike,
        training: bool = False,
        key_mask: TensorLike | None = None,
    ) -> Any:
        embeddings, rows = self.distinct(features, keys, training, key_mask)

        def of_rows(part: tf.Tensor) -> tf.Tensor:
            if not part.dtype.is_floating:
                return tf.gather(part, rows)
            return tf.cast(gather_rows(part, rows), part.dtype)

        return tf.nest.map_structure(of_rows, embeddings)

    def distinct(
        self,
        features: Any,
        keys: NamedLike,
        training: bool = False,
        key_mask: TensorLike | None = None,
    ) -> tuple[Any, tf.Tensor]:
        """The embeddings of distinct keys, for a loss that takes them so.

        Args:
          features, keys, training, key_mask: As the call's.

        Returns:
          `(embeddings, rows)`: [U, ...], and [B] int32, the place of each row's among
          them, so that the call returns `tf.gather(embeddings, rows)`. Keys are in the
          order of their first rows. Under XLA U is B.
        """
        keys = _as_one_key(keys, key_mask)
        features = tf.nest.map_structure(
            lambda feature: _with_rows_of(feature, keys), features
        )
        first, rows = _distinct(keys)
        chosen = tf.nest.map_structure(lambda part: tf.gather(part, first), features)
        if self.check_features:
            rows = _checks.guard(rows, *_assert_equal(features, chosen, rows))
        return self.tower(chosen, training=training), rows


def _as_one_key(keys: NamedLike, mask: TensorLike | None = None) -> tf.Tensor:
    """Keys [B] int64: equal where all keys are, of its own where there is none."""
    columns = keys if isinstance(keys, dict) else {"keys": keys}
    if not columns:
        raise ValueError("`keys` must hold at least one key, received an empty dict.")
    combined = None
    for name in sorted(columns):
        column = as_int64(name, columns[name])
        _checks.check_rank(name, column, (1,), "Pass one key for each row.")
        if combined is None:
            combined = column
        else:
            combined = _checks.check_size(
                name, combined, 0, _checks.size(column), "Keys need the same rows."
            )
            combined = pairs(combined, column)
    if mask is None:
        return combined
    mask = _checks.check_mask("key_mask", mask, _checks.size(combined))
    return keys_or_own(combined, mask, tf.range(tf.size(combined, tf.int64)))


def _with_rows_of(feature: ListsLike, keys: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
    """A feature as a tensor, checked to have as many rows as there are keys."""
    feature = feature if tf.is_tensor(feature) else tf.convert_to_tensor(feature)
    hint = "The tower takes features with a row for each key."
    if feature.shape.rank == 0:
        raise ValueError(f"Features must have rows, received a scalar. {hint}")
    if isinstance(feature, tf.RaggedTensor):
        lengths = feature.row_lengths()
        lengths = _checks.check_size("features", lengths, 0, _checks.size(keys), hint)
        with tf.control_dependencies([lengths]):
            return tf.identity(feature)
    return _checks.check_size("features", feature, 0, _checks.size(keys), hint)


def _distinct(keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Places [U] int32 of the first rows of keys, and each row's place [B] in them."""
    if compiled_by_xla():
        return _distinct_by_sorting(keys)
    rows = tf.unique(keys).idx
    num_distinct = tf.reduce_max(tf.concat([[-1], rows], 0)) + 1
    places = tf.range(_checks.size(keys))
    return tf.math.unsorted_segment_min(places, rows, num_distinct), rows


def _distinct_by_sorting(keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The same with B places, of which those after the distinct keys' are 0."""
    num_rows = _checks.size(keys)
    order = tf.argsort(keys, stable=True)
    in_order = tf.gather(keys, order)
    is_new = tf.concat(
        [tf.ones_like(keys[:1], tf.bool), in_order[1:] != in_order[:-1]], 0
    )
    # The first row of each row's key: sorting is stable.
    segment = tf.cumsum(tf.cast(is_new, tf.int32)) - 1
    first_of_segment = tf.math.unsorted_segment_min(order, segment, num_rows)
    first_of_row = tf.scatter_nd(
        order[:, tf.newaxis], tf.gather(first_of_segment, segment), tf.shape(order)
    )
    # Keys in the order of their first rows, as `unique` gives them.
    is_first = first_of_row == tf.range(num_rows)
    number = tf.cumsum(tf.cast(is_first, tf.int32)) - 1
    rows = tf.gather(number, first_of_row)
    first = tf.math.unsorted_segment_max(
        tf.where(is_first, tf.range(num_rows), 0), rows, num_rows
    )
    return tf.maximum(first, 0), rows


def _assert_equal(
    features: Any, chosen: Any, rows: tf.Tensor
) -> list[tf.Operation | None]:
    message = (
        "Rows of one key must have the same features: `OncePerKey` takes the first "
        "row's. Leave out of the tower what changes within a request."
    )
    assertions = []
    for feature, part in zip(
        tf.nest.flatten(features), tf.nest.flatten(chosen), strict=True
    ):
        repeated = tf.gather(part, rows)
        same = feature == repeated
        if isinstance(feature, tf.RaggedTensor):
            same = same.flat_values  # Other lengths have raised an error above.
        elif feature.dtype.is_floating:
            # NaN stands for a missing value.
            same |= tf.math.is_nan(feature) & tf.math.is_nan(repeated)
        assertions.append(tf.debugging.Assert(tf.reduce_all(same), [message]))
    return assertions
