"""The negatives that rows have of their own, as a call is given them."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64, check_comparable
from tfrs_negatives.losses.inputs import check_negatives
from tfrs_negatives.types import TensorLike


class RowNegatives(NamedTuple):
    """M negatives of each row alone.

    Attributes:
      embeddings: [B, M, d].
      ids: [B, M] integers or strings, or None.
      item_ids: [B, M] int64, the same with strings as hashes; None where nothing
        compares them.
      mask: [B, M] bool, which of them are negatives as the caller says; None: all.
      log_q: [B, M], as the caller gave it, or None.
    """

    embeddings: tf.Tensor
    ids: tf.Tensor | None
    item_ids: tf.Tensor | None
    mask: tf.Tensor | None
    log_q: tf.Tensor | None


def checked(
    embeddings: TensorLike | None,
    ids: TensorLike | None,
    mask: TensorLike | None,
    log_q: TensorLike | None,
    queries: tf.Tensor,
    candidate_ids: tf.Tensor | None,
    compares_ids: bool,
) -> RowNegatives | None:
    """Checks what a call was given of negatives of single rows.

    Args:
      embeddings, ids, mask, log_q: `negative_*` of `tasks.Retrieval`.
      queries: [B, ..., d], checked.
      candidate_ids: [C], checked, or None.
      compares_ids: Whether a rule or metric compares ids.

    Returns:
      None without embeddings.

    Raises:
      ValueError, tf.errors.InvalidArgumentError: Shapes or dtypes that do not fit;
        other `negative_*` arguments without `negative_embeddings`.
    """
    if embeddings is None:
        others = {"negative_ids": ids, "negative_mask": mask, "negative_log_q": log_q}
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise ValueError(
                f"{given} tell about `negative_embeddings`: expected these too, "
                "received None. Run the candidate tower on the negatives and pass "
                "[B, M, d]."
            )
        return None
    embeddings, log_q, mask = check_negatives(embeddings, log_q, mask, queries)
    item_ids = None
    if ids is not None:
        ids = _checks.dense("negative_ids", ids)
        hint = "Pass one id for each negative, [B, M]."
        _checks.check_rank("negative_ids", ids, (2,), hint)
        for axis in (0, 1):
            size = _checks.size(embeddings, axis)
            ids = _checks.check_size("negative_ids", ids, axis, size, hint)
        if candidate_ids is not None:
            check_comparable("negative_ids", ids, "candidate_ids", candidate_ids)
        item_ids = as_int64("negative_ids", ids) if compares_ids else None
    return RowNegatives(embeddings, ids, item_ids, mask, log_q)
