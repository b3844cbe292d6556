"""What is scored: the one object that losses, their kernel and metrics take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import reductions
from tfrs_negatives.losses.false_negative_filter import Guide
from tfrs_negatives.losses.rules import Rule
from tfrs_negatives.losses.soft_targets import Targets


@dataclasses.dataclass(frozen=True, eq=False)
class Scoring:
    """The rows of a batch, what they are scored against, and which pairs count.

    Make one with `of`, from what was checked. Floats have one dtype, float32 or
    float64; `weights` are `sample_weight` in it.

    Attributes:
      queries: [B, d], or [B, H, d] for H heads a query.
      candidates: [C, d], C >= B; row i's positive is column i.
      temperature: Scalar that the products are divided by.
      negatives: [B, M, d], negatives of one row each, or None.
      log_q: [C], log q of each column, or None. No gradient flows to it.
      negative_log_q: [B, M], the same for `negatives`.
      rules: `rules.Rule`s; a pair that any of them lists is dropped.
      score_mask: [B, C] bool, False drops the pair; None drops none.
      negative_mask: [B, M] bool, False drops the negative; None drops none.
      labels: [B] in [0, 1], whether the row's own candidate is a positive; None: it is.
      targets: Columns that share the row's weight with its own positive, and that no
        rule or mask drops; or None.
      sample_weight: [B], weights of the rows; None means 1.
      negative_weight: Scalar, what the loss is told that negatives weigh, or None. No
        gradient flows to it.
      guide: What tells which negatives are false, and dropped; None drops none.
      narrow: Whether queries and candidates, and the rows' own negatives, came in
        bfloat16: cast back to it nothing is lost.
    """

    queries: tf.Tensor
    candidates: tf.Tensor
    temperature: tf.Tensor
    negatives: tf.Tensor | None = None
    log_q: tf.Tensor | None = None
    negative_log_q: tf.Tensor | None = None
    rules: Sequence[Rule] = ()
    score_mask: tf.Tensor | None = None
    negative_mask: tf.Tensor | None = None
    labels: tf.Tensor | None = None
    targets: Targets | None = None
    sample_weight: tf.Tensor | None = None
    negative_weight: tf.Tensor | None = None
    guide: Guide | None = None
    narrow: bool = False

    @classmethod
    def of(
        cls,
        queries: tf.Tensor,
        candidates: tf.Tensor,
        temperature: tf.Tensor,
        *,
        negatives: tf.Tensor | None = None,
        log_q: tf.Tensor | None = None,
        negative_log_q: tf.Tensor | None = None,
        **others: Any,
    ) -> Scoring:
        """Brings what is scored to the dtype of `temperature`; others as attributes."""
        dtype = temperature.dtype

        def constant(log_q: tf.Tensor | None) -> tf.Tensor | None:
            # A property of the sampling design: no gradient flows to it.
            return None if log_q is None else tf.stop_gradient(tf.cast(log_q, dtype))

        return cls(
            tf.cast(queries, dtype),
            tf.cast(candidates, dtype),
            temperature,
            None if negatives is None else tf.cast(negatives, dtype),
            constant(log_q),
            constant(negative_log_q),
            narrow=all(
                embeddings.dtype == tf.bfloat16
                for embeddings in (queries, candidates, negatives)
                if embeddings is not None
            ),
            **others,
        )

    @property
    def dtype(self) -> tf.DType:
        """What is computed in, float32 or float64."""
        return self.temperature.dtype

    @property
    def product_dtype(self) -> tf.DType:
        """What products may multiply in without losing a digit of the embeddings."""
        has_heads = self.queries.shape.rank == 3
        return tf.bfloat16 if self.narrow and not has_heads else self.dtype

    @property
    def num_rows(self) -> tf.Tensor:
        """B, scalar int32."""
        return _checks.size(self.queries)

    @property
    def weights(self) -> tf.Tensor:
        """[B], the rows' weights."""
        return reductions.row_weights(self.sample_weight, self.num_rows, self.dtype)

    @property
    def is_masked(self) -> bool:
        """Whether any pair can have been dropped."""
        masks = (self.score_mask, self.negative_mask, self.guide)
        return bool(self.rules) or any(mask is not None for mask in masks)

    @property
    def embeddings(self) -> tuple[tf.Tensor, ...]:
        """Queries, candidates and, if there are any, the rows' own negatives."""
        own = () if self.negatives is None else (self.negatives,)
        return (self.queries, self.candidates, *own)
