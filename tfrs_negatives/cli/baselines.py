"""What a user would otherwise take: popularity, item neighbours, EASE^R."""

from __future__ import annotations

import time

import numpy as np

from tfrs_negatives import teachers
from tfrs_negatives.cli import comparison, row_names
from tfrs_negatives.recommender import held_out_figures
from tfrs_negatives.recommender.held_out_pairs import HeldOut
from tfrs_negatives.recommender.time_split import Split

# All rows are held as a matrix of users and items; from so many on, popularity is the
# only one that is left.
_MOST_ROWS = 50_000_000

# The side of the dense matrix that EASE^R inverts, users or items, whichever are fewer:
# its time grows with the cube.
_MOST_ENTRIES = 15_000

# The best or nearly the best of 50 to 2,000 on validation splits of MovieLens
# latest-small and 100K, where recall@50 is flat around it.
_EASE_L2 = 200.0

# Behind the deepest rank that a figure looks at, so that ties there are seen.
_NUMBER = max(*held_out_figures.RECALL_AT, held_out_figures.GROUP_RECALL_AT) + 28


def figures(name: str, split: Split, progress: bool) -> dict[str, float | None] | str:
    """Fits a baseline on the training rows, and measures it as the models are measured.

    Args:
      name: One of `row_names.BASELINES`.
      split: `Split`.
      progress: Whether to show it.

    Returns:
      What `held_out_figures.figures` returns, with the seconds that fitting took; or,
      where the table is too large for the baseline, a sentence that says so.
    """
    if name == row_names.POPULARITY:
        scores = split.training.item_counts[:, np.newaxis].astype(np.float32)
        of_users = np.ones((len(split.held_out.users), 1), np.float32)
        found = held_out_figures.figures(
            of_users, scores, split.held_out, split.training.item_counts
        )
        return {**found, comparison.SECONDS: 0.0}
    num_rows, side = (
        len(split.training.rows),
        min(len(split.training.user_ids), len(split.training.item_ids)),
    )
    if num_rows > _MOST_ROWS:
        return (
            f"note: {name} is left out: it needs all training rows in memory, and "
            f"{num_rows:,} are more than {_MOST_ROWS:,}."
        )
    if name == row_names.EASE and side > _MOST_ENTRIES:
        return (
            f"note: {name} is left out: it inverts a dense matrix of {side:,} users or "
            f"items, whichever are fewer, and takes up to {_MOST_ENTRIES:,}."
        )
    teacher: teachers.ItemNeighbours | teachers.EASE = teachers.ItemNeighbours()
    if name == row_names.EASE:
        teacher = teachers.EASE(_EASE_L2)
    return figures_of(teacher, split, progress)


def figures_of(
    teacher: teachers.ItemNeighbours | teachers.EASE, split: Split, progress: bool
) -> dict[str, float | None]:
    """Fits a linear model on the training rows; see `figures`."""
    histories = training_histories(split)
    start = time.perf_counter()
    teacher.fit(histories, progress=progress)
    seconds = time.perf_counter() - start
    items, scores = teacher.top(
        histories.rows(split.held_out.users),
        min(_NUMBER, len(split.training.item_ids)),
        progress=progress,
    )
    ranks = ranks_in_lists(items, scores, split.held_out)
    best = np.where(scores > 0, items, -1)[:, : held_out_figures.COVERAGE_AT]
    found = held_out_figures.of_ranks(
        ranks, best, split.held_out, split.training.item_counts
    )
    return {**found, comparison.SECONDS: seconds}


def ranks_in_lists(
    items: np.ndarray, scores: np.ndarray, held_out: HeldOut
) -> np.ndarray:
    """Ranks of the held-out items in lists of what scores highest.

    Args:
      items: [V, n] positions of items, best first, none of them seen.
      scores: [V, n], 0 behind the end of a shorter list.
      held_out: Of these V users.

    Returns:
      [h] int32: how many items score at least as high, itself included; 0 for items
      that are not in the list.
    """
    ranks = np.zeros(len(held_out.item), np.int32)
    for start in range(0, len(ranks), 4096):
        part = slice(start, start + 4096)
        of_user = held_out.user[part]
        scored = scores[of_user]
        is_item = (items[of_user] == held_out.item[part, np.newaxis]) & (scored > 0)
        own = np.where(is_item, scored, 0).max(axis=1, initial=0)
        at_least = (scored >= own[:, np.newaxis]).sum(axis=1)
        ranks[part] = np.where(own > 0, at_least, 0)
    return ranks


def training_histories(split: Split) -> teachers.Histories:
    """The training rows as a matrix of ones; ids are positions."""
    import scipy.sparse

    rows = split.training.rows.of_users(np.ones(len(split.training.user_ids), bool))
    shape = len(split.training.user_ids), len(split.training.item_ids)
    ones = np.ones(len(rows), np.float32)
    matrix = scipy.sparse.csr_matrix((ones, (rows["user"], rows["item"])), shape)
    matrix.data[:] = 1  # Of repeated rows too.
    return teachers.Histories(np.arange(shape[0]), np.arange(shape[1]), matrix)
