"""Checks of what the loss is given."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.types import TensorLike


def computed_in(*embeddings: tf.Tensor) -> tf.DType:
    """The dtype that a loss computes in: float64 if any of them is, else float32."""
    double = tf.float64 in [tensor.dtype for tensor in embeddings]
    return tf.float64 if double else tf.float32


def check_scored(
    queries: TensorLike, candidates: TensorLike
) -> tuple[tf.Tensor, tf.Tensor]:
    """Checks embeddings [B, d] or [B, H, d], and [C, d] with C >= B.

    Returns:
      Both, as tensors that are computed only once the checks hold.

    Raises:
      ValueError, tf.errors.InvalidArgumentError: As `SampledSoftmax.__call__`.
    """
    queries, candidates = check_distinct(queries, candidates)
    num_rows, num_columns = _checks.size(queries), _checks.size(candidates)
    return check_numbers(queries, num_rows, num_columns), candidates


def as_float(name: str, embeddings: TensorLike) -> tf.Tensor:
    """`embeddings` as a dense tensor; raises `ValueError` unless it is of floats."""
    embeddings = _checks.dense(name, embeddings)
    if not embeddings.dtype.is_floating:
        raise ValueError(
            f"`{name}` must be floating point, received {embeddings.dtype.name}. "
            "Pass embeddings, the towers' outputs, not ids."
        )
    return embeddings


def check_distinct(
    queries: TensorLike, candidates: TensorLike
) -> tuple[tf.Tensor, tf.Tensor]:
    """Checks embeddings that rows and columns share.

    Args:
      queries: [U, d] or [U, H, d].
      candidates: [V, d].

    Returns:
      Both, as tensors.

    Raises:
      ValueError: Other ranks, dtypes or widths.
    """
    queries = as_float("query_embeddings", queries)
    candidates = as_float("candidate_embeddings", candidates)
    _checks.check_rank(
        "query_embeddings", queries, (2, 3), "Pass [B, d], or [B, heads, d]."
    )
    _checks.check_rank("candidate_embeddings", candidates, (2,), "Pass [C, d].")
    return queries, _checks.check_size(
        "candidate_embeddings",
        candidates,
        1,
        _checks.size(queries, -1),
        "Both towers must end in the same embedding width.",
    )


def check_numbers(
    queries: tf.Tensor, num_rows: tf.Tensor, num_columns: tf.Tensor
) -> tf.Tensor:
    """Checks that there is a column for each row; there may be none of both.

    Args:
      queries: Any tensor.
      num_rows: B, scalar int32.
      num_columns: C, scalar int32.

    Returns:
      `queries`, computed only once the checks hold.
    """
    static_rows, static_columns = map(tf.get_static_value, (num_rows, num_columns))
    too_few = (
        "`candidate_embeddings` must hold each row's positive first, then any extra "
        "negatives: expected at least as many rows as `query_embeddings`"
    )
    if static_rows is not None and static_columns is not None:
        if static_columns < static_rows:
            raise ValueError(f"{too_few} ({static_rows}), received {static_columns}.")
        return queries
    return _checks.guard(
        queries,
        tf.debugging.assert_less_equal(num_rows, num_columns, message=too_few),
    )


def check_log_q(
    log_q: TensorLike, num_columns: tf.Tensor, dtype: tf.DType | None = None
) -> tf.Tensor:
    """Returns log q, checked to be [C] and finite, of a dtype if one is given."""
    log_q = tf.convert_to_tensor(log_q) if dtype is None else tf.cast(log_q, dtype)
    hint = "Pass one log probability for each candidate, extra negatives included."
    _checks.check_rank("candidate_log_q", log_q, (1,), hint)
    log_q = _checks.check_size("candidate_log_q", log_q, 0, num_columns, hint)
    message = "log q must be finite: an item that can be drawn has q > 0. Received:"
    is_finite = tf.reduce_all(tf.math.is_finite(log_q))
    return _checks.guard(log_q, tf.debugging.Assert(is_finite, [message, log_q]))


def check_negatives(
    negatives: TensorLike | None,
    log_q: TensorLike | None,
    mask: TensorLike | None,
    queries: tf.Tensor,
) -> tuple[tf.Tensor | None, tf.Tensor | None, tf.Tensor | None]:
    """Checks the negatives of single rows.

    Args:
      negatives: [B, M, d]; None for none, and then nothing of them.
      log_q: [B, M] or None.
      mask: [B, M] bool or None.
      queries: [B, ..., d], checked already.

    Returns:
      `(negatives, log_q, mask)`, as tensors.
    """
    if negatives is None:
        return None, None, None
    negatives, log_q = check_rows_own("negative", negatives, log_q, queries)
    if mask is not None:
        mask = _checks.dense("negative_mask", mask)
        if mask.dtype != tf.bool:
            raise ValueError(
                f"`negative_mask` must be bool, received {mask.dtype.name}. Pass True "
                "where the negative counts."
            )
        mask = _check_places("negative", "mask", mask, negatives)
    return negatives, log_q, mask


def check_rows_own(
    kind: str, embeddings: TensorLike, log_q: TensorLike | None, queries: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Checks embeddings that one row alone is scored against.

    Args:
      kind: "negative" or "target", for messages.
      embeddings: [B, M, d].
      log_q: [B, M] or None.
      queries: [B, ..., d], checked already.

    Returns:
      Both, as tensors.
    """
    name, hint = f"{kind}_embeddings", _hint_of_places(kind)
    embeddings = as_float(name, embeddings)
    num_rows, width = _checks.size(queries), _checks.size(queries, -1)
    _checks.check_rank(name, embeddings, (3,), hint)
    embeddings = _checks.check_size(name, embeddings, 0, num_rows, hint)
    embeddings = _checks.check_size(name, embeddings, 2, width, hint)
    if log_q is not None:
        log_q = _checks.dense(f"{kind}_log_q", log_q)
        log_q = _check_places(kind, "log_q", log_q, embeddings)
        finite = tf.reduce_all(tf.math.is_finite(log_q))
        message = f"`{kind}_log_q` must be finite, padding included. Received:"
        log_q = _checks.guard(log_q, tf.debugging.Assert(finite, [message, log_q]))
    return embeddings, log_q


