"""The two-tower model: towers made of columns, and a retrieval task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives.layers.once_per_key import OncePerKey
from tfrs_negatives.models.model import Model
from tfrs_negatives.samplers.catalogue import Catalogue
from tfrs_negatives.tasks.retrieval import Retrieval
from tfrs_negatives.towers.tower import Tower
from tfrs_negatives.types import Config, Features


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class TwoTower(Model):
    """Users and items as embeddings, near each other where a user wants an item.

    Batches are dicts of columns: those of both towers, by name, and those of the
    arguments below.

    The towers' `History`s share the embeddings of the item tower's `Id`. `index` and
    `export_retrieval` take `user_tower` and `item_tower` as they are.

    Args:
      user_tower: `towers.Tower`, adapted.
      item_tower: `towers.Tower`, adapted, with a `towers.Id`.
      task: `tasks.Retrieval`. None: one with temperature 0.1 that removes accidental
        hits.
      query_keys: Names of the columns that are the task's `query_keys`. None: that of
        the user tower's `Id`, if it has one and there is no catalogue.
      catalogue: `samplers.Catalogue` of what the item tower takes: all items are
        columns of each batch. It is training data, and not saved with the model: a
        loaded one trains on after `model.catalogue` was set.
      known_positives: Column with each row's known positives, where batches have it:
        they are no negatives of the row.
      measured_positives: Column with the positives that the task's negative metrics
        count, where batches have it and they are to be others.
      negatives: Column with further items as negatives, where batches have it: the item
        tower's columns [K], as samplers attach them; or ids, for a tower that reads
        ids alone.
      sample_weight: Column with rows' weights, or None.
      name: Name of the model.

    Attributes:
      user_tower, item_tower, task, query_keys, catalogue: As given, or chosen.
      item_id: Name of the column of items' ids.

    Raises:
      ValueError: Towers of different widths, an item tower without `Id`, a catalogue
        and query keys that do not go together. In training: columns that are not there.

    Example:
      >>> towers = tn.towers
      >>> items = {"item": ["tea", "milk", "jam"], "kind": ["drink", "drink", "food"]}
      >>> users = {"user": ["ann", "bob"]}
      >>> features = [towers.Id("item"), towers.Categorical("kind")]
      >>> item_tower = towers.Tower(features, dim=8)
      >>> user_tower = towers.Tower([towers.Id("user")], dim=8)
      >>> model = tn.models.TwoTower(user_tower.adapt(users), item_tower.adapt(items))
      >>> model.compile("adam")
      >>> table = {"user": ["ann", "bob"], "item": ["tea", "jam"]}
      >>> table["kind"] = ["drink", "food"]
      >>> rows = tf.data.Dataset.from_tensor_slices(table).batch(2)
      >>> _ = model.fit(rows, verbose=0)
      >>> model.user_tower.embed(users).shape
      (2, 8)
    """

    def __init__(
        self,
        user_tower: Tower,
        item_tower: Tower,
        task: Retrieval | None = None,
        *,
        query_keys: Sequence[str] | None = None,
        catalogue: Catalogue | None = None,
        known_positives: str = "known_positives",
        measured_positives: str = "measured_positives",
        negatives: str = "negatives",
        sample_weight: str | None = None,
        name: str | None = None,
    ) -> None:
        items = _checked_id(user_tower, item_tower)
        super().__init__(name=name)
        for history in user_tower.histories:
            history.share(items)
        self.user_tower = user_tower
        self.item_tower = item_tower
        self.task = (
            Retrieval(temperature=0.1, remove_accidental_hits=True)
            if task is None
            else task
        )
        self.item_id = items.column
        if query_keys is None:
            users = user_tower.id_feature
            query_keys = () if users is None or catalogue else (users.column,)
        self.query_keys = tuple(query_keys)
        self.catalogue = catalogue
        self.known_positives = known_positives
        self.measured_positives = measured_positives
        self.negatives = negatives
        self.sample_weight = sample_weight
        self._lacks_catalogue = False

    def __repr__(self) -> str:
        return described(
            self, user_tower=self.user_tower, item_tower=self.item_tower, task=self.task
        )

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "user_tower": keras.utils.serialize_keras_object(self.user_tower),
            "item_tower": keras.utils.serialize_keras_object(self.item_tower),
            "task": keras.utils.serialize_keras_object(self.task),
            "query_keys": list(self.query_keys),
            "known_positives": self.known_positives,
            "measured_positives": self.measured_positives,
            "negatives": self.negatives,
            "sample_weight": self.sample_weight,
            "lacks_catalogue": self.catalogue is not None or self._lacks_catalogue,
        }

    @classmethod
    def from_config(cls, config: Config) -> TwoTower:
        config = dict(config)
        lacks_catalogue = config.pop("lacks_catalogue")
        for name in ("user_tower", "item_tower", "task"):
            config[name] = keras.utils.deserialize_keras_object(config[name])
        model = cls(**config)
        model._lacks_catalogue = lacks_catalogue
        return model

    def make_train_function(self, force: bool = False) -> Callable[[Any], Any]:
        if self._lacks_catalogue and self.catalogue is None:
            raise ValueError(
                "The model was trained against a catalogue, which is not saved with "
                "it: expected `model.catalogue` before `fit`. Set it to a "
                "`samplers.Catalogue` of the same items."
            )
        return super().make_train_function(force)

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        options: Config = {}
        if self.catalogue is not None:
            # Of the batch's items only ids are read: the catalogue has the rest.
            columns = self.catalogue.columns(self._column(features, self.item_id))
            items, candidate_ids = columns.features, columns.ids
            options["candidate_rows"] = columns.rows
        else:
            items = self.item_tower._columns_of(features)
            if self.negatives in features:
                items = self._with_negatives(items, features[self.negatives])
            candidate_ids = items[self.item_id]
        if self.query_keys:
            options["query_keys"] = {
                key: self._column(features, key) for key in self.query_keys
            }
        if self.known_positives in features:
            options["known_positive_ids"] = features[self.known_positives]
        if self.measured_positives in features:
            options["measured_positive_ids"] = features[self.measured_positives]
        if self.sample_weight is not None:
            options["sample_weight"] = features[self.sample_weight]
        queries = self._queries(features, training, options)
        return self.task(
            queries,
            self.item_tower(items, training=training),
            candidate_ids=candidate_ids,
            compute_metrics=not training,
            training=training,
            **options,
        )

    def _queries(self, features: Features, training: bool, options: Config) -> Any:
        """Embeddings of the rows' queries, or of distinct users and `query_rows`."""
        users = self.user_tower.id_feature
        if users is None or self.user_tower.histories:  # A query is of its row alone.
            return self.user_tower(features, training=training)
        columns = self.user_tower._columns_of(features)
        queries, options["query_rows"] = OncePerKey(self.user_tower).distinct(
            columns, columns[users.column], training
        )
        return queries

    def _column(self, features: Features, name: str) -> Any:
        if name not in features:
            raise ValueError(
                f"`models.TwoTower` reads the column {name!r}, received "
                f"{sorted(features)}. Add it to the features."
            )
        return features[name]

    def _with_negatives(self, items: Features, negatives: Any) -> Features:
        """The item tower's columns of the rows, then of further items."""
        negatives = self.item_tower._columns_of(negatives)
        return {
            name: _joined(items[name], negatives[name])
            for name in self.item_tower.columns
        }


def _joined(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Two columns as one; of whole numbers and others, as the others."""
    if first.dtype != second.dtype:
        wider = (
            tf.float64
            if first.dtype.is_floating != second.dtype.is_floating
            else (max(first.dtype, second.dtype, key=lambda dtype: dtype.size))
        )
        first, second = tf.cast(first, wider), tf.cast(second, wider)
    return tf.concat([first, second], axis=0)


def _checked_id(user_tower: Tower, item_tower: Tower) -> Any:
    """The item tower's `Id`, of towers that fit."""
    for name, tower in (("user_tower", user_tower), ("item_tower", item_tower)):
        if not isinstance(tower, Tower):
            raise ValueError(
                f"`{name}` must be a `towers.Tower`, received "
                f"{type(tower).__name__}. Write a `models.Model` for other towers."
            )
    if user_tower.dim != item_tower.dim:
        raise ValueError(
            "Towers must be equally wide, received `dim` "
            f"{user_tower.dim} of users and {item_tower.dim} of items."
        )
    items = item_tower.id_feature
    if items is None:
        raise ValueError(
            "`item_tower` must have a `towers.Id`, by which the task tells items, "
            f"received the columns {list(item_tower.columns)}. Add one."
        )
    return items
