"""Fitting a model, with its step time, and reading its embeddings."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.cli import comparison, optimizer_choice, request_batches
from tfrs_negatives.cli.time_split import Split
from tfrs_negatives.models import Model
from tfrs_negatives.optimizers import LazyAdam
from tfrs_negatives.types import KerasOptimizer, Tower

# Steps that still trace functions and fill caches.
_WARM_UP_STEPS = 5

_EMBED_ROWS = 8192


class StepTimer(keras.callbacks.Callback):
    """Measures training steps, from fetching a batch to updated weights."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds: list[float] = []
        self._ends: list[float] = []

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._ends.append(time.perf_counter())
        self._seconds.append(self._ends[-1] - self._start)

    def median_ms(self) -> float:
        """Median in milliseconds, without the first steps if there are others."""
        return 1000 * float(np.median(self._seconds[_WARM_UP_STEPS:] or self._seconds))

    def rows_a_second(self, sizes: np.ndarray) -> float:
        """Rows over the seconds that all steps took, but for the first ones.

        Args:
          sizes: [steps] rows of each step's batch.
        """
        ends, first = self._ends, min(_WARM_UP_STEPS, len(self._ends) - 1)
        if not first:  # One step, of which no earlier one tells when it began.
            return float(sizes[0] / self._seconds[0])
        return float(sizes[first:].sum() / (ends[-1] - ends[first - 1]))


def batch_sizes(num_rows: int, batch_size: int, num_steps: int) -> np.ndarray:
    """Rows of each step's batch, [num_steps]: the last one of a pass has the rest."""
    in_a_pass = -(-num_rows // batch_size)
    sizes = np.full(num_steps, batch_size)
    sizes[in_a_pass - 1 :: in_a_pass] = num_rows - (in_a_pass - 1) * batch_size
    return sizes


def fit(
    model: Model,
    split: Split,
    options: argparse.Namespace,
    seed: int,
    prepared: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Trains a model on request-sorted batches, with Keras's progress.

    Args:
      model: Uncompiled `models.Model`.
      split: `Split`.
      options: The command's arguments.
      seed: Decides the batches.
      prepared: Function that adds to batches what the model reads beside users and
        items, or None.
      callbacks: Keras callbacks.

    Returns:
      `comparison.SECONDS` of training; `comparison.STEP_TIME`, the median time of a
      step; `comparison.ROWS_A_SECOND`.
    """
    rows = request_batches.dataset(split, options.batch_size, seed)
    steps = options.steps_per_epoch
    num_steps = options.epochs * (steps or -(-len(split.rows) // options.batch_size))
    if steps is not None:
        rows = rows.repeat()
    if prepared is not None:
        rows = prepared(rows).prefetch(tf.data.AUTOTUNE)
    sizes = batch_sizes(len(split.rows), options.batch_size, num_steps)
    timer = StepTimer()
    model.compile(optimizer(split, options, num_steps))
    start = time.perf_counter()
    model.fit(
        rows,
        epochs=options.epochs,
        steps_per_epoch=steps,
        verbose=options.verbose,
        callbacks=[timer, *callbacks],
    )
    return {
        comparison.SECONDS: time.perf_counter() - start,
        comparison.STEP_TIME: timer.median_ms(),
        comparison.ROWS_A_SECOND: timer.rows_a_second(sizes),
    }


def optimizer(
    split: Split, options: argparse.Namespace, num_steps: int
) -> KerasOptimizer:
    """That of `--optimizer`; where it is "auto", by the size of the tables.

    Its rate falls to zero along a cosine over all steps.
    """
    classes = {
        optimizer_choice.ADAM: keras.optimizers.Adam,
        optimizer_choice.LAZY_ADAM: LazyAdam,
    }
    sizes = len(split.user_ids), len(split.item_ids)
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, num_steps)
    return classes[optimizer_choice.chosen(options.optimizer, *sizes)](rate)


def embed(tower: Tower, ids: np.ndarray) -> np.ndarray:
    """Embeddings of ids, [n, d] float32."""
    width = tower(tf.constant(ids[:1])).shape[1]
    embeddings = np.empty((len(ids), width), np.float32)
    for start in range(0, len(ids), _EMBED_ROWS):
        part = ids[start : start + _EMBED_ROWS]
        embeddings[start : start + len(part)] = tower(tf.constant(part)).numpy()
    return embeddings