def _hint_of_places(kind: str) -> str:
    weighted = "masked" if kind == "negative" else "of weight 0 there"
    return f"Pass [B, M, d]: M {kind}s for each row, padded and {weighted}."


def _check_places(
    kind: str, what: str, values: tf.Tensor, embeddings: tf.Tensor
) -> tf.Tensor:
    """Returns `values`, checked to be [B, M] for embeddings [B, M, d]."""
    name, hint = f"{kind}_{what}", _hint_of_places(kind)
    _checks.check_rank(name, values, (2,), f"Pass [B, M]. {hint}")
    for axis in (0, 1):
        size = _checks.size(embeddings, axis)
        values = _checks.check_size(name, values, axis, size, hint)
    return values


def check_both_corrected(
    log_q: tf.Tensor | None, negative_log_q: tf.Tensor | None
) -> None:
    """Raises `ValueError` unless columns and negatives have log q, or neither."""
    if (negative_log_q is None) != (log_q is None):
        raise ValueError(
            "log Q corrects all columns or none: expected `candidate_log_q` and "
            "`negative_log_q` together, received one of them. What was drawn for one "
            "row has a probability too: -log(M / how many it was drawn from)."
        )


def check_score_mask(
    mask: TensorLike | None, num_rows: tf.Tensor, num_columns: tf.Tensor
) -> tf.Tensor | None:
    """Returns a mask or None, checked to be [B, C] and to leave all positives."""
    if mask is None:
        return None
    mask = _checks.dense("score_mask", mask)
    hint = "Pass a boolean [B, C], True where the pair may be scored."
    if mask.dtype != tf.bool:
        raise ValueError(
            f"`score_mask` must be bool, received {mask.dtype.name}. {hint}"
        )
    _checks.check_rank("score_mask", mask, (2,), hint)
    mask = _checks.check_size("score_mask", mask, 0, num_rows, hint)
    mask = _checks.check_size("score_mask", mask, 1, num_columns, hint)
    hidden = tf.where(~tf.linalg.diag_part(mask))[:, 0]
    return _checks.guard(
        mask,
        tf.debugging.Assert(
            tf.equal(tf.size(hidden), 0),
            [
                "`score_mask` hides the positive of these rows (the diagonal must be "
                "True; drop the row or give it sample_weight 0 instead):",
                hidden,
            ],
        ),
    )
