"""What each user has already, which answers leave out."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.identifiers import Identifiers


class UserLists(tf.__internal__.tracking.AutoTrackable):
    """A list for each user, as variables of a SavedModel.

    Args:
      keys: `[U]` int64 keys of users, ascending, as `Positives.lists` returns them.
      counts: `[U]` how long each list is.
      values: The lists, one after the other.
    """

    def __init__(self, keys: np.ndarray, counts: np.ndarray, values: tf.Tensor) -> None:
        super().__init__()
        # One user more, with an empty list: where users that are not found are.
        starts = np.concatenate([[0], np.cumsum(counts), [len(values)]])
        with tf.device("CPU:0"):
            self._keys = tf.Variable(keys, trainable=False, name="users")
            self._starts = tf.Variable(starts, trainable=False, name="starts")
            self._values = tf.Variable(values, trainable=False, name="histories")

    def of(self, users: tf.Tensor, wanted: tf.Tensor | None = None) -> tf.RaggedTensor:
        """The lists of users.

        Args:
          users: `[B]` ids; those that are not known have empty lists.
          wanted: `[B]` bool, False where the list is to be empty; None: none is.

        Returns:
          `[B, (H)]`.
        """
        keys = as_int64("users", users)
        none = tf.shape(self._keys)[0]
        place = tf.minimum(tf.searchsorted(self._keys, keys), none - 1)
        known = tf.equal(tf.gather(self._keys, place), keys)
        if wanted is not None:
            known &= wanted
        place = tf.where(known, place, none)
        first = tf.gather(self._starts, place)
        last = tf.gather(self._starts, place + 1)
        return tf.gather(self._values, tf.ragged.range(first, last))


class ExcludedHistories(tf.__internal__.tracking.AutoTrackable):
    """The candidates in each user's history.

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
        check_users(histories, feature, spec)
        self.feature = feature
        keys, counts, items = histories.lists()
        rows = identifiers.positions_of_any("histories", items).numpy()
        found = rows >= 0
        if not found.any():
            raise no_item_found(items)
        users = np.repeat(np.arange(len(counts)), counts)[found]
        counts = np.bincount(users, minlength=len(keys))
        self.num_users = int(np.count_nonzero(counts))
        self._lists = UserLists(keys, counts, tf.constant(rows[found]))

    def positions(self, users: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        """Rows of the candidates that users have.

        Args:
          users: `[B]` ids; those without a history have no candidates.
          wanted: `[B]` bool, False where the history does not count.

        Returns:
          `[B, H]` int32; -1 behind short rows.
        """
        return self._lists.of(users, wanted).to_tensor(-1)


def check_users(histories: Positives, feature: str, spec: tf.TensorSpec) -> None:
    """Raises `ValueError` for users of another kind than those of a feature."""
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


def no_item_found(items: tf.Tensor) -> ValueError:
    """The error for histories of items that the index lacks."""
    return ValueError(
        "`histories` must hold items of the index, received none of which it "
        f"has the id, such as {np.asarray(items)[:3].tolist()}. Pass items' "
        "ids as they were given to the index."
    )
