"""What `row_blocks` computes, for code that XLA compiles.

XLA makes one loop of all that is done to each score between two products. So what
costs a pass over the scores elsewhere is free here, and is written where it is most
exact: scores are divided by the temperature, instead of the queries, and their
derivatives carry the rows' weights. The products then see embeddings as they came,
which in bfloat16 is exact.

`block(rows, temperature, queries, candidates[, negatives])` stands below for a function
of one block, as in `row_blocks`, but that it divides by the temperature itself, and
that its second result is a function from [n], what the derivatives of each row are
multiplied by, to the gradients. It does not divide these by the temperature: what it is
given holds the 1 / temperature of the chain rule, `weights / temperature`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfrs_negatives.losses.row_blocks import (
    AllRows,
    AnyRows,
    Block,
    Partition,
    RowBlock,
    in_inputs,
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
        losses, of_each, d_candidates = _in_turn(
            of_rows, num_blocks, queries, candidates, weights, lists
        )
    if weights is None:
        return losses, None
    d_queries, *d_negatives = of_each
    return losses, in_inputs(queries, temperature, d_queries, d_candidates, d_negatives)


def _in_turn(
    of_rows: Callable[..., tuple],
    num_blocks: int | tf.Tensor,
    queries: tf.Tensor,
    candidates: tf.Tensor,
    weights: tf.Tensor | None,
    num_lists: int,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """What `of_rows` returns, block by block: rows joined, candidates' added up.

    All blocks have the same size, which XLA needs to know: the last one starts early
    enough to be full, and shares rows with the one before it.

    Args:
      of_rows: Function from `(rows, weights)`, `RowBlock` and [n] or None, to the
        losses [n], a list of `num_lists` - 1 tensors [n, ...], and [d, C] or None.
      num_blocks: Of `Partition`.
      queries, candidates: [B, ...] and [C, d].
      weights: [B] or None.
      num_lists: How many tensors of rows `of_rows` returns, losses included.

    Returns:
      The losses [B], the other tensors [B, ...], and the sum of what is [d, C] or None.
    """
    # An int where it is known while tracing, as the number of blocks then is.
    num_rows = queries.shape[0]
    if num_rows is None:
        num_rows = tf.shape(queries)[0]
    num_columns, width = tf.unstack(tf.shape(candidates))
    size = -(-num_rows // num_blocks)
    before_last = size * (num_blocks - 1)
    repeated = size * num_blocks - num_rows

    def in_rows(blocks: tf.TensorArray) -> tf.Tensor:
        """[B, ...] from the blocks."""
        stacked = blocks.stack()
        shape = tf.concat([[num_blocks * size], tf.shape(stacked)[2:]], 0)
        rows = tf.reshape(stacked, shape)
        return tf.concat([rows[:before_last], rows[before_last + repeated :]], 0)

    counted = None
    if weights is not None:
        # [num_blocks * size]: a row counts in the first block that has it.
        zeros = tf.zeros([repeated], weights.dtype)
        counted = tf.concat([weights[:before_last], zeros, weights[before_last:]], 0)

    def one_block(index: tf.Tensor, lists: list, d_candidates: tf.Tensor) -> tuple:
        begin = index * size
        rows = RowBlock(tf.minimum(begin, num_rows - size), size)
        factors = None if counted is None else RowBlock(begin, size).of(counted)
        losses, of_each, d_candidates_here = of_rows(rows, factors)
        if d_candidates_here is not None:
            d_candidates += d_candidates_here
        lists = [
            blocks.write(index, output)
            for blocks, output in zip(lists, [losses, *of_each], strict=True)
        ]
        return index + 1, lists, d_candidates

    lists = [tf.TensorArray(queries.dtype, size=num_blocks) for _ in range(num_lists)]
    _, lists, d_candidates = tf.while_loop(
        lambda index, *_: index < num_blocks,
        one_block,
        (0, lists, tf.zeros([width, num_columns], candidates.dtype)),
    )
    losses, *of_each = map(in_rows, lists)
    return losses, of_each, d_candidates
