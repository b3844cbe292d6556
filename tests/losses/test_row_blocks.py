"""Blocks of rows, their sum and gradients, for a loss that is simpler than ours.

Row i costs sum_k s(i, k)^2 / 2 - s(i, i) over the columns and its own negatives, where
s are products divided by the temperature: the derivatives are known by heart.
"""

import numpy as np
import pytest
import tensorflow as tf
from oracles import numeric_gradient

from tfrs_negatives.losses import row_blocks
from tfrs_negatives.losses.row_blocks import AllRows, ChosenRows, RowBlock

B, C, M, D = 7, 9, 2, 3
TEMPERATURE = 0.7


def make_inputs(with_negatives, num_rows=B):
    rng = np.random.default_rng(3)
    inputs = [
        rng.normal(size=(num_rows, D)),
        rng.normal(size=(C, D)),
        np.array(TEMPERATURE),
    ]
    if with_negatives:
        inputs.append(rng.normal(size=(num_rows, M, D)))
    return inputs


WEIGHTS = {
    "usual": np.array([1.0, 0.5, 2.0, 0.1, 3.0, 1.5, 0.7]),
    "some are 0": np.array([0.0, 0.5, 0.0, 0.0, 3.0, 1.5, 0.0]),
    "all are 0": np.zeros(B),
}


def losses_by_loops(queries, candidates, temperature, negatives=None):
    losses = []
    for i, query in enumerate(queries):
        scores = [query @ c / temperature for c in candidates]
        loss = -scores[i]
        if negatives is not None:
            scores += [query @ n / temperature for n in negatives[i]]
        losses.append(loss + sum(s**2 for s in scores) / 2)
    return np.array(losses)


def block(rows, queries, candidates, negatives=None):
    """The losses of a block and, from weighted queries, its gradients."""
    scores = tf.matmul(queries, candidates, transpose_b=True)
    own = tf.one_hot(rows.indices, tf.shape(candidates)[0], dtype=scores.dtype)
    losses = tf.reduce_sum(scores**2 / 2 - own * scores, axis=1)
    if negatives is not None:
        own_scores = tf.einsum("nd,nmd->nm", queries, negatives)
        losses += tf.reduce_sum(own_scores**2, axis=1) / 2

    def gradients(weighted_queries):
        d_scores = scores - own
        d_queries = tf.matmul(d_scores, candidates)
        d_candidates = tf.matmul(weighted_queries, d_scores, transpose_a=True)
        if negatives is None:
            return d_queries, d_candidates
        d_queries += tf.einsum("nm,nmd->nd", own_scores, negatives)
        d_negatives = own_scores[..., tf.newaxis] * weighted_queries[:, tf.newaxis]
        return d_queries, d_candidates, d_negatives

    return losses, gradients


def run(num_blocks, inputs, weights, overlap=False, a_block=block):
    partition = row_blocks.Partition(num_blocks, tf.constant(overlap))
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    weights = None if weights is None else tf.constant(weights)
    return row_blocks.run(a_block, partition, inputs, weights)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("with_negatives", [False, True])
@pytest.mark.parametrize("num_blocks", [1, 2, 3, 4, B])
def test_losses_and_gradients(num_blocks, with_negatives, weights):
    """Also where the last block is smaller: 7 rows in 2, 3 and 4 blocks."""
    inputs, weights = make_inputs(with_negatives), WEIGHTS[weights]
    losses, gradients = run(num_blocks, inputs, weights)
    np.testing.assert_allclose(losses, losses_by_loops(*inputs), rtol=1e-13)
    assert len(gradients) == len(inputs)
    for place, gradient in enumerate(gradients):

        def weighted(x, place=place):
            return weights @ losses_by_loops(*inputs[:place], x, *inputs[place + 1 :])

        expected = numeric_gradient(weighted, inputs[place])
        np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-6)
        assert weights.any() or not np.any(gradient)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("num_blocks", [1, 2, 3, 4, B])
def test_many_blocks_are_one(num_blocks, known, overlap):
    """Also with a number of blocks that is a tensor, and with blocks at once."""
    inputs, weights = make_inputs(True), WEIGHTS["usual"]
    losses, gradients = run(1, inputs, weights)
    number = num_blocks if known else tf.constant(num_blocks)
    found, found_gradients = run(number, inputs, weights, overlap)
    np.testing.assert_allclose(found, losses, rtol=1e-13)
    for ours, expected in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-13)


