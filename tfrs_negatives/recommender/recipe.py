"""The model that a recommender trains, chosen by the size of its table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from tfrs_negatives import layers, models, samplers, tasks
from tfrs_negatives.recommender.settings import Settings
from tfrs_negatives.recommender.time_split import HELD_IN_MEMORY
from tfrs_negatives.recommender.towers_of import ITEM_ID, USER_ID, Towers
from tfrs_negatives.recommender.training_set import TrainingSet
from tfrs_negatives.types import KerasMetric

# Rows of a batch whose negatives are counted, evenly spaced: the memory that takes
# grows with them times the columns.
_COUNTED_ROWS = 1024

# All items are columns of every batch where they are no more than these, and the sums
# are exact; beyond, negatives are drawn.
_CATALOGUE_ITEMS = 20_000

# What the negatives weigh against the positive, which is outside of their sum. Chosen
# on validation splits of three tables.
_NEGATIVE_WEIGHT = 1.2

# Items that a batch shares, drawn uniformly, where not all are columns.
_NUM_NEGATIVES = 1024


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained against what.

    Attributes:
      num_negatives: Items that a batch shares; None: all items are columns.
      masks_known: Whether all items of a row's user are no negatives of the row. Else
        only those that are in the batch too.
      query_keys: Columns of which rows with the same value are no negatives of each
        other. None where `masks_known` says as much.
    """

    num_negatives: int | None
    masks_known: bool
    query_keys: tuple[str, ...]

    @classmethod
    def of(cls, training: TrainingSet, settings: Settings) -> Recipe:
        """The recipe for a training set."""
        number = settings.num_negatives
        if number is None and len(training.item_ids) > _CATALOGUE_ITEMS:
            number = _NUM_NEGATIVES
        masks_known = len(training.rows) <= HELD_IN_MEMORY
        # What a user has holds what the user's rows of the batch have.
        keys: tuple[str, ...] = () if masks_known else (USER_ID,)
        # One user a request: masking by user masks by request too.
        if training.rows.have_shared_requests:
            keys = (*keys, "request")
        return cls(number, masks_known, keys)

    def describe(self) -> str:
        """The recipe in words."""
        negatives = (
            "all items"
            if self.num_negatives is None
            else f"the batch's items and {self.num_negatives:,} drawn uniformly"
        )
        masked = "all that a user has" if self.masks_known else "a user's in the batch"
        return f"negatives: {negatives}; masked: {masked}"


def build(
    training: TrainingSet,
    towers: Towers,
    settings: Settings,
    negative_metrics: Sequence[KerasMetric] = (),
) -> models.TwoTower:
    """The model, with the towers as they are.

    Args:
      training: `TrainingSet` of the towers.
      towers: `Towers`.
      settings: `Settings`.
      negative_metrics: Metrics of the task.
    """
    recipe, num_items = Recipe.of(training, settings), len(training.item_ids)
    catalogue = None
    if recipe.num_negatives is None:
        catalogue = samplers.Catalogue(
            towers.catalogue(), id_feature=ITEM_ID, max_bytes=None
        )
        correction = catalogue.log_q
    else:
        counts = training.item_ids, training.row_counts
        correction = layers.StaticFrequency(counts)
        if recipe.num_negatives:
            correction = layers.MixedLogQ([correction, -math.log(num_items)])
    task = tasks.Retrieval(
        temperature=towers.temperature,
        positive="outside",
        negative_weight=_NEGATIVE_WEIGHT,
        remove_accidental_hits=True,
        mask_shared_positives=bool(recipe.query_keys),
        sampling_correction=correction,
        reduction="sum_over_batch_size",
        negative_metrics=list(negative_metrics),
        negative_metric_rows=_COUNTED_ROWS,
    )
    return models.TwoTower(
        towers.user,
        towers.item,
        task,
        query_keys=recipe.query_keys,
        catalogue=catalogue,
    )


def with_inputs(
    rows: tf.data.Dataset,
    training: TrainingSet,
    towers: Towers,
    settings: Settings,
    seed: int,
) -> tf.data.Dataset:
    """Batches with all that the model of `build` reads.

    Args:
      rows: Of `training_batches.dataset`.
      training, towers, settings: As `build`'s.
      seed: Of what is drawn.
    """
    recipe = Recipe.of(training, settings)
    rows = towers.attach(rows, has_catalogue=recipe.num_negatives is None)
    if recipe.masks_known:
        rows = training.positives().attach(rows, USER_ID, "known_positives")
    if recipe.num_negatives:
        corpus = samplers.Uniform(towers.catalogue(), id_feature=ITEM_ID)
        rows = corpus.attach(rows, recipe.num_negatives, seed=seed)
    return rows
