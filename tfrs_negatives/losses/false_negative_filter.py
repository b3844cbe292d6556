"""Negatives that score above the positive by a guide are taken for false ones."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives.losses import inputs, products
from tfrs_negatives.losses.row_blocks import AnyRows
from tfrs_negatives.types import Config, ScalarLike, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class FalseNegativeFilter:
    """Drops the negatives that a guide scores above a row's positive.

    Row i loses column k where

        guide(i, k) > guide(i, i) + margin    (`margin`), or
        guide(i, k) > share guide(i, i)       (`share`),

    as if the column were deleted for that row; its positive always stays. The guide is
    another model's embeddings, passed with the batch, or else the towers themselves:
    their scores before the temperature and without log q, through which no gradient
    flows. The mask is formed for a block of rows at a time.

    A margin of 0 with another model as the guide is GISTEmbed (Solatorio, 2024, arXiv
    2402.16829); negative margins and shares below 1, such as .95, drop more, as
    NV-Retriever does while mining (Moreira et al., 2024, arXiv 2407.15831). Untrained
    towers are a bad guide. For a warm-up, pass a variable, and let a
    `callbacks.NegativesCurriculum` lower it from a margin that no score exceeds.

    Columns of the positive's own item have its score, and only rounding decides whether
    they are above it. Drop these by `remove_accidental_hits`.

    Args:
      margin: In units of the guide's scores; a finite number or a scalar variable.
      share: Of the positive's score; a number or a scalar variable, above 0. For guides
        whose positives have scores above 0, such as cosines. Give one of the two.

    Raises:
      ValueError: Both or neither; values out of range.

    Reference:
      * Solatorio, "GISTEmbed: guided in-sample selection of training negatives
        for text embedding fine-tuning", arXiv 2402.16829, 2024.
      * Moreira et al., "NV-Retriever: improving text embedding models with
        effective hard-negative mining", arXiv 2407.15831, 2024.

    Example:
      >>> above = tn.losses.FalseNegativeFilter(margin=0.5)
      >>> loss = tn.losses.SampledSoftmax(false_negative_filter=above)
      >>> queries = tf.constant([[1.0, 0.0]])
      >>> items = tf.constant([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
      >>> round(float(loss(queries, items)), 3)  # That of the first two columns alone.
      0.313
    """

    def __init__(
        self, margin: ScalarLike | None = None, share: ScalarLike | None = None
    ) -> None:
        if (margin is None) == (share is None):
            raise ValueError(
                "A filter is by a margin or by a share: expected one of `margin` and "
                f"`share`, received margin={margin!r} and share={share!r}."
            )
        for name, value in (("margin", margin), ("share", share)):
            _checks.check_scalar(name, value)
            if isinstance(value, numbers.Real) and not _is_in_range(name, float(value)):
                raise ValueError(_message(name) + f" {value}.")
        self.margin, self.share = margin, share

    def __repr__(self) -> str:
        return described(self, margin=self.margin, share=self.share)

    def get_config(self) -> Config:
        return {
            name: None if value is None else float(value)
            for name, value in (("margin", self.margin), ("share", self.share))
        }

    @classmethod
    def from_config(cls, config: Config) -> FalseNegativeFilter:
        return cls(**config)

    def checked(self, dtype: tf.DType) -> tf.Tensor:
        """The margin or the share, a scalar of a dtype, computed if it is in range."""
        name = "margin" if self.share is None else "share"
        value = getattr(self, name)
        if isinstance(value, (int, float)):
            return tf.constant(value, dtype)
        value = tf.stop_gradient(tf.cast(value, dtype))
        is_good = tf.math.is_finite(value) & ((name == "margin") | (value > 0))
        is_good = tf.debugging.Assert(is_good, [_message(name), value])
        return _checks.guard(value, is_good)


@dataclasses.dataclass(frozen=True, eq=False)
class Guide:
    """What tells false negatives in a batch.

    Attributes:
      amount: The margin or the share, a scalar; a margin of the towers' own scores is
        divided by the temperature, as these are.
      is_share: Which it is.
      queries: [B, d], the guide's embeddings of rows; None: the towers are the guide.
      candidates: [C, d], of columns; None where `queries` is.
    """

    amount: tf.Tensor
    is_share: bool
    queries: tf.Tensor | None = None
    candidates: tf.Tensor | None = None

    @property
    def is_the_towers(self) -> bool:
        """Whether the guide's scores are those that are trained."""
        return self.queries is None

    def compared(
        self,
        rows: AnyRows,
        scores: tf.Tensor | None,
        of_positives: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What says which columns some rows lose, their positives perhaps among them.

        Args:
          rows: Which rows, n of them.
          scores: [n, C], those of the towers without log q; where they are the guide.
          of_positives: [n], those of the rows' own positives.

        Returns:
          `(scores, bounds)`, [n, C] and [n, 1]: columns that score more are lost.
        """
        if self.queries is None:
            return scores, self.bounds(of_positives)
        queries = rows.of(self.queries)
        own = products.paired(queries, rows.of(self.candidates))
        return products.shared(queries, self.candidates), self.bounds(own)

    def bounds(self, own: tf.Tensor) -> tf.Tensor:
        """[n, 1], what false negatives score more than, from the positives' [n]."""
        bounds = own * self.amount if self.is_share else own + self.amount
        return tf.stop_gradient(bounds)[:, tf.newaxis]


def check_filter(chosen: Any) -> FalseNegativeFilter | None:
    """A filter, or one's configuration, as a filter; raises `ValueError` else."""
    if isinstance(chosen, dict):
        chosen = keras.utils.deserialize_keras_object(chosen)
    if chosen is not None and not isinstance(chosen, FalseNegativeFilter):
        raise ValueError(
            "`false_negative_filter` must be None or a `losses.FalseNegativeFilter`, "
            f"received {chosen!r}. Pass `losses.FalseNegativeFilter(margin=...)`."
        )
    return chosen


def guide_of(
    chosen: FalseNegativeFilter | None,
    queries: TensorLike | None,
    candidates: TensorLike | None,
    num_rows: tf.Tensor,
    num_columns: tf.Tensor,
    temperature: tf.Tensor,
) -> Guide | None:
    """Checks a guide's embeddings, if there are any.

    Args:
      chosen: The filter; None: nothing is filtered.
      queries, candidates: [B, d] and [C, d], both or neither.
      num_rows, num_columns: B and C, scalars int32.
      temperature: Scalar, of the dtype that is computed in.

    Raises:
      ValueError, tf.errors.InvalidArgumentError: As `SampledSoftmax.__call__`.
    """
    given = {
        "guide_query_embeddings": queries,
        "guide_candidate_embeddings": candidates,
    }
    missing = [name for name, value in given.items() if value is None]
    if chosen is None:
        if len(missing) < 2:
            raise ValueError(
                "A `false_negative_filter` goes by the guide: expected one beside "
                "`guide_query_embeddings` and `guide_candidate_embeddings`, received "
                "None. Pass `losses.FalseNegativeFilter(margin=0.0)`."
            )
        return None
    amount, is_share = chosen.checked(temperature.dtype), chosen.share is not None
    if len(missing) == 2:
        if not is_share:
            amount /= tf.stop_gradient(temperature)
        return Guide(amount, is_share)
    if missing:
        raise ValueError(
            "A guide scores rows against columns: expected `guide_query_embeddings` "
            f"and `guide_candidate_embeddings` together, `{missing[0]}` is None."
        )
    hint = "Pass the guide's embeddings of all rows and all columns, [B, d] and [C, d]."
    rows, columns = (inputs.as_float(name, value) for name, value in given.items())
    _checks.check_rank("guide_query_embeddings", rows, (2,), hint)
    _checks.check_rank("guide_candidate_embeddings", columns, (2,), hint)
    rows = _checks.check_size("guide_query_embeddings", rows, 0, num_rows, hint)
    columns = _checks.check_size(
        "guide_candidate_embeddings", columns, 0, num_columns, hint
    )
    columns = _checks.check_size(
        "guide_candidate_embeddings", columns, 1, _checks.size(rows, 1), hint
    )
    rows, columns = (
        tf.stop_gradient(tf.cast(x, temperature.dtype)) for x in (rows, columns)
    )
    return Guide(amount, is_share, rows, columns)


def _is_in_range(name: str, value: float) -> bool:
    return math.isfinite(value) and (name == "margin" or value > 0)


def _message(name: str) -> str:
    expected = "a finite number" if name == "margin" else "positive and finite"
    return f"`{name}` must be {expected}, received"