def test_a_row_without_cost_is_minus_infinity_to_no_other():
    """What is not finite in one row stays there, in losses and in gradients."""

    def with_minus_infinity(rows, queries, candidates):
        losses, gradients = block(rows, queries, candidates)
        return tf.where(rows.indices == 2, float("-inf"), losses), gradients

    inputs, weights = make_inputs(False), WEIGHTS["usual"]
    for num_blocks in (1, 3, B):
        losses, gradients = run(
            num_blocks, inputs, weights, a_block=with_minus_infinity
        )
        assert losses[2] == -np.inf
        expected = np.delete(losses_by_loops(*inputs), 2)
        np.testing.assert_allclose(np.delete(losses, 2), expected, rtol=1e-13)
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_without_weights_no_gradients_are_formed():
    def no_gradients(*arguments):
        losses, _ = block(*arguments)

        def gradients(_):
            raise AssertionError("an evaluation forms no gradients")

        return losses, gradients

    inputs = make_inputs(False)
    losses, gradients = run(3, inputs, None, a_block=no_gradients)
    assert gradients is None
    np.testing.assert_allclose(losses, losses_by_loops(*inputs), rtol=1e-13)


def test_no_rows():
    """A replica may have none; its candidates then have gradients of 0."""
    inputs = make_inputs(True, num_rows=0)
    losses, gradients = run(1, inputs, np.zeros(0))
    assert losses.shape == (0,)
    assert [g.shape for g in gradients] == [x.shape for x in inputs]
    assert not any(np.any(gradient) for gradient in gradients)


