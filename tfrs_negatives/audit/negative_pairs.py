"""Pairs of a row and another row's column: false negatives, and what masks leave.

Counted in time linear in the rows and their users' positives, not in the pairs.
"""

from __future__ import annotations

import numpy as np

from tfrs_negatives.audit.positive_pairs import PositivePairs

# Each level adds rules to those before it.
LEVELS = ("none", "accidental_hits", "keys", "known_positives")


def count_pairs(
    user: np.ndarray, item: np.ndarray, request: np.ndarray, known: PositivePairs
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Counts, for each row of a batch, the other rows' columns by what they are.

    A column is a false negative of a row if its item is a known positive of the row's
    user. Levels of masks:

    - "none";
    - "accidental_hits": columns of the row's own item are dropped;
    - "keys": also columns that came with the row's user, or its request;
    - "known_positives": also columns of items that the row's user is known to like.

    Args:
      user, item, request: [b] positions.
      known: `PositivePairs`, which holds all the batch's own pairs.

    Returns:
      Dict from level to `(dropped, false)`: [b] int64 each, the other columns that
      the masks drop, and the false negatives among those that are left.
    """
    item_id, same_item = _same(item)
    user_id, same_user = _same(user)
    request_id, same_request = _same(request)
    item_user = _same(_joined(item_id, user_id))[1]
    item_request = _same(_joined(item_id, request_id))[1]
    pair_id, user_request = _same(_joined(request_id, user_id))
    all_three = _same(_joined(pair_id, item_id))[1]

    hits = _known_columns(user, user_id, item, known)
    if pair_id.max() == request_id.max():
        shared_hits = same_request  # A request's rows are all its user's own.
    else:
        shared_hits = _known_in_request(user, item, request_id, pair_id, item_id, known)
    # Every item of a row's user is a known positive, so only the columns of the
    # request may hold others; the rest is inclusion and exclusion.
    overlaps = item_user + item_request + user_request - all_three
    by_keys = same_item + same_user + same_request - overlaps
    false_by_keys = same_item + same_user + shared_hits - overlaps
    return {
        "none": (np.zeros_like(hits), hits),
        "accidental_hits": (same_item, hits - same_item),
        "keys": (by_keys, hits - false_by_keys),
        "known_positives": (hits + same_request - shared_hits, np.zeros_like(hits)),
    }


def _same(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the values, and how many other rows have a row's own."""
    number, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    return number, counts[number] - 1


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first.astype(np.int64) * (int(second.max()) + 1) + second


def _known_columns(
    user: np.ndarray, user_id: np.ndarray, item: np.ndarray, known: PositivePairs
) -> np.ndarray:
    """For each row, how many other columns hold known positives of its user."""
    count = np.bincount(item, minlength=known.num_items)
    users = np.empty(user_id.max() + 1, np.int64)
    users[user_id] = user
    places, items = known.of(users)
    hits = np.bincount(places, weights=count[items], minlength=len(users))
    return hits.astype(np.int64)[user_id] - 1  # The row's own column.


def _known_in_request(
    user: np.ndarray,
    item: np.ndarray,
    request_id: np.ndarray,
    pair_id: np.ndarray,
    item_id: np.ndarray,
    known: PositivePairs,
) -> np.ndarray:
    """The same among the columns of the row's request."""
    columns, counts = np.unique(
        request_id.astype(np.int64) * known.num_items + item, return_counts=True
    )
    one = np.empty(pair_id.max() + 1, np.int64)
    one[pair_id] = np.arange(len(user))
    places, items = known.of(user[one])
    wanted = request_id[one][places].astype(np.int64) * known.num_items + items
    at = np.minimum(np.searchsorted(columns, wanted), len(columns) - 1)
    found = np.where(columns[at] == wanted, counts[at], 0)
    hits = np.bincount(places, weights=found, minlength=len(one))
    return hits.astype(np.int64)[pair_id] - 1
