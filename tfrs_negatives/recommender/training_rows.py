"""The rows that models are trained on, which need not fit into memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from tfrs_negatives.data.row_buckets import RowBuckets
from tfrs_negatives.types import PathLike

#: 24 bytes a row: its place in the table, its request, and positions of user and item.
ROW = np.dtype([("row", "i8"), ("request", "i8"), ("user", "i4"), ("item", "i4")])


class TrainingRows:
    """Training rows in buckets by request, so that those of a request are together.

    Args:
      folder: Where rows are written that are too many to be held.
    """

    def __init__(self, folder: PathLike) -> None:
        self._buckets = RowBuckets(ROW, folder)
        self._item_positions: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        folder: PathLike,
        user: np.ndarray,
        item: np.ndarray,
        request: np.ndarray,
        row: np.ndarray | None = None,
    ) -> TrainingRows:
        """Rows of columns [n]; without `row`, in the order of the table."""
        rows = cls(folder)
        rows.add(np.arange(len(user)) if row is None else row, request, user, item)
        return rows

    def __len__(self) -> int:
        return len(self._buckets)

    def add(
        self, row: np.ndarray, request: np.ndarray, user: np.ndarray, item: np.ndarray
    ) -> None:
        """Adds rows by their columns [n]: see `ROW`."""
        rows = np.empty(len(row), ROW)
        for name, column in (
            ("row", row),
            ("request", request),
            ("user", user),
            ("item", item),
        ):
            rows[name] = column
        self._buckets.add(rows, request)

    def number_items(self, positions: np.ndarray) -> None:
        """Says which position each item really has, once all rows are there.

        Args:
          positions: [M] of the numbers that were added.
        """
        self._item_positions = positions.astype(np.int32)

    def windows(self, seed: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Arrays of `ROW`, each of all rows of some requests, in the table's order.

        Where rows are more than one window, requests fall to windows by chance.

        Args:
          seed: Decides which requests come together and when; None: always the same.
        """
        order = None
        if seed is not None and len(self._buckets.windows()) > 1:
            order = np.random.default_rng(seed).permutation(len(self._buckets.sizes))
        for buckets in self._buckets.windows(order):
            rows = self._buckets.read(buckets)
            if self._item_positions is not None:
                rows["item"] = self._item_positions[rows["item"]]
            yield rows

    @property
    def num_requests(self) -> int:
        """How many requests there are."""
        return self._about_requests[0]

    @property
    def have_shared_requests(self) -> bool:
        """Whether a request has rows of several users."""
        return self._about_requests[1]

    @functools.cached_property
    def _about_requests(self) -> tuple[int, bool]:
        num_requests, are_shared = 0, False
        for rows in self.windows():
            order = np.argsort(rows["request"], kind="stable")
            request, user = rows["request"][order], rows["user"][order]
            is_same = request[1:] == request[:-1]
            num_requests += len(rows) - int(is_same.sum())
            are_shared |= bool((is_same & (user[1:] != user[:-1])).any())
        return num_requests, are_shared

    def of_users(self, chosen: np.ndarray) -> np.ndarray:
        """The rows of some users, [m] of `ROW`, requests in no particular order.

        Args:
          chosen: [U] bool.
        """
        return np.concatenate(
            [np.zeros(0, ROW), *(w[chosen[w["user"]]] for w in self.windows())]
        )
