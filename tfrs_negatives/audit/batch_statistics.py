"""What the batches of one order and size hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tfrs_negatives.audit.negative_pairs import LEVELS, count_pairs
from tfrs_negatives.audit.positive_pairs import PositivePairs
from tfrs_negatives.audit.sampled_ratios import ratio

_QUANTILES = {"p5": 0.05, "median": 0.5}


class TableRows(Protocol):
    """Rows of a table: `AuditTable`, or those of some batches."""

    @property
    def user(self) -> np.ndarray:
        """[n] positions of users."""

    @property
    def item(self) -> np.ndarray:
        """[n] positions of items."""

    @property
    def request(self) -> np.ndarray:
        """[n] numbers of requests."""

    @property
    def num_requests(self) -> int:
        """How many requests there are."""


def cut(order: np.ndarray, batch_size: int, chosen: np.ndarray) -> list[np.ndarray]:
    """The batches of these numbers that an order is cut into; the last may be short."""
    return [order[n * batch_size : (n + 1) * batch_size] for n in chosen.tolist()]


def batch_statistics(
    batches: Sequence[np.ndarray],
    num_batches: int,
    table: TableRows,
    known: PositivePairs,
) -> dict[str, Any]:
    """Statistics of the batches of an epoch, from some of them.

    Args:
      batches: Row numbers of each.
      num_batches: How many batches the epoch has.
      table: `AuditTable`, or what has these rows.
      known: The `PositivePairs` of the table: at least of the users and items of the
        rows.

    Returns:
      Dict of
      "batches", "batches_measured";
      "distinct_users", "distinct_requests", "distinct_items": a batch's mean;
      "distinct_queries", that of pairs of a user and a request: rows that neither the
      query of a request nor masks of keys tell apart;
      "levels": for each of `negative_pairs.LEVELS`, "false_negative_rate" (of the pairs
      of a row and another's column that are left), "mask_rate" (of all such pairs) and
      "columns_left" of a row: mean, "p5", "median" and "min" over the rows measured.
      Means and rates are as `sampled_ratios.ratio` returns them.
    """
    num_rows: list[int] = []
    distinct: dict[str, list[int]] = {
        name: [] for name in ("users", "requests", "items", "queries")
    }
    left: dict[str, list[np.ndarray]] = {level: [] for level in LEVELS}
    false: dict[str, list[int]] = {level: [] for level in LEVELS}
    dropped: dict[str, list[int]] = {level: [] for level in LEVELS}
    for rows in batches:
        user, item = table.user[rows], table.item[rows]
        request = table.request[rows]
        num_rows.append(len(rows))
        query = user.astype(np.int64) * table.num_requests + request
        for name, values in zip(distinct, (user, request, item, query), strict=True):
            distinct[name].append(len(np.unique(values)))
        for level, (gone, wrong) in count_pairs(user, item, request, known).items():
            dropped[level].append(gone.sum())
            false[level].append(wrong.sum())
            left[level].append(len(rows) - 1 - gone)
    sizes = np.array(num_rows, np.int64)
    pairs = sizes * (sizes - 1)
    ones = np.ones(len(sizes))
    found: dict[str, Any] = {"batches": num_batches, "batches_measured": len(batches)}
    for name, counts in distinct.items():
        found[f"distinct_{name}"] = ratio(counts, ones, num_batches)
    found["levels"] = {}
    for level in LEVELS:
        gone, columns = np.array(dropped[level]), np.concatenate(left[level])
        found["levels"][level] = {
            "false_negative_rate": ratio(false[level], pairs - gone, num_batches),
            "mask_rate": ratio(gone, pairs, num_batches),
            "columns_left": {
                **ratio(pairs - gone, sizes, num_batches),
                **{n: float(np.quantile(columns, q)) for n, q in _QUANTILES.items()},
                "min": int(columns.min()),
            },
        }
    return found
