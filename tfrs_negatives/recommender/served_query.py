"""The query tower as it is served: it looks up what it knows of a user."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data.features_of import with_missing
from tfrs_negatives.recommender.towers_of import HISTORY_IDS, USER_ID, Towers
from tfrs_negatives.types import Features


class ServedQuery(tf.Module):
    """From a user's id, and perhaps a history, to the query's embedding.

    A request may bring what the user did, `history` [B, N] of items' ids, the newest
    last; short rows may be filled with anything that is no item's id. A row without
    known items stands for what the training data say that the user did. Other features
    are those of the training data; a user who is not known has none.

    Args:
      towers: `Towers`.
    """

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        training = towers.training
        self._tower = towers.user
        self._dtype = tf.constant(training.user_ids[:1]).dtype
        keys = as_int64("users", tf.constant(training.user_ids)).numpy()
        order = np.argsort(keys, kind="stable")
        self._keys = _variable(keys[order], "users")
        # Behind the last user one of whom nothing is known.
        self._features = {
            name: _variable(with_missing(tf.gather(column, order)), name)
            for name, column in towers.user_columns().items()
            if name != USER_ID
        }
        if self.has_history:
            histories = towers.latest(order)
            ends = tf.concat([histories.row_splits, histories.row_splits[-1:]], axis=0)
            self._items = _variable(histories.flat_values, "history_items")
            self._ends = _variable(ends, "history_ends")

    @property
    def has_history(self) -> bool:
        """Whether a request may bring a history."""
        return bool(self._tower.histories)

    def signature(self) -> dict[str, tf.TensorSpec]:
        """What the call takes."""
        specs = {USER_ID: tf.TensorSpec([None], self._dtype, name=USER_ID)}
        if self.has_history:
            specs[HISTORY_IDS] = tf.TensorSpec(
                [None, None], self._items.dtype, name=HISTORY_IDS
            )
        return specs

    # Nothing here depends on tensors' values; converting would only warn.
    @tf.autograph.experimental.do_not_convert
    def __call__(self, features: Features) -> tf.Tensor:
        users = features[USER_ID]
        keys = as_int64("users", users)
        nobody = tf.shape(self._keys)[0]
        place = tf.minimum(tf.searchsorted(self._keys, keys), nobody - 1)
        is_known = tf.equal(tf.gather(self._keys, place), keys)
        place = tf.where(is_known, place, nobody)
        columns = {name: tf.gather(c, place) for name, c in self._features.items()}
        if USER_ID in self._tower.columns:
            columns[USER_ID] = users
        if self.has_history:
            columns[HISTORY_IDS] = self._history(features[HISTORY_IDS], place, nobody)
        return self._tower(columns)

    def _history(
        self, given: tf.Tensor, place: tf.Tensor, nobody: tf.Tensor
    ) -> tf.RaggedTensor:
        """The known items of a request, or else of the training data."""
        items = self._tower.histories[0].items
        assert items is not None
        # One row may stand for all.
        shape = [tf.size(place), tf.shape(given)[1]]
        given = tf.broadcast_to(given, shape)
        is_item = tf.reshape(items.numbers(tf.reshape(given, [-1])) > 0, shape)
        place = tf.where(tf.reduce_any(is_item, axis=1), nobody, place)
        rows = tf.ragged.range(
            tf.gather(self._ends, place), tf.gather(self._ends, place + 1)
        )
        known = tf.gather(self._items, rows)
        return tf.concat([known, tf.ragged.boolean_mask(given, is_item)], axis=1)


def _variable(values: tf.Tensor | np.ndarray, name: str) -> tf.Variable:
    with tf.device("CPU:0"):
        return tf.Variable(values, trainable=False, name=name)
