"""A teacher: EASE^R, each item weighed against all others at once, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrs_negatives import _checks
from tfrs_negatives._repr import described
from tfrs_negatives.teachers.fitted_teacher import FittedTeacher
from tfrs_negatives.teachers.histories import Histories
from tfrs_negatives.teachers.parallel_blocks import even_blocks
from tfrs_negatives.teachers.ranked_rows import largest_of_dense
from tfrs_negatives.teachers.ridge_inverses import (
    ENTRIES,
    InverseAmongItems,
    InverseAmongUsers,
)


class EASE(FittedTeacher):
    """EASE^R (Steck, WWW 2019, arXiv 1905.03375): linear weights between items.

    With X the [U, I] weights of the histories and P the inverse of X'X + l2 I, scores
    are X B with B = I - P / diag(P) by columns (eq. 8): the ridge regression of each
    item on all others, none of which is itself.

    Where there are fewer users than items, the inverse of K = XX' + l2 I is smaller and
    gives the same: by the push-through identity X P = K^-1 X, and by Woodbury's
    P = (I - X' K^-1 X) / l2. Users that were fitted need the former alone; a history
    that is new takes U operations for each user with whom it shares an item, and is
    less exact, by some 1e-4 where float32 has 1e-5 otherwise.

    Memory: one float32 matrix, the square of users or items, whichever are fewer, which
    is inverted in place; and some 100 MB a thread. Time: the cube of its side. If the
    matrix would exceed `max_bytes`, use `ItemNeighbours`, which is sparse. SANSA
    (Spišák et al., RecSys 2023) approximates P by a sparse matrix; a function that
    returns its scores can be a teacher too.

    Args:
      l2: Strength of the regularisation, above 0. It is chosen on held-out data; the
        paper's are from 200 to 1,000, and Gowalla's best is 90.
      max_bytes: What that matrix may take, 8 GiB unless said: a side of 46,340.
      threads: How many threads work at once; None: one for each core. LAPACK has
        threads of its own.

    Raises:
      ValueError: Options out of range. From `fit`: a matrix above `max_bytes`, or one
        that float32 cannot invert; what was fitted before then stays.

    Reference:
      * Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019.

    Example:
      >>> histories = tn.teachers.Histories.from_lists(
      ...     [["tea", "milk"], ["tea", "milk", "jam"], ["jam", "ham"]]
      ... )
      >>> teacher = tn.teachers.EASE(1.0).fit(histories, progress=False)
      >>> new = tn.teachers.Histories.from_lists([["tea"]])
      >>> ids, scores = teacher.top(new, 1, progress=False)
      >>> ids.tolist()
      [['milk']]
    """

    def __init__(
        self, l2: float, *, max_bytes: int = 2**33, threads: int | None = None
    ) -> None:
        _checks.check_number("l2", l2)
        if not (math.isfinite(l2) and l2 > 0):
            raise ValueError(
                f"`l2` must be a finite number above 0, received {l2}: without it "
                "nothing keeps the inverse from exploding. 100 is a usual start."
            )
        _checks.check_at_least("max_bytes", max_bytes, 1)
        super().__init__(threads)
        self.l2, self.max_bytes = l2, max_bytes
        self._solution: InverseAmongItems | InverseAmongUsers | None = None

    def __repr__(self) -> str:
        return described(
            self, l2=self.l2, max_bytes=self.max_bytes, threads=self.threads
        )

    def _fit(self, histories: Histories, progress: bool) -> None:
        matrix = histories.matrix
        num_users, num_items = matrix.shape
        needed = 4 * min(num_users, num_items) ** 2
        if needed > self.max_bytes:
            raise ValueError(
                "EASE needs a dense float32 matrix, the square of users or items: of "
                f"{num_users:,} users and {num_items:,} items it takes "
                f"{needed / 2**30:,.1f} GiB, and `max_bytes` allows "
                f"{self.max_bytes / 2**30:,.1f} GiB. Use `teachers.ItemNeighbours`, "
                "which is sparse; leave out rare items; or raise `max_bytes` if there "
                "is as much memory."
            )
        inverse = InverseAmongUsers if num_users < num_items else InverseAmongItems
        self._solution = inverse(matrix, self.l2, self.threads, progress)

    def _scores(self, matrix: Any) -> np.ndarray:
        assert self._solution is not None
        return self._solution.scores(matrix)

    def _largest(
        self, matrix: Any, number: int, exclude_history: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        scores = self._scores(matrix)
        if exclude_history:
            scores[matrix.nonzero()] = 0
        return largest_of_dense(scores, number)

    def _blocks(self, matrix: Any) -> Sequence[slice]:
        return even_blocks(matrix.shape[0], ENTRIES // sum(matrix.shape))