def test_in_a_graph():
    """Of any number of rows, traced once."""
    traces = []

    def arguments(num_rows):
        inputs = make_inputs(True, num_rows)
        return [*map(tf.constant, inputs), tf.ones([num_rows], tf.float64)]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *x.shape[1:]] if x.shape.rank else [], x.dtype)
            for x in arguments(1)
        ]
    )
    def traced(*inputs):
        traces.append(1)
        *inputs, weights = inputs
        num_blocks = -(-tf.shape(inputs[0])[0] // 3)
        partition = row_blocks.Partition(num_blocks, tf.constant(False))
        return row_blocks.run(block, partition, inputs, weights)

    for num_rows in (B, 5, 1):
        losses, gradients = traced(*arguments(num_rows))
        inputs = make_inputs(True, num_rows)
        expected, d_expected = run(1, inputs, np.ones(num_rows))
        np.testing.assert_allclose(losses, expected, rtol=1e-12)
        for ours, other in zip(gradients, d_expected, strict=True):
            np.testing.assert_allclose(ours, other, rtol=1e-11, atol=1e-12)
    assert len(traces) == 1


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_weights_that_are_known_to_be_ones(num_blocks):
    inputs, ones = map(tf.convert_to_tensor, make_inputs(True)), tf.ones(B, tf.float64)
    inputs = list(inputs)
    partition = row_blocks.Partition(num_blocks, tf.constant(False))
    losses, gradients = row_blocks.run(block, partition, inputs, ones)
    found = row_blocks.run(block, partition, inputs, ones, unweighted=True)
    np.testing.assert_array_equal(found[0], losses)
    for ours, expected in zip(found[1], gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-13)


@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_rows_in_another_order(weights, is_changed):
    """Results come in the order of the batch."""
    inputs, weights = make_inputs(True), WEIGHTS[weights]
    losses, gradients = run(1, inputs, weights)
    rows = [4, 0, 6, 1, 5, 3, 2] if is_changed else range(B)
    ends = tf.constant([2, 3, 3, B])  # A block may be empty.
    order = row_blocks.Order(tf.constant(list(rows)), tf.constant(is_changed), ends)
    partition = row_blocks.Partition(3, tf.constant(True), order)
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    found, d_found = row_blocks.run(block, partition, inputs, tf.constant(weights))
    np.testing.assert_allclose(found, losses, rtol=1e-13)
    for ours, expected in zip(d_found, gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-13)


def summed(reduce, inputs, weights, num_blocks=3):
    """The value, and gradients in the inputs and the weights."""
    leaves = [tf.constant(x) for x in (*inputs, weights)]

    def a_run(inputs, weights):
        partition = row_blocks.Partition(num_blocks, tf.constant(False))
        return row_blocks.run(block, partition, inputs, weights)

    with tf.GradientTape() as tape:
        tape.watch(leaves)
        value = reduce(a_run, tuple(leaves[:-1]), leaves[-1])
    return value, tape.gradient(value, leaves)


REDUCE = {
    "weighted_sum": lambda run, inputs, w: (
        3.0 * row_blocks.weighted_sum(run, inputs, w)
    ),
    "each_row": lambda run, inputs, w: tf.reduce_sum(
        3.0 * w * row_blocks.each_row(run, inputs)
    ),
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("with_negatives", [False, True])
@pytest.mark.parametrize("reduce", REDUCE)
def test_sums_are_differentiable(reduce, with_negatives, weights):
    """In the inputs and the weights, with what comes from downstream (here a 3)."""
    inputs, weights = make_inputs(with_negatives), WEIGHTS[weights]
    value, gradients = summed(REDUCE[reduce], inputs, weights)
    losses = losses_by_loops(*inputs)
    np.testing.assert_allclose(value, 3 * weights @ losses, rtol=1e-13)
    *gradients, d_weights = gradients
    np.testing.assert_allclose(d_weights, 3 * losses, rtol=1e-13)
    _, expected = run(1, inputs, 3 * weights)
    for ours, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-11, atol=1e-13)


def test_losses_of_rows_take_any_function():
    inputs = make_inputs(False)
    value, gradients = summed(
        lambda run, inputs, _: tf.reduce_sum(row_blocks.each_row(run, inputs) ** 2),
        inputs,
        np.ones(B),
    )
    losses = losses_by_loops(*inputs)
    np.testing.assert_allclose(value, np.sum(losses**2), rtol=1e-13)
    _, expected = run(1, inputs, 2 * losses)
    for ours, other in zip(gradients[:-1], expected, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("reduce", REDUCE)
def test_second_order_gradients_are_refused(reduce):
    inputs = make_inputs(False)
    queries = tf.constant(inputs[0])

    def value(queries):
        given = (queries, *map(tf.constant, inputs[1:]))
        partition = row_blocks.Partition(2, tf.constant(False))
        return REDUCE[reduce](
            lambda inputs, weights: row_blocks.run(block, partition, inputs, weights),
            given,
            tf.ones([B], tf.float64),
        )

    with tf.GradientTape() as outer:
        outer.watch(queries)
        with tf.GradientTape() as inner:
            inner.watch(queries)
            loss = value(queries)
        first = inner.gradient(loss, queries)
    with pytest.raises(LookupError, match="second-order"):
        outer.gradient(first, queries)


def test_rows_of_a_block():
    rows = RowBlock(2, 3)
    matrix = tf.reshape(tf.range(24), [8, 3])
    np.testing.assert_array_equal(rows.indices, [2, 3, 4])
    np.testing.assert_array_equal(rows.of(matrix), matrix[2:5])
    np.testing.assert_array_equal(rows.of(tf.range(8)), [2, 3, 4])
    at_run_time = RowBlock(tf.constant(2), tf.constant(3))
    np.testing.assert_array_equal(at_run_time.of(matrix), matrix[2:5])


@pytest.mark.parametrize(
    "rows, indices",
    [
        (AllRows(3), [0, 1, 2]),
        (AllRows(tf.constant(3)), [0, 1, 2]),
        (RowBlock(2, 3), [2, 3, 4]),
        (ChosenRows(tf.constant([5, 0, 4])), [5, 0, 4]),
    ],
    ids=["all", "all at run time", "block", "chosen"],
)
def test_which_places_are_the_rows_own(rows, indices):
    own = np.zeros((3, 6), bool)
    own[range(3), indices] = True
    found = rows.are_own(tf.range(18), 6)
    np.testing.assert_array_equal(np.reshape(found, [3, 6]), own)
    matrix = tf.random.stateless_normal([6, 2], [1, 2])
    np.testing.assert_array_equal(rows.of(matrix), tf.gather(matrix, indices))
    np.testing.assert_array_equal(rows.indices, indices)


@pytest.mark.parametrize("shape", [[4], [4, 3], [4, 2, 3]])
def test_scaled_rows(shape):
    rows = np.random.default_rng(0).normal(size=shape)
    factors = np.array([0.0, 1.0, -2.0, 0.5])
    expected = np.array([row * f for row, f in zip(rows, factors, strict=True)])
    found = row_blocks.scale_rows(tf.constant(rows), tf.constant(factors))
    np.testing.assert_array_equal(found, expected)
