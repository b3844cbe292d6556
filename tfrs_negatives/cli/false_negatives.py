"""How often an in-batch negative is a known positive of the row's user."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives.cli import request_batches
from tfrs_negatives.cli.compared_models import RightNegativesModel, positives_of_users
from tfrs_negatives.cli.time_split import Split
from tfrs_negatives.data import Positives
from tfrs_negatives.metrics import FalseNegativeRate
from tfrs_negatives.types import Features

_NUM_BATCHES = 20


def false_negative_rates(
    model: RightNegativesModel, split: Split, batch_size: int, seed: int
) -> tuple[float, float]:
    """False-negative rates before and after a model's masks, over a sample of batches.

    Of all pairs of a row and another row's column, the share whose item is in the
    training rows of the row's user; after the masks, of the pairs that are left. They
    are what the model's task itself counts, by the rules, ids and keys that it trains
    with. Extra negatives are not counted: the rate is the batch's own.

    Args:
      model: `compared_models.RightNegativesModel`; its weights do not matter.
      split: `Split`.
      batch_size: Rows in a batch.
      seed: Seed of the orders, as in training.

    Returns:
      `(before, after)`; 0 where no pair is left.
    """
    rows = request_batches.dataset(split, batch_size, seed)
    every = max(1, int(rows.cardinality()) // _NUM_BATCHES)
    batches = list(rows.shard(every, 0).take(_NUM_BATCHES))
    positives = _positives_of_users(split, batches)
    rows = tf.data.Dataset.from_generator(
        lambda: batches, output_signature=rows.element_spec
    )
    rows = positives.attach(rows, "user", model.POSITIVES)
    before, after = (
        FalseNegativeRate("in_batch", after_masks=m) for m in (False, True)
    )
    counted = model.counting([before, after])
    for features in rows:  # So few that tracing would take longer.
        counted.compute_loss(features, training=False)
    return float(before.result()), float(after.result())


def _positives_of_users(split: Split, batches: list[Features]) -> Positives:
    """The items of the training rows of the users of some batches."""
    users = np.unique(np.concatenate([batch["user"].numpy() for batch in batches]))
    if users.dtype == object:
        users = np.array([user.decode() for user in users], object)
    chosen = np.zeros(len(split.user_ids), bool)
    chosen[np.searchsorted(split.user_ids, users)] = True
    return positives_of_users(split, chosen)
