"""The best items of many users, without what they have seen."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives.recommender.lists_by_user import ListsByUser

# Users at a time, and scores at a time: 64 MiB.
_BLOCK_USERS = 256
_BLOCK_SCORES = 2**24


def best_items(
    user_embeddings: np.ndarray,
    item_embeddings: np.ndarray,
    seen_user: np.ndarray,
    seen_item: np.ndarray,
    k: int,
) -> np.ndarray:
    """The k items of each user with the largest products, none of them seen.

    Scored in blocks of users and of items: memory does not grow with their products.

    Args:
      user_embeddings: [V, d] float.
      item_embeddings: [N, d] float.
      seen_user, seen_item: [s] which of the users has seen which item.
      k: How many.

    Returns:
      [V, min(k, N)] int64 positions of items, the best first, of equal ones the first
      of the catalogue; -1 behind the last item that is not seen.
    """
    users = np.asarray(user_embeddings, np.float32)
    items = np.asarray(item_embeddings, np.float32)
    k = min(k, len(items))
    seen_by = ListsByUser(seen_user, seen_item, len(users))
    found = np.empty([len(users), k], np.int64)
    for start in range(0, len(users), _BLOCK_USERS):
        block = np.arange(start, min(start + _BLOCK_USERS, len(users)))
        found[block] = _of_block(users[block], items, seen_by.matrix(block), k)
    return found


def _of_block(
    users: np.ndarray, items: np.ndarray, seen: np.ndarray, k: int
) -> np.ndarray:
    size = _BLOCK_SCORES // _BLOCK_USERS
    best = np.full([len(users), 0], -1, np.int64)
    best_scores = np.empty([len(users), 0], np.float32)
    for start in range(0, len(items), size):
        scores = users @ items[start : start + size].T
        row, place = np.nonzero((seen >= start) & (seen < start + size))
        scores[row, seen[row, place] - start] = -np.inf
        top, at = tf.math.top_k(scores, min(k, scores.shape[1]))
        # What was found before stands first: it is earlier in the catalogue.
        places = np.concatenate([best, at.numpy() + start], axis=1)
        joined = np.concatenate([best_scores, top.numpy()], axis=1)
        kept, at = tf.math.top_k(joined, min(k, joined.shape[1]))
        best_scores = kept.numpy()
        best = np.take_along_axis(places, at.numpy(), axis=1)
    return np.where(best_scores > -np.inf, best, -1)
