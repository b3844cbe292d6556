"""How many rows are scored at once."""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla, placed_on_gpu
from tfrs_negatives.losses.row_blocks import Partition

# Blocks of a million scores, 4 MiB in float32, stay near the cores, but a block of few
# rows waits for the candidates: larger ones have 256 rows, up to 28 MiB, and the
# largest 112. (glibc maps new memory for 32 MiB, and more of it is in use at once.)
_BLOCK_SCORES = (2**20, 7 * 2**20)

# Up to this size two whole blocks may be in memory at a time.
_OVERLAPPING_SCORES = 4 * 2**20

# A GPU wants large products. A block of 64 million scores, 256 MiB, has 2,048 rows of
# 32,768 columns: its scores are 4,096 tiles of 128 x 128, its rows' gradients (of 128
# dimensions) only 16, each a sum over all columns that is cut into 8 or more parts:
# about one for each of 132 multiprocessors. Fewer than 1,024 rows would leave most of
# them idle; more scores would be more memory, which blocks are there to save.
_GPU_BLOCK_SCORES = 64 * 2**20
_GPU_BLOCK_ROWS = 1024

#: An int where it is known while tracing, else a scalar int32.
Size: TypeAlias = int | tf.Tensor


def partition_of(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    negatives: tf.Tensor | None = None,
    row_block: int | None = None,
) -> Partition:
    """Chooses the blocks of a batch from its shapes.

    Args:
      queries: [B, d] or [B, H, d].
      candidates: [C, d].
      negatives: [B, M, d] or None.
      row_block: Rows to score at once; None chooses.
    """
    sizes = [(queries, 0), (candidates, 0)]
    if negatives is not None:
        sizes.append((negatives, 1))
    has_heads = queries.shape.rank == 3
    if has_heads:
        sizes.append((queries, 1))
    numbers = [tensor.shape[axis] for tensor, axis in sizes]
    if None in numbers:
        numbers = [tf.shape(tensor)[axis] for tensor, axis in sizes]
    # As integers where they are known: inside of a loop XLA cuts blocks of a size
    # that it knows, else each is as large as the batch.
    num_rows, num_columns, *others = numbers
    num_heads = others.pop() if has_heads else 1
    num_columns += sum(others)
    scores_a_row = num_columns * num_heads
    size = rows_of_block(num_columns, scores_a_row, row_block)
    return Partition(
        # One at least, of no rows where a replica has none.
        num_blocks=_largest(-(-num_rows // size), 1),
        # XLA knows by itself what may start when.
        overlap=compiled_by_xla() or size * scores_a_row <= _OVERLAPPING_SCORES,
    )


def rows_of_block(
    num_columns: Size, scores_a_row: Size, row_block: int | None = None
) -> Size:
    """How many rows to score at once, an int if the arguments are.

    Args:
      num_columns: Columns that each row is scored against.
      scores_a_row: The same, once a head.
      row_block: What the caller wants; None chooses.
    """
    # A replica without rows has no columns either.
    scores_a_row = _largest(scores_a_row, 1)
    if row_block is None:
        if compiled_by_xla() and placed_on_gpu():
            block = _largest(_GPU_BLOCK_ROWS * num_columns, _GPU_BLOCK_SCORES)
        else:
            least, most = _BLOCK_SCORES
            block = _least(_largest(256 * num_columns, least), most)
            block = _largest(block, 112 * num_columns)
        row_block = _largest(block // scores_a_row, 1)
    return _least(row_block, tf.int32.max // scores_a_row)


def _largest(one: Size, other: Size) -> Size:
    """The larger of two sizes."""
    return tf.maximum(one, other) if tf.is_tensor(one) else max(one, other)


def _least(one: Size, other: Size) -> Size:
    """The smaller of two sizes."""
    tensors = tf.is_tensor(one) or tf.is_tensor(other)
    return tf.minimum(one, other) if tensors else min(one, other)
