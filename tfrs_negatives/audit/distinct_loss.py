"""How much sooner the loss of distinct embeddings is, by what repeats in a batch."""

from __future__ import annotations

# In units of what a pair of a row and a column costs the loss of all rows. Fitted to
# what `benchmarks/requests/repeats.py` measured on a CPU.
PAIR_COST = 1.45
ROW_COST = 430.0


def predicted_factor(rows: float, queries: float, items: float) -> float:
    """The time of the loss of all rows over that of the loss of distinct embeddings.

    The first takes a time for each of B x B pairs. The second takes one for each pair
    of a distinct query and a distinct item, and one for each row, to find the groups
    and to take each row's own items out of its group's sums.

    Args:
      rows: B, rows in a batch.
      queries: Of them, those that nothing tells apart are one. B for `candidate_rows=`
        alone.
      items: Distinct items of the batch.

    Returns:
      The factor, below 1 where the loss of all rows is sooner.
    """
    return rows**2 / (PAIR_COST * queries * items + ROW_COST * rows)
