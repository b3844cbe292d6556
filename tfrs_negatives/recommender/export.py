"""The recommender as a SavedModel."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.recommender.served_query import ServedQuery
from tfrs_negatives.recommender.time_split import HELD_IN_MEMORY
from tfrs_negatives.recommender.towers_of import HISTORY_IDS, USER_ID, Towers
from tfrs_negatives.types import PathLike


def export(
    path: PathLike,
    towers: Towers,
    *,
    index: TopK | None = None,
    **options: Any,
) -> str:
    """See `Recommender.export`.

    Args:
      path: The folder to write.
      towers: `Towers`.
      index: An empty index, or None.
      **options: Of `index.export_retrieval`.
    """
    training = towers.training
    if index is None:
        index = default_index()
    index.index(towers.embed_items(), tf.constant(training.item_ids))
    histories = None
    if len(training.rows) <= HELD_IN_MEMORY:
        histories = training.positives()
    if USER_ID in towers.user.columns and not towers.user.histories:
        users = towers.user.id_feature
        assert users is not None
        # It never occurs in training, so it would answer with noise.
        users.average_unknown()
    query = ServedQuery(towers)
    # Scores are cosines, which training divides by the temperature.
    log_q = np.log(training.item_counts / training.item_counts.sum())
    if query.has_history:
        options = {
            **options,
            "optional_features": {HISTORY_IDS: []},
            "history_items": HISTORY_IDS,
        }
    return export_retrieval(
        path,
        query,
        index,
        query_signature=query.signature(),
        payload=None if training.titles is None else {"title": list(training.titles)},
        popularity=towers.temperature * log_q,
        histories=histories,
        history_feature=None if histories is None else USER_ID,
        **options,
    )


def default_index() -> TopK:
    """`ScaNN`, or exact search, which is everywhere, where it is not installed."""
    try:
        return ScaNN()
    except ImportError:
        return BruteForce()
