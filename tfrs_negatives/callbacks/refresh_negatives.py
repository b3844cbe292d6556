"""Mined negatives that follow the model (ANCE)."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks.mining_pass import MiningPass
from tfrs_negatives.callbacks.table_in_backups import TableInBackups
from tfrs_negatives.callbacks.tower_encoder import TowerEncoder
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.samplers import Mined
from tfrs_negatives.types import KerasModel, ListsLike, Tower


class RefreshNegatives(keras.callbacks.Callback):
    """Mines a sampler's table again every n steps or epochs of `fit`.

    Negatives that were hard for an earlier state of the model are easy for the present
    one. So, as in ANCE (Xiong et al., ICLR 2021), the corpus is embedded again, the
    index refreshed, the queries embedded and mined, and the table swapped at the very
    end.

    With `background=True` all that happens in a thread while training goes on. The
    towers' variables are then read one by one as they are, so embeddings are of
    weights from between the first and the last step of the refresh. The table's age
    counts from the first. `max_staleness` bounds it: before a step that would use an
    older table, training waits for the refresh that runs. (What an input pipeline has
    prefetched is older by as much.)

    If a refresh fails or is cut off, the old table stays, a warning says why, and the
    next round tries again. Only `sampler.refreshed_at` and the optimizer's `iterations`
    decide when a refresh is due: restore both from a checkpoint, and the schedule goes
    on where it was. A refresh that is due when `fit` begins runs before the first step.

    While `fit` runs, a saved model includes the sampler's table. So Keras's
    `BackupAndRestore` in the same `fit` keeps and restores both.

    Epoch logs get `refresh_seconds`, `refresh_changed` (share of the table's entries),
    `refresh_short_rows` (of the last refresh, NaN before it) and `refresh_age` (steps).

    Args:
      sampler: A `samplers.Mined`.
      index: A `BruteForce` or `ScaNN`, for this callback alone: it is refilled.
      candidates: Finite `tf.data.Dataset` of batches (ids, features), the corpus.
      candidate_tower: From features to embeddings `[b, d]`; a Keras layer or model,
        or a function.
      queries: The same for the table's rows, in any order: their ids as in the
        sampler's `row_ids` (row numbers without), and features. Other ids are
        ignored. None: the item side, rows are candidates and each its own positive.
      query_tower: As `candidate_tower`; None on the item side.
      every_steps: Steps from one refresh to the next; or
      every_epochs: the same in epochs, at their end.
      background: Whether to refresh in a thread.
      max_staleness: The most steps that a table may be old while the next is made.
        None: no bound.
      positives: Known positives of the table's rows, in their order, as for
        `index.mine_hard_negatives`. On the item side, beside each item itself.
      num_negatives: How many to mine for a row. None: the width of the sampler's
        table when the callback is made.
      on_error: "warn", or "raise" to end training when a refresh fails.
      **mining: Options of `index.mine_hard_negatives`: `range_min`, `range_max`,
        `max_score`, `sampling` (here "top": the sampler draws at random), `seed`,
        `batch_size`; on the item side also the margins, below an item's product with
        itself. A warning says when "top" leaves out ranks below `range_max` that
        nothing else would.

    Raises:
      ValueError, TypeError: Options out of range, not known, or that do not go
        together; datasets of another structure.

    Reference:
      * Xiong et al., "Approximate nearest neighbor negative contrastive learning
        for dense text retrieval", ICLR 2021.

    Example:
      >>> item_tower = tf.keras.layers.Embedding(5, 4)
      >>> user_tower = tf.keras.layers.Embedding(2, 4)
      >>> sampler = tn.samplers.Mined(list(range(5)), [[1, 2, 3], [2, 3, 4]], "user")
      >>> items = tf.data.Dataset.from_tensor_slices((list(range(5)), list(range(5))))
      >>> users = tf.data.Dataset.from_tensor_slices(([0, 1], [0, 1]))
      >>> refresh = tn.callbacks.RefreshNegatives(
      ...     sampler,
      ...     tn.index.BruteForce(),
      ...     items.batch(5),
      ...     item_tower,
      ...     users.batch(2),
      ...     user_tower,
      ...     every_steps=1000,
      ...     positives=[[0], [1]],
      ... )
      >>> refresh.refresh()  # `fit(..., callbacks=[refresh])` does it while training.
      >>> sampler.table.numpy().shape, 0 in sampler.table[0].numpy()
      ((2, 3), False)
    """

    def __init__(
        self,
        sampler: Mined,
        index: TopK,
        candidates: tf.data.Dataset,
        candidate_tower: Tower,
        queries: tf.data.Dataset | None = None,
        query_tower: Tower | None = None,
        *,
        every_steps: int | None = None,
        every_epochs: int | None = None,
        background: bool = False,
        max_staleness: int | None = None,
        positives: ListsLike | None = None,
        num_negatives: int | None = None,
        on_error: str = "warn",
        **mining: Any,
    ) -> None:
        super().__init__()
        if (every_steps is None) == (every_epochs is None):
            raise ValueError(
                "Pass one of `every_steps` and `every_epochs`, received "
                f"{every_steps} and {every_epochs}."
            )
        name = "every_epochs" if every_steps is None else "every_steps"
        _checks.check_at_least(name, every_steps or every_epochs or 0, 1)
        _checks.check_choice("on_error", on_error, ("warn", "raise"))
        if max_staleness is not None:
            if not background:
                raise ValueError(
                    "`max_staleness` bounds a refresh in the background; without "
                    "`background=True` training always waits."
                )
            _checks.check_at_least("max_staleness", max_staleness, every_steps or 1)
        if (queries is None) != (query_tower is None):
            raise ValueError(
                "`queries` and `query_tower` go together: pass both, or neither to "
                "mine from the item side."
            )
        corpus = TowerEncoder("candidates", candidates, candidate_tower)
        rows = None
        if queries is not None and query_tower is not None:
            rows = TowerEncoder("queries", queries, query_tower)
        self._refresh = MiningPass(
            sampler, index, corpus, rows, mining, positives, num_negatives
        )
        self._sampler = sampler
        self._in_backups = TableInBackups(sampler)
        self._every_steps, self._every_epochs = every_steps, every_epochs
        self._background, self._max_staleness = background, max_staleness
        self._on_error = on_error
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._attempted = 0
        self._measured = dict.fromkeys(
            ("refresh_seconds", "refresh_changed", "refresh_short_rows"), np.nan
        )

    def refresh(self, step: int = 0) -> None:
        """Refreshes at once, such as to fill the table before training.

        Args:
          step: The training step that the weights are of.

        Raises:
          Exception: Whatever goes wrong, with any `on_error`. The old table stays.
        """
        self._finish()
        self._attempted = step
        self._measured = self._refresh(step)

    def set_model(self, model: KerasModel) -> None:
        """Attaches the table to what backups of the model hold; Keras calls it."""
        super().set_model(model)
        self._in_backups.attach(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._in_backups.begin()
        self._begins = True
        # Here rather than in a thread: two threads must not trace at a time. In the
        # scope, because tracing builds towers that are not built yet.
        with self.model.distribute_strategy.scope():
            self._refresh.trace()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._first_step = step = self._step()
        # By now every callback has restored what it restores.
        begins, self._begins = self._begins, False
        steps = self._every_steps
        if steps is None and self._every_epochs and self.params.get("steps"):
            steps = self._every_epochs * self.params["steps"]
        if begins and step and steps and self._is_due(step, steps):
            self._start(step)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        step = self._step()
        self._collect()
        if self._every_steps is not None and self._is_due(step, self._every_steps):
            self._start(step)
        if self._max_staleness is not None and self._age(step) > self._max_staleness:
            self._finish()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        step = self._step()
        self._collect()
        if self._every_epochs is not None:
            steps = self._every_epochs * max(step - self._first_step, 1)
            if self._is_due(step, steps):
                self._start(step)
        if logs is not None:
            logs.update(self._measured, refresh_age=self._age(step))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._in_backups.detach()
        self._finish()

    def _step(self) -> int:
        return int(tf.convert_to_tensor(self.model.optimizer.iterations))

    def _refreshed_at(self, step: int) -> int:
        refreshed_at = int(self._sampler.refreshed_at.numpy())
        # A table of another run says nothing about this one.
        return refreshed_at if refreshed_at <= step else 0

    def _age(self, step: int) -> int:
        return step - self._refreshed_at(step)

    def _is_due(self, step: int, steps: int) -> bool:
        attempted = self._attempted if self._attempted <= step else 0
        last = max(self._refreshed_at(step), attempted)
        return self._thread is None and step - last >= steps

    def _start(self, step: int) -> None:
        self._attempted = step
        if self._background:
            # A daemon, so that an interpreter that is told to end can.
            self._thread = threading.Thread(
                target=self._attempt, args=[step], daemon=True, name="refresh-negatives"
            )
            self._thread.start()
        else:
            self._attempt(step)
            self._report()

    def _attempt(self, step: int) -> None:
        # Even SystemExit, which kills a thread, is a refresh that failed; only in
        # the main thread is it the program's.
        caught = BaseException if self._background else Exception
        try:
            self._measured = self._refresh(step)
        except caught as failure:
            self._failure = failure

    def _collect(self) -> None:
        """Reports on a refresh in the background that has ended."""
        if self._thread is not None and not self._thread.is_alive():
            self._finish()

    def _finish(self) -> None:
        """Waits for a refresh in the background, and reports on it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._report()

    def _report(self) -> None:
        failure, self._failure = self._failure, None
        if failure is None:
            return
        message = (
            f"Refreshing the mined negatives failed at step {self._attempted}, and the "
            f"table of step {int(self._sampler.refreshed_at.numpy())} stays: "
            f"{type(failure).__name__}: {failure}"
        )
        if self._on_error == "raise":
            raise RuntimeError(message) from failure
        warnings.warn(message, RuntimeWarning, stacklevel=2)
