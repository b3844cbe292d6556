"""A teacher: what most often comes with the items that a user had."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from tfrs_negatives import _checks
from tfrs_negatives._repr import described
from tfrs_negatives.data.sorted_values import are_among
from tfrs_negatives.teachers.fitted_teacher import FittedTeacher
from tfrs_negatives.teachers.histories import Histories
from tfrs_negatives.teachers.parallel_blocks import blocks_of_cost, in_parallel
from tfrs_negatives.teachers.ranked_rows import (
    entry_places,
    keep_largest,
    largest_of_sparse,
    rows_of_entries,
)

# Products that a thread adds up at once: some 40 bytes each.
_PRODUCTS = 2**21


class ItemNeighbours(FittedTeacher):
    """Adds up, over a user's items, how near each other item is to them.

    With R the [U, I] weights of the histories, and D_u and D_i the sums of its rows and
    columns, an item's nearest are those whose columns of D_u^-1/2 R D_i^-1/2 have the
    highest products with its own, much as in the item graph of UltraGCN (Mao et al.,
    CIKM 2021). The nearest of each item are kept. They do not depend on the number of
    threads; of equal ones the first of the catalogue are kept.

    It scales to millions of items. Time: the sum over users of the square of the number
    of their items, so leave out robots first. Memory: 8 bytes for each neighbour of an
    item; while it is fitted half as much again, and some 100 MB a thread (more if one
    item has more than 2 million co-occurrences). It never holds all co-counts at once.

    Args:
      neighbours: How many of each item are kept.
      threads: How many threads work at once; None: one for each core.

    Raises:
      ValueError: Options out of range.

    Example:
      >>> histories = tn.teachers.Histories.from_lists(
      ...     [["tea", "milk"], ["tea", "jam", "milk"]]
      ... )
      >>> teacher = tn.teachers.ItemNeighbours().fit(histories, progress=False)
      >>> new = tn.teachers.Histories.from_lists([["tea"]])
      >>> ids, scores = teacher.top(new, 2, progress=False)
      >>> ids.tolist()
      [['milk', 'jam']]
    """

    def __init__(self, neighbours: int = 100, *, threads: int | None = None) -> None:
        _checks.check_at_least("neighbours", neighbours, 1)
        super().__init__(threads)
        self.neighbours = neighbours
        self._nearest: Any = None

    def __repr__(self) -> str:
        return described(self, neighbours=self.neighbours, threads=self.threads)

    def _fit(self, histories: Histories, progress: bool) -> None:
        matrix = _scaled(histories.matrix)
        of_items = matrix.T.tocsr()
        # How many products each item's row of the co-counts adds up.
        ones = scipy.sparse.csr_matrix(of_items, copy=True)
        ones.data[:] = 1
        costs = ones @ np.diff(matrix.indptr).astype(np.float64)

        def nearest(block: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            together = of_items[block] @ matrix
            together.sort_indices()
            itself = together.indices == block.start + rows_of_entries(together)
            together.data[itself] = 0
            together.eliminate_zeros()
            kept = keep_largest(together, self.neighbours)
            return kept.data, kept.indices, np.diff(kept.indptr)

        blocks = blocks_of_cost(costs, _PRODUCTS)
        found = in_parallel(nearest, blocks, self.threads, progress, "item")
        parts: list[Any] = list(map(list, zip(*found, strict=True)))
        lengths = parts.pop()
        ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        # One after the other, so that there is never all of it twice.
        columns = np.concatenate(parts.pop())
        values = np.concatenate(parts.pop())
        self._nearest = scipy.sparse.csr_matrix(
            (values, columns, ends), shape=(len(ends) - 1, len(ends) - 1)
        )

    def _scores(self, matrix: Any) -> np.ndarray:
        return (matrix @ self._nearest).toarray()

    def _largest(
        self, matrix: Any, number: int, exclude_history: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        scores = matrix @ self._nearest
        scores.sort_indices()
        if exclude_history:
            scores.data[are_among(entry_places(scores), entry_places(matrix))] = 0
            scores.eliminate_zeros()
        return largest_of_sparse(scores, number)

    def _blocks(self, matrix: Any) -> list[slice]:
        return blocks_of_cost(np.diff(matrix.indptr) * self.neighbours + 1, _PRODUCTS)


def _scaled(matrix: Any) -> Any:
    """[U, I] `csr_matrix` of float32: D_u^-1/2 R D_i^-1/2."""
    users, items = (np.asarray(matrix.sum(axis), np.float64).ravel() for axis in (1, 0))
    scales = (users[rows_of_entries(matrix)] * items[matrix.indices]) ** -0.5
    parts = (matrix.data * scales).astype(np.float32), matrix.indices, matrix.indptr
    return scipy.sparse.csr_matrix(parts, matrix.shape)
