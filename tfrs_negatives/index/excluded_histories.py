"""What each user has already, which answers leave out."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.identifiers import Identifiers


class ExcludedHistories(tf.__internal__.tracking.AutoTrackable):
    """The candidates in each user's history, as variables of a SavedModel.

    Args:
      histories: `Positives`, the items of each user.
      identifiers: The ids of the candidates. Items that are no candidates are left out.
      feature: Name of the feature with the users' ids.
      spec: `tf.TensorSpec` of the feature.

    Attributes:
      feature: Name of the feature with the users' ids.
      num_users: How many users have a history.

    Raises:
      ValueError: Items of another kind than the candidates' ids, or none of them a
        candidate; users of another kind than the feature, or of another shape.
    """

    def __init__(
        self,
        histories: Positives,
        identifiers: Identifiers,
        feature: str,
        spec: tf.TensorSpec,
    ) -> None:
        super().__init__()
        are_strings = histories.keys_are_strings
        fits = spec.dtype == tf.string if are_strings else spec.dtype.is_integer
        if not fits or spec.shape.rank != 1:
            raise ValueError(
                f"`histories` are of users that are "
                f"{'strings' if are_strings else 'integers'}, one a row, but the "
                f"feature {feature!r} is {spec.dtype.name} of shape {spec.shape}. Name "
                "the users' feature by `history_feature`, or give the table users of "
                "that dtype."
            )
        self.feature = feature
        keys, counts, items = histories.lists()
        rows = identifiers.positions_of_any("histories", items).numpy()
        found = rows >= 0
        if not found.any():
            raise ValueError(
                "`histories` must hold items of the index, received none of which it "
                f"has the id, such as {np.asarray(items)[:3].tolist()}. Pass items' "
                "ids as they were given to `index.index`."
            )
        users = np.repeat(np.arange(len(counts)), counts)[found]
        # One user more, without items: where users that are not found are.
        counts = np.bincount(users, minlength=len(keys) + 1)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.num_users = int(np.count_nonzero(counts))
        with tf.device("CPU:0"):
            self._keys = tf.Variable(keys, trainable=False, name="users")
            self._starts = tf.Variable(starts, trainable=False, name="starts")
            self._rows = tf.Variable(rows[found], trainable=False, name="histories")

    def positions(self, users: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        """Rows of the candidates that users have.

        Args:
          users: `[B]` ids; those without a history have no candidates.
          wanted: `[B]` bool, False where the history does not count.

        Returns:
          `[B, H]` int32; -1 behind short rows.
        """
        keys = as_int64("users", users)
        none = tf.shape(self._keys)[0]
        place = tf.minimum(tf.searchsorted(self._keys, keys), none - 1)
        known = tf.equal(tf.gather(self._keys, place), keys)
        place = tf.where(known & wanted, place, none)
        first = tf.gather(self._starts, place)
        last = tf.gather(self._starts, place + 1)
        return tf.gather(self._rows, tf.ragged.range(first, last)).to_tensor(-1)
