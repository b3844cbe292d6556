"""The items of each user, as the rows of a sparse matrix."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from tfrs_negatives._id_columns import column_of, id_column
from tfrs_negatives._id_lists import flattened
from tfrs_negatives.samplers.item_corpus import IdLookup
from tfrs_negatives.types import ListsLike, TableLike, TensorLike


class Histories:
    """Who had what: what teachers are fitted on, and whom they are asked about.

    `from_table` makes it of interactions, `from_lists` of a list of items for each
    user; the constructor takes a matrix that is there already.

    Memory: 8 bytes an entry of the matrix, and the ids.

    Args:
      user_ids: [U] distinct integers or strings.
      item_ids: [I] distinct integers or strings: the catalogue.
      matrix: [U, I] SciPy sparse matrix: the weight of each user's items, above 0.

    Attributes:
      user_ids, item_ids: As given, NumPy arrays.
      matrix: `scipy.sparse.csr_matrix` of float32, without zeros, columns ascending.

    Raises:
      ValueError: Ids that repeat or are neither integers nor strings, a matrix of
        another shape, weights that are negative or not finite.

    Example:
      >>> histories = tn.teachers.Histories.from_lists(
      ...     [["tea", "milk"], ["tea"]], ["ann", "bob"]
      ... )
      >>> histories.item_ids.tolist()
      ['milk', 'tea']
      >>> histories.matrix.toarray().tolist()
      [[1.0, 1.0], [0.0, 1.0]]
    """

    def __init__(self, user_ids: ArrayLike, item_ids: ArrayLike, matrix: Any) -> None:
        users, items = id_column("user_ids", user_ids), id_column("item_ids", item_ids)
        shape = len(users), len(items)
        if not scipy.sparse.issparse(matrix) or matrix.shape != shape:
            received = getattr(matrix, "shape", type(matrix).__name__)
            raise ValueError(
                "`matrix` must be a SciPy sparse matrix with a row for each user and a "
                f"column for each item, {shape}, received {received}."
            )
        matrix = scipy.sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
        _check_weights("matrix", matrix.data)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        self.user_ids, self.item_ids, self.matrix = users, items, matrix
        # Made at once, so that ids that repeat are told of.
        self.item_lookup = IdLookup("item_ids", items)
        self.user_lookup  # noqa: B018

    @classmethod
    def from_table(
        cls,
        table: TableLike,
        key: str = "user",
        item: str = "item",
        weight: str | None = None,
    ) -> Histories:
        """The histories of a table of interactions.

        Args:
          table: Columns by name: a dict of arrays, a data frame (pandas, Polars), an
            Arrow table; or `data.Interactions`. One row is one interaction.
          key: Name of the column of users' ids.
          item: Name of the column of items' ids.
          weight: Name of a column of weights, finite and at least 0; those of rows that
            repeat add up. None: each distinct pair weighs 1.

        Returns:
          `Histories` whose users and items are those of the table, in ascending order.

        Raises:
          ValueError: No such column, columns of different lengths or without rows, ids
            that are neither integers nor strings, or missing; weights that are
            negative or not finite.
        """
        users = id_column(key, column_of(table, key))
        items = id_column(item, column_of(table, item))
        weights = None
        if weight is not None:
            weights = _weights(weight, column_of(table, weight))
        lengths = [len(c) for c in (users, items, weights) if c is not None]
        if len(set(lengths)) != 1 or not lengths[0]:
            raise ValueError(
                "`table` must have as many rows in each column, at least one, received "
                f"{lengths}: there is nothing to learn from without interactions."
            )
        users, user_of_row = np.unique(users, return_inverse=True)
        items, item_of_row = np.unique(items, return_inverse=True)
        matrix = _matrix(user_of_row, item_of_row, weights, (len(users), len(items)))
        return cls(users, items, matrix)

    @classmethod
    def from_lists(
        cls, items: ListsLike, user_ids: TensorLike | None = None
    ) -> Histories:
        """The histories of a list of items for each user.

        Args:
          items: Ids of items: a sequence of U sequences, a `tf.RaggedTensor`
            [U, (P)], or dense [U, P]. A list may be empty.
          user_ids: [U] distinct ids of the users; None: row numbers.

        Returns:
          `Histories` whose items are those of the lists, in ascending order. Each
          distinct item of a user weighs 1.

        Raises:
          ValueError: Lists of another rank, no items at all, as many user ids as there
            are not lists; ids as in `from_table`.
        """
        values, lengths = flattened("items", items, ranks=(2,))
        ids = id_column("items", values)
        if not len(ids):
            raise ValueError("`items` must hold at least one id, received none.")
        ids, item_of_row = np.unique(ids, return_inverse=True)
        users = np.arange(len(lengths)) if user_ids is None else np.asarray(user_ids)
        if users.shape != lengths.shape:
            raise ValueError(
                "`user_ids` must have one id for each list of `items`, "
                f"{len(lengths)}, received shape {users.shape}."
            )
        rows = np.repeat(np.arange(len(lengths)), lengths)
        shape = len(lengths), len(ids)
        return cls(users, ids, _matrix(rows, item_of_row, None, shape))

    def __len__(self) -> int:
        return len(self.user_ids)

    def __repr__(self) -> str:
        return (
            f"Histories({len(self)} users, {len(self.item_ids)} items, "
            f"{self.matrix.nnz} entries)"
        )

    def rows(self, rows: slice | np.ndarray) -> Histories:
        """The histories of some of the users, over the same items.

        Args:
          rows: A slice, or [n] distinct row numbers.
        """
        part = object.__new__(Histories)
        part.user_ids, part.matrix = self.user_ids[rows], self.matrix[rows]
        part.item_ids, part.item_lookup = self.item_ids, self.item_lookup
        return part

    def lists(self) -> list[np.ndarray]:
        """Ids of each user's items, ascending as `item_ids` are: U arrays."""
        ids = self.item_ids[self.matrix.indices]
        return np.split(ids, self.matrix.indptr[1:-1])

    @functools.cached_property
    def user_lookup(self) -> IdLookup:
        """Where each user's row is."""
        return IdLookup("user_ids", self.user_ids)


def _matrix(
    rows: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray | None,
    shape: tuple[int, int],
) -> Any:
    values = np.ones(len(rows)) if weights is None else weights
    matrix = scipy.sparse.csr_matrix((values, (rows, columns)), shape)
    if weights is None:  # A pair that repeats is there once.
        matrix.data[:] = 1
    return matrix


def _weights(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iufb":
        raise ValueError(
            f"{name!r} must be a vector of weights, received {array.dtype.name} of "
            f"shape {array.shape}. Convert them to numbers."
        )
    _check_weights(name, array)
    return array.astype(np.float64)


def _check_weights(name: str, weights: np.ndarray) -> None:
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        raise ValueError(
            f"{name!r} must hold weights that are finite and at least 0, received "
            f"{wrong.sum()} others, such as {weights[wrong][0]}. Drop these rows."
        )
