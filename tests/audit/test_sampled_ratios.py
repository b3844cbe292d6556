"""Ratios and standard errors, against the distribution over all samples."""

import itertools

import numpy as np
import pytest

from tfrs_negatives.audit.sampled_ratios import ratio, sampled_batches


def test_all_batches_have_no_error():
    assert ratio([1, 2, 3], [10, 10, 4], 3) == {
        "value": 6 / 24,
        "standard_error": 0.0,
    }
    assert ratio([0, 0], [0, 0], 2) == {"value": None, "standard_error": None}


def test_standard_error_is_that_of_all_samples():
    """For equal wholes the mean of squared errors is the variance of the estimate."""
    parts = np.array([3.0, 9, 4, 4, 11, 0, 6, 2])
    found = [
        ratio(parts[list(some)], np.full(4, 20), 8)
        for some in itertools.combinations(range(8), 4)
    ]
    values = np.array([one["value"] for one in found])
    squares = np.array([one["standard_error"] ** 2 for one in found])
    assert values.mean() == pytest.approx(parts.sum() / 160)
    assert squares.mean() == pytest.approx(values.var())


def test_one_batch_of_many_has_no_known_error():
    assert ratio([1], [4], 9) == {"value": 0.25, "standard_error": None}


def test_sampled_batches_are_distinct_and_ascending():
    rng = np.random.default_rng(0)
    assert sampled_batches(4, 4, rng).tolist() == [0, 1, 2, 3]
    counts = np.zeros(20)
    for _ in range(2000):
        some = sampled_batches(20, 5, rng)
        assert len(set(some.tolist())) == 5 and (np.diff(some) > 0).all()
        counts[some] += 1
    # Each of 20 is drawn with probability 1/4: six deviations, one false alarm in 1e7.
    assert np.abs(counts - 500).max() < 6 * np.sqrt(2000 * 0.25 * 0.75)
