"""How often an in-batch negative is a known positive of the row's user."""

import numpy as np

from tfrs_negatives.audit.known import KnownPositives
from tfrs_negatives.audit.pairs import count_pairs
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
    known = KnownPositives(
        split.user, split.item, len(split.user_ids), len(split.item_ids)
    )
    batches = request_batches(split, batch_size, seed, epoch=0)
    every = max(1, len(batches) // _NUM_BATCHES)
    # Where users are the only keys, they are requests too.
    request = split.request if "request" in keys else split.user
    totals = np.zeros(4)
    for rows in batches[::every][:_NUM_BATCHES]:
        counts = count_pairs(split.user[rows], split.item[rows], request[rows], known)
        dropped, left = counts["keys"]
        pairs = len(rows) * (len(rows) - 1)
        totals += [counts["none"][1].sum(), pairs, left.sum(), pairs - dropped.sum()]
    before = totals[0] / totals[1] if totals[1] else 0.0
    after = totals[2] / totals[3] if totals[3] else 0.0
    return float(before), float(after)
