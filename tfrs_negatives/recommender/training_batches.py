"""Batches of shuffled rows, the same for every model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from tfrs_negatives.recommender.row_histories import with_ids
from tfrs_negatives.recommender.training_rows import ROW, TrainingRows
from tfrs_negatives.recommender.training_set import TrainingSet
from tfrs_negatives.types import Features


def batches(
    rows: TrainingRows, batch_size: int, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """Cuts the order of an epoch into batches.

    All but the last have `batch_size` rows. Rows are in random order among those of
    their window, of 4 million rows; which requests these are changes from epoch to
    epoch. In batches of whole requests negatives would be the items of few users, and
    the model worse (docs/recommender.md).

    Yields:
      Arrays of `training_rows.ROW`.
    """
    rest = np.zeros(0, ROW)
    for shuffled in _ahead(_shuffled_windows(rows, seed, epoch)):
        if len(rest):
            shuffled = np.concatenate([rest, shuffled])
        end = len(shuffled) - len(shuffled) % batch_size
        for start in range(0, end, batch_size):
            yield shuffled[start : start + batch_size]
        rest = shuffled[end:]
    if len(rest):
        yield rest


def num_batches(rows: TrainingRows, batch_size: int) -> int:
    """How many batches an epoch has."""
    return -(-len(rows) // batch_size)


def dataset(training: TrainingSet, batch_size: int, seed: int) -> tf.data.Dataset:
    """The training rows as a `tf.data.Dataset`, one pass an epoch.

    Every pass takes the next epoch's order, so a data set serves one `fit`.

    Args:
      training: `TrainingSet`.
      batch_size: Rows in a batch.
      seed: Seed of the orders.

    Returns:
      Dataset of dicts of `user`, `item` (ids as they are in the table), `request`
      (numbers), each [batch]; and `history`, ragged ids, if the set has histories.
    """
    epochs = itertools.count()
    histories = training.histories

    def passes() -> Iterator[tuple[np.ndarray, ...]]:
        for rows in batches(training.rows, batch_size, seed, next(epochs)):
            place = rows["row"] if histories is None else histories.places(rows["row"])
            yield rows["user"], rows["item"], rows["request"], place

    user_ids, item_ids = tf.constant(training.user_ids), tf.constant(training.item_ids)

    def features(
        user: tf.Tensor, item: tf.Tensor, request: tf.Tensor, place: tf.Tensor
    ) -> Features:
        found = {
            "user": tf.gather(user_ids, user),
            "item": tf.gather(item_ids, item),
            "request": request,
        }
        if histories is not None:
            found["history"] = with_ids(histories.before(place), item_ids)
        return found

    rows = tf.data.Dataset.from_generator(
        passes,
        output_signature=tuple(
            tf.TensorSpec([None], dtype)
            for dtype in (tf.int32, tf.int32, tf.int64, tf.int64)
        ),
    )
    length = tf.data.experimental.assert_cardinality(
        num_batches(training.rows, batch_size)
    )
    return (
        rows.apply(length)
        .map(features, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def _shuffled_windows(
    rows: TrainingRows, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """The windows of an epoch, the rows of each shuffled."""
    # Other entropy than that of any window's order.
    for number, window in enumerate(rows.windows(seed=(seed, epoch, 0, 1))):
        yield np.random.default_rng((seed, epoch, number, 2)).permutation(window)


def _ahead(windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same, each made while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, windows, None)
        while (window := following.result()) is not None:
            following = thread.submit(next, windows, None)
            yield window
