"""The two models that are compared: equal towers, another task."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import data, layers, models, samplers, tasks
from tfrs_negatives._keras import keras
from tfrs_negatives.cli.time_split import Split
from tfrs_negatives.types import Features, KerasLayer, KerasMetric, KerasModel

# Rows of a batch whose negatives are counted, evenly spaced: the memory that takes
# grows with them times the columns.
_COUNTED_ROWS = 1024

# All items are columns of every batch where they are no more than these, and the sums
# are exact; beyond, negatives are drawn.
_CATALOGUE_ITEMS = 20_000

# A table of every user's items is held, and masks them all, up to so many rows; beyond,
# only those that are in the same batch.
_KNOWN_ROWS = 20_000_000

# What the negatives weigh against the positive, which is outside of their sum. Chosen
# on validation splits of three tables.
_NEGATIVE_WEIGHT = 1.2

# Items that a batch shares, drawn uniformly, where not all are columns.
_NUM_NEGATIVES = 1024


def id_tower(ids: np.ndarray, dim: int, hidden: Sequence[int], seed: int) -> KerasModel:
    """A tower from raw ids to embeddings of length 1.

    Args:
      ids: [n] distinct ids, int64 or strings.
      dim: Width of the embeddings.
      hidden: Widths of hidden layers between the ids' embeddings and the output.
      seed: Seed of the initial weights.

    Returns:
      A built `keras.Sequential`: ids [B] to [B, dim]. Unknown ids share the first
      row of its embedding table.
    """
    if ids.dtype.kind != "i":
        unknown = "[UNK]"
        while unknown in ids:
            unknown += "]"
        lookup = keras.layers.StringLookup(vocabulary=list(ids), oov_token=unknown)
    else:
        # What stands for unknown ids must be no id, as the default, -1, may be: of one
        # number more than there are ids, one is free.
        free = int(np.setdiff1d(np.arange(len(ids) + 1), ids)[0])
        lookup = keras.layers.IntegerLookup(vocabulary=ids, oov_token=free)
    seeds = iter(range(1000 * seed, 1000 * seed + 1000))
    stack = [
        lookup,
        keras.layers.Embedding(
            lookup.vocabulary_size(),
            dim,
            embeddings_initializer=keras.initializers.RandomNormal(
                stddev=0.05, seed=next(seeds)
            ),
        ),
    ]
    for width in hidden:
        stack.append(_dense(width, "relu", next(seeds)))
    if hidden:
        stack.append(_dense(dim, None, next(seeds)))
    tower = keras.Sequential([*stack, keras.layers.UnitNormalization()])
    tower(tf.constant(ids[:1]))
    return tower


def average_unknown(tower: KerasModel) -> None:
    """Gives unknown ids the mean embedding of the known ones.

    Their row never occurs in training, so it would answer with noise.
    """
    table = tower.layers[1].embeddings
    table.scatter_nd_update([[0]], tf.reduce_mean(table[1:], axis=0, keepdims=True))


class PlainModel(models.Model):
    """What a user of TensorFlow Recommenders writes.

    Args:
      user_tower, item_tower: From ids to embeddings.
      task: `tfrs.tasks.Retrieval`.
    """

    def __init__(
        self,
        user_tower: KerasModel,
        item_tower: KerasModel,
        task: Callable[..., tf.Tensor],
    ) -> None:
        super().__init__()
        self.user_tower = user_tower
        self.item_tower = item_tower
        self.task = task

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
            compute_metrics=False,
        )


class CorrectedModel(PlainModel):
    """The same with the two corrections that `tfrs.tasks.Retrieval` has options for.

    Args:
      user_tower, item_tower, task: As above.
      item_counts: [N] training rows of each item, in the order of the tower's ids.
    """

    def __init__(
        self,
        user_tower: KerasModel,
        item_tower: KerasModel,
        task: Callable[..., tf.Tensor],
        item_counts: np.ndarray,
    ) -> None:
        super().__init__(user_tower, item_tower, task)
        # Unknown items come first, and never.
        counts = np.concatenate([[1], item_counts]).astype(np.float32)
        self.probabilities = tf.constant(counts / counts.sum())

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        numbers = self.item_tower.layers[0](features["item"])
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
            candidate_sampling_probability=tf.gather(self.probabilities, numbers),
            candidate_ids=numbers,
            compute_metrics=False,
        )


class RightNegativesModel(models.Model):
    """The same towers against the right negatives.

    Each user passes the tower once a batch, and so does each item of a catalogue.

    Args:
      user_tower, item_tower: From ids to embeddings.
      options: Of `tasks.Retrieval`.
      keys: Names of the features that are query keys.
      catalogue: All items, as columns of every batch; None: the batch's, and those of
        the feature "negatives" if there is one.
      knows_positives: Whether all items of the feature `POSITIVES` are masked.
      negative_metrics: Metrics of the negatives, for batches with that feature.
    """

    #: The feature that has the items of each row's user.
    POSITIVES = "positives of the user"

    def __init__(
        self,
        user_tower: KerasModel,
        item_tower: KerasModel,
        options: dict[str, Any],
        keys: Sequence[str],
        catalogue: samplers.Catalogue | None = None,
        knows_positives: bool = False,
        negative_metrics: Sequence[KerasMetric] = (),
    ) -> None:
        super().__init__()
        self.user_tower = user_tower
        self.item_tower = item_tower
        self.options = options
        self.task = tasks.Retrieval(
            **options,
            negative_metrics=list(negative_metrics),
            negative_metric_rows=_COUNTED_ROWS,
        )
        self.keys = tuple(keys)
        self.catalogue = catalogue
        self.knows_positives = knows_positives

    def counting(self, negative_metrics: Sequence[KerasMetric]) -> RightNegativesModel:
        """This model, towers and all, with metrics of its negatives."""
        return RightNegativesModel(
            self.user_tower,
            self.item_tower,
            dict(self.options),
            self.keys,
            self.catalogue,
            self.knows_positives,
            negative_metrics,
        )

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        items, candidate_rows = features["item"], None
        if self.catalogue is not None:
            columns = self.catalogue.columns(items)
            items, candidate_rows = columns.features, columns.rows
            item_ids = columns.ids
        else:
            if "negatives" in features:
                items = tf.concat([items, features["negatives"]], axis=0)
            item_ids = items
        users, query_rows = tf.unique(features["user"])
        positives = features.get(self.POSITIVES)
        return self.task(
            self.user_tower(users),
            self.item_tower(items),
            query_rows=query_rows,
            candidate_rows=candidate_rows,
            candidate_ids=item_ids,
            query_keys={key: features[key] for key in self.keys},
            known_positive_ids=positives if self.knows_positives else None,
            measured_positive_ids=positives,
            compute_metrics=False,
            training=training,
        )


def plain_model(split: Split, options: argparse.Namespace, seed: int) -> PlainModel:
    """`PlainModel` with `tfrs.tasks.Retrieval` as it comes.

    Args:
      split: `Split`.
      options: The command's arguments.
      seed: Seed of the initial weights.
    """
    import tensorflow_recommenders as tfrs

    return PlainModel(
        *_towers(split, options, seed),
        tfrs.tasks.Retrieval(temperature=options.temperature),
    )


def corrected_model(
    split: Split, options: argparse.Namespace, seed: int
) -> CorrectedModel:
    """`CorrectedModel` for the same arguments: exact log-Q, no accidental hits."""
    import tensorflow_recommenders as tfrs

    return CorrectedModel(
        *_towers(split, options, seed),
        tfrs.tasks.Retrieval(
            temperature=options.temperature, remove_accidental_hits=True
        ),
        split.item_counts,
    )


def right_negatives_model(
    split: Split, options: argparse.Namespace, seed: int
) -> RightNegativesModel:
    """`RightNegativesModel` for the same arguments."""
    num_items = len(split.item_ids)
    catalogue = None
    if trains_against_all(split, options):
        catalogue = samplers.Catalogue(split.item_ids, max_bytes=None)
        correction = catalogue.log_q
    else:
        # The published start (a gap of 100 batches) takes every item for rare until
        # many occurrences say otherwise: better than trusting the first few.
        correction = layers.StreamingFrequency(
            max(2**20, 2 * num_items),
            num_hashes=1,
            initial_gap=100 * options.batch_size,
        )
        if options.num_negatives != 0:
            correction = layers.MixedLogQ([correction, -math.log(num_items)])
    task_options = {
        "temperature": options.temperature,
        "positive": "outside",
        "negative_weight": _NEGATIVE_WEIGHT,
        "remove_accidental_hits": True,
        "mask_shared_positives": True,
        "sampling_correction": correction,
        "reduction": "sum_over_batch_size",
    }
    return RightNegativesModel(
        *_towers(split, options, seed),
        task_options,
        query_keys(split),
        catalogue,
        knows_positives(split),
    )


def query_keys(split: Split) -> tuple[str, ...]:
    """Names of the features that are query keys: users, and requests they share."""
    if split.rows.have_shared_requests:
        return ("user", "request")
    return ("user",)  # One user a request: masking by user masks by request too.


def trains_against_all(split: Split, options: argparse.Namespace) -> bool:
    """Whether all items are columns; not where a number of negatives is asked for."""
    return options.num_negatives is None and len(split.item_ids) <= _CATALOGUE_ITEMS


def knows_positives(split: Split) -> bool:
    """Whether the items of all users are held, to be masked."""
    return len(split.rows) <= _KNOWN_ROWS


def with_negatives(
    rows: tf.data.Dataset, split: Split, options: argparse.Namespace, seed: int
) -> tf.data.Dataset:
    """Batches with what `RightNegativesModel` reads beside users and items."""
    if knows_positives(split):
        every = np.ones(len(split.user_ids), bool)
        positives = positives_of_users(split, every)
        rows = positives.attach(rows, "user", RightNegativesModel.POSITIVES)
    number = options.num_negatives
    if number is None:
        number = 0 if trains_against_all(split, options) else _NUM_NEGATIVES
    if number:
        rows = samplers.Uniform(split.item_ids).attach(rows, number, seed=seed)
    return rows


def positives_of_users(split: Split, chosen: np.ndarray) -> data.Positives:
    """The items of the training rows of some users, [U] bool."""
    rows = split.rows.of_users(chosen)
    return data.positives_of(
        {"user": split.user_ids[rows["user"]], "item": split.item_ids[rows["item"]]}
    )


def _towers(
    split: Split, options: argparse.Namespace, seed: int
) -> tuple[KerasModel, KerasModel]:
    """The user and the item tower; the same weights for the same seed."""
    shape = (options.dim, options.hidden)
    return (
        id_tower(split.user_ids, *shape, seed=2 * seed),
        id_tower(split.item_ids, *shape, seed=2 * seed + 1),
    )


def _dense(width: int, activation: str | None, seed: int) -> KerasLayer:
    return keras.layers.Dense(
        width,
        activation,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
    )
