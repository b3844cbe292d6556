"""The strata of rows and candidates, as a call is given them."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable
from tfrs_negatives.tasks.keys import Keys, need, vector
from tfrs_negatives.types import TensorLike


class Strata(NamedTuple):
    """Where rows and candidates belong; rows are trained against their own stratum.

    Attributes:
      rows: [B] int64, strings as hashes.
      candidates: `Keys` [C].
    """

    rows: tf.Tensor
    candidates: Keys


def checked(
    query_strata: TensorLike | None,
    candidate_strata: TensorLike | None,
    candidate_stratum_mask: TensorLike | None,
    num_rows: tf.Tensor,
    num_candidates: tf.Tensor,
    has_memory: bool,
) -> Strata | None:
    """Checks the strata of a call; the arguments are those of `tasks.Retrieval`.

    Args:
      query_strata, candidate_strata, candidate_stratum_mask: By their names.
      num_rows, num_candidates: B and C, scalars int32.
      has_memory: Whether the task has a memory.

    Returns:
      None without strata.

    Raises:
      ValueError: Other ranks, numbers or dtypes; candidates' strata without the rows';
        a mask without strata of candidates; strata beside a memory.
    """
    if candidate_strata is not None:
        need(query_strata, "candidate_strata", "query_strata", "[B]")
    if candidate_stratum_mask is not None:
        need(candidate_strata, "candidate_stratum_mask", "candidate_strata", "[C]")
    if query_strata is None:
        return None
    if has_memory:
        raise ValueError(
            "Entries of a memory have no stratum: with `query_strata` expected "
            "`memory=None`. Leave the memory out, or the strata."
        )
    query_strata = vector("query_strata", query_strata, num_rows)
    rows = as_int64("query_strata", query_strata)
    if candidate_strata is None:
        num_extra = num_candidates - num_rows
        has_one = tf.range(num_candidates) < num_rows
        return Strata(rows, Keys(tf.pad(rows, [[0, num_extra]]), has_one))
    candidate_strata = vector("candidate_strata", candidate_strata, num_candidates)
    check_comparable("candidate_strata", candidate_strata, "query_strata", query_strata)
    mask = candidate_stratum_mask
    if mask is not None:
        mask = _checks.check_mask("candidate_stratum_mask", mask, num_candidates)
    return Strata(rows, Keys(as_int64("candidate_strata", candidate_strata), mask))
