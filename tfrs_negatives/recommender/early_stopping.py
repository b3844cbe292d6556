"""Training stops when held-out pairs are no longer ranked better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfrs_negatives._keras import keras
from tfrs_negatives.recommender.held_out_figures import held_out_ranks
from tfrs_negatives.recommender.held_out_pairs import HeldOut

#: What decides: the gain of each pair by its rank, mean over pairs.
MEASURE = "validation ndcg@100"
_DEEPEST = 100


def ndcg_of_pairs(ranks: np.ndarray) -> float:
    """NDCG@100 as if each pair had a list of its own.

    Smoother than a recall, which few pairs at the edge of the list decide.

    Args:
      ranks: [h], from 1; 0 for what is not found.
    """
    found = (ranks > 0) & (ranks <= _DEEPEST)
    gains = np.where(found, 1 / np.log2(1 + np.maximum(ranks, 1)), 0)
    return float(gains.mean())


class EarlyStopping(keras.callbacks.Callback):
    """Measures each epoch, keeps the best epoch's weights, and stops.

    At the end of training the model has the weights of the best epoch.

    Args:
      embed: Function that returns embeddings of the pairs' users [V, d], and of the
        catalogue [N, d].
      pairs: `HeldOut`.
      patience: Epochs without a better one after which training stops.

    Attributes:
      curve: `MEASURE` of each epoch.
      best_epoch: The best one's number, from 1; 0 before there is one.
    """

    def __init__(
        self,
        embed: Callable[[], tuple[np.ndarray, np.ndarray]],
        pairs: HeldOut,
        patience: int,
    ) -> None:
        super().__init__()
        self._embed, self._pairs, self._patience = embed, pairs, patience
        self._weights: list[np.ndarray] | None = None
        self.curve: list[float] = []
        self.best_epoch = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        users, items = self._embed()
        if not (np.isfinite(users).all() and np.isfinite(items).all()):
            self.model.stop_training = True  # Diverged: evaluation says so.
            return
        found = ndcg_of_pairs(held_out_ranks(users, items, self._pairs))
        self.curve.append(found)
        if logs is not None:
            logs[MEASURE] = found
        if self._weights is None or found > self.curve[self.best_epoch - 1]:
            self.best_epoch = len(self.curve)
            self._weights = self.model.get_weights()
        elif len(self.curve) - self.best_epoch >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
        self._weights = None
