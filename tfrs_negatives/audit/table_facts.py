"""What an audit says of a table, whatever the order of its rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfrs_negatives.audit.popularity_skew import HEAD_SHARE, popularity


@dataclasses.dataclass(frozen=True)
class TableFacts:
    """Totals of a table.

    Attributes:
      name: Where the rows came from.
      num_read: Rows that were read.
      num_used: Those of them that are positives.
      time_range: The first and the last time in words, or "none".
      num_users, num_requests: How many there are.
      num_pairs: Distinct pairs of a user and an item.
      request_rule: What a request is, in words.
      item_counts: [N] how many rows each item has, at least one.
      other_positives: Over all rows, how many other items their users have.
    """

    name: str
    num_read: int
    num_used: int
    time_range: str
    num_users: int
    num_requests: int
    num_pairs: int
    request_rule: str
    item_counts: np.ndarray
    other_positives: int

    def report(self) -> dict[str, Any]:
        """The entry "table" of a report."""
        num_items = len(self.item_counts)
        # Of a row, the other items of its user among all other items.
        rate = self.other_positives / (self.num_used * (num_items - 1))
        return {
            "name": self.name,
            "rows_read": self.num_read,
            "rows_used": self.num_used,
            "rows_dropped_by_label": self.num_read - self.num_used,
            "time_range": self.time_range,
            "users": self.num_users,
            "items": num_items,
            "requests": self.num_requests,
            "distinct_pairs": self.num_pairs,
            "request_rule": self.request_rule,
            "head_share": HEAD_SHARE,
            "popularity": popularity(self.item_counts),
            # A mask of known positives leaves none that the table could tell of.
            "uniform_false_negative_rate": {"all": float(rate), "unknown": 0.0},
        }
