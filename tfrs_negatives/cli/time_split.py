"""Time-ordered split: each user's last interactions are held out."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.data import Interactions
from tfrs_negatives.data.id_codes import codes


@dataclasses.dataclass(frozen=True)
class Split:
    """Training rows and held-out pairs, with ids as positions.

    Attributes:
      user_ids: [U] ids of the users, sorted.
      item_ids: [N] ids of the catalogue, sorted: the items with training rows.
      titles: [N] titles of the catalogue, or None.
      user, item: [n] positions of the training rows' users and items.
      request: [n] numbers of their requests.
      held_out_user: [h] positions of users.
      held_out_item: [h] positions of items, -1 for items outside the catalogue.
        Pairs are distinct, and none is a training pair.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    titles: np.ndarray | None
    user: np.ndarray
    item: np.ndarray
    request: np.ndarray
    held_out_user: np.ndarray
    held_out_item: np.ndarray


def split(table: Interactions, validation: bool = False) -> Split:
    """Splits a table of interactions by time.

    Args:
      table: `data.Interactions`.
      validation: Whether to leave the held-out rows out altogether, and to split the
        training rows once more.

    Returns:
      `Split`.

    Raises:
      CommandError: Fewer than two items to train on, or nothing held out.
    """
    every_user, user = codes(table.user)
    every_item, item = codes(table.item)
    rows = np.arange(len(table))
    held_out = last_interactions(user, table.time)
    if validation:
        rows = rows[~held_out]
        held_out = last_interactions(user[rows], table.time[rows])
    train, test = rows[~held_out], rows[held_out]

    users, train_user = np.unique(user[train], return_inverse=True)
    items, first_row, train_item = np.unique(
        item[train], return_index=True, return_inverse=True
    )
    item_ids = every_item[items]
    if len(item_ids) < 2:
        raise CommandError(
            f"Expected at least 2 items to train on, received {len(item_ids)} in the "
            "training part. Load more interactions."
        )
    pairs = np.stack([np.searchsorted(users, user[test]), item[test]], axis=1)
    first_pair = np.unique(pairs, axis=0, return_index=True)[1]
    held_out_user = pairs[first_pair, 0]
    held_out_item = _positions(items, pairs[first_pair, 1])
    new = ~_contains(
        train_user, train_item, held_out_user, held_out_item, len(item_ids)
    )
    if not new.any():
        raise CommandError(
            f"Expected users with new items among their last interactions, received "
            f"none of them in {table.name}: there is nothing to evaluate on. Load "
            "more interactions for each user."
        )
    return Split(
        user_ids=every_user[users],
        item_ids=item_ids,
        titles=None if table.title is None else table.title[train][first_row],
        user=train_user,
        item=train_item,
        request=codes(table.request[train])[1],
        held_out_user=held_out_user[new],
        held_out_item=held_out_item[new],
    )


def _positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of `wanted` is in the ascending `ids`; -1 where it is not."""
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[place] == wanted, place, -1)


def _contains(
    user: np.ndarray,
    item: np.ndarray,
    other_user: np.ndarray,
    other_item: np.ndarray,
    num_items: int,
) -> np.ndarray:
    """Which of the other pairs are among the pairs."""
    keys = user.astype(np.int64) * num_items + item
    other = other_user.astype(np.int64) * num_items + other_item
    return np.isin(other, keys) & (other_item >= 0)
