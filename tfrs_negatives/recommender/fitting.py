"""Fitting a model, with early stopping and the time of its steps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.models import Model
from tfrs_negatives.optimizers import LazyAdam
from tfrs_negatives.recommender import optimizer_choice, training_batches
from tfrs_negatives.recommender.early_stopping import MEASURE, EarlyStopping
from tfrs_negatives.recommender.held_out_pairs import HeldOut
from tfrs_negatives.recommender.settings import Settings
from tfrs_negatives.recommender.towers_of import Towers
from tfrs_negatives.recommender.training_set import TrainingSet
from tfrs_negatives.types import KerasOptimizer

# Steps that still trace functions and fill caches.
_WARM_UP_STEPS = 5


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
        made = sizes[first : len(ends)]
        return float(made.sum() / (ends[-1] - ends[first - 1]))


class EpochLines(keras.callbacks.Callback):
    """Prints a line an epoch."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        told = "".join(
            f", {name} {logs[name]:.4f}" for name in ("loss", MEASURE) if name in logs
        )
        seconds = time.perf_counter() - self._start
        print(f"epoch {epoch + 1}: {seconds:.1f} s{told}", flush=True)


def batch_sizes(num_rows: int, batch_size: int, num_steps: int) -> np.ndarray:
    """Rows of each step's batch, [num_steps]: the last one of a pass has the rest."""
    in_a_pass = -(-num_rows // batch_size)
    sizes = np.full(num_steps, batch_size)
    sizes[in_a_pass - 1 :: in_a_pass] = num_rows - (in_a_pass - 1) * batch_size
    return sizes


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a fit was like.

    Attributes:
      epochs: How many the model was trained for; with validation, those it chose.
      curve: `early_stopping.MEASURE` of each epoch; empty without validation.
      seconds: Of all epochs, those after the best too.
      step_ms: Median milliseconds of a step.
      rows_a_second: Rows over the time of the steps.
    """

    epochs: int
    curve: tuple[float, ...]
    seconds: float
    step_ms: float
    rows_a_second: float


def fit(
    model: Model,
    training: TrainingSet,
    towers: Towers,
    settings: Settings,
    seed: int,
    *,
    prepared: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
    validation: HeldOut | None = None,
    epochs: int | None = None,
    verbose: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Fitted:
    """Trains a model on shuffled batches.

    Args:
      model: Uncompiled `models.Model`.
      training: `TrainingSet`.
      towers: `Towers` of the model.
      settings: `Settings`.
      seed: Decides the batches.
      prepared: Function that adds to batches what the model reads beside users, items
        and histories, or None.
      validation: Pairs that say when to stop, or None: `epochs` are made.
      epochs: Where to stop of the settings' epochs, along which the learning rate
        falls; None: at the last.
      verbose: 0: silent; 1: a bar an epoch, as Keras has it; 2: a line an epoch.
      callbacks: Keras callbacks.

    Returns:
      `Fitted`.
    """
    rows = training_batches.dataset(training, settings.batch_size, seed)
    settings = training.chosen(settings)
    steps, most = settings.steps_per_epoch, settings.epochs
    assert most is not None
    num_steps = most * (steps or num_batches(training, settings))
    if steps is not None:
        rows = rows.repeat()
    if prepared is not None:
        rows = prepared(rows).prefetch(tf.data.AUTOTUNE)
    sizes = batch_sizes(len(training.rows), settings.batch_size, num_steps)
    timer = StepTimer()
    stopping = None
    if validation is not None and settings.patience is not None:
        stopping = EarlyStopping(
            lambda: (towers.embed_users(validation.users), towers.embed_items()),
            validation,
            settings.patience,
        )
    model.compile(optimizer(training, settings, num_steps))
    start = time.perf_counter()
    model.fit(
        rows,
        epochs=most if epochs is None else epochs,
        steps_per_epoch=steps,
        verbose=verbose if verbose == 1 else 0,
        callbacks=[
            timer,
            *([] if stopping is None else [stopping]),
            *([EpochLines()] if verbose == 2 else []),
            *callbacks,
        ],
    )
    made = most if epochs is None else epochs
    return Fitted(
        epochs=made if stopping is None else stopping.chosen_epoch or made,
        curve=() if stopping is None else tuple(stopping.curve),
        seconds=time.perf_counter() - start,
        step_ms=timer.median_ms(),
        rows_a_second=timer.rows_a_second(sizes),
    )


def num_batches(training: TrainingSet, settings: Settings) -> int:
    """Steps of a pass over the rows."""
    return training_batches.num_batches(training.rows, settings.batch_size)


def optimizer(
    training: TrainingSet, settings: Settings, num_steps: int
) -> KerasOptimizer:
    """That of the settings; where it is "auto", by the size of the tables.

    Its rate falls to zero along a cosine over all steps.
    """
    classes = {
        optimizer_choice.ADAM: keras.optimizers.Adam,
        optimizer_choice.LAZY_ADAM: LazyAdam,
    }
    sizes = len(training.user_ids), len(training.item_ids)
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, num_steps)
    return classes[optimizer_choice.chosen(settings.optimizer, *sizes)](rate)
