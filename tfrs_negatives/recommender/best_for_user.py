"""The best items for one user, from the towers in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.data.features_of import with_missing
from tfrs_negatives.recommender.towers_of import HISTORY_IDS, USER_ID, Towers


class Suggestion(NamedTuple):
    """An item for a user.

    Attributes:
      item: Its id.
      title: Its title, or None.
      score: A cosine, less what the popularity discount took off.
    """

    item: Any
    title: str | None
    score: float


def best_for_user(
    towers: Towers,
    user: Any,
    k: int,
    history: Iterable[Any] | None,
    popularity_discount: float,
    keep_history: bool,
) -> list[Suggestion]:
    """See `Recommender.recommend`.

    Args:
      towers: `Towers`.
      user, k, history, popularity_discount, keep_history: As `recommend`'s.
    """
    _checks.check_at_least("k", k, 1)
    training = towers.training
    given = None if history is None else list(history)
    position = _position(training.user_ids, user)
    seen = _positions(training.item_ids, given or [])
    if given is None and position is not None:
        is_user = np.zeros(len(training.user_ids), bool)
        is_user[position] = True
        seen = training.rows.of_users(is_user)["item"]
    scores = towers.embed_items() @ _query(towers, user, position, given)
    counts = training.item_counts
    # By the temperature, log popularity becomes a difference of scores.
    log_q = towers.temperature * np.log(counts / counts.sum())
    scores = scores - popularity_discount * log_q
    if not keep_history:
        scores[seen] = -np.inf
    best = np.argsort(-scores, kind="stable")[:k]
    titles = training.titles
    return [
        Suggestion(
            training.item_ids[place],
            None if titles is None else titles[place],
            float(scores[place]),
        )
        for place in best
        if scores[place] > -np.inf
    ]


def _query(
    towers: Towers, user: Any, position: int | None, history: list[Any] | None
) -> np.ndarray:
    """The embedding of the user's query, [d]."""
    columns = {}
    for name, column in towers.user_columns().items():
        if position is not None:
            columns[name] = column[position : position + 1]
        elif name == USER_ID:
            columns[name] = tf.constant([_no_id(towers.training.user_ids)])
        else:
            columns[name] = with_missing(column[:1])[1:]
    for feature in towers.user.histories:
        if history is None and position is not None:
            columns[HISTORY_IDS] = towers.latest(np.array([position]))
        else:
            columns[HISTORY_IDS] = feature.tensor([history or []])
    return towers.user.embed(columns)[0]


def _no_id(ids: np.ndarray) -> Any:
    """An id that is none of these."""
    if ids.dtype.kind in "iu":
        return int(np.setdiff1d(np.arange(len(ids) + 1), ids)[0])
    unknown = ""
    while unknown in ids:
        unknown += "?"
    return unknown


def _position(ids: np.ndarray, one: Any) -> int | None:
    if one is None:
        return None
    found = _positions(ids, [one])
    return int(found[0]) if len(found) else None


def _positions(ids: np.ndarray, wanted: list[Any]) -> np.ndarray:
    """Positions of those that are among the ids, which are sorted."""
    kind = int if ids.dtype.kind in "iu" else str
    found: list[int] = []
    for one in wanted:
        try:
            one = kind(one)
        except (TypeError, ValueError):
            continue
        place = int(np.searchsorted(ids, one))
        if place < len(ids) and ids[place] == one:
            found.append(place)
    return np.array(found, np.int64)
