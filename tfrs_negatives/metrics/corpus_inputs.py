"""Checks of what `CorpusRecall` is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.types import ListsLike


class IdLists(NamedTuple):
    """Ids of each query, `[B, n]`, and `[B, n]` bool: which of them there are."""

    ids: tf.Tensor
    present: tf.Tensor


def checked_ks(ks: int | Sequence[int]) -> list[int]:
    """The values of k as a list of ints; one is a list of one."""
    given: Any = ks
    given = list(given) if np.ndim(given) else [given]
    for k in given:
        _checks.check_at_least("ks", k, 1)
    if not given or len(set(given)) < len(given):
        raise ValueError(f"`ks` must be distinct values of k, received {given}.")
    return [int(k) for k in given]


def checked_ids(name: str, ids: ListsLike, rows: int | tf.Tensor) -> IdLists:
    """Ids as `IdLists`: all those of a dense tensor, or a `tf.RaggedTensor`'s."""
    present = None
    if isinstance(ids, tf.RaggedTensor):
        present = tf.ones_like(ids, tf.bool).to_tensor(False)
        ids = ids.to_tensor()
    ids = tf.convert_to_tensor(ids)
    if ids.dtype != tf.string and not ids.dtype.is_integer:
        raise ValueError(
            f"`{name}` must be integers or strings, received {ids.dtype.name}. Pass "
            "the ids of the corpus."
        )
    ranks = (1, 2) if name == "true_candidate_ids" else (2,)
    hint = "Pass a row of ids for each query; of different lengths, a tf.RaggedTensor."
    _checks.check_rank(name, ids, ranks, hint)
    if ids.shape.rank == 1:
        ids = ids[:, tf.newaxis]
    ids = _checks.check_size(name, ids, 0, rows, hint)
    return IdLists(ids, tf.ones_like(ids, tf.bool) if present is None else present)


def finite(name: str, embeddings: tf.Tensor) -> list[tf.Operation]:
    """Assertions, a list of operations, that no embedding is NaN, infinite or huge."""
    # The square, so that scores are finite too.
    square = tf.reduce_sum(embeddings**2, axis=1)
    check = tf.debugging.assert_less_equal(
        # NaN is less than nothing.
        tf.where(tf.math.is_nan(square), float("inf"), square),
        tf.float32.max,
        f"`{name}` hold NaN or infinity, or are longer than 1e19. Has training "
        "diverged?",
    )
    return [] if check is None else [check]
