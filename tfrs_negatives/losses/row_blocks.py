"""Sums a loss over row blocks, with gradients formed in the forward pass.

A retrieval loss compares every row with every column, but its value is a sum
over rows. So the rows are taken block by block, and each block's gradients are
formed while its scores are at hand; what is kept is of the size of the
embeddings, never rows x columns. (The idea of GradCache, Gao et al. 2021, and
of Apple's cut cross-entropy, Wijmans et al. 2025, applied to row blocks.)

`block_losses(query_block, candidates, begin, end)` stands below for a function
that returns the losses [end - begin] of the rows `begin:end`. It must be
differentiable in its first two arguments; gradients to anything it captures are
not formed.
"""

import tensorflow as tf


def weighted_sum(block_losses, queries, candidates, weights, row_block):
    """Returns sum_i weights[i] * loss_i.

    Args:
      block_losses: See above.
      queries: [B, ...] float tensor, split along its rows.
      candidates: [C, d] float tensor, seen whole by every block.
      weights: [B], of the queries' dtype.
      row_block: Rows a block, scalar int32.

    Returns:
      Scalar, differentiable once in queries, candidates and weights.
    """

    @tf.custom_gradient
    def value(queries, candidates, weights):
        losses, d_queries, d_candidates = _run(
            block_losses, queries, candidates, weights, row_block
        )

        def gradient(upstream):
            upstream = _once(upstream, queries, candidates, weights)
            return (
                upstream * d_queries,
                upstream * d_candidates,
                upstream * losses,
            )

        return tf.reduce_sum(weights * losses), gradient

    return value(queries, candidates, weights)


def each_row(block_losses, queries, candidates, row_block):
    """Returns the losses [B].

    The gradients wait for the weight that each row gets downstream, so the
    blocks are formed a second time in the backward pass.

    Args:
      block_losses, queries, candidates, row_block: As in `weighted_sum`.

    Returns:
      [B], differentiable once in queries and candidates.
    """

    @tf.custom_gradient
    def value(queries, candidates):
        weights = tf.zeros(tf.shape(queries)[:1], queries.dtype)
        losses, _, _ = _run(block_losses, queries, candidates, weights, row_block)

        def gradient(upstream):
            upstream = _once(upstream, queries, candidates)
            _, d_queries, d_candidates = _run(
                block_losses, queries, candidates, upstream, row_block
            )
            return d_queries, d_candidates

        return losses, gradient

    return value(queries, candidates)


def _run(block_losses, queries, candidates, weights, row_block):
    """Losses, and the weighted sum's gradients in queries and candidates."""
    num_rows = tf.shape(queries)[0]
    num_blocks = -(-num_rows // row_block)

    def one_block(block, losses, d_queries, d_candidates):
        begin = block * row_block
        end = tf.minimum(begin + row_block, num_rows)
        query_block = queries[begin:end]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([query_block, candidates])
            block_values = block_losses(query_block, candidates, begin, end)
        d_query_block, d_candidates_here = tape.gradient(
            block_values,
            [query_block, candidates],
            output_gradients=weights[begin:end],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return (
            block + 1,
            losses.write(block, block_values),
            d_queries.write(block, d_query_block),
            d_candidates + d_candidates_here,
        )

    def list_of_blocks(row_shape):
        return tf.TensorArray(
            queries.dtype,
            size=num_blocks,
            infer_shape=False,
            element_shape=[None, *row_shape],
        )

    _, losses, d_queries, d_candidates = tf.while_loop(
        lambda block, *_: block < num_blocks,
        one_block,
        (
            0,
            list_of_blocks([]),
            list_of_blocks(queries.shape[1:]),
            tf.zeros_like(candidates),
        ),
        parallel_iterations=1,
    )
    return (
        tf.reshape(losses.concat(), [num_rows]),
        tf.reshape(d_queries.concat(), tf.shape(queries)),
        d_candidates,
    )


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
