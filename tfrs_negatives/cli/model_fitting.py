"""Fitting a model, with its step time, and reading its embeddings."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.cli import optimizer_choice, request_batches
from tfrs_negatives.cli.time_split import Split
from tfrs_negatives.models import Model
from tfrs_negatives.optimizers import LazyAdam
from tfrs_negatives.samplers import Uniform
from tfrs_negatives.types import KerasOptimizer, Tower

# Steps that still trace functions and fill caches.
_WARM_UP_STEPS = 5

_EMBED_ROWS = 8192


class StepTimer(keras.callbacks.Callback):
    """Measures training steps, from fetching a batch to updated weights."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds: list[float] = []

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._seconds.append(time.perf_counter() - self._start)

    def median_ms(self) -> float:
        """Median in milliseconds, without the first steps if there are others."""
        return 1000 * float(np.median(self._seconds[_WARM_UP_STEPS:] or self._seconds))


def fit(
    model: Model,
    split: Split,
    options: argparse.Namespace,
    seed: int,
    negatives: Uniform | None = None,
) -> float:
    """Trains a model on request-sorted batches, with Keras's progress.

    Args:
      model: Uncompiled `models.Model`.
      split: `Split`.
      options: The command's arguments.
      seed: Decides the batches.
      negatives: A sampler to attach as the feature "negatives", or None.

    Returns:
      Median time of a training step, in milliseconds.
    """
    rows = request_batches.dataset(split, options.batch_size, seed)
    if negatives is not None:
        rows = negatives.attach(rows, options.num_negatives, seed=seed)
    timer = StepTimer()
    model.compile(optimizer(split, options))
    model.fit(rows, epochs=options.epochs, verbose=options.verbose, callbacks=[timer])
    return timer.median_ms()


def optimizer(split: Split, options: argparse.Namespace) -> KerasOptimizer:
    """That of `--optimizer`; where it is "auto", by the size of the tables."""
    classes = {
        optimizer_choice.ADAM: keras.optimizers.Adam,
        optimizer_choice.LAZY_ADAM: LazyAdam,
    }
    sizes = len(split.user_ids), len(split.item_ids)
    return classes[optimizer_choice.chosen(options.optimizer, *sizes)](
        options.learning_rate
    )


def embed(tower: Tower, ids: np.ndarray) -> np.ndarray:
    """Embeddings of ids, [n, d] float32."""
    return np.concatenate(
        [
            tower(tf.constant(ids[start : start + _EMBED_ROWS])).numpy()
            for start in range(0, len(ids), _EMBED_ROWS)
        ]
    )
