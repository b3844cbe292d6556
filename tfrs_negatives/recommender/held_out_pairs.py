"""Pairs of a user and an item that models are evaluated on."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfrs_negatives.data.sorted_values import are_among, distinct
from tfrs_negatives.recommender.interaction_rows import Window


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out pairs of the users that are evaluated, and what these have seen.

    Attributes:
      users: [V] positions of these users among all, ascending.
      user: [h] which of `users` each pair is of.
      item: [h] positions of items, -1 for items outside the catalogue. Pairs are
        distinct, and none is a training pair.
      seen_user, seen_item: [s] the training rows of these users: which of `users`, and
        positions of items.
      num_users: Users with held-out pairs, evaluated or not.
      num_pairs: Held-out pairs of all of them.
      num_unknown: Of these, pairs of items outside the catalogue.
    """

    users: np.ndarray
    user: np.ndarray
    item: np.ndarray
    seen_user: np.ndarray
    seen_item: np.ndarray
    num_users: int
    num_pairs: int
    num_unknown: int

    def of_users(self, places: np.ndarray) -> HeldOut:
        """What belongs to some of the users alone.

        Args:
          places: Which of `users`, ascending.
        """
        new = np.full(len(self.users), -1)
        new[places] = np.arange(len(places))
        pairs, seen = new[self.user] >= 0, new[self.seen_user] >= 0
        return dataclasses.replace(
            self,
            users=self.users[places],
            user=new[self.user[pairs]],
            item=self.item[pairs],
            seen_user=new[self.seen_user[seen]],
            seen_item=self.seen_item[seen],
        )


class HeldOutPairs:
    """Collects them from windows of whole users.

    Memory: 8 bytes a held-out pair and a training row of the users that are evaluated,
    and 8 an item.

    Args:
      num_items: How many items there are.
      most: How many users are evaluated at most. Those of the first windows are: users
        fall to windows by a hash.

    Attributes:
      num_pairs: How many pairs there are.
    """

    def __init__(self, num_items: int, most: int) -> None:
        self._num_items, self._left = num_items, most
        self._of_items = np.zeros(num_items, np.int64)
        self._num_users = 0
        self._pairs: list[np.ndarray] = []
        self._seen: list[np.ndarray] = []

    @property
    def num_pairs(self) -> int:
        return int(self._of_items.sum())

    def add(self, train: Window, held_out: Window) -> None:
        """Adds the pairs of held-out rows that are no training rows of their user's."""
        seen = train.user * self._num_items + train.item
        pairs = distinct(held_out.user * self._num_items + held_out.item)
        pairs = pairs[~are_among(pairs, np.sort(seen))]
        self._of_items += np.bincount(
            pairs % self._num_items, minlength=self._num_items
        )
        users = distinct(pairs // self._num_items)
        self._num_users += len(users)
        if not self._left:
            return
        if len(users) > self._left:
            # Numbers are in the ids' order: the first ones would be no fair sample.
            users = np.sort(np.random.default_rng(0).permutation(users)[: self._left])
        self._left -= len(users)
        self._pairs.append(pairs[are_among(pairs // self._num_items, users)])
        self._seen.append(seen[are_among(train.user, users)])

    def finish(self, positions: np.ndarray) -> HeldOut:
        """The pairs.

        Args:
          positions: [M] of the items in the catalogue, -1 for those outside.
        """
        pairs, seen = (np.concatenate(of) for of in (self._pairs, self._seen))
        pairs.sort()
        users, user = np.unique(pairs // self._num_items, return_inverse=True)
        return HeldOut(
            users=users,
            user=user,
            item=positions[pairs % self._num_items],
            seen_user=np.searchsorted(users, seen // self._num_items),
            seen_item=positions[seen % self._num_items],
            num_users=self._num_users,
            num_pairs=self.num_pairs,
            num_unknown=int(self._of_items[positions < 0].sum()),
        )
