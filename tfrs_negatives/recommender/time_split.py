"""Which rows are held out: each user's last interactions, or those of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import mix
from tfrs_negatives.audit.held_out import HELD_OUT_SHARE, last_interactions
from tfrs_negatives.recommender.held_out_pairs import HeldOut, HeldOutPairs
from tfrs_negatives.recommender.interaction_rows import (
    InteractionRows,
    Window,
    read_rows,
)
from tfrs_negatives.recommender.tie_order import TieOrder
from tfrs_negatives.recommender.training_set import TrainingSet, TrainingSetBuilder
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from tfrs_negatives.data.table_parts import TableParts

# Without a number of users to evaluate: so many products of a user and an item, which
# take minutes, and so many users, whose pairs are held.
_EVALUATED_PAIRS = 2 * 10**9
_EVALUATED_USERS = 200_000

# Early stopping looks at the last rows of as many users as have so many pairs, but of
# no more than a quarter of all users, and no more than that.
_VALIDATION_USERS = 10_000
_VALIDATION_PAIRS = 2_000
_VALIDATION_SHARE = 0.25

#: Histories, and the items of every user, are held for tables of up to so many rows.
HELD_IN_MEMORY = 20_000_000
#: Items of a history, where there are times.
HISTORY = 50


@dataclasses.dataclass(frozen=True)
class Split:
    """Training sets, and held-out pairs to measure models on.

    Attributes:
      table: `InteractionRows`: what was read, without its rows.
      training: All rows but the held-out ones.
      held_out: Pairs of each user's last interactions, or of the table that was given,
        by positions of `training`.
      num_new_users: How many users of the table that was given have no training rows:
        they are not evaluated.
      fitted: `training` without the rows of `validation`; the same catalogue. It is
        `training` where there is no validation.
      validation: Pairs that say when to stop, by the same positions; or None.
      whole: All rows, and a catalogue of all items.
    """

    table: InteractionRows
    training: TrainingSet
    held_out: HeldOut
    num_new_users: int
    fitted: TrainingSet
    validation: HeldOut | None
    whole: TrainingSet


def split(
    parts: TableParts,
    folder: PathLike,
    *,
    held_out: TableParts | None = None,
    history: int | None = None,
    ties: str | None = None,
    repeats: bool = True,
    stops_early: bool = True,
    validation: bool = False,
    evaluated_users: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Split:
    """Splits a table of interactions, in two passes over files of its own.

    The first reads the table, collects its ids, and writes rows into buckets by user.
    The second takes one window of whole users after the other, splits it, and writes
    rows into buckets by request. Memory, whatever the number of rows: a window of 4
    million rows several times over (about 1 GiB); for each user and item what
    `data.id_vocabulary` says, for each item 48 bytes more. Histories take 24 bytes a
    row of each training set. On disk: 24 bytes a row, and 8 for each of time, request
    and title; then 24 a row of each training set.

    Args:
      parts: The table.
      folder: Where rows are written, if they are more than a million.
      held_out: A table whose rows are held out, of the same columns. None: the last
        fifth of each user's rows, in time.
      history: How many items a history has at the most; 0: there are none. None: 50
        for a table with times, of up to 20 million rows; else 0.
      ties: What a row's history has of rows of the same time: see `data.histories_of`.
        None: "above", unless these rows are sorted by item.
      repeats: Whether a user's later rows of an item are trained on too. They are part
        of histories and counts either way.
      stops_early: Whether to put rows aside for early stopping: the last fifth of the
        training rows of some users, drawn at random: about as many as have 2,000 such
        rows, but at most a quarter of all users, and at most 10,000. Other users lose
        no rows: what is newest teaches most. Where a table to hold out is given and
        there are no times, any fifth: the order of a file says nothing then.
      validation: Whether to leave the held-out rows out altogether, and to split the
        training rows once more.
      evaluated_users: How many users with held-out pairs are evaluated at most, drawn
        at random. None: as many as make 2 * 10^9 pairs with the items, up to 200,000.
      progress: Function of the number of rows read so far, or None.

    Returns:
      `Split`.

    Raises:
      ValueError: A table that cannot be read, fewer than two items to train on, or
        nothing held out.
      OSError: No room in the folder.
    """
    table = read_rows(parts, folder, progress, held_out)
    num_items, num_users = len(table.items), len(table.users)
    most = evaluated_users or max(
        1, min(_EVALUATED_USERS, _EVALUATED_PAIRS // num_items)
    )
    if history is None:
        has_room = table.times is not None and table.num_rows <= HELD_IN_MEMORY
        history = HISTORY if has_room else 0
    training, fitted, whole = (
        TrainingSetBuilder(table, folder, history, repeats) for _ in range(3)
    )
    measured = HeldOutPairs(num_items, most)
    stopping = HeldOutPairs(num_items, _VALIDATION_USERS)
    is_stopping = _drawn_users(num_users, table.num_rows)
    num_new_users, tie_order = 0, TieOrder()
    for window in table.windows():
        is_held_out = _are_held_out(window, table)
        if validation:
            window = window.take(~is_held_out)
            is_held_out = _are_last(window, table)
        train = window.take(~is_held_out)
        whole.add(window)
        training.add(train)
        tie_order.add(train)
        is_new = ~np.isin(window.user, train.user)
        num_new_users += len(np.unique(window.user[is_new]))
        measured.add(train, window.take(is_held_out & ~is_new))
        if stops_early:
            is_last = _are_last(train, table) & is_stopping[train.user]
            fitted.add(train.take(~is_last))
            stopping.add(train.take(~is_last), train.take(is_last))

    num_trained = int((training.item_counts > 0).sum())
    if num_trained < 2:
        raise ValueError(
            f"Expected at least 2 items to train on, received {num_trained} in "
            "the training part. Load more interactions."
        )
    if not measured.num_pairs:
        which = "last interactions" if held_out is None else "held-out rows"
        source = table.source if held_out is None else held_out.source
        raise ValueError(
            f"Expected users of the training rows with new items among their {which}, "
            f"received none of them in {source}: there is nothing to evaluate on. Load "
            "more interactions for each user."
        )
    positions = training.positions()
    ties = ties or tie_order.ties
    trained = training.finish(ties)
    has_validation = stopping.num_pairs > 0
    return Split(
        table=table,
        training=trained,
        held_out=measured.finish(positions),
        num_new_users=num_new_users,
        fitted=(
            # Popularity and titles are the training set's, which it stands for.
            dataclasses.replace(
                fitted.finish(ties, positions),
                item_counts=trained.item_counts,
                titles=trained.titles,
            )
            if has_validation
            else trained
        ),
        validation=stopping.finish(positions) if has_validation else None,
        whole=whole.finish(ties),
    )


def _are_held_out(window: Window, table: InteractionRows) -> np.ndarray:
    """Which rows of whole users are held out, [n] bool."""
    if table.first_held_out is None:
        return last_interactions(window.user, window.time)
    return window.row >= table.first_held_out


def _are_last(window: Window, table: InteractionRows) -> np.ndarray:
    """Which rows are like held-out ones, among those that are not, [n] bool."""
    order = window.time
    if table.first_held_out is not None and table.times is None:
        order = mix(tf.constant(window.row.view(np.uint64))).numpy()  # Any order.
    return last_interactions(window.user, order)


def _drawn_users(num_users: int, num_rows: int) -> np.ndarray:
    """Users whose last training rows early stopping looks at, [U] bool."""
    of_a_user = num_rows / num_users * HELD_OUT_SHARE * (1 - HELD_OUT_SHARE)
    wanted = min(_VALIDATION_USERS, _VALIDATION_SHARE * num_users)
    number = int(np.ceil(min(wanted, _VALIDATION_PAIRS / max(of_a_user, 1))))
    drawn = np.zeros(num_users, bool)
    drawn[np.random.default_rng(0).permutation(num_users)[:number]] = True
    return drawn
