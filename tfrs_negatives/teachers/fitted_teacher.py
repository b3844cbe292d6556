"""What teachers that are fitted on histories share."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfrs_negatives import _checks
from tfrs_negatives.teachers.histories import Histories
from tfrs_negatives.teachers.parallel_blocks import in_parallel

if TYPE_CHECKING:
    from typing_extensions import Self


class FittedTeacher(abc.ABC):
    """Scores the items of what it was fitted on, for any histories.

    A call with `(histories, number)` is `top` without what the users had, as
    `teachers.blend` calls teachers.

    Args:
      threads: How many threads work at once; None: one for each core.
    """

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None:
            _checks.check_at_least("threads", threads, 1)
        self.threads = threads
        self._fitted: Histories | None = None

    def fit(self, histories: Histories, *, progress: bool = True) -> Self:
        """Learns from histories, and returns itself.

        Args:
          histories: `teachers.Histories`; its items are the catalogue.
          progress: Whether to show how far it is.

        Raises:
          ValueError: No histories, nothing in them, fewer than two items. What was
            fitted before then stays.
        """
        check_histories(histories)
        if not histories.matrix.nnz:
            raise ValueError(
                "`histories` must hold at least one interaction, received none: there "
                "is nothing to learn from."
            )
        if len(histories.item_ids) < 2:
            raise ValueError(
                "`histories` must have at least two items, received one: a teacher "
                "says which items go with which others."
            )
        self._fit(histories, progress)
        self._fitted = histories
        return self

    @property
    def item_ids(self) -> np.ndarray:
        """[I] ids of the items that it was fitted on."""
        return self._histories().item_ids

    def scores(self, histories: Histories) -> np.ndarray:
        """The score of every item for every user, all at once.

        Args:
          histories: Of U users, fitted or new. What the catalogue lacks of their items
            counts for nothing.

        Returns:
          [U, I] float32, items in the order of `item_ids`. It takes 4 U I bytes: pass
          some `histories.rows` at a time, or see `top`.

        Raises:
          ValueError: Not fitted; strings for integers, or the reverse.
        """
        return self._scores(self._in_catalogue(histories))

    def top(
        self,
        histories: Histories,
        number: int,
        *,
        exclude_history: bool = True,
        progress: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The items of each user that score highest.

        Memory: the result, and that of some users at a time for each thread.

        Args:
          histories: Of U users, as for `scores`.
          number: How many items a user, at most I.
          exclude_history: Whether to leave out what the user had.
          progress: Whether to show how many users are done.

        Returns:
          `(ids, scores)`: [U, number] ids of items, best first, and float32 of at least
          0. Where a teacher knows of fewer, scores are 0 and ids repeat the user's best
          one, or the catalogue's first.

        Raises:
          ValueError: As for `scores`; a number below 1 or above I.
        """
        _checks.check_at_least("number", number, 1)
        catalogue = len(self.item_ids)
        if number > catalogue:
            raise ValueError(
                f"`number` must be at most the number of items, {catalogue}, received "
                f"{number}."
            )
        matrix = self._in_catalogue(histories)
        columns = np.empty([len(histories), number], np.int32)
        scores = np.empty(columns.shape, np.float32)
        blocks = self._blocks(matrix)

        def largest(block: slice) -> tuple[np.ndarray, np.ndarray]:
            return self._largest(matrix[block], number, exclude_history)

        found = in_parallel(largest, blocks, self.threads, progress, "user")
        for block, best in zip(blocks, found, strict=True):
            columns[block], scores[block] = best
        return self.item_ids[columns], scores

    def __call__(
        self, histories: Histories, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.top(histories, number, progress=False)

    @abc.abstractmethod
    def _fit(self, histories: Histories, progress: bool) -> None:
        """Learns. Nothing of it may change where it fails."""

    @abc.abstractmethod
    def _scores(self, matrix: Any) -> np.ndarray:
        """[n, I] float32, of the [n, I] histories of some users, `csr_matrix`."""

    @abc.abstractmethod
    def _largest(
        self, matrix: Any, number: int, exclude_history: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores, [n, number], as `ranked_rows` returns them."""

    @abc.abstractmethod
    def _blocks(self, matrix: Any) -> Sequence[slice]:
        """Which users are looked at together."""

    def _histories(self) -> Histories:
        if self._fitted is None:
            raise ValueError(
                f"This {type(self).__name__} knows nothing yet: call `fit` first."
            )
        return self._fitted

    def _in_catalogue(self, histories: Histories) -> Any:
        """[U, I] `csr_matrix` of histories over the items that it was fitted on."""
        fitted = self._histories()
        check_histories(histories)
        matrix = histories.matrix
        if histories.item_ids is fitted.item_ids:
            return matrix
        columns = fitted.item_lookup("histories", histories.item_ids).numpy()
        known = columns[matrix.indices] < len(fitted.item_ids)
        ends = np.concatenate([[0], np.cumsum(known)])[matrix.indptr]
        parts = matrix.data[known], columns[matrix.indices[known]], ends
        shape = len(histories), len(fitted.item_ids)
        matrix = scipy.sparse.csr_matrix(parts, shape)
        matrix.sort_indices()
        return matrix


def check_histories(histories: object) -> None:
    """Raises `ValueError` unless it is `Histories`."""
    if not isinstance(histories, Histories):
        raise ValueError(
            "`histories` must be `teachers.Histories`, received a "
            f"{type(histories).__name__}. `Histories.from_table` makes it of a table, "
            "`Histories.from_lists` of lists of items."
        )
