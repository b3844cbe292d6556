"""Items that a ranking model has scored, in the place of an index."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives._repr import described
from tfrs_negatives.index.identifiers import Identifiers, checked
from tfrs_negatives.index.mining.mining_sources import IdentifiedSource
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import pandas


class RankedPairs(IdentifiedSource):
    """A table of (query, item, score) rows, for mining from a ranker's opinion.

    Items that a ranking model scores high and that the user did not engage with are
    hard negatives that the two-tower model need not have found by itself. Pass this
    to `mine_hard_negatives` as the index, with query ids as queries. A query without
    rows has no negatives; a pair that occurs twice counts with its higher score;
    items of equal score keep the order of the table.

    Args:
      pairs: Path of a `.csv` or `.parquet` file (read by pandas), a DataFrame, or a
        dict of columns.
      query, item, score: Names of the columns. Ids are integers or strings. An id
        column of a `.csv` is read as integers if all of it are such as `int` prints
        them, and else as text: with "007" among them, "7" is text too. An empty field
        of a file is a null.

    Raises:
      ValueError: A file of another kind, columns that are missing or have nulls,
        ids of another type, scores that are not finite, no rows.
      ImportError: A file is to be read and pandas is not installed.

    Example:
      >>> table = {"query": [7, 7], "item": [1, 2], "score": [0.1, 0.9]}
      >>> pairs = tn.index.RankedPairs(table)
      >>> ids, scores = tn.index.mine_hard_negatives(pairs, [7], 2, progress=False)
      >>> ids.to_list()
      [[2, 1]]
    """

    # A ranker scores some items of each query; others are no mistake.
    complete = False
    dot_products = False

    def __init__(
        self,
        pairs: PathLike | Mapping[str, ArrayLike] | pandas.DataFrame,
        *,
        query: str = "query",
        item: str = "item",
        score: str = "score",
    ) -> None:
        if isinstance(pairs, (str, os.PathLike)):
            pairs = _read(os.fspath(pairs), [query, item, score])
        columns = list(pairs.keys())
        missing = [name for name in (query, item, score) if name not in columns]
        if missing:
            raise ValueError(
                f"`pairs` must have the columns {query!r}, {item!r} and {score!r}: "
                f"{missing} are missing, received {columns}. Name yours by "
                "`query=`, `item=`, `score=`."
            )
        queries, items = (_ids(name, pairs[name]) for name in (query, item))
        scores = _scores(score, pairs[score])
        if not len(queries) == len(items) == len(scores) or not len(scores):
            raise ValueError(
                "`pairs` must have rows, as many in each column, received "
                f"{len(queries)}, {len(items)} and {len(scores)}."
            )
        self._queries, rows = np.unique(queries, return_inverse=True)
        names, places = np.unique(items, return_inverse=True)
        super().__init__(Identifiers(checked(names, len(names))))
        self.num_items = len(names)
        # Stable, so that equal scores keep the table's order.
        order = np.lexsort([-scores, rows])
        rows, places, scores = rows[order], places[order], scores[order]
        # The first row of a pair has its highest score.
        _, first = np.unique(rows * np.int64(len(names)) + places, return_index=True)
        kept = np.sort(first)
        self._items, self._scores = places[kept], scores[kept]
        self._starts = np.searchsorted(
            rows[kept], np.arange(len(self._queries) + 1), side="left"
        )

    def __repr__(self) -> str:
        return described(
            self,
            num_queries=len(self._queries),
            num_items=self.num_items,
            num_pairs=len(self._items),
        )

    def find(self, queries: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k items of highest score of each query.

        Args:
          queries: `[b]` query ids.
          k: How many items.

        Returns:
          Scores `[b, k]` float64 and int64 positions `[b, k]`, -inf and -1 where a
          query has fewer.

        Raises:
          ValueError: Query ids of another type or rank.
        """
        queries = _ids("queries", queries)
        if queries.ndim != 1 or queries.dtype.kind != self._queries.dtype.kind:
            raise ValueError(
                "`queries` of RankedPairs must be a vector of query ids like "
                f"{self._queries.item(0)!r}, received {queries.dtype.name} of shape "
                f"{queries.shape}."
            )
        place = np.searchsorted(self._queries, queries)
        place = np.minimum(place, len(self._queries) - 1)
        known = self._queries[place] == queries
        starts = self._starts[place]
        sizes = np.where(known, self._starts[place + 1] - starts, 0)
        rank = np.arange(k)
        found = rank < sizes[:, None]
        rows = np.minimum(starts[:, None] + rank, len(self._items) - 1)
        return (
            np.where(found, self._scores[rows], -np.inf),
            np.where(found, self._items[rows], -1),
        )


def _read(path: str, columns: Sequence[str]) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "Reading ranked pairs from a file needs pandas: install it, or pass a "
            "dict of columns."
        ) from error
    kind = os.path.splitext(path)[1].lower()
    if kind not in (".csv", ".parquet") or not os.path.isfile(path):
        raise ValueError(f"`pairs` must be a .csv or .parquet file, received {path!r}.")
    if kind == ".csv":
        *ids, _ = columns
        table = pandas.read_csv(
            path, keep_default_na=False, dtype=dict.fromkeys(ids, str)
        )
        for name in ids:
            empty = int((table[name] == "").sum()) if name in table else 0
            if empty:
                raise ValueError(
                    f"Column {name!r} must hold ids without nulls, received {empty} "
                    f"empty fields in {path!r}. Drop those rows."
                )
        return {
            name: _integers_if_all(column) if name in ids else column
            for name, column in table.items()
        }
    return pandas.read_parquet(path)


def _integers_if_all(column: pandas.Series) -> pandas.Series:
    """A Series of str as int64, if that loses nothing."""
    if not len(column) or not column.str.fullmatch("0|-?[1-9][0-9]*").all():
        return column
    try:
        return column.astype(np.int64)
    except OverflowError:
        return column


def _ids(name: str, column: ArrayLike) -> np.ndarray:
    """A column as int64, or as an array of bytes."""
    values = np.asarray(column)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    try:
        return np.asarray(tf.constant(values, tf.string).numpy(), np.bytes_)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Column {name!r} must hold integers or strings, without nulls, received "
            f"{values.dtype.name}."
        ) from error


def _scores(name: str, column: ArrayLike) -> np.ndarray:
    try:
        scores = np.asarray(column, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Column {name!r} must hold numbers: {error}") from error
    if not np.isfinite(scores).all():
        raise ValueError(
            f"Column {name!r} must be finite, but {np.sum(~np.isfinite(scores))} "
            "scores are not. Drop those rows."
        )
    return scores
