"""How unevenly interactions fall on items."""

from __future__ import annotations

from typing import Any

import numpy as np

HEAD_SHARE = 0.2
TOP_SHARE = 0.01
_CURVE_POINTS = 101


def head_items(counts: np.ndarray) -> np.ndarray:
    """Marks the 20% of items with the most rows, ties by position.

    Args:
      counts: [N] how many rows each item has.

    Returns:
      [N] bool, with at least one True.
    """
    order = np.argsort(-counts, kind="stable")
    head = np.zeros(len(counts), bool)
    head[order[: int(np.ceil(HEAD_SHARE * len(counts)))]] = True
    return head


def popularity(counts: np.ndarray) -> dict[str, Any]:
    """Skew of the rows over the items.

    Args:
      counts: [N] how many rows each item has, at least one.

    Returns:
      Dict: "gini", the Gini coefficient of the items' counts (0 for equal ones,
      towards 1 for one item with all rows); "top_1_percent_share", the share of the
      rows of the most popular 1% of items (at least one item); "tail_row_share", that
      of the items outside the head; "tail_item_share", how many of the items those
      are; and "curve", shares of rows of the least popular shares of items (the
      Lorenz curve) at equal distances.
    """
    counts, num_items = np.sort(counts), len(counts)
    total = counts.sum()
    held = np.concatenate([[0], np.cumsum(counts)]) / total
    places = np.arange(1, num_items + 1)
    gini = (2 * places - num_items - 1) @ counts / (num_items * total)
    top = int(np.ceil(TOP_SHARE * num_items))
    head = int(np.ceil(HEAD_SHARE * num_items))
    at = np.linspace(0, num_items, min(_CURVE_POINTS, num_items + 1))
    return {
        "gini": float(gini),
        "top_1_percent_share": float(1 - held[num_items - top]),
        "tail_row_share": float(held[num_items - head]),
        "tail_item_share": 1 - head / num_items,
        "curve": {
            "items": (at / num_items).tolist(),
            "rows": np.interp(at, np.arange(num_items + 1), held).tolist(),
        },
    }
