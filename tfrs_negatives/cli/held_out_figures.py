"""Held-out recall and NDCG over the whole catalogue, seen items excluded."""

import numpy as np

from tfrs_negatives.audit.popularity_skew import head_items

RECALL_AT = (10, 50, 100)
NDCG_AT = 10
GROUP_RECALL_AT = 50

# Rank of an item that is no candidate.
_NEVER = np.iinfo(np.int64).max

# Scores at a time: 64 MiB of float32.
_BLOCK_SCORES = 2**24


def figures(user_embeddings, item_embeddings, split):
    """What `evaluate` finds in a model, from its embeddings.

    With rank r the number of other candidates that score at least as high (so a tie
    is a miss), a held-out pair is a hit at k when r < k. Candidates of a user are
    the catalogue without the items of the user's training rows. Held-out items
    outside the catalogue are misses, and in neither group.

    Args:
      user_embeddings: [U, d] float.
      item_embeddings: [N, d] float.
      split: `Split` with U users and N items.

    Returns:
      Dict: "recall@k" (hits over held-out pairs), "ndcg@10" (binary gain, mean over
      users with held-out pairs), "head recall@50" and "tail recall@50" (over
      the held-out pairs whose item is in the group; None for an empty group).

    Raises:
      FloatingPointError: Embeddings that are NaN or infinite.
    """
    for embeddings in (user_embeddings, item_embeddings):
        if not np.isfinite(embeddings).all():
            raise FloatingPointError(
                "Expected finite embeddings, received NaN or infinity: training has "
                "diverged. Lower --learning-rate or raise --temperature."
            )
    ranks = held_out_ranks(
        user_embeddings, item_embeddings, split, max(*RECALL_AT, GROUP_RECALL_AT)
    )
    found = {f"recall@{k}": _share(ranks < k) for k in RECALL_AT}
    found[f"ndcg@{NDCG_AT}"] = _ndcg(ranks, split.held_out_user)
    hits = ranks < GROUP_RECALL_AT
    for name, pairs in _groups(split).items():
        found[name] = _share(hits[pairs])
    return found


def notes(split):
    """What must be known to read the figures: why some are missing, or lower.

    Args:
      split: `Split`.

    Returns:
      List of sentences.
    """
    found = []
    num_pairs, groups = len(split.held_out_item), _groups(split)
    outside = num_pairs - sum(int(pairs.sum()) for pairs in groups.values())
    if outside:
        found.append(
            f"note: {outside} of {num_pairs} held-out pairs are of items never in "
            "training: misses in recall@k and ndcg@k, in neither head nor tail recall, "
            "both of which may lie above the recall of all."
        )
    for name, pairs in groups.items():
        if not pairs.any():
            group = name.split()[0]
            found.append(
                f"note: {name} is empty: no held-out pair is of an item of the {group}."
            )
    return found


def _groups(split):
    """Which held-out pairs are of each group's items, by the figure's name."""
    known = split.held_out_item >= 0
    in_head = np.zeros_like(known)
    in_head[known] = head_items(split.item, len(split.item_ids))[
        split.held_out_item[known]
    ]
    return {
        f"head recall@{GROUP_RECALL_AT}": in_head,
        f"tail recall@{GROUP_RECALL_AT}": known & ~in_head,
    }


def held_out_ranks(user_embeddings, item_embeddings, split, depth):
    """Ranks of the held-out items among their user's candidates.

    Args:
      user_embeddings, item_embeddings, split: As in `figures`.
      depth: Ranks from here on need not be told apart.

    Returns:
      [h] int64: the number of other candidates scoring at least as high, exact below
      `depth`, `depth` otherwise; huge for items outside the catalogue.
    """
    num_items = len(item_embeddings)
    depth = min(depth, num_items - 1)
    ranks = np.full(len(split.held_out_user), _NEVER, np.int64)
    evaluated = np.flatnonzero(split.held_out_item >= 0)
    by_user = evaluated[np.argsort(split.held_out_user[evaluated], kind="stable")]
    seen = np.argsort(split.user, kind="stable")
    seen_users = split.user[seen]

    users = np.unique(split.held_out_user[by_user])
    block = max(1, _BLOCK_SCORES // num_items)
    for start in range(0, len(users), block):
        some = users[start : start + block]
        scores = user_embeddings[some] @ item_embeddings.T
        inside = seen[_between(seen_users, some[0], some[-1])]
        inside = inside[np.isin(split.user[inside], some)]
        rows = np.searchsorted(some, split.user[inside])
        scores[rows, split.item[inside]] = -np.inf

        pairs = by_user[_between(split.held_out_user[by_user], some[0], some[-1])]
        rows = np.searchsorted(some, split.held_out_user[pairs])
        own = scores[rows, split.held_out_item[pairs]]
        # The depth + 1 best scores, the item's own perhaps among them, tell every
        # rank below depth, ties included.
        best = -np.partition(-scores, depth, axis=1)[:, : depth + 1]
        ranks[pairs] = (best[rows] >= own[:, np.newaxis]).sum(axis=1) - 1
    return ranks


def _ndcg(ranks, users):
    number, count = np.unique(users, return_inverse=True, return_counts=True)[1:]
    gain = np.where(ranks < NDCG_AT, 1.0 / np.log2(ranks + 2.0), 0.0)
    found = np.bincount(number, weights=gain)
    ideal = np.cumsum(1.0 / np.log2(np.arange(NDCG_AT) + 2.0))
    return float(np.mean(found / ideal[np.minimum(count, NDCG_AT) - 1]))


def _share(hits):
    return float(hits.mean()) if hits.size else None


def _between(ordered, first, last):
    """Slice of a sorted array that holds the values from first to last."""
    return slice(
        np.searchsorted(ordered, first), np.searchsorted(ordered, last, side="right")
    )
