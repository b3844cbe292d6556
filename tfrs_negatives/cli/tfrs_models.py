"""What a user of TensorFlow Recommenders writes, on the same towers as ours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfrs_negatives import models
from tfrs_negatives.recommender.towers_of import Towers
from tfrs_negatives.types import Features


class PlainModel(models.Model):
    """The task as it comes.

    Args:
      towers: `Towers`.
      task: `tfrs.tasks.Retrieval`.
    """

    def __init__(self, towers: Towers, task: Callable[..., tf.Tensor]) -> None:
        super().__init__()
        self.user_tower = towers.user
        self.item_tower = towers.item
        self.task = task

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        return self.task(
            self.user_tower(features, training=training),
            self.item_tower(features, training=training),
            compute_metrics=False,
        )


class CorrectedModel(PlainModel):
    """The same with the two corrections that `tfrs.tasks.Retrieval` has options for.

    Args:
      towers, task: As above.
      item_counts: [N] training rows of each item, in the order of the tower's ids.
    """

    def __init__(
        self, towers: Towers, task: Callable[..., tf.Tensor], item_counts: np.ndarray
    ) -> None:
        super().__init__(towers, task)
        # Unknown items come first, and never.
        counts = np.concatenate([[1], item_counts]).astype(np.float32)
        self.probabilities = tf.constant(counts / counts.sum())

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        ids = self.item_tower.id_feature
        assert ids is not None
        numbers = ids.numbers(features[ids.column])
        return self.task(
            self.user_tower(features, training=training),
            self.item_tower(features, training=training),
            candidate_sampling_probability=tf.gather(self.probabilities, numbers),
            candidate_ids=numbers,
            compute_metrics=False,
        )


def plain_model(towers: Towers) -> PlainModel:
    """`PlainModel` with `tfrs.tasks.Retrieval` as it comes."""
    import tensorflow_recommenders as tfrs

    task = tfrs.tasks.Retrieval(temperature=towers.temperature)
    return PlainModel(towers, task)


def corrected_model(towers: Towers) -> CorrectedModel:
    """`CorrectedModel`: exact log-Q, no accidental hits."""
    import tensorflow_recommenders as tfrs

    task = tfrs.tasks.Retrieval(
        temperature=towers.temperature, remove_accidental_hits=True
    )
    return CorrectedModel(towers, task, towers.training.item_counts)
