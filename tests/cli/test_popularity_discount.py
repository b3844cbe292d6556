"""The discount against its formula, and what a model then learns."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import layers
from tfrs_negatives.cli.popularity_discount import PopularityDiscount

COUNTS = np.array([50.0, 30.0, 15.0, 4.0, 1.0])
IDS = tf.constant([0, 3, 4, 1, 2, 2])


@pytest.mark.parametrize("discount", [0.0, 0.6, 1.0])
def test_equals_the_formula(discount):
    frequency = layers.StaticFrequency(COUNTS)
    mixed = layers.MixedLogQ([frequency, float(np.log(1 / 5))])
    layer = PopularityDiscount(mixed, frequency, 5, discount, smoothing=0.3)
    found = layer(IDS, num_positives=4, training=True).numpy()

    q = COUNTS[IDS.numpy()] / COUNTS.sum()
    mixture = (4 * q + 2 / 5) / 6
    expected = np.log(mixture) - discount * np.log((q + 0.3 / 5) / (0.3 / 5))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found <= 0).all()


def test_learns_in_training_only_and_once():
    frequency = layers.StreamingFrequency(num_buckets=64)
    layer = PopularityDiscount(frequency, frequency, 5, 0.5)
    plain = layers.StreamingFrequency(num_buckets=64)
    for training in (True, False, True):
        layer(IDS, training=training)
        plain(IDS, training=training)
    np.testing.assert_array_equal(frequency(IDS).numpy(), plain(IDS).numpy())


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_softmax_learns_discounted_log_probability(discount):
    # The best scores s of the corrected full softmax, found by gradient descent.
    probability = np.array([0.1, 0.5, 0.1, 0.2, 0.1])
    frequency = layers.StaticFrequency(COUNTS)
    layer = PopularityDiscount(frequency, frequency, 5, discount, smoothing=0.2)
    correction = layer(tf.range(5)).numpy().astype(np.float64)
    q = COUNTS / COUNTS.sum()
    # Candidates drawn from q, corrected: the denominator's weights are q e^-correction.
    log_weights = np.log(q) - correction
    scores = np.zeros(5)
    for _ in range(20_000):
        logits = scores + log_weights
        softmax = np.exp(logits - logits.max())
        scores += 0.5 * (probability - softmax / softmax.sum())
    expected = np.log(probability) - discount * np.log(q + 0.2 / 5)
    np.testing.assert_allclose(
        scores - scores.mean(), expected - expected.mean(), atol=1e-4
    )
