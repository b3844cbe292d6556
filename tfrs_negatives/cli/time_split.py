"""Time-ordered split: each user's last interactions are held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.cli.command_error import CommandError, told_in_one_line
from tfrs_negatives.cli.held_out_pairs import HeldOut, HeldOutPairs
from tfrs_negatives.cli.interaction_rows import InteractionRows, Window, read_rows
from tfrs_negatives.cli.training_rows import TrainingRows
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from tfrs_negatives.data.table_parts import TableParts

# Without a number of users to evaluate: so many products of a user and an item, which
# take minutes, and so many users, whose pairs are held.
_EVALUATED_PAIRS = 2 * 10**9
_EVALUATED_USERS = 200_000


@dataclasses.dataclass(frozen=True)
class Split:
    """Training rows and held-out pairs, with ids as positions.

    Attributes:
      user_ids: [U] ids of the users, sorted.
      item_ids: [N] ids of the catalogue, sorted: the items with training rows.
      titles: [N] titles of the catalogue, or None.
      rows: `TrainingRows`.
      item_counts: [N] how many training rows each item has.
      held_out: `HeldOut`.
      table: `InteractionRows`: what was read, without its rows.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    titles: np.ndarray | None
    rows: TrainingRows
    item_counts: np.ndarray
    held_out: HeldOut
    table: InteractionRows


def split(
    parts: TableParts,
    folder: PathLike,
    validation: bool = False,
    evaluated_users: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Split:
    """Splits a table of interactions by time, in two passes over files of its own.

    The first reads the table, collects its ids, and writes rows into buckets by user.
    The second takes one window of whole users after the other, splits it, and writes
    training rows into buckets by request. Memory, whatever the number of rows: a
    window of 4 million rows several times over (about 1 GiB); for each user and item
    what `data.id_vocabulary` says, for each item 16 bytes more. On disk: 24 bytes a
    row, and 8 for each of time, request and title; then 24 a training row.

    Args:
      parts: The table.
      folder: Where rows are written, if they are more than a million.
      validation: Whether to leave the held-out rows out altogether, and to split the
        training rows once more.
      evaluated_users: How many users with held-out pairs are evaluated at most, drawn
        at random. None: as many as make 2 * 10^9 pairs with the items, up to 200,000.
      progress: Function of the number of rows read so far, or None.

    Returns:
      `Split`.

    Raises:
      CommandError: A table that cannot be read, fewer than two items to train on, or
        nothing held out.
    """
    with told_in_one_line():
        table = read_rows(parts, folder, progress)
    num_items = len(table.items)
    most = evaluated_users or max(
        1, min(_EVALUATED_USERS, _EVALUATED_PAIRS // num_items)
    )
    rows = TrainingRows(folder)
    titles = None if table.titles is None else _FirstTitles(num_items)
    item_counts = np.zeros(num_items, np.int64)
    held_out = HeldOutPairs(num_items, most)
    try:
        for window in table.windows():
            is_held_out = last_interactions(window.user, window.time)
            if validation:
                window = window.take(~is_held_out)
                is_held_out = last_interactions(window.user, window.time)
            train = window.take(~is_held_out)
            rows.add(train.row, train.request, train.user, train.item)
            item_counts += np.bincount(train.item, minlength=num_items)
            held_out.add(train, window.take(is_held_out))
            if titles is not None:
                titles.add(train)
    except OSError as error:  # No room for the training rows.
        raise CommandError(str(error)) from error

    in_catalogue = item_counts > 0
    if in_catalogue.sum() < 2:
        raise CommandError(
            f"Expected at least 2 items to train on, received {in_catalogue.sum()} in "
            "the training part. Load more interactions."
        )
    if not held_out.num_pairs:
        raise CommandError(
            f"Expected users with new items among their last interactions, received "
            f"none of them in {table.source}: there is nothing to evaluate on. Load "
            "more interactions for each user."
        )
    positions = np.where(in_catalogue, np.cumsum(in_catalogue) - 1, -1)
    rows.number_items(positions)
    return Split(
        user_ids=table.users.ids,
        item_ids=table.items.ids[in_catalogue],
        titles=(
            None
            if titles is None or table.titles is None
            else table.titles.ids[titles.found[in_catalogue]]
        ),
        rows=rows,
        item_counts=item_counts[in_catalogue],
        held_out=held_out.finish(positions),
        table=table,
    )


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
