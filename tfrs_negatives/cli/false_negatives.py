"""How often an in-batch negative is a known positive of the row's user."""

import numpy as np

from tfrs_negatives.cli.batches import request_batches

_NUM_BATCHES = 20


def false_negative_rates(split, batch_size, seed, keys):
    """False-negative rates before and after our masks, over a sample of batches.

    Of all pairs of a row and another row's column, the share whose item is in the
    training rows of the row's user; after the masks, of the pairs that are left.
    Extra negatives are not counted: the rate is the batch's own.

    Args:
      split: `Split`.
      batch_size: Rows in a batch.
      seed: Seed of the orders, as in training.
      keys: Names of the query keys, of "user" and "request".

    Returns:
      `(before, after)`; 0 where no pair is left.
    """
    num_items = len(split.item_ids)
    known = np.unique(split.user.astype(np.int64) * num_items + split.item)
    batches = request_batches(split, batch_size, seed, epoch=0)
    every = max(1, len(batches) // _NUM_BATCHES)
    totals = np.zeros(4)
    for rows in batches[::every][:_NUM_BATCHES]:
        user, item = split.user[rows].astype(np.int64), split.item[rows]
        pairs = user[:, np.newaxis] * num_items + item[np.newaxis, :]
        positive = np.isin(pairs, known)
        others = ~np.eye(len(rows), dtype=bool)
        kept = others & ~dropped_pairs(split, rows, keys)
        totals += [
            (positive & others).sum(),
            others.sum(),
            (positive & kept).sum(),
            kept.sum(),
        ]
    before = totals[0] / totals[1] if totals[1] else 0.0
    after = totals[2] / totals[3] if totals[3] else 0.0
    return float(before), float(after)


def dropped_pairs(split, rows, keys):
    """The pairs of a batch that the rules of `RightNegativesModel` drop.

    Args:
      split: `Split`.
      rows: [b] numbers of the batch's training rows.
      keys: Names of the query keys.

    Returns:
      [b, b] bool; the diagonal, which no rule drops, is True as well.
    """
    dropped = np.zeros((len(rows), len(rows)), bool)
    for values in (split.item, *(getattr(split, key) for key in keys)):
        own = values[rows]
        dropped |= own[:, np.newaxis] == own[np.newaxis, :]
    return dropped
