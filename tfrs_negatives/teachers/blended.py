"""One table of suggestions from several teachers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from tfrs_negatives import _checks
from tfrs_negatives._id_columns import id_column
from tfrs_negatives._keras import keras
from tfrs_negatives.data.sorted_values import are_among
from tfrs_negatives.teachers.fitted_teacher import check_histories
from tfrs_negatives.teachers.histories import Histories
from tfrs_negatives.teachers.parallel_blocks import even_blocks
from tfrs_negatives.teachers.ranked_rows import (
    entry_places,
    keep_largest,
    largest_of_sparse,
)
from tfrs_negatives.teachers.suggestions import Suggestions

#: From histories of n users and a number to ids and scores, [n, any] each.
Teacher: TypeAlias = Callable[[Histories, int], tuple[ArrayLike, ArrayLike]]

_USERS = 4096  # Asked about at once.


def blend(
    teachers: Sequence[Teacher],
    histories: Histories,
    number: int,
    *,
    sharpness: float = 1.0,
    progress: bool = True,
) -> Suggestions:
    """Averages what several teachers suggest to each user.

    1. Each teacher gives a user's `number` highest scores above 0, of items that the
       user has not had.
    2. They are raised to the power `sharpness`, and divided by their sum. So a
       teacher's scores may have any scale, and each teacher has one vote.
    3. Votes are averaged, and the `number` largest are kept and divided by their sum.

    So the weights of a row add up to 1, or to 0 if no teacher has a suggestion. They
    are targets of a cross-entropy, as in distillation (Hinton et al., 2015; of
    rankings, Tang and Wang, KDD 2018).

    Memory: the result, and that of 4,096 users at a time.

    Args:
      teachers: Fitted `EASE` or `ItemNeighbours`, tables (`Suggestions`), or any
        functions from (`Histories` of n users, number) to (ids, scores), [n, m] each,
        of any m, in any order. What scores 0 or less, or -inf, is not suggested. A
        function sees users by `histories.user_ids`, and what they had by
        `histories.lists()`. Ids may be of items that nobody had.
      histories: `teachers.Histories` of the users that suggestions are for.
      number: How many items a user.
      sharpness: The power, above 0; above 1 the best weigh more.
      progress: Whether to show how many users are done.

    Returns:
      `Suggestions`, a row for each user of `histories`, largest weights first.

    Raises:
      ValueError: No teachers, a number below 1 or above the number of items that the
        teachers' answers and the histories have, a power that is not above 0; answers
        of another shape, NaN or infinite scores, ids of another kind than the
        histories'.

    Example:
      >>> def popular(histories, number):
      ...     ids = [["tea", "milk"]] * len(histories)
      ...     return ids, [[2.0, 1.0]] * len(histories)
      >>> histories = tn.teachers.Histories.from_lists(
      ...     [["tea"], ["jam"]], ["ann", "bob"]
      ... )
      >>> table = tn.teachers.blend([popular], histories, 2, progress=False)
      >>> table.item_ids.tolist()
      [['milk', 'milk'], ['tea', 'milk']]
      >>> (3 * table.weights).tolist()
      [[3.0, 0.0], [2.0, 1.0]]
    """
    if callable(teachers) or not len(teachers):
        raise ValueError(
            f"`teachers` must be a list of at least one teacher, received {teachers!r}."
        )
    for teacher in teachers:
        if not callable(teacher):
            raise ValueError(
                "`teachers` must be functions of histories and a number, as fitted "
                f"teachers and `Suggestions` are, received {teacher!r}."
            )
    check_histories(histories)
    _checks.check_at_least("number", number, 1)
    _checks.check_number("sharpness", sharpness)
    if not (math.isfinite(sharpness) and sharpness > 0):
        raise ValueError(
            f"`sharpness` must be a finite number above 0, received {sharpness}."
        )
    vocabulary = _GrowingVocabulary(histories)
    places = np.empty([len(histories), number], np.int32)
    weights = np.empty(places.shape, np.float32)
    bar = keras.utils.Progbar(len(histories), unit_name="user") if progress else None
    for block in even_blocks(len(histories), _USERS):
        part = histories.rows(block)
        votes = [
            _votes(_answer(*t, part, number), part, vocabulary, number, sharpness)
            for t in enumerate(teachers)
        ]
        rows, columns, values = map(np.concatenate, zip(*votes, strict=True))
        shape = len(part), len(vocabulary)
        total = scipy.sparse.csr_matrix((values, (rows, columns)), shape)
        places[block], best = largest_of_sparse(total, number)
        weights[block] = _normalised(best)
        if bar is not None:
            bar.add(len(part))
    return Suggestions(histories.user_ids, places, weights, vocabulary.ids())


class _GrowingVocabulary:
    """The items of histories, and behind them others that teachers come up with."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._others: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self._histories.item_ids) + len(self._others)

    def places(self, name: str, ids: np.ndarray) -> np.ndarray:
        """[n] places of ids; new ones are taken in."""
        first = len(self._histories.item_ids)
        places = self._histories.item_lookup(name, ids).numpy()
        new = places == first
        if new.any():
            others, inverse = np.unique(ids[new], return_inverse=True)
            numbers = [
                self._others.setdefault(self._alike(other), first + len(self._others))
                for other in others.tolist()
            ]
            places[new] = np.asarray(numbers)[inverse]
        return places

    def ids(self) -> np.ndarray:
        """[V] ids, in the order of their places."""
        known = self._histories.item_ids
        if not self._others:
            return known
        kind = known.dtype if known.dtype.kind in "iO" else known.dtype.kind
        return np.concatenate([known, np.array(list(self._others), kind)])

    def _alike(self, other: int | str | bytes) -> int | str | bytes:
        """The id as the histories would have it: text or bytes."""
        of_bytes = isinstance(self._histories.item_ids[:1].tolist()[0], bytes)
        if isinstance(other, str) and of_bytes:
            return other.encode()
        if isinstance(other, bytes) and not of_bytes:
            return other.decode()
        return other


