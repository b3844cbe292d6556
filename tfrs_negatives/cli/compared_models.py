"""The two models that are compared: equal towers, another task."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import layers, models, samplers, tasks
from tfrs_negatives._keras import keras
from tfrs_negatives.cli.time_split import Split
from tfrs_negatives.types import Features, KerasLayer, KerasMetric, KerasModel

# Rows of a batch whose negatives are counted, evenly spaced: the memory that takes
# grows with them times the columns.
_COUNTED_ROWS = 1024

# Of the probability of a uniform draw: a share of it that keeps the rarest items, whose
# frequency is little more than noise, from the largest bonus of the discount.
_FLOOR = 0.2


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


class RightNegativesModel(models.Model):
    """The same towers with masks, log-Q correction and extra negatives.

    Args:
      user_tower, item_tower: From ids to embeddings.
      options: Of `tasks.Retrieval`.
      keys: Names of the features that are query keys.
      negative_metrics: Metrics of the negatives, for batches with the feature
        `POSITIVES`.
    """

    #: The feature that has the items of each row's user.
    POSITIVES = "positives of the user"

    def __init__(
        self,
        user_tower: KerasModel,
        item_tower: KerasModel,
        options: dict[str, Any],
        keys: Sequence[str],
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

    def counting(self, negative_metrics: Sequence[KerasMetric]) -> RightNegativesModel:
        """This model, towers and all, with metrics of its negatives."""
        return RightNegativesModel(
            self.user_tower,
            self.item_tower,
            dict(self.options),
            self.keys,
            negative_metrics,
        )

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        items = features["item"]
        if "negatives" in features:
            items = tf.concat([items, features["negatives"]], axis=0)
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(items),
            candidate_ids=items,
            query_keys={key: features[key] for key in self.keys},
            measured_positive_ids=features.get(self.POSITIVES),
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


def right_negatives_model(
    split: Split, options: argparse.Namespace, seed: int
) -> RightNegativesModel:
    """`RightNegativesModel` for the same arguments."""
    # The published start (a gap of 100 batches) takes every item for rare until many
    # occurrences say otherwise: in small tables, better than trusting the first few.
    frequency = layers.StreamingFrequency(
        max(2**20, 2 * len(split.item_ids)),
        num_hashes=1,
        initial_gap=100 * options.batch_size,
    )
    correction = frequency
    if options.num_negatives:
        correction = layers.MixedLogQ([frequency, -math.log(len(split.item_ids))])
    correction = layers.ScaledLogQ(
        correction,
        strength=1 - options.popularity_discount,
        floor=_FLOOR / len(split.item_ids),
    )
    task_options = {
        "temperature": options.temperature,
        "remove_accidental_hits": True,
        "sampling_correction": correction,
    }
    return RightNegativesModel(
        *_towers(split, options, seed), task_options, query_keys(split)
    )


def query_keys(split: Split) -> tuple[str, ...]:
    """Names of the features that are query keys: users, and requests they share."""
    if split.rows.have_shared_requests:
        return ("user", "request")
    return ("user",)  # One user a request: masking by user masks by request too.


def sampler(split: Split, options: argparse.Namespace) -> samplers.Uniform | None:
    """Uniform sampler over the catalogue, or None when no negatives are asked for."""
    if not options.num_negatives:
        return None
    return samplers.Uniform(split.item_ids)


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
