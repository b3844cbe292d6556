"""The recommender as a folder that is served."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives.index import (
    BruteForce,
    ScaNN,
    export_live_retrieval,
    export_retrieval,
)
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.recommender.item_attributes import item_attributes
from tfrs_negatives.recommender.served_query import ServedQuery
from tfrs_negatives.recommender.time_split import HELD_IN_MEMORY
from tfrs_negatives.recommender.towers_of import HISTORY_IDS, USER_ID, Towers
from tfrs_negatives.types import PathLike


def export(
    path: PathLike,
    towers: Towers,
    *,
    index: TopK | None = None,
    live: bool = False,
    **options: Any,
) -> str:
    """See `Recommender.export`.

    Args:
      path: The folder to write.
      towers: `Towers`.
      index: An empty index, or None.
      live: Whether items can change.
      **options: Of `index.export_retrieval`, or `index.export_live_retrieval`.

    Raises:
      ValueError: An index for items that change, whose index is none of TensorFlow's.
    """
    if live and index is not None:
        raise ValueError(
            f"`live` items have an index of their own, received index={index!r} too. "
            "Leave one out."
        )
    training = towers.training
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
    payload = None if training.titles is None else {"title": list(training.titles)}
    options = {
        "query_signature": query.signature(),
        "payload": payload,
        "popularity": towers.temperature * log_q,
        "histories": histories,
        "history_feature": None if histories is None else USER_ID,
        **options,
    }
    embeddings = towers.embed_items()
    if live:
        attributes, kinds = item_attributes(towers, payload or {})
        return export_live_retrieval(
            path,
            query,
            training.item_ids,
            embeddings,
            attributes=attributes,
            kinds=kinds,
            **options,
        )
    if index is None:
        index = default_index()
    index.index(embeddings, tf.constant(training.item_ids))
    return export_retrieval(path, query, index, **options)


def default_index() -> TopK:
    """`ScaNN`, or exact search, which is everywhere, where it is not installed."""
    try:
        return ScaNN()
    except ImportError:
        return BruteForce()
