"""The loss of single rows, however the machine rounds."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.losses import row_losses


@pytest.mark.parametrize("below", [0.0, 2.0**-24, 2.0**-22])
def test_a_row_without_negatives_costs_nothing_outside(monkeypatch, below):
    """On some CPUs the softmax of a single score is a little less than 1."""
    softmax = tf.nn.softmax
    monkeypatch.setattr(tf.nn, "softmax", lambda x: softmax(x) * np.float32(1 - below))
    inf = float("inf")
    logits = tf.constant([[2.0, -inf, -inf], [1.0, 3.0, -inf]]) + 0.0
    positives = tf.constant([0, 0])
    losses, d_logits, factors = row_losses.outside(logits, positives, None)
    np.testing.assert_allclose(losses, [0, 2], atol=1e-5)
    derivative = d_logits * factors[:, tf.newaxis]
    np.testing.assert_allclose(derivative, [[0, 0, 0], [-1, 1, 0]], atol=1e-5)
