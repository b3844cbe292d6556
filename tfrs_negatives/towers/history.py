"""What a user did last, as a feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._id_columns import id_column
from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives.towers.feature import STDDEV, Feature
from tfrs_negatives.towers.id_feature import Id
from tfrs_negatives.towers.pooling import weighted_sums
from tfrs_negatives.types import Config, ListsLike

POOLINGS = ("attention", "mean", "self_attention")


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class History(Feature):
    """The last items of a user, pooled, by the embeddings that the item tower has.

    Items that the item tower does not know are passed over, wherever they stand: fill
    short rows of a matrix with anything that is no item's id. A user without known
    items has a vector of its own.

    The embeddings are those of the item tower's `Id`, and are trained from both sides.
    `models.TwoTower` sees to that; `share` does it by hand.

    Args:
      column: Name of the column: ids of items, the newest last.
      length: How many of the newest items count.
      pooling: "attention": a mean with weights, the softmax of a learned function of
        the item and of how many items ago it was; "mean"; or "self_attention": a
        transformer layer over the items before the attention.
      dim: As the item tower's, or None.
      name: See `Feature`.

    Call arguments:
      values: [B, N], or ragged [B, (N)]: int64 or strings, as the items' ids.

    Raises:
      ValueError: An unknown pooling; a call before the embeddings are shared.

    Example:
      >>> ids = tn.towers.Id("item", dim=4).adapt(["tea", "milk"])
      >>> history = tn.towers.History(pooling="mean", dim=4)
      >>> history.share(ids)
      >>> history(tf.ragged.constant([["tea", "milk"], [], ["new"]])).shape
      TensorShape([3, 4])
    """

    takes_lists = True

    def __init__(
        self,
        column: str = "history",
        length: int = 20,
        pooling: str = "attention",
        dim: int | None = None,
        name: str | None = None,
    ) -> None:
        _checks.check_at_least("length", length, 1)
        _checks.check_choice("pooling", pooling, POOLINGS)
        super().__init__(column, dim, name)
        self.length = length
        self.pooling = pooling
        self.items: Id | None = None
        self.summary = f"{column}: the last {length} items"

    def _options(self) -> Config:
        options = {"length": self.length, "pooling": self.pooling}
        return {**super()._options(), **options}

    def share(self, items: Id) -> None:
        """Takes the embeddings of an item tower's `Id`, which was adapted."""
        if self.items is items:
            return
        if self.items is not None:
            raise ValueError(
                f"{self!r} has another item tower's embeddings. Make a `History` for "
                "each model."
            )
        items._check_adapted()
        self.items = items
        self.dtype_of_values = items.dtype_of_values

    def adapt(self, values: Any) -> History:
        """Learns nothing from the column: known are the item tower's ids."""
        return self

    def _learn(self, values: np.ndarray) -> str:
        raise NotImplementedError

    def _check_adapted(self) -> None:
        if self.items is None:
            raise ValueError(
                f"{self!r} has no embeddings of items yet. Give both towers to a "
                "`models.TwoTower`, or call `share` with the item tower's `Id`."
            )

    def is_ready(self) -> bool:
        return self.items is not None and super().is_ready()

    def tensor(self, values: ListsLike) -> tf.RaggedTensor:
        """Lists of ids as a ragged tensor [n, (N)]."""
        if isinstance(values, tf.RaggedTensor):
            return values
        if tf.is_tensor(values) or getattr(values, "ndim", 1) == 2:
            return tf.RaggedTensor.from_tensor(tf.convert_to_tensor(values))
        if hasattr(values, "to_pylist"):  # Arrow's, of scalars of its own.
            values = values.to_pylist()
        lists = [
            row if isinstance(row, (list, tuple, np.ndarray)) else list(row)
            for row in values
        ]
        lengths = [len(row) for row in lists]
        flat = [item for row in lists for item in row]
        is_text = self.dtype_of_values == "string"
        ids = id_column(self.column, flat if flat else np.zeros(0, np.int64))
        return tf.RaggedTensor.from_row_lengths(
            tf.constant(ids if flat else [], tf.string if is_text else tf.int64),
            tf.constant(lengths, tf.int64),
        )

    def signature(self) -> tf.TensorSpec:
        self._check_adapted()
        return tf.TensorSpec([None, None], self.dtype_of_values, name=self.column)

    def _make(self, dim: int) -> None:
        assert self.items is not None
        if self.items.dim is None:
            self.items.dim = dim
        if self.items.dim != dim:
            raise ValueError(
                f"{self!r} shares embeddings of items, {self.items.dim} wide: expected "
                f"as wide as the tower, {dim}. Give both towers one `dim`."
            )
        if not self.items.built:
            self.items.build()
        # What is liked after an item is not what is like it.
        self.project = keras.layers.Dense(
            dim, use_bias=False, kernel_initializer="identity"
        )
        self.project.build([None, dim])
        self.empty = self.add_weight(name="empty", shape=[1, dim], initializer="zeros")
        if self.pooling == "mean":
            return
        small = keras.initializers.RandomNormal(stddev=STDDEV)
        self.recency = self.add_weight(
            name="recency", shape=[self.length, dim], initializer=small
        )
        self.key = keras.layers.Dense(dim)
        self.key.build([None, dim])
        self.weigh = keras.layers.Dense(1, use_bias=False)
        self.weigh.build([None, None, dim])
        if self.pooling == "self_attention":
            self.attend = keras.layers.MultiHeadAttention(2, max(1, dim // 2))
            self.norm = keras.layers.LayerNormalization()
            # The Kerases differ in how it is built, but not in that a call does.
            zeros = tf.zeros([1, 1, dim])
            self.norm(self.attend(zeros, zeros))

    @unconverted
    def call(self, values: ListsLike, training: bool = False) -> tf.Tensor:
        assert self.items is not None
        numbers, mask = self._newest(values)
        # A batch has an item in many histories: what is the item's is computed once.
        distinct, places = tf.unique(tf.reshape(numbers, [-1]))
        places = tf.reshape(places, tf.shape(numbers))
        items = self.items.embeddings(distinct)
        vectors = tf.gather(items, places)
        weights = tf.cast(mask, vectors.dtype)
        if self.pooling == "mean":
            shares = tf.math.divide_no_nan(
                weights, tf.reduce_sum(weights, axis=1, keepdims=True)
            )
        else:
            order = tf.convert_to_tensor(self.recency)[: tf.shape(numbers)[1]]
            order = tf.cast(order, vectors.dtype)
            kernel = tf.cast(tf.convert_to_tensor(self.key.kernel), vectors.dtype)
            if self.pooling == "self_attention":
                inputs = vectors + order
                pairs = tf.logical_and(mask[:, :, tf.newaxis], mask[:, tf.newaxis])
                attended = self.attend(inputs, inputs, attention_mask=pairs)
                vectors = vectors + self.norm(attended)
                keys = tf.tensordot(vectors, kernel, 1)
            else:
                keys = tf.gather(tf.matmul(items, kernel), places)
            logits = self.weigh(tf.tanh(keys + self.key(order)))[..., 0]
            # Of an empty row all are equal, and weigh nothing.
            logits = tf.where(mask, logits, logits.dtype.min)
            shares = tf.nn.softmax(logits, axis=1) * weights
        pooled = self.project(weighted_sums(shares, vectors))
        is_empty = tf.logical_not(tf.reduce_any(mask, axis=1))[:, tf.newaxis]
        return tf.where(is_empty, tf.cast(self.empty, pooled.dtype), pooled)

    def _newest(self, values: ListsLike) -> tuple[tf.Tensor, tf.Tensor]:
        """The newest known items of each row, the newest first.

        Returns:
          Rows of the item tower's table [B, n], 0 where there is none; and which are
          there, [B, n].
        """
        assert self.items is not None
        ids = self._as_kind(values)
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(ids)
        numbers = ids.with_flat_values(self.items.numbers(ids.flat_values))
        numbers = tf.ragged.boolean_mask(numbers, numbers > 0)[:, -self.length :]
        dense, lengths = numbers.to_tensor(0), numbers.row_lengths()
        dense = tf.reverse_sequence(dense, lengths, seq_axis=1)
        return dense, tf.sequence_mask(lengths, tf.shape(dense)[1])
