"""A few users: what they did last, and what is suggested to them."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfrs_negatives.recommender.best_items import best_items
from tfrs_negatives.recommender.towers_of import Towers
from tfrs_negatives.recommender.training_set import TrainingSet

_NUM_USERS = 5
_NUM_ITEMS = 5


@dataclasses.dataclass(frozen=True)
class ExampleUser:
    """What one user has and is suggested, as titles, or ids where there are none.

    Attributes:
      user: The id.
      last: What the user did last, the newest first.
      ours: What the model suggests, the best first, nothing that the user has.
      popular: What popularity suggests, in the same way.
    """

    user: str
    last: list[str]
    ours: list[str]
    popular: list[str]


def example_users(towers: Towers, users: np.ndarray) -> list[ExampleUser]:
    """Five users, drawn at random, always the same ones.

    Args:
      towers: `Towers` of the model, and of the rows that say what a user has.
      users: [V] positions of the users to draw from.
    """
    training = towers.training
    drawn = np.random.default_rng(0).permutation(users)[:_NUM_USERS]
    is_drawn = np.zeros(len(training.user_ids), bool)
    is_drawn[drawn] = True
    rows = training.rows.of_users(is_drawn)
    rows = rows[np.argsort(rows["row"], kind="stable")]
    place = np.full(len(training.user_ids), -1)
    place[drawn] = np.arange(len(drawn))
    seen = place[rows["user"]], rows["item"]
    counts = training.item_counts[:, np.newaxis]
    ours = best_items(
        towers.embed_users(drawn), towers.embed_items(), *seen, k=_NUM_ITEMS
    )
    popular = best_items(np.ones([len(drawn), 1]), counts, *seen, k=_NUM_ITEMS)
    if training.histories is None:
        last = [rows["item"][rows["user"] == user] for user in drawn]
    else:
        last = [row.numpy() for row in training.histories.latest(drawn)]
    return [
        ExampleUser(
            str(training.user_ids[user]),
            _names(training, last[number][::-1][:_NUM_ITEMS]),
            _names(training, ours[number]),
            _names(training, popular[number]),
        )
        for number, user in enumerate(drawn)
    ]


def _names(training: TrainingSet, items: np.ndarray) -> list[str]:
    ids, titles = training.item_ids, training.titles
    return [
        str("" if titles is None else titles[item]) or str(ids[item])
        for item in items
        if item >= 0
    ]
