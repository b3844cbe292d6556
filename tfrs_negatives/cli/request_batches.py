"""Request-sorted batches, the same for every model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfrs_negatives.audit.row_orders import request_order
from tfrs_negatives.cli.time_split import Split
from tfrs_negatives.types import Features


def request_batches(
    split: Split, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Cuts the order of an epoch into batches.

    All but the last have `batch_size` rows, so a request may go on in the next
    batch.

    Returns:
      List of arrays of row numbers.
    """
    order = request_order(split.request, seed, epoch)
    return np.split(order, range(batch_size, len(order), batch_size))


def dataset(split: Split, batch_size: int, seed: int) -> tf.data.Dataset:
    """The training rows as a `tf.data.Dataset`, one pass an epoch.

    Every pass takes the next epoch's order, so a data set serves one `fit`.

    Args:
      split: `Split`.
      batch_size: Rows in a batch.
      seed: Seed of the orders.

    Returns:
      Dataset of dicts of `user`, `item` (ids as they are in the table) and `request`
      (numbers), each [batch].
    """
    epochs = itertools.count()

    def passes() -> Iterator[np.ndarray]:
        yield from request_batches(split, batch_size, seed, next(epochs))

    columns = {
        "user": (tf.constant(split.user_ids), tf.constant(split.user)),
        "item": (tf.constant(split.item_ids), tf.constant(split.item)),
    }
    requests = tf.constant(split.request)

    def features(rows: tf.Tensor) -> Features:
        batch = {
            name: tf.gather(ids, tf.gather(positions, rows))
            for name, (ids, positions) in columns.items()
        }
        return {**batch, "request": tf.gather(requests, rows)}

    num_batches = -(-len(split.user) // batch_size)
    rows = tf.data.Dataset.from_generator(
        passes, output_signature=tf.TensorSpec([None], tf.int64)
    )
    return (
        rows.apply(tf.data.experimental.assert_cardinality(num_batches))
        .map(features, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
