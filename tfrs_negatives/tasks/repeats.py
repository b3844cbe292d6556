"""Rows and candidates that repeat embeddings, as a call is given them."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._gather_rows import gather_rows
from tfrs_negatives.losses.inputs import check_distinct, check_numbers
from tfrs_negatives.tasks.keys import vector
from tfrs_negatives.types import TensorLike


class Repeats:
    """Which embeddings the rows and candidates of a batch use.

    Args:
      query_embeddings: [U, d] or [U, H, d].
      candidate_embeddings: [V, d].
      query_rows: [B] integers in [0, U); None: 0, 1, ... U - 1.
      candidate_rows: [C] integers in [0, V), C >= B; None: 0, 1, ... V - 1.

    Raises:
      ValueError: Ranks, widths, dtypes that do not fit; C < B.
      tf.errors.InvalidArgumentError: The same where only values tell; numbers out of
        range.
    """

    def __init__(
        self,
        query_embeddings: TensorLike,
        candidate_embeddings: TensorLike,
        query_rows: TensorLike | None,
        candidate_rows: TensorLike | None,
    ) -> None:
        self.queries, self.candidates = check_distinct(
            query_embeddings, candidate_embeddings
        )
        self.query_rows = _rows("query_rows", query_rows, self.queries)
        self.candidate_rows = _rows("candidate_rows", candidate_rows, self.candidates)
        self.query_rows = check_numbers(
            self.query_rows,
            _checks.size(self.query_rows),
            _checks.size(self.candidate_rows),
        )

    def expanded(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Embeddings of queries [B, ...] and candidates [C, d], float32 at least."""
        return (
            gather_rows(self.queries, self.query_rows),
            gather_rows(self.candidates, self.candidate_rows),
        )


def _rows(name: str, rows: TensorLike | None, embeddings: tf.Tensor) -> tf.Tensor:
    """[n] int32, checked to be numbers of rows of the embeddings."""
    num_embeddings = _checks.size(embeddings)
    if rows is None:
        return tf.range(num_embeddings)
    rows = vector(name, rows)
    if not rows.dtype.is_integer:
        raise ValueError(
            f"`{name}` must be integers, the row of the embeddings that each uses; "
            f"received {rows.dtype.name}."
        )
    rows = tf.cast(rows, tf.int32)
    message = (
        f"`{name}` must be numbers of rows of the embeddings, from 0 to one less than "
        "there are. Received the rows and their number:"
    )
    is_row = tf.reduce_all((rows >= 0) & (rows < num_embeddings))
    return _checks.guard(
        rows, tf.debugging.Assert(is_row, [message, rows, num_embeddings])
    )
