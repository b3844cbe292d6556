"""Sums a loss over row blocks, with gradients formed in the forward pass.

A retrieval loss compares every row with every column, but its value is a sum
over rows. So the rows are taken block by block, and each block's gradients are
formed while its scores are at hand; what is kept is of the size of the
embeddings, never rows x columns. (GradCache, Gao et al. 2021, and cut
cross-entropy, Wijmans et al. 2025, are built on the same observation.)

`block(rows, queries, candidates)` stands below for a function of one block: it
returns the losses [n] of the n rows in `rows` and a function from their weights
[n] to the gradients of the weighted sum, `(d_queries, d_candidates)`.
"""

import tensorflow as tf


class Rows:
    """The rows `begin:begin + size` of the batch.

    All blocks have the same size, which XLA needs to know: the last one starts
    early enough to be full, and shares rows with the one before it.
    """

    def __init__(self, begin, size):
        self.begin = begin
        self.size = size

    def of(self, tensor):
        """These rows of a tensor, its other dimensions whole."""
        rank = tensor.shape.rank
        begin = tf.concat([[self.begin], tf.zeros([rank - 1], tf.int32)], 0)
        size = tf.concat([[self.size], tf.shape(tensor)[1:]], 0)
        rows = tf.slice(tensor, begin, size)
        return tf.ensure_shape(rows, [None, *tensor.shape[1:]])

    @property
    def indices(self):
        """[size] int32."""
        return self.begin + tf.range(self.size)


def weighted_sum(block, queries, candidates, weights, num_blocks):
    """Returns sum_i weights[i] * loss_i.

    Args:
      block: See above.
      queries: [B, ...] float tensor, taken in blocks of rows.
      candidates: [C, d] float tensor, whole in every block.
      weights: [B], of the queries' dtype.
      num_blocks: Scalar int32, at least 1.

    Returns:
      Scalar, differentiable once in queries, candidates and weights.
    """

    @tf.custom_gradient
    def value(queries, candidates, weights):
        losses, gradients = _run(block, queries, candidates, weights, num_blocks)

        def gradient(upstream):
            upstream = _once(upstream, queries, candidates, weights)
            return *(upstream * g for g in gradients), upstream * losses

        return tf.reduce_sum(weights * losses), gradient

    return value(queries, candidates, weights)


def each_row(block, queries, candidates, num_blocks):
    """Returns the losses [B].

    The gradients wait for the weight that each row gets downstream, so the
    blocks are formed a second time in the backward pass.

    Args:
      block, queries, candidates, num_blocks: As in `weighted_sum`.

    Returns:
      [B], differentiable once in queries and candidates.
    """

    @tf.custom_gradient
    def value(queries, candidates):
        losses, _ = _run(block, queries, candidates, None, num_blocks)

        def gradient(upstream):
            upstream = _once(upstream, queries, candidates)
            _, gradients = _run(block, queries, candidates, upstream, num_blocks)
            return gradients

        return losses, gradient

    return value(queries, candidates)


def _run(block, queries, candidates, weights, num_blocks):
    """The losses and, given weights, the gradients of their weighted sum."""
    num_rows = tf.shape(queries)[0]
    size = -(-num_rows // num_blocks)

    def one_block(index, lists, d_candidates):
        rows = Rows(tf.minimum(index * size, num_rows - size), size)
        losses, gradients = block(rows, rows.of(queries), candidates)
        outputs = [losses]
        if weights is not None:
            is_new = rows.indices >= index * size
            new_weights = tf.where(is_new, rows.of(weights), 0)
            d_queries, d_candidates_here = gradients(new_weights)
            outputs.append(d_queries)
            d_candidates += d_candidates_here
        lists = [
            blocks.write(index, output)
            for blocks, output in zip(lists, outputs, strict=True)
        ]
        return index + 1, lists, d_candidates

    def joined(blocks, shape_of_row):
        """[B, ...] from the blocks, without the rows that the last one repeats."""
        rows = tf.reshape(blocks.stack(), tf.concat([[-1], shape_of_row], 0))
        before_last = size * (num_blocks - 1)
        repeated = size * num_blocks - num_rows
        return tf.concat([rows[:before_last], rows[before_last + repeated :]], 0)

    lists = [
        tf.TensorArray(queries.dtype, size=num_blocks)
        for _ in range(1 if weights is None else 2)
    ]
    _, lists, d_candidates = tf.while_loop(
        lambda index, *_: index < num_blocks,
        one_block,
        (0, lists, tf.zeros_like(candidates)),
        parallel_iterations=1,
    )
    losses = joined(lists[0], tf.zeros([0], tf.int32))
    if weights is None:
        return losses, None
    return losses, (joined(lists[1], tf.shape(queries)[1:]), d_candidates)


def _once(upstream, *inputs):
    """Lets `upstream` through, and refuses a second derivative loudly.

    The gradients above are values, not functions of the inputs: without this a
    gradient of a gradient would silently miss their part.
    """

    @tf.custom_gradient
    def identity(upstream, *inputs):
        def gradient(_):
            raise LookupError(
                "SampledSoftmax forms its gradients in the forward pass and has "
                "no second-order gradients. For gradient penalties use a dense "
                "loss: pass `loss=` a Keras loss to the task."
            )

        return tf.identity(upstream), gradient

    return identity(upstream, *inputs)
