"""How often an in-batch negative is a known positive of the row's user."""

from __future__ import annotations

from tfrs_negatives.cli import request_batches
from tfrs_negatives.cli.compared_models import RightNegativesModel
from tfrs_negatives.cli.time_split import Split
from tfrs_negatives.data import positives_of
from tfrs_negatives.metrics import FalseNegativeRate

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
    positives = positives_of(
        {"user": split.user_ids[split.user], "item": split.item_ids[split.item]}
    )
    rows = request_batches.dataset(split, batch_size, seed)
    every = max(1, int(rows.cardinality()) // _NUM_BATCHES)
    rows = rows.shard(every, 0).take(_NUM_BATCHES)
    rows = positives.attach(rows, "user", model.POSITIVES)
    before, after = (
        FalseNegativeRate("in_batch", after_masks=m) for m in (False, True)
    )
    counted = model.counting([before, after])
    for features in rows:  # So few that tracing would take longer.
        counted.compute_loss(features, training=False)
    return float(before.result()), float(after.result())
