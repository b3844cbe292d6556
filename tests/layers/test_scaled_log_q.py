import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import ScaledLogQ, StaticFrequency, StreamingFrequency

COUNTS = [6, 3, 1]
IDS = tf.range(3)


@pytest.mark.parametrize("strength", [0, 0.25, 1.0])
def test_a_share_of_log_q(strength):
    scaled = ScaledLogQ(StaticFrequency(COUNTS), strength)
    expected = strength * np.log(np.array(COUNTS) / 10)
    np.testing.assert_allclose(scaled(IDS), expected, rtol=1e-6)


def test_the_source_learns_in_training_alone():
    source = StreamingFrequency(100)
    scaled = ScaledLogQ(source, 0.5)
    scaled(IDS, num_positives=2, training=True)
    scaled(IDS, training=False)
    assert int(source.variables[0]) == 2


@pytest.mark.parametrize("graph", [False, True])
def test_a_schedule_counts_training_calls(graph):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
    scaled = ScaledLogQ(StaticFrequency(COUNTS), schedule)
    full = np.log(np.array(COUNTS) / 10)
    call = tf.function(scaled) if graph else scaled
    for expected in (0, 0.25, 0.5, 0.75, 1, 1):
        for training in (False, False, True):
            log_q = call(IDS, training=training)
            np.testing.assert_allclose(log_q, expected * full, rtol=1e-6)


def test_a_schedule_that_leaves_the_range_is_an_error():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 2.0)
    scaled = ScaledLogQ(StaticFrequency(COUNTS), schedule)
    for _ in range(3):
        scaled(IDS, training=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must stay in"):
        scaled(IDS, training=True)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_bad_strengths(strength):
    with pytest.raises(ValueError, match=r"strength.*\[0, 1\]"):
        ScaledLogQ(StaticFrequency(COUNTS), strength)


@pytest.mark.parametrize("scheduled", [False, True])
def test_rebuilt_from_its_config(scheduled):
    strength = keras.optimizers.schedules.ExponentialDecay(0.8, 10, 0.5)
    scaled = ScaledLogQ(StaticFrequency(COUNTS), strength if scheduled else 0.3)
    rebuilt = ScaledLogQ.from_config(scaled.get_config())
    assert rebuilt.name == scaled.name
    for _ in range(3):
        np.testing.assert_array_equal(
            rebuilt(IDS, training=True), scaled(IDS, training=True)
        )


def test_the_step_is_checkpointed(tmp_path):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
    scaled = ScaledLogQ(StaticFrequency(COUNTS), schedule)
    for _ in range(3):
        scaled(IDS, training=True)
    path = tf.train.Checkpoint(layer=scaled).save(tmp_path / "state")
    restored = ScaledLogQ(StaticFrequency(COUNTS), schedule)
    tf.train.Checkpoint(layer=restored).restore(path).assert_consumed()
    np.testing.assert_array_equal(restored(IDS), scaled(IDS))
