"""What is differentiable and what is not: reductions, weights, temperature, log q."""

import numpy as np
import pytest
import tensorflow as tf
from oracles import numeric_gradient, row_losses
from softmax_cases import (
    B,
    C,
    value_and_gradients,
)

from tfrs_negatives.losses import SampledSoftmax, rules


def test_refined_holds_its_factor_constant(batch):
    q, c, log_q = batch["queries"], batch["candidates"], batch["log_q"]

    def factors_and_terms(q):
        factors, terms = [], []
        for i in range(B):
            scores = c @ q[i]
            others = [k for k in range(C) if k != i]
            log_z = np.logaddexp.reduce(scores[others] - log_q[others])
            log_z += np.log(1 - np.exp(log_q[i]))
            mean = np.exp(log_z) / len(others)
            factors.append(1 - np.exp(scores[i]) / (np.exp(scores[i]) + mean))
            terms.append(-(scores[i] - log_z))
        return np.array(factors), np.array(terms)

    held, _ = factors_and_terms(q)
    expected = numeric_gradient(lambda x: held @ factors_and_terms(x)[1], q)
    _, d_queries, _ = value_and_gradients(
        SampledSoftmax(positive="refined"), q, c, candidate_log_q=log_q
    )
    np.testing.assert_allclose(d_queries, expected, atol=1e-7)


@pytest.mark.parametrize("positive", ["all", "outside"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_gradient_of_a_dropped_column_is_exactly_zero(dtype, positive):
    keys = tf.constant([1, 1, 1, 1], tf.int64)
    queries = tf.cast(tf.random.stateless_normal([4, 3], [1, 2]), dtype)
    candidates = tf.cast(tf.random.stateless_normal([6, 3], [3, 4]), dtype)
    mask = tf.concat([tf.ones([4, 4], tf.bool), tf.zeros([4, 2], tf.bool)], axis=1)
    value, d_queries, d_candidates = value_and_gradients(
        SampledSoftmax(positive=positive),
        queries,
        candidates,
        rules=[rules.same_key(keys, rules.SortedColumns(keys, 6))],
        score_mask=mask,
    )
    # No row has a negative: no cost, and every gradient is zero, not nan.
    assert float(value) == 0.0
    assert d_queries.dtype == d_candidates.dtype == tf.as_dtype(dtype)
    assert not np.any(tf.cast(d_queries, tf.float32))
    assert not np.any(tf.cast(d_candidates, tf.float32))


@pytest.mark.parametrize(
    "reduction, expected",
    [
        ("sum", lambda losses, w: w @ losses),
        ("sum_over_batch_size", lambda losses, w: w @ losses / B),
        ("mean_with_sample_weight", lambda losses, w: w @ losses / w.sum()),
        ("none", lambda losses, w: w * losses),
    ],
)
def test_reductions(batch, reduction, expected):
    q, c, w = batch["queries"], batch["candidates"], batch["weights"]
    value, d_queries, _ = value_and_gradients(
        SampledSoftmax(reduction=reduction, row_block=2), q, c, sample_weight=w
    )
    np.testing.assert_allclose(value, expected(row_losses(q, c), w), rtol=1e-10)
    np.testing.assert_allclose(
        d_queries,
        numeric_gradient(lambda x: np.sum(expected(row_losses(x, c), w)), q),
        atol=1e-7,
    )


def test_unreduced_losses_take_any_weighting(batch):
    """Gradients of `reduction="none"` follow what is done with the rows."""
    q = tf.constant(batch["queries"])
    with tf.GradientTape() as tape:
        tape.watch(q)
        losses = SampledSoftmax(reduction="none")(q, batch["candidates"])
        value = tf.reduce_sum(losses**2)
    expected = numeric_gradient(
        lambda x: np.sum(row_losses(x, batch["candidates"]) ** 2), batch["queries"]
    )
    np.testing.assert_allclose(tape.gradient(value, q), expected, atol=1e-6)


def test_weights_have_gradients(batch):
    weights = tf.constant(batch["weights"])
    with tf.GradientTape() as tape:
        tape.watch(weights)
        value = SampledSoftmax()(
            batch["queries"], batch["candidates"], sample_weight=weights
        )
    np.testing.assert_allclose(
        tape.gradient(value, weights),
        row_losses(batch["queries"], batch["candidates"]),
        rtol=1e-10,
    )


def test_temperature_can_be_trained(batch):
    temperature = tf.Variable(0.4, dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = SampledSoftmax(temperature)(batch["queries"], batch["candidates"])
    expected = numeric_gradient(
        lambda t: row_losses(
            batch["queries"], batch["candidates"], temperature=float(t[0])
        ).sum(),
        [0.4],
    )
    np.testing.assert_allclose(
        tape.gradient(value, temperature), expected[0], rtol=1e-6
    )


def test_no_gradient_reaches_log_q(batch):
    log_q = tf.constant(batch["log_q"])
    with tf.GradientTape() as tape:
        tape.watch(log_q)
        value = SampledSoftmax()(
            batch["queries"], batch["candidates"], candidate_log_q=log_q
        )
    assert tape.gradient(value, log_q) is None


def test_second_order_gradients_are_refused(batch):
    q = tf.constant(batch["queries"])
    with tf.GradientTape() as outer:
        outer.watch(q)
        with tf.GradientTape() as inner:
            inner.watch(q)
            value = SampledSoftmax()(q, batch["candidates"])
        first = inner.gradient(value, q)
    with pytest.raises(LookupError, match="second-order"):
        outer.gradient(first, q)
