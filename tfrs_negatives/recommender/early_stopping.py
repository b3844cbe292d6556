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


def gains(ranks: np.ndarray) -> np.ndarray:
    """What each pair adds to NDCG@100 if it has a list of its own, [h].

    Smoother than a recall, which few pairs at the edge of the list decide.

    Args:
      ranks: [h], from 1; 0 for what is not found.
    """
    found = (ranks > 0) & (ranks <= _DEEPEST)
    return np.where(found, 1 / np.log2(1 + np.maximum(ranks, 1)), 0)


def standard_error(differences: np.ndarray, users: np.ndarray) -> float:
    """That of a mean over pairs, of which those of one user are not independent.

    Args:
      differences: [h], of the same pairs' gains in two epochs.
      users: [h] positions of their users.
    """
    centred = differences - differences.mean()
    of_users = np.bincount(users, centred)
    return float(np.sqrt((of_users**2).sum())) / len(differences)


class EarlyStopping(keras.callbacks.Callback):
    """Measures each epoch, keeps the chosen epoch's weights, and stops.

    Validation pairs are few, and the best of many noisy figures is an epoch that had
    luck. A later epoch, with a lower learning rate, is taken if it is worse by no more
    than one standard error of the difference (as Breiman et al., Classification and
    Regression Trees, 1984, section 3.4.3, choose among trees). At the end of training
    the model has the chosen epoch's weights.

    Args:
      embed: Function that returns embeddings of the pairs' users [V, d], and of the
        catalogue [N, d].
      pairs: `HeldOut`.
      patience: Epochs in a row that are worse by more, after which training stops.

    Attributes:
      curve: `MEASURE` of each epoch.
      chosen_epoch: The chosen one's number, from 1; 0 before there is one.
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
        self.chosen_epoch = 0
        # The gains of the epoch with the highest mean.
        self._best: np.ndarray | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        users, items = self._embed()
        if not (np.isfinite(users).all() and np.isfinite(items).all()):
            self.model.stop_training = True  # Diverged: evaluation says so.
            return
        found = gains(held_out_ranks(users, items, self._pairs))
        self.curve.append(float(found.mean()))
        if logs is not None:
            logs[MEASURE] = self.curve[-1]
        if self._best is None or found.mean() > self._best.mean():
            self._best = found
        lost = self._best - found
        if lost.mean() <= standard_error(lost, self._pairs.user):
            self.chosen_epoch = len(self.curve)
            self._weights = self.model.get_weights()
        elif len(self.curve) - self.chosen_epoch >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
        self._weights = None
