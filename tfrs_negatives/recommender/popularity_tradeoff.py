"""What a discount of popularity costs in recall, and brings to the tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfrs_negatives.recommender import held_out_figures
from tfrs_negatives.recommender.held_out_figures import RECALL, TAIL_RECALL
from tfrs_negatives.recommender.held_out_pairs import HeldOut

#: Discounts that are looked at.
DISCOUNTS = tuple(round(0.1 * step, 1) for step in range(11))

#: What must be left of the recall without a discount.
KEPT_RECALL = 2 / 3

# Products of a user and an item that one discount is measured on at the most.
_MOST_PRODUCTS = 10**8


def trade_off(
    user_embeddings: np.ndarray,
    item_embeddings: np.ndarray,
    held_out: HeldOut,
    item_counts: np.ndarray,
    temperature: float,
) -> list[dict[str, float | None]]:
    """The figures of one model under each of `DISCOUNTS`.

    From the score of an item a share of its log popularity is taken, times the
    temperature, as an export does for `popularity_discount` (post-hoc logit
    adjustment; Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).

    Args:
      user_embeddings, item_embeddings, held_out, item_counts: As
        `held_out_figures.figures` takes them.
      temperature: By which training divided scores.

    Returns:
      What `held_out_figures.figures` returns, of each discount.
    """
    log_q = np.log(item_counts / item_counts.sum())
    items = _with_column(item_embeddings, temperature * log_q)
    ones = np.ones(len(user_embeddings))
    return [
        held_out_figures.figures(
            _with_column(user_embeddings, -discount * ones),
            items,
            held_out,
            item_counts,
        )
        for discount in DISCOUNTS
    ]


def looked_at(held_out: HeldOut, num_items: int) -> HeldOut:
    """The pairs of as many users as a trade-off looks at, drawn at random."""
    most = max(1, _MOST_PRODUCTS // num_items)
    if len(held_out.users) <= most:
        return held_out
    drawn = np.random.default_rng(0).permutation(len(held_out.users))[:most]
    return held_out.of_users(np.sort(drawn))


def chosen(found: Sequence[dict[str, float | None]]) -> float:
    """The discount with the most of the tail that leaves most of the recall.

    Of the discounts that leave at least `KEPT_RECALL` of the recall@50 there is
    without one, that with the best tail recall@50, of equal ones the smallest.

    Args:
      found: Figures of validation pairs for each of `DISCOUNTS`.
    """
    least = KEPT_RECALL * (found[0][RECALL] or 0)
    kept = [place for place, of in enumerate(found) if (of[RECALL] or 0) >= least]
    return DISCOUNTS[max(kept, key=lambda place: found[place][TAIL_RECALL] or 0)]


def _with_column(embeddings: np.ndarray, column: np.ndarray) -> np.ndarray:
    column = column[:, np.newaxis].astype(np.float32)
    return np.concatenate([np.asarray(embeddings, np.float32), column], axis=1)
