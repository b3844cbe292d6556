import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import (
    MixedLogQ,
    ScaledLogQ,
    StaticFrequency,
    StreamingFrequency,
)

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


MORE_COUNTS = np.array([50.0, 30.0, 15.0, 4.0, 1.0])
COLUMNS = tf.constant([0, 3, 4, 1, 2, 2])
Q = MORE_COUNTS / MORE_COUNTS.sum()


def log_lift(ids, floor):
    """log(1 + q / floor), by its formula."""
    return np.log((Q[np.asarray(ids)] + floor) / floor)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_with_a_floor_equals_the_formula(strength):
    """The floor is of the batch's own q, and what is corrected is the mixture."""
    mixed = MixedLogQ([StaticFrequency(MORE_COUNTS), float(np.log(1 / 5))])
    layer = ScaledLogQ(mixed, strength, floor=0.3 / 5)
    found = layer(COLUMNS, num_positives=4, training=True).numpy()
    q = Q[COLUMNS.numpy()]
    mixture = (4 * q + 2 / 5) / 6
    expected = np.log(mixture) - (1 - strength) * log_lift(COLUMNS, 0.3 / 5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found <= 0).all()
    # A memory keeps what the batch's positives would be corrected by.
    unmixed = np.log(q) - (1 - strength) * log_lift(COLUMNS, 0.3 / 5)
    np.testing.assert_allclose(layer.batch_log_q(COLUMNS), unmixed, rtol=1e-5)


def test_a_floor_of_what_mixes_nothing():
    layer = ScaledLogQ(StaticFrequency(MORE_COUNTS), 0.25, floor=0.02)
    expected = np.log(Q[COLUMNS.numpy()]) - 0.75 * log_lift(COLUMNS, 0.02)
    np.testing.assert_allclose(layer(COLUMNS), expected, rtol=1e-5)
    assert layer.batch_log_q(COLUMNS) is None


def test_with_a_floor_the_source_learns_in_training_only_and_once():
    frequency = StreamingFrequency(num_buckets=64)
    layer = ScaledLogQ(frequency, 0.5, floor=0.04)
    plain = StreamingFrequency(num_buckets=64)
    for training in (True, False, True):
        found = layer(COLUMNS, training=training).numpy()
        log_q = plain(COLUMNS, training=training).numpy().astype(np.float64)
        # Popularity is what the source says after it has learned.
        expected = log_q - 0.5 * np.log1p(np.exp(log_q) / 0.04)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(frequency(COLUMNS).numpy(), plain(COLUMNS).numpy())


@pytest.mark.parametrize("graph", [False, True])
def test_a_schedule_with_a_floor(graph):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
    layer = ScaledLogQ(StaticFrequency(MORE_COUNTS), schedule, floor=0.02)
    call = tf.function(layer) if graph else layer
    for strength in (0, 0.25, 0.5, 0.75, 1, 1):
        expected = np.log(Q) - (1 - strength) * log_lift(range(5), 0.02)
        found = call(tf.range(5), training=True)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_softmax_learns_log_probability_less_a_share_of_popularity(strength):
    # The best scores s of the corrected full softmax, found by gradient descent.
    probability = np.array([0.1, 0.5, 0.1, 0.2, 0.1])
    layer = ScaledLogQ(StaticFrequency(MORE_COUNTS), strength, floor=0.2 / 5)
    correction = layer(tf.range(5)).numpy().astype(np.float64)
    # Candidates drawn from q, corrected: the denominator's weights are q e^-correction.
    log_weights = np.log(Q) - correction
    scores = np.zeros(5)
    for _ in range(20_000):
        logits = scores + log_weights
        softmax = np.exp(logits - logits.max())
        scores += 0.5 * (probability - softmax / softmax.sum())
    expected = np.log(probability) - (1 - strength) * np.log(Q + 0.2 / 5)
    np.testing.assert_allclose(
        scores - scores.mean(), expected - expected.mean(), atol=1e-4
    )


@pytest.mark.parametrize("floor", [0, -0.1, 1.5, float("nan"), "0.1"])
def test_bad_floors(floor):
    with pytest.raises(ValueError, match="`floor` must be a"):
        ScaledLogQ(StaticFrequency(COUNTS), 0.5, floor=floor)


def test_with_a_floor_rebuilt_from_its_config():
    mixed = MixedLogQ([StaticFrequency(MORE_COUNTS), float(np.log(1 / 5))])
    layer = ScaledLogQ(mixed, 0.3, floor=0.1)
    rebuilt = ScaledLogQ.from_config(layer.get_config())
    assert rebuilt.floor == 0.1
    np.testing.assert_array_equal(
        rebuilt(COLUMNS, num_positives=4), layer(COLUMNS, num_positives=4)
    )


def test_saved_and_loaded_with_what_it_learned(tmp_path):
    def build():
        mixed = MixedLogQ([StreamingFrequency(num_buckets=64), float(np.log(1 / 5))])
        schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
        layer = ScaledLogQ(mixed, schedule, floor=0.04)
        ids = keras.Input([], dtype="int32")
        return keras.Model(ids, layer(ids)), layer

    model, layer = build()
    for _ in range(3):
        layer(COLUMNS, num_positives=4, training=True)
    expected = model(COLUMNS).numpy()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(COLUMNS), expected, rtol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    other, _ = build()
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(other(COLUMNS), expected, rtol=1e-6)


def test_repr():
    layer = ScaledLogQ(StaticFrequency(COUNTS), 1 - 0.85, floor=0.04)
    assert repr(layer).startswith("ScaledLogQ(source=StaticFrequency(")
    assert repr(layer).endswith(", strength=0.15, floor=0.04)")
