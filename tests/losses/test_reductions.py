"""Weights of rows and named reductions, beside sums in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from oracles import numeric_gradient

from tfrs_negatives._keras import keras
from tfrs_negatives.losses import reductions

LOSSES = np.array([0.5, 3.0, 0.0, 2.25, 7.0])
B = len(LOSSES)
WEIGHTS = {
    "usual": np.array([1.0, 0.25, 4.0, 0.5, 2.0]),
    "some are 0": np.array([0.0, 2.0, 0.0, 1.0, 0.0]),
    "all are 0": np.zeros(B),
    "some are below 0": np.array([1.0, -0.5, 2.0, 1.0, 3.0]),
}


def reduced(reduction, losses, weights):
    """Float64, one row after the other."""
    total, rows, mass = 0.0, 0, 0.0
    for loss, weight in zip(losses, weights, strict=True):
        total, rows, mass = total + weight * loss, rows + 1, mass + weight
    if reduction == "sum":
        return total
    divisor = rows if reduction == "sum_over_batch_size" else mass
    return total / divisor if divisor else 0.0


def normalised(reduction, losses, weights):
    total = tf.reduce_sum(weights * losses)
    return reductions.normalise(total, weights, reduction)


SCALARS = ["sum", "sum_over_batch_size", "mean_with_sample_weight"]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("reduction", SCALARS)
def test_value_and_gradients(reduction, weights):
    weights = WEIGHTS[weights]
    leaves = tf.constant(LOSSES), tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        value = normalised(reduction, *leaves)
    np.testing.assert_allclose(value, reduced(reduction, LOSSES, weights), rtol=1e-14)
    d_losses, d_weights = tape.gradient(value, leaves)
    np.testing.assert_allclose(
        d_losses,
        numeric_gradient(lambda x: reduced(reduction, x, weights), LOSSES),
        atol=1e-8,
    )
    if reduction == "mean_with_sample_weight" and not weights.any():
        # It jumps there: a weight of any size would make its row's loss the mean.
        np.testing.assert_array_equal(d_weights, np.zeros(B))
        return
    np.testing.assert_allclose(
        d_weights,
        numeric_gradient(lambda x: reduced(reduction, LOSSES, x), weights),
        atol=1e-7,
    )


@pytest.mark.parametrize("reduction", SCALARS)
def test_no_rows_cost_nothing(reduction):
    none = tf.zeros([0], tf.float64)
    assert float(normalised(reduction, none, none)) == 0.0


def test_a_row_of_weight_0_is_as_if_it_were_not_there():
    """But in a mean over the batch's size, which counts it."""
    weights = WEIGHTS["some are 0"]
    kept = weights > 0
    for reduction in SCALARS:
        whole = normalised(reduction, tf.constant(LOSSES), tf.constant(weights))
        part = normalised(
            reduction, tf.constant(LOSSES[kept]), tf.constant(weights[kept])
        )
        ratio = kept.sum() / B if reduction == "sum_over_batch_size" else 1.0
        np.testing.assert_allclose(whole, part * ratio, rtol=1e-14)


@pytest.mark.parametrize("reduction", SCALARS)
def test_replicas_add_up_to_the_reduction_of_all_rows(two_replicas, reduction):
    weights = WEIGHTS["usual"]
    parts = [slice(0, 3), slice(3, B)]

    def part(values):
        def of(context):
            return tf.constant(values[parts[context.replica_id_in_sync_group]])

        return two_replicas.experimental_distribute_values_from_function(of)

    found = two_replicas.run(
        lambda losses, weights: normalised(reduction, losses, weights),
        args=[part(LOSSES), part(weights)],
    )
    found = two_replicas.experimental_local_results(found)
    assert len(found) == 2
    np.testing.assert_allclose(
        sum(float(x) for x in found), reduced(reduction, LOSSES, weights), rtol=1e-12
    )


@pytest.mark.parametrize("shape", [[B], [B, 1]])
def test_weights_are_a_vector_of_the_dtype(shape):
    given = tf.reshape(tf.constant(WEIGHTS["usual"]), shape)
    num_rows = tf.constant(B)
    checked = reductions.check_row_weights(given, num_rows)
    found = reductions.row_weights(checked, num_rows, tf.float32)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, WEIGHTS["usual"].astype("float32"))


def test_no_weights_are_ones():
    found = reductions.row_weights(None, tf.constant(3), tf.float64)
    assert found.dtype == tf.float64
    np.testing.assert_array_equal(found, [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "shape, message",
    [([], "rank 1 or 2"), ([B - 1], f"size {B}"), ([B, 2], "size 1"), ([1, B], "size")],
)
def test_bad_weights(shape, message):
    with pytest.raises(ValueError, match=f"`sample_weight`.*{message}"):
        reductions.check_row_weights(tf.ones(shape), tf.constant(B))


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, "sum_over_batch_size"),
        ({"reduction": "sum"}, "sum"),
        ({"reduction": "none"}, "none"),
        ({"reduction": "sum_over_batch_size"}, "sum_over_batch_size"),
    ],
)
def test_the_name_of_a_keras_loss(options, expected):
    loss = keras.losses.CategoricalCrossentropy(**options)
    assert reductions.of_keras_loss(loss) == expected


def test_a_loss_without_a_reduction_gives_losses_of_rows():
    assert reductions.of_keras_loss(lambda labels, scores: scores) == "none"


def test_a_reduction_that_is_none_of_ours():
    class Odd:
        reduction = "median"

    with pytest.raises(ValueError, match="reduction.*received 'median'"):
        reductions.of_keras_loss(Odd())
