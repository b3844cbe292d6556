"""What a SavedModel computes for an export whose items are a live index."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.excluded_histories import (
    UserLists,
    check_users,
    no_item_found,
)
from tfrs_negatives.index.saved_functions import ExportedTower, variables_of
from tfrs_negatives.types import Tower


class LiveQueryFunctions:
    """From raw features to embeddings, and to the items that users have.

    Args:
      tower: Function from a dict of features to embeddings `[B, d]`.
      features: Dict from name to `tf.TensorSpec`.
      histories: `UserItems`, or None.
      width: d; None: whatever the tower's is.

    Attributes:
      width: d.
      signatures: Dict from name to concrete function: "embed_query", and with histories
        "user_items".
      module: `tf.Module` that tracks all that they read.

    Raises:
      ValueError: The tower fails on the features, or its embeddings have another width.
    """

    def __init__(
        self,
        tower: Tower,
        features: dict[str, tf.TensorSpec],
        histories: UserItems | None,
        width: int | None,
    ) -> None:
        self.module = tf.Module()
        self.module.histories = histories
        embed = ExportedTower(tower, features).signature(features)
        self.signatures: dict[str, Any] = {"embed_query": embed}
        found = embed.structured_outputs["embeddings"].shape
        if width is None and found.rank == 2:
            width = found[1]
            if width is None:
                raise ValueError(
                    "`query_tower` must return embeddings of a width that is known "
                    f"when it is traced, received shape {found}. Give them a shape, by "
                    "tf.ensure_shape for instance."
                )
        self.width = width
        if not found.is_compatible_with([None, width]):
            raise ValueError(
                f"`query_tower` must return embeddings as wide as the items' "
                f"({width}), received shape {found}. Pass the towers of one training."
            )
        if histories is not None:
            self.signatures["user_items"] = histories.signature(features)
        self.module.weights = variables_of(self.signatures)


class UserItems(tf.__internal__.tracking.AutoTrackable):
    """The ids of the items that each user has, whether the index has them or not.

    Args:
      histories: `Positives`, the items of each user.
      feature: Name of the feature with the users' ids.
      spec: `tf.TensorSpec` of the feature.
      ids: The ids of the first items, int64 or objects that are str; None: not known,
        as they are in shards.

    Attributes:
      num_users: How many users have a history.
      dtype: Of the items' ids, int64 or string.

    Raises:
      ValueError: Items of another kind than the ids, or none that is one of them; users
        of another kind than the feature, or of another shape.
    """

    def __init__(
        self,
        histories: Positives,
        feature: str,
        spec: tf.TensorSpec,
        ids: np.ndarray | None,
    ) -> None:
        super().__init__()
        check_users(histories, feature, spec)
        self._feature = feature
        keys, counts, items = histories.lists()
        of_ids = tf.string if items.dtype == tf.string else tf.int64
        if ids is not None:
            of_ids = self._checked_ids(items, ids)
        if of_ids != tf.string:
            items = tf.cast(items, tf.int64)
        self.dtype = of_ids
        self.num_users = int(np.count_nonzero(counts))
        self._lists = UserLists(keys, counts, items)

    @staticmethod
    def _checked_ids(items: tf.Tensor, ids: np.ndarray) -> tf.DType:
        """The dtype of ids, which some items must be."""
        of_ids = tf.string if ids.dtype == object else tf.int64
        if (items.dtype == tf.string) != (of_ids == tf.string):
            raise ValueError(
                f"`histories` ({items.dtype.name}) can never equal the ids of the "
                f"index ({of_ids.name}): pass both as strings or both as numbers."
            )
        encoded = tf.constant(ids, of_ids).numpy().tolist()
        if not set(encoded) & set(np.unique(items.numpy()).tolist()):
            raise no_item_found(items)
        return of_ids

    def signature(self, features: dict[str, tf.TensorSpec]) -> Any:
        """The concrete function from users to "items", end to end, and "counts"."""

        @tf.function(autograph=False)
        def user_items(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            lists = self._lists.of(inputs[self._feature])
            return {"items": lists.flat_values, "counts": lists.row_lengths()}

        return user_items.get_concrete_function(
            **{self._feature: features[self._feature]}
        )
