"""How often an in-batch negative is a known positive of the row's user."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfrs_negatives.data import Positives
from tfrs_negatives.metrics import FalseNegativeRate
from tfrs_negatives.recommender import recipe, training_batches
from tfrs_negatives.recommender.settings import Settings
from tfrs_negatives.recommender.towers_of import Towers
from tfrs_negatives.recommender.training_set import TrainingSet
from tfrs_negatives.types import Features

_NUM_BATCHES = 8


def false_negative_rates(
    towers: Towers, settings: Settings, seed: int
) -> tuple[float, float]:
    """False-negative rates before and after a model's masks, over a sample of batches.

    Of all pairs of a row and another row's column, the share whose item is in the
    training rows of the row's user; after the masks, of the pairs that are left. They
    are what the model's task itself counts, by the rules, ids and keys that it trains
    with. Extra negatives are not counted: the rate is the batch's own.

    Args:
      towers: `Towers` of the model; their weights do not matter.
      settings: `Settings`.
      seed: Seed of the orders, as in training.

    Returns:
      `(before, after)`; 0 where no pair is left.
    """
    training = towers.training
    rows = training_batches.dataset(training, settings.batch_size, seed)
    every = max(1, int(rows.cardinality()) // _NUM_BATCHES)
    batches = list(rows.shard(every, 0).take(_NUM_BATCHES))
    positives = _positives_of_users(training, batches)
    rows = tf.data.Dataset.from_generator(
        lambda: batches, output_signature=rows.element_spec
    )
    # The columns of other items have no part in it.
    settings = dataclasses.replace(settings, num_negatives=0)
    chosen = recipe.Recipe.of(training, settings)
    rows = towers.attach(rows, has_catalogue=False)
    rows = positives.attach(rows, "user", "measured_positives")
    if chosen.masks_known:
        rows = rows.map(
            lambda batch: {**batch, "known_positives": batch["measured_positives"]}
        )
    before, after = (
        FalseNegativeRate("in_batch", after_masks=m) for m in (False, True)
    )
    counted = recipe.build(training, towers, settings, [before, after])
    for features in rows:  # So few that tracing would take longer.
        counted.compute_loss(features, training=False)
    return float(before.result()), float(after.result())


def _positives_of_users(training: TrainingSet, batches: list[Features]) -> Positives:
    """The items of the training rows of the users of some batches."""
    users = np.unique(np.concatenate([batch["user"].numpy() for batch in batches]))
    if users.dtype == object:
        users = np.array([user.decode() for user in users], object)
    chosen = np.zeros(len(training.user_ids), bool)
    chosen[np.searchsorted(training.user_ids, users)] = True
    return training.positives(chosen)
