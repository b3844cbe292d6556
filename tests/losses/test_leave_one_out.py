"""Sums of all of a group but one, beside sums that leave it out."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.losses import leave_one_out


def log_sum_exp(values):
    """Float64 (or longer), -inf for nothing."""
    values = [x for x in values if x != -np.inf]
    if not values:
        return -np.inf
    top = max(values)
    return top + np.log(sum(np.exp(np.longdouble(x - top)) for x in values))


def others_by_loops(values, groups):
    return np.array(
        [
            log_sum_exp(
                [
                    values[j]
                    for j in range(len(values))
                    if groups[j] == groups[i] and j != i
                ]
            )
            for i in range(len(values))
        ],
        float,
    )


def others(values, groups, num_groups):
    groups = tf.constant(groups, tf.int32)
    parts = leave_one_out.split(tf.constant(values), groups, num_groups)
    return leave_one_out.log_sums_of_others(parts)


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_loops(seed, scale):
    rng = np.random.default_rng(seed)
    num_groups = 7
    groups = np.sort(rng.integers(0, num_groups, 30))
    values = rng.normal(size=30) * scale
    values[rng.random(30) < 0.2] = -np.inf
    values[groups == 2] = -np.inf
    expected = others_by_loops(values, groups)
    assert np.isinf(expected).any() and np.isfinite(expected).any()
    found = others(values, groups, num_groups)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [1.0, 20.0, 60.0, 1e4])
def test_nothing_cancels_where_one_part_is_nearly_the_whole_sum(gap, dtype):
    """By subtraction the sum of the others would be rounding alone, or nothing."""
    values = np.array([0.0, gap, -1.0, 0.5], dtype)
    found = others(values, [0, 0, 0, 0], 1)
    expected = others_by_loops(values.astype(float), [0, 0, 0, 0])
    assert found.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=8 * eps, atol=8 * eps)
    # The largest part's others stand to all digits, whatever it is.
    np.testing.assert_allclose(
        found[1], log_sum_exp([0.0, -1.0, 0.5]), rtol=8 * eps, atol=8 * eps
    )


def test_equal_largest_parts_are_each_the_others():
    found = others([2.0, 2.0, 5.0], [0, 0, 1], 2)
    np.testing.assert_allclose(found, [2.0, 2.0, -np.inf])
    top = leave_one_out.split(
        tf.constant([2.0, 2.0, 2.0]), tf.constant([0, 0, 1]), 2
    ).top
    np.testing.assert_array_equal(top, [True, False, True])


@pytest.mark.parametrize(
    "values", [[-np.inf], [-np.inf, -np.inf], [-np.inf, 1.0], [1.0, -np.inf, -np.inf]]
)
def test_groups_of_nothing(values):
    """-inf is a sum of nothing, not nan, beside a group that has something."""
    groups = [0] * len(values) + [1, 1]
    values = np.array([*values, 0.0, 1.0])
    expected = others_by_loops(values, groups)
    np.testing.assert_allclose(others(values, groups, 2), expected, rtol=1e-15)


def test_no_parts_and_groups_without_any():
    assert others(np.zeros(0), np.zeros(0, int), 0).shape == (0,)
    np.testing.assert_allclose(others([1.0, 2.0], [1, 1], 4), [2.0, 1.0], rtol=1e-15)


def test_order_within_a_group_is_moot():
    rng = np.random.default_rng(5)
    values, groups = rng.normal(size=12), np.repeat([0, 1, 2], 4)
    order = np.concatenate([4 * g + rng.permutation(4) for g in range(3)])
    np.testing.assert_allclose(
        others(values[order], groups, 3), tf.gather(others(values, groups, 3), order)
    )


def test_shifting_a_group_shifts_its_sums():
    rng = np.random.default_rng(6)
    values, groups = rng.normal(size=12), np.repeat([0, 1, 2], 4)
    shifted = others(values + 100.0 * groups, groups, 3)
    expected = others(values, groups, 3) + 100.0 * groups
    np.testing.assert_allclose(shifted, expected, rtol=1e-13)


def test_sums_of_segments():
    """In any order, with empty ones, and far from 0."""
    values = np.array([1000.0, -np.inf, -1000.0, 1001.0, -np.inf])
    segments = np.array([3, 1, 0, 3, 4])
    expected = [log_sum_exp(values[segments == s]) for s in range(5)]
    found = leave_one_out.segment_logsumexp(
        tf.constant(values), tf.constant(segments), 5
    )
    np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-15)
    np.testing.assert_array_equal(np.isinf(found), [False, True, True, False, True])


def test_finite_is_for_subtraction():
    found = leave_one_out.finite(tf.constant([-np.inf, 3.0, 0.0]))
    np.testing.assert_array_equal(found, [0.0, 3.0, 0.0])
