import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.layers import StreamingFrequency
from tfrs_negatives.metrics import LogQError

COUNTS = np.array([50, 30, 15, 5])
TRUE = np.log(COUNTS / 100)


def test_a_constant_is_no_error():
    metric = LogQError(COUNTS)
    metric.update_state(tf.range(4), TRUE + 7.0)
    np.testing.assert_allclose(metric.result(), 0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_over_columns(weighted):
    rng = np.random.default_rng(0)
    metric = LogQError(COUNTS)
    total = columns = 0
    for size in (3, 8):
        ids, noise = rng.integers(0, 4, size), rng.normal(size=size)
        weights = rng.uniform(size=size) if weighted else np.ones(size)
        metric.update_state(ids, (TRUE[ids] + noise), weights if weighted else None)
        centred = noise - np.average(noise, weights=weights)
        total += (weights * np.abs(centred)).sum()
        columns += weights.sum()
    np.testing.assert_allclose(metric.result(), total / columns, rtol=1e-5)


def test_reset_keeps_the_truth():
    metric = LogQError({"a": 3, "b": 1})
    assert float(metric.result()) == 0
    ids = tf.constant(["a", "b"])
    metric.update_state(ids, [0.0, 0.0])
    before = float(metric.result())
    assert before > 0
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(ids, [0.0, 0.0])
    assert float(metric.result()) == before


def test_measures_an_estimator_as_it_learns():
    """Of 4 ids drawn from the counts; the error falls as the stream goes on."""
    rng = np.random.default_rng(1)
    frequency = StreamingFrequency(4, dense=True)
    metric = LogQError(COUNTS)
    errors = []
    for batches in (5, 200, 5):
        metric.reset_state()
        for _ in range(batches):
            ids = tf.constant(rng.choice(4, 16, p=COUNTS / 100))
            metric.update_state(ids, frequency(ids, training=True))
        errors.append(float(metric.result()))
    assert errors[2] < 0.5 * errors[0]


def test_rebuilt_from_its_config():
    metric = LogQError({"a": 3, "b": 1}, name="q")
    rebuilt = LogQError.from_config(metric.get_config())
    for one in (metric, rebuilt):
        one.update_state(tf.constant(["b", "a"]), [-1.0, 0.0])
    assert rebuilt.name == "q"
    np.testing.assert_array_equal(metric.result(), rebuilt.result())