def _answer(
    place: int, teacher: Teacher, histories: Histories, number: int
) -> tuple[str, np.ndarray, np.ndarray]:
    """What a teacher returns, checked: its name, ids [n, m] and scores [n, m]."""
    name = f"teachers[{place}]"
    answer = teacher(histories, number)
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise ValueError(
            f"{name} must return a pair, ids and scores, received a "
            f"{type(answer).__name__}."
        )
    try:
        ids, scores = map(np.asarray, answer)
    except ValueError as error:
        raise ValueError(
            f"{name} must return rows of one length, received others ({error}). Give "
            "what a row lacks a score of 0 or -inf."
        ) from error
    if ids.ndim != 2 or ids.shape != scores.shape or len(ids) != len(histories):
        raise ValueError(
            f"{name} must return ids and scores of one shape, [{len(histories)}, m], a "
            f"row for each history, received {ids.shape} and {scores.shape}."
        )
    if scores.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must return ids and then scores, which are numbers, received "
            f"{scores.dtype.name} for scores."
        )
    if np.isnan(scores).any() or (scores == np.inf).any():
        raise ValueError(
            f"{name} must return scores that are numbers or -inf, received NaN or "
            "infinite ones."
        )
    return name, ids, scores


def _votes(
    answer: tuple[str, np.ndarray, np.ndarray],
    histories: Histories,
    vocabulary: _GrowingVocabulary,
    number: int,
    sharpness: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, places in the vocabulary and shares of what counts of an answer."""
    name, ids, scores = answer
    rows, columns = np.nonzero(scores > 0)
    values = scores[rows, columns].astype(np.float64)
    if not len(rows):
        return rows, columns, np.zeros(0, np.float32)
    places = vocabulary.places(name, id_column(name, ids[rows, columns]))
    width = len(vocabulary)
    had = are_among(rows * width + places, entry_places(histories.matrix, width))
    rows, places, values = rows[~had], places[~had], values[~had]
    # Powers of what is at most 1 are finite.
    most = np.zeros(len(histories))
    np.maximum.at(most, rows, values)
    values = (values / most[rows]).astype(np.float32)
    shape = len(histories), width
    votes = scipy.sparse.csr_matrix((values, (rows, places)), shape)
    votes = keep_largest(votes, number).tocoo()
    shares = votes.data**sharpness
    shares /= np.bincount(votes.row, shares, len(histories))[votes.row]
    return votes.row, votes.col, shares.astype(np.float32)


def _normalised(values: np.ndarray) -> np.ndarray:
    """Rows of at least 0 that add to 1, or to 0."""
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12)
