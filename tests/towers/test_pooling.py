"""From several vectors a row to one, against loops over NumPy."""

import numpy as np
import tensorflow as tf

from tfrs_negatives.towers.pooling import mean_of_rows, weighted_sums


def test_the_mean_of_rows_is_that_of_each_and_zeros_of_none():
    rows = [[[1.0, 2.0], [3.0, 6.0]], [], [[5.0, 7.0]]]
    vectors = tf.ragged.constant(rows, ragged_rank=1, inner_shape=(2,))
    np.testing.assert_allclose(mean_of_rows(vectors), [[2, 4], [0, 0], [5, 7]])


def test_weighted_sums_and_their_gradients_by_hand():
    rng = np.random.default_rng(0)
    weights, vectors = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 5))
    expected = [
        sum(w * v for w, v in zip(*row, strict=True))
        for row in zip(weights, vectors, strict=True)
    ]
    given = [tf.constant(weights), tf.constant(vectors)]
    np.testing.assert_allclose(weighted_sums(*given), expected, rtol=1e-12)
    by_hand, numeric = tf.test.compute_gradient(weighted_sums, given)
    for ours, theirs in zip(by_hand, numeric, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_weighted_sums_of_no_rows_and_of_no_vectors():
    assert weighted_sums(tf.zeros([0, 3]), tf.zeros([0, 3, 2])).shape == (0, 2)
    np.testing.assert_array_equal(
        weighted_sums(tf.zeros([2, 0]), tf.zeros([2, 0, 3])), np.zeros([2, 3])
    )
