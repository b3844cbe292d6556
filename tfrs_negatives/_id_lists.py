"""Lists of ids, one for each row and each of its own length, as flat vectors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives.types import ListsLike


def flattened(
    name: str, lists: ListsLike, ranks: Collection[int] = (1, 2)
) -> tuple[np.ndarray | tf.Tensor, np.ndarray]:
    """All ids in one vector, and how many of them each row has.

    Args:
      name: The argument's name, for messages.
      lists: Ids `[Q]` or `[Q, P]`, of which every one counts; a `tf.RaggedTensor`
        `[Q, None]`; or a sequence of Q sequences (a list, an array of objects, a
        pandas Series).
      ranks: Ranks allowed of dense ids.

    Returns:
      A vector, an array or tensor of the ids' own type, and an int64 array `[Q]`.

    Raises:
      ValueError: Another rank.
    """
    if isinstance(lists, tf.RaggedTensor):
        if lists.ragged_rank != 1 or lists.flat_values.shape.rank != 1:
            raise ValueError(
                f"`{name}` must have shape [rows, ids], received a ragged tensor of "
                f"shape {lists.shape}."
            )
        return lists.flat_values, lists.row_lengths().numpy().astype(np.int64)
    if not isinstance(lists, (list, tuple, tf.Tensor)):
        array = np.asarray(lists)
        # Each object of a vector may be a sequence.
        lists = array.tolist() if array.dtype == object and array.ndim == 1 else array
    if isinstance(lists, (list, tuple)):
        nested = [
            hasattr(row, "__len__") and not isinstance(row, (str, bytes))
            for row in lists
        ]
        if nested and all(nested):
            return _of_sequences(name, lists)
        lists = np.asarray(lists)
    shape = tuple(lists.shape)
    if len(shape) not in ranks:
        expected = " or ".join(("[rows]", "[rows, ids]")[rank - 1] for rank in ranks)
        raise ValueError(
            f"`{name}` must have shape {expected}, received {shape}. Rows of different "
            "lengths are a tf.RaggedTensor, or a list of lists."
        )
    width = 1 if len(shape) == 1 else shape[1]
    flat = tf.reshape(lists, [-1]) if tf.is_tensor(lists) else lists.reshape(-1)
    return flat, np.full(shape[0], width, np.int64)


def as_array(name: str, ids: ArrayLike) -> np.ndarray:
    """A vector of ids as integers, floats, or bytes objects.

    Raises:
      ValueError: Ids of another type.
    """
    ids = np.asarray(ids)
    if ids.dtype.kind in "iuf":
        return ids
    try:
        return np.asarray(tf.constant(ids, tf.string).numpy(), object)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be integer or string ids, received values of type "
            f"{ids.dtype.name}."
        ) from error


def _of_sequences(name: str, rows: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows], np.int64)
    filled = [np.asarray(row) for row in rows if len(row)]
    if any(row.ndim != 1 for row in filled):
        raise ValueError(f"`{name}` must be a sequence of vectors of ids.")
    if not filled:
        return np.zeros([0], np.int64), lengths
    return np.concatenate(filled), lengths
