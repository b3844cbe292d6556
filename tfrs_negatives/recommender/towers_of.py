"""The towers of a training set: ids, features and histories."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfrs_negatives import data, towers
from tfrs_negatives._keras import keras
from tfrs_negatives.data.feature_table import FeatureTable
from tfrs_negatives.recommender.row_histories import RowHistories, with_ids
from tfrs_negatives.recommender.settings import HISTORY, Settings
from tfrs_negatives.recommender.training_set import TrainingSet
from tfrs_negatives.towers import Tower
from tfrs_negatives.types import TableLike

#: Names of the features that hold ids, and histories.
USER_ID, ITEM_ID, HISTORY_IDS = "user", "item", "history"


@dataclasses.dataclass(frozen=True)
class FeatureTables:
    """Features of users and of items, or None where there are none."""

    users: FeatureTable | None = None
    items: FeatureTable | None = None

    def of_users(self, ids: np.ndarray) -> TableLike:
        """A row for each user."""
        return {USER_ID: ids} if self.users is None else self.users.of(ids, USER_ID)

    def of_items(self, ids: np.ndarray) -> TableLike:
        """A row for each item."""
        return {ITEM_ID: ids} if self.items is None else self.items.of(ids, ITEM_ID)


class Towers:
    """The user and the item tower of a training set; equal ones for equal seeds.

    Args:
      training: `TrainingSet`.
      features: `FeatureTables`.
      settings: `Settings`.
      seed: Of the initial weights.

    Attributes:
      training: As given.
      user, item: `towers.Tower`.
      temperature: By which scores are divided in training.
    """

    def __init__(
        self,
        training: TrainingSet,
        features: FeatureTables,
        settings: Settings,
        seed: int,
    ) -> None:
        keras.utils.set_random_seed(seed)
        self.training = training
        settings = training.chosen(settings)
        assert settings.temperature is not None and settings.unknown_share is not None
        self.temperature: float = settings.temperature
        self._users = features.of_users(training.user_ids)
        self._items = features.of_items(training.item_ids)
        ids = towers.Id(ITEM_ID)
        item_features = towers.features_for(self._items, settings.item_features)
        self.item = Tower([ids, *item_features], settings.dim, settings.hidden).adapt(
            self._items
        )
        of_user: list[towers.Feature] = []
        if settings.query != HISTORY:
            of_user.append(towers.Id(USER_ID, settings.unknown_share))
        if training.histories is not None:
            of_user.append(towers.History(HISTORY_IDS, training.histories.length))
        of_user += towers.features_for(self._users, settings.user_features)
        self.user = Tower(of_user, settings.dim, settings.hidden).adapt(self._users)
        for history in self.user.histories:
            history.share(ids)
        for tower, table in ((self.item, self._items), (self.user, self._users)):
            first = {n: c[:1] for n, c in tower.tensors(table).items()}
            first |= {h.column: h.tensor([[]]) for h in tower.histories}
            tower(first)  # Weights, in the order of the seed.

    @property
    def item_table(self) -> TableLike:
        """The features of the catalogue, a row for each item."""
        return self._items

    def describe(self) -> list[str]:
        """What the features of both towers are, a line for each."""
        return [*self.user.describe(), *self.item.describe()]

    def catalogue(self) -> dict[str, tf.Tensor]:
        """The columns of all items as the item tower takes them."""
        return self.item.tensors(self._items)

    def attach(self, rows: tf.data.Dataset, has_catalogue: bool) -> tf.data.Dataset:
        """Adds what the towers read beside ids and histories to batches.

        Args:
          rows: Of `training_batches.dataset`.
          has_catalogue: Whether items' features are those of a catalogue.
        """
        sides = [(self.user, self._users, USER_ID)]
        if not has_catalogue:
            sides.append((self.item, self._items, ITEM_ID))
        for tower, table, key in sides:
            columns = tower.tensors(table)
            if set(columns) - {key}:
                ids = tf.constant(table[key].to_numpy(zero_copy_only=False))
                features = data.features_of({**columns, key: ids}, key)
                rows = features.attach(rows)
        return rows

    def embed_items(self) -> np.ndarray:
        """Embeddings of the catalogue, [N, d]."""
        return self.item.embed(self._items)

    def embed_users(
        self,
        users: np.ndarray | None = None,
        histories: RowHistories | None = None,
    ) -> np.ndarray:
        """Embeddings of users who ask after all their rows, [V, d].

        Args:
          users: [V] positions; None: all.
          histories: What they did, by positions of the same catalogue; None: the
            training set's.
        """
        if users is None:
            users = np.arange(len(self.training.user_ids))
        columns: dict[str, tf.Tensor] = {
            name: tf.gather(column, users)
            for name, column in self.user_columns().items()
        }
        if self.user.histories:
            columns[HISTORY_IDS] = self.latest(users, histories)
        return self.user.embed(columns)

    def user_columns(self) -> dict[str, tf.Tensor]:
        """The columns of all users as the user tower takes them, but for histories."""
        return self.user.tensors(self._users)

    def latest(
        self, users: np.ndarray, histories: RowHistories | None = None
    ) -> tf.RaggedTensor:
        """Ids of the last items of users [V], the newest last."""
        if histories is None:
            histories = self.training.histories
        assert histories is not None
        return with_ids(histories.latest(users), tf.constant(self.training.item_ids))
