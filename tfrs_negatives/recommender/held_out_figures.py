"""Held-out recall, NDCG, MRR and coverage: whole catalogue, seen items excluded."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives.audit.popularity_skew import head_items
from tfrs_negatives.metrics import rank_measures
from tfrs_negatives.metrics.candidate_corpus import largest_norm
from tfrs_negatives.metrics.ranks import ranks_of_positions
from tfrs_negatives.recommender.best_items import best_items
from tfrs_negatives.recommender.held_out_pairs import HeldOut
from tfrs_negatives.recommender.lists_by_user import ListsByUser

RECALL_AT = (10, 50, 100)
NDCG_AT = 10
MRR_AT = 100
GROUP_RECALL_AT = 50
COVERAGE_AT = 10

#: Their names.
RECALL, TAIL_RECALL = f"recall@{GROUP_RECALL_AT}", f"tail recall@{GROUP_RECALL_AT}"
COVERAGE = f"coverage@{COVERAGE_AT}"

# Ranks beyond need not be exact.
_DEEPEST = max(*RECALL_AT, MRR_AT, GROUP_RECALL_AT)

# Users at a time: their seen items are held in one matrix.
_BLOCK_USERS = 256


def figures(
    user_embeddings: np.ndarray,
    item_embeddings: np.ndarray,
    held_out: HeldOut,
    item_counts: np.ndarray,
) -> dict[str, float | None]:
    """What `evaluate` finds in a model, from its embeddings.

    A held-out pair is a hit at k if its rank is at most k: 1 and the number of other
    candidates that score at least as high, so that a tie is a miss. Candidates of a
    user are the catalogue without the items of the user's training rows. Held-out
    items outside the catalogue are misses, and in neither group.

    Args:
      user_embeddings: [V, d] float, of the users that are evaluated.
      item_embeddings: [N, d] float.
      held_out: `HeldOut` of V users.
      item_counts: [N] how many training rows each item has.

    Returns:
      Dict: "recall@k" (hits over held-out pairs), "ndcg@10" (binary gain, mean over
      users with held-out pairs), "mrr@100" (the reciprocal rank of a user's best
      held-out item, 0 beyond 100, mean over the same users; Voorhees, "The TREC-8
      question answering track report", 1999), "head recall@50" and "tail recall@50"
      (over the held-out pairs whose item is in the group; None for an empty group),
      "coverage@10" (the share of the catalogue that stands among the first 10 of any
      user; Ge et al., "Beyond accuracy", RecSys 2010).

    Raises:
      FloatingPointError: Embeddings that are NaN or infinite.
    """
    for embeddings in (user_embeddings, item_embeddings):
        if not np.isfinite(embeddings).all():
            raise FloatingPointError(
                "Expected finite embeddings, received NaN or infinity: training has "
                "diverged. Lower --learning-rate or raise --temperature."
            )
    ranks = held_out_ranks(user_embeddings, item_embeddings, held_out)
    best = best_items(
        user_embeddings,
        item_embeddings,
        held_out.seen_user,
        held_out.seen_item,
        COVERAGE_AT,
    )
    return of_ranks(ranks, best, held_out, item_counts)


def of_ranks(
    ranks: np.ndarray, best: np.ndarray, held_out: HeldOut, item_counts: np.ndarray
) -> dict[str, float | None]:
    """The figures from ranks and lists; see `figures`.

    Args:
      ranks: [h] int, 0 for what is not found.
      best: [V, 10] positions of the best items of each user, -1 where there is none.
      held_out, item_counts: As in `figures`.
    """
    found: dict[str, float | None]
    found = {f"recall@{k}": _recall(ranks, k) for k in RECALL_AT}
    found[f"ndcg@{NDCG_AT}"] = _ndcg(ranks, held_out.user)
    found[f"mrr@{MRR_AT}"] = _mrr(ranks, held_out.user)
    for name, pairs in _groups(held_out, item_counts).items():
        found[name] = _recall(ranks[pairs], GROUP_RECALL_AT)
    found[COVERAGE] = len(np.unique(best[best >= 0])) / len(item_counts)
    return found


def notes(held_out: HeldOut, item_counts: np.ndarray) -> list[str]:
    """What must be known to read the figures: why some are missing, or lower.

    Args:
      held_out, item_counts: As in `figures`.

    Returns:
      List of sentences.
    """
    found = []
    if len(held_out.users) < held_out.num_users:
        found.append(
            f"note: figures are of {len(held_out.users)} of {held_out.num_users} users "
            "with held-out pairs, drawn at random."
        )
    num_pairs, groups = len(held_out.item), _groups(held_out, item_counts)
    outside = int((held_out.item < 0).sum())
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


def _groups(held_out: HeldOut, item_counts: np.ndarray) -> dict[str, np.ndarray]:
    """Which held-out pairs are of each group's items, by the figure's name."""
    known = held_out.item >= 0
    in_head = np.zeros_like(known)
    in_head[known] = head_items(item_counts)[held_out.item[known]]
    return {
        f"head recall@{GROUP_RECALL_AT}": in_head,
        TAIL_RECALL: known & ~in_head,
    }


def held_out_ranks(
    user_embeddings: np.ndarray, item_embeddings: np.ndarray, held_out: HeldOut
) -> np.ndarray:
    """Ranks of the held-out items among their user's candidates.

    Args:
      user_embeddings, item_embeddings, held_out: As in `figures`.

    Returns:
      [h] int32: 1 the best, exact as far as the figures look; 0 for items outside the
      catalogue.
    """
    users = tf.constant(user_embeddings, tf.float32)
    items = tf.constant(item_embeddings, tf.float32)
    norm = largest_norm(items)
    pairs = np.flatnonzero(held_out.item >= 0)
    pairs_of = ListsByUser(held_out.user[pairs], pairs, len(users))
    seen_by = ListsByUser(held_out.seen_user, held_out.seen_item, len(users))
    # Users who have seen as much come together, so that little is padded.
    order = np.argsort(seen_by.sizes, kind="stable")
    order = order[pairs_of.sizes[order] > 0]
    ranks = np.zeros(len(held_out.item), np.int32)
    for start in range(0, len(order), _BLOCK_USERS):
        user = order[start : start + _BLOCK_USERS]
        wanted = pairs_of.matrix(user)
        positives = np.where(wanted >= 0, held_out.item[wanted], -1)
        seen = seen_by.matrix(user)
        found = _ranks_of(users, items, norm, user, positives, seen).numpy()
        rows, places = np.nonzero(wanted >= 0)
        scores = np.einsum(
            "hd,hd->h",
            user_embeddings[user[rows]].astype(np.float64),
            item_embeddings[positives[rows, places]].astype(np.float64),
        )
        ranks[wanted[rows, places]] = _last_of_equals(found[rows, places], rows, scores)
    return ranks


@tf.function(
    input_signature=[
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([], tf.float64),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None, None], tf.int64),
        tf.TensorSpec([None, None], tf.int64),
    ]
)
def _ranks_of(
    users: tf.Tensor,
    items: tf.Tensor,
    norm: tf.Tensor,
    user: tf.Tensor,
    positives: tf.Tensor,
    seen: tf.Tensor,
) -> tf.Tensor:
    queries = tf.gather(users, user)
    positives, seen = tf.cast(positives, tf.int32), tf.cast(seen, tf.int32)
    return ranks_of_positions(queries, items, norm, positives, seen, _DEEPEST)


def _last_of_equals(
    ranks: np.ndarray, rows: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Gives a row's held-out items of equal score the rank of the last of them.

    The metric counts the positives of a query one after the other; here each is one of
    the candidates that the others are ranked among.
    """
    _, tied = np.unique(np.stack([rows, scores]), axis=1, return_inverse=True)
    last = np.zeros(len(ranks), ranks.dtype)
    np.maximum.at(last, tied.ravel(), ranks)
    return last[tied.ravel()]


def _recall(ranks: np.ndarray, k: int) -> float | None:
    """The share of pairs that are hits; None of no pairs."""
    if not len(ranks):
        return None
    hits = rank_measures.recall(ranks[:, None], np.ones_like(ranks), k)
    return float(tf.reduce_mean(hits))


def _ndcg(ranks: np.ndarray, users: np.ndarray) -> float:
    """The mean over users with pairs."""
    number, count = np.unique(users, return_inverse=True, return_counts=True)[1:]
    # A user's gain is a sum over positives: here each pair has its part alone.
    parts = rank_measures.ndcg(ranks[:, None], count[number].astype(np.int32), NDCG_AT)
    return float(tf.reduce_sum(parts)) / len(count)


def _mrr(ranks: np.ndarray, users: np.ndarray) -> float:
    """The mean over users with pairs."""
    number, user = np.unique(users, return_inverse=True)
    of_pairs = rank_measures.mrr(ranks[:, None], np.ones_like(ranks), MRR_AT)
    best = np.zeros(len(number))
    np.maximum.at(best, user, np.asarray(of_pairs))
    return float(best.mean())
