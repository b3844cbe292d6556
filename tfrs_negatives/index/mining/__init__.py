"""Hard-negative mining: the best candidates of a query that are not its positives."""

from tfrs_negatives.index.mining.mine_hard_negatives import (
    check_options,
    mine,
    mine_hard_negatives,
)
from tfrs_negatives.index.mining.ranked_pairs import RankedPairs

__all__ = ["RankedPairs", "check_options", "mine", "mine_hard_negatives"]
