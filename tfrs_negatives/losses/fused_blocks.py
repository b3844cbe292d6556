"""What `row_blocks` computes, for code that XLA compiles.

XLA makes one loop of all that is done to each score between two products. So what
costs a pass over the scores elsewhere is free here, and is written where it is most
exact: scores are divided by the temperature, instead of the queries, and their
derivatives carry the rows' weights. The products then see embeddings as they came,
which in bfloat16 is exact.

`block(rows, temperature, queries, candidates[, negatives])` stands below for a function
of one block, as in `row_blocks`, but that it divides by the temperature itself, and
that its second result is a function from [n], what the derivatives of each row are
multiplied by, to the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrs_negatives.losses.row_blocks import (
    AllRows,
    AnyRows,
    Block,
    Partition,
    in_turn,
)


def run(
    block: Block,
    partition: Partition,
    product_dtype: tf.DType,
    inputs: Sequence[tf.Tensor],
    weights: tf.Tensor | None,
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...] | None]:
    """The losses and, given weights, the gradients of their weighted sum.

    Args:
      block: See above.
      partition: `Partition`.
      product_dtype: What embeddings are multiplied in.
      inputs, weights: As in `row_blocks.run`.

    Returns:
      As `row_blocks.run`.
    """
    queries, candidates, temperature, *negatives = inputs
    operands = [tf.cast(x, product_dtype) for x in (queries, candidates, *negatives)]

    def of_rows(rows: AnyRows, weights: tf.Tensor | None) -> tuple:
        """The rows' losses; gradients in what is theirs; and in the candidates."""
        of_all, shared, *own = operands
        losses, gradients = block(
            rows, temperature, rows.of(of_all), shared, *map(rows.of, own)
        )
        if weights is None:
            return losses, [], None
        d_queries, d_candidates, *d_negatives = gradients(weights / temperature)
        return losses, [d_queries, *d_negatives], d_candidates

    num_blocks = partition.num_blocks
    if isinstance(num_blocks, int) and num_blocks == 1:
        size = queries.shape[0]
        rows = AllRows(tf.shape(queries)[0] if size is None else size)
        losses, of_each, d_candidates = of_rows(rows, weights)
    else:
        lists = 1 if weights is None else 2 + len(negatives)
        losses, of_each, d_candidates = in_turn(
            of_rows, partition, queries, candidates, weights, lists
        )
    if weights is None:
        return losses, None
    d_queries, *d_negatives = of_each
    # The loss depends on queries and temperature through their quotient alone.
    d_temperature = -tf.reduce_sum(queries * d_queries) / temperature
    return losses, (
        d_queries,
        tf.transpose(d_candidates),
        d_temperature,
        *d_negatives,
    )
