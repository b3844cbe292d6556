"""Rows to train on, and all that is known of their users and items."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from tfrs_negatives.recommender.interaction_rows import InteractionRows, Window
from tfrs_negatives.recommender.row_histories import HistoryRows, RowHistories
from tfrs_negatives.recommender.training_rows import TrainingRows
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from tfrs_negatives.data import Positives
    from tfrs_negatives.recommender.settings import Settings


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Training rows, with ids as positions.

    Attributes:
      user_ids: [U] ids of the users, sorted.
      item_ids: [N] ids of the catalogue, sorted.
      titles: [N] titles of the catalogue, or None.
      rows: `TrainingRows`.
      item_counts: [N] how many training rows each item has, repeated ones too.
      histories: `RowHistories`, or None.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    titles: np.ndarray | None
    rows: TrainingRows
    item_counts: np.ndarray
    histories: RowHistories | None = None

    def chosen(self, settings: Settings) -> Settings:
        """The settings, with those that are left to the table."""
        return settings.chosen(len(self.rows), self.histories is not None)

    @functools.cached_property
    def row_counts(self) -> np.ndarray:
        """[N] int64: how many of `rows` each item has: what is trained on."""
        counts = np.zeros(len(self.item_ids), np.int64)
        for rows in self.rows.windows():
            counts += np.bincount(rows["item"], minlength=len(counts))
        return counts

    def positives(self, chosen: np.ndarray | None = None) -> Positives:
        """The items of the rows of users, by ids.

        Args:
          chosen: [U] bool; None: of all users.
        """
        from tfrs_negatives import data

        if chosen is None:
            chosen = np.ones(len(self.user_ids), bool)
        rows = self.rows.of_users(chosen)
        return data.positives_of(
            {"user": self.user_ids[rows["user"]], "item": self.item_ids[rows["item"]]}
        )


class TrainingSetBuilder:
    """Collects training rows from windows of whole users.

    Args:
      table: What the windows are of.
      folder: Where rows are written, if they are many.
      history: How many items a history has at the most; 0: there are none.
      repeats: Whether a user's later rows of an item are trained on too. They are part
        of histories and counts either way.

    Attributes:
      item_counts: [M] rows of each item so far.
    """

    def __init__(
        self,
        table: InteractionRows,
        folder: PathLike,
        history: int = 0,
        repeats: bool = True,
    ) -> None:
        num_items = len(table.items)
        self._table, self._repeats = table, repeats
        self._rows = TrainingRows(folder)
        self._titles = None if table.titles is None else _FirstTitles(num_items)
        self._histories = HistoryRows(history) if history else None
        self.item_counts = np.zeros(num_items, np.int64)

    def add(self, window: Window) -> None:
        """Adds rows of some users, all that there are of them."""
        rows = window if self._repeats else window.take(_are_first(window))
        self._rows.add(rows.row, rows.request, rows.user, rows.item)
        self.item_counts += np.bincount(window.item, minlength=len(self.item_counts))
        if self._titles is not None:
            self._titles.add(window)
        if self._histories is not None:
            self._histories.add(window)

    def positions(self) -> np.ndarray:
        """[M] position of each item in the catalogue: those with rows; else -1."""
        has_rows = self.item_counts > 0
        return np.where(has_rows, np.cumsum(has_rows) - 1, -1)

    def finish(self, ties: str, positions: np.ndarray | None = None) -> TrainingSet:
        """The training set.

        Args:
          ties: What a row's history has of rows of the same time: see
            `data.histories_of`.
          positions: [M] of another one's catalogue, which has all items here. None:
            its own.
        """
        table = self._table
        if positions is None:
            positions = self.positions()
        self._rows.number_items(positions)
        there = positions >= 0
        titles = None
        if self._titles is not None and table.titles is not None:
            titles = table.titles.ids[self._titles.found[there]]
        histories = None
        if self._histories is not None:
            histories = self._histories.finish(positions, table.num_rows, ties)
        return TrainingSet(
            user_ids=table.users.ids,
            item_ids=table.items.ids[there],
            titles=titles,
            rows=self._rows,
            item_counts=self.item_counts[there],
            histories=histories,
        )


def _are_first(window: Window) -> np.ndarray:
    """Which rows are a user's first of their item, [n] bool; ties by the table."""
    order = np.lexsort((window.row, window.time, window.item, window.user))
    user, item = window.user[order], window.item[order]
    are_first = np.empty(len(order), bool)
    are_first[order] = np.append(
        True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    )[: len(order)]
    return are_first


class _FirstTitles:
    """The title of the first training row of each item, whichever comes first here.

    Args:
      num_items: How many items there are.

    Attributes:
      found: [M] numbers of titles.
    """

    def __init__(self, num_items: int) -> None:
        self.found = np.zeros(num_items, np.int64)
        self._row = np.full(num_items, np.iinfo(np.int64).max)

    def add(self, window: Window) -> None:
        """Looks at the training rows of a window."""
        assert window.title is not None
        items, first = np.unique(window.item, return_index=True)
        is_earlier = window.row[first] < self._row[items]
        items, first = items[is_earlier], first[is_earlier]
        self.found[items] = window.title[first]
        self._row[items] = window.row[first]
