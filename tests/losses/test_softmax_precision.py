"""Rounding: budgets of errors, half precision, large scores, what is not finite."""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import row_losses
from softmax_cases import (
    value_and_gradients,
)

from tfrs_negatives.losses import SampledSoftmax


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_embeddings_are_not_hidden(batch, bad):
    queries = batch["queries"].copy()
    queries[1, 0] = bad
    value = SampledSoftmax(reduction="none")(queries, batch["candidates"])
    assert not np.isfinite(value[1])
    assert np.all(np.isfinite(np.delete(value, 1)))
    log_q = batch["log_q"]
    refined = SampledSoftmax(positive="refined", reduction="none")
    value = refined(queries, batch["candidates"], candidate_log_q=log_q)
    assert not np.isfinite(value[1])
    outside = SampledSoftmax(positive="outside", reduction="none")
    value = outside(queries, batch["candidates"])
    assert not np.isfinite(value[1])
    assert np.all(np.isfinite(np.delete(value, 1)))


def test_large_scores_stay_exact():
    queries = np.array([[300.0, 0.0], [0.0, 300.0]], np.float32)
    candidates = np.array([[300.0, 0.0], [0.0, 300.0], [299.99, 0.0]], np.float32)
    value = SampledSoftmax(reduction="none")(queries, candidates)
    gap = 300.0 * (np.float64(np.float32(299.99)) - 300.0)
    # Products near 90,000 carry float32 rounding of about 0.008.
    np.testing.assert_allclose(value, [np.log1p(np.exp(gap)), 0.0], atol=0.01)


def test_half_precision_is_computed_in_float32(batch):
    for dtype in (tf.float16, tf.bfloat16):
        queries = tf.cast(batch["queries"], dtype)
        candidates = tf.cast(batch["candidates"], dtype)
        value = SampledSoftmax(temperature=0.01)(queries, candidates)
        assert value.dtype == tf.float32
        expected = row_losses(
            tf.cast(queries, tf.float64),
            tf.cast(candidates, tf.float64),
            temperature=0.01,
        ).sum()
        np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "size, score_range, temperature, dtype, positive",
    grid(
        [1, 2, 252, 507, 1000],
        [1.0, 1e4],
        [1.0, 0.01],
        ["float16", "bfloat16", "float32", "float64"],
        ["all", "outside"],
        rounds=4,
    ),
)
def test_error_budget(size, score_range, temperature, dtype, positive):
    """No worse than the plain formula in full precision, plus rounding."""
    rng = np.random.default_rng(size)
    queries, candidates = rng.normal(size=(2, size, 8))
    candidates[: size // 2] = queries[: size // 2]
    queries *= score_range * temperature / np.abs(queries @ candidates.T).max()
    dtype = tf.as_dtype(dtype)
    queries, candidates = tf.cast(queries, dtype), tf.cast(candidates, dtype)
    full = np.float64 if dtype == tf.float64 else np.float32
    exact = np.longdouble if dtype == tf.float64 else np.float64

    def plain(precision):
        q, c = (np.array(x).astype(precision) for x in (queries, candidates))
        scores = q @ c.T / precision(temperature)
        own, eye = np.diag(scores).copy(), np.eye(len(q), dtype=precision)
        if positive == "outside":
            if size == 1:
                return np.zeros(1), np.zeros_like(q), np.zeros_like(c)
            scores[eye == 1] = -np.inf
        top = scores.max(axis=1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(axis=1, keepdims=True)
        losses = (np.log(total) + top)[:, 0] - own
        d_scores = weights / total - eye
        d_scores /= precision(temperature)
        return losses, d_scores @ c, d_scores.T @ q

    each = SampledSoftmax(temperature, positive, reduction="none")
    losses = each(queries, candidates)
    value, *gradients = value_and_gradients(
        SampledSoftmax(temperature, positive), queries, candidates
    )
    assert losses.dtype == value.dtype == full
    for ours, plain_value, truth in zip(
        (losses, *gradients), plain(full), plain(exact), strict=True
    ):
        # The scores are known to their rounding, and the result to its own.
        scale = np.abs(truth).max()
        relative = 8 * np.finfo(full).eps * score_range
        rounding = relative * max(scale, 1) + scale * dtype_epsilon(ours.dtype)
        budget = np.abs(plain_value - truth).max() + rounding
        error = np.abs(np.array(ours).astype(exact) - truth)
        assert error[np.abs(truth) < ours.dtype.max].max() <= budget
    np.testing.assert_allclose(value, np.sum(losses), rtol=1e-5)


def dtype_epsilon(dtype):
    return {"float16": 2**-11, "bfloat16": 2**-8}.get(tf.as_dtype(dtype).name, 0.0)
