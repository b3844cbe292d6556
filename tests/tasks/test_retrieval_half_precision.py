"""Towers in half precision: what is given is not rounded, sums are in float32."""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid

from tfrs_negatives import distribute
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, OncePerKey
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.tasks import Retrieval

HALVES = ["bfloat16", "float16"]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("dtype", HALVES)
def test_labels_are_not_rounded(dtype, in_graph):
    """The row costs log(1 + e^100) - .3 x 100 = 70; .3 in bfloat16 is .30078."""
    task = Retrieval(SampledSigmoid())

    def loss(queries, candidates, labels):
        return task(queries, candidates, labels=labels)

    if in_graph:
        loss = tf.function(loss)
    queries = tf.constant([[10.0, 0.0]], dtype)
    assert float(loss(queries, queries, tf.constant([0.3]))) == pytest.approx(70, 1e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("given", ["probability", "log_q"])
def test_log_q_is_computed_in_float32(dtype, given):
    """Of half-precision q the logarithm has as many digits as float32 has."""
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(2, 4, 3)).astype("float32")
    q = tf.constant(rng.uniform(0.001, 0.1, 4), dtype)
    if given == "probability":
        found = {"candidate_sampling_probability": q}
        log_q = np.log(tf.cast(q, tf.float64))
    else:
        found = {"candidate_log_q": -1 / q / 100}
        log_q = np.asarray(tf.cast(found["candidate_log_q"], tf.float64))
    memory = CrossBatchMemory(8, 3)
    Retrieval(memory=memory)(queries, candidates, training=True, **found)
    remembered = memory(tf.zeros([0, 3])).log_q
    np.testing.assert_allclose(remembered[::-1], log_q, rtol=1e-6)


def test_a_temperature_that_half_precision_does_not_hold():
    task = Retrieval(temperature=tf.Variable(1e-9))
    embeddings = tf.constant([[1.0], [0.0]], tf.float16) * 1e-3
    assert np.isfinite(task(embeddings, embeddings))


def repeated_gradient(run, dtype, repeats, rng):
    """The gradient of one embedding that all rows take, and that of float64."""
    found = []
    values = tf.constant(rng.normal(size=(1, 8)), dtype)
    others = tf.constant(rng.normal(size=(repeats, 8)), dtype)
    for kind in (dtype, "float64"):
        leaf = tf.cast(values, kind)
        with tf.GradientTape() as tape:
            tape.watch(leaf)
            loss = run(leaf, tf.cast(others, kind))
        gradient = tf.convert_to_tensor(tape.gradient(loss, leaf))
        found.append(np.asarray(tf.cast(gradient, tf.float64)))
    return found


@pytest.mark.parametrize(
    "dtype, options, repeated, in_graph",
    grid(
        HALVES,
        [{}, {"num_hard_negatives": 1_000}],
        ["queries", "candidates"],
        [True, False],
        rounds=2,
    ),
)
def test_gradients_of_repeated_rows(dtype, options, repeated, in_graph):
    """1,024 rows take one embedding: as exact as one rounding, not a thousand."""
    repeats = 1_024
    rng = np.random.default_rng(1)
    task = Retrieval(temperature=3.0, **options)
    rows = tf.zeros([repeats], tf.int32)

    def run(leaf, others):
        if repeated == "queries":
            return task(leaf, others, query_rows=rows)
        # Rows of their own before them, so that the repeated are negatives.
        candidates = tf.concat([others[:8], leaf], axis=0)
        places = tf.concat([tf.range(8), rows + 8], axis=0)
        return task(others[:8], candidates, candidate_rows=places)

    if in_graph:
        run = tf.function(run)
    found, expected = repeated_gradient(run, dtype, repeats, rng)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    # One unit in the last place of bfloat16.
    assert error < 2**-8


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_once_per_key(dtype):
    """A tower of one weight, which 4,096 rows of one key run through once."""
    weights = np.random.default_rng(2).uniform(0.5, 1, (4_096, 1)).astype("float32")
    tower = keras.layers.Dense(1, use_bias=False, dtype=dtype)
    layer = OncePerKey(tower)
    features, keys = tf.ones([4_096, 1], dtype), tf.zeros([4_096], tf.int32)
    layer(features, keys)
    with tf.GradientTape() as tape:
        repeated = layer(features, keys)
        total = tf.reduce_sum(tf.cast(repeated, tf.float32) * weights)
    assert repeated.dtype == dtype
    (gradient,) = tape.gradient(total, tower.trainable_variables)
    found = float(tf.cast(tf.squeeze(gradient), tf.float64))
    # Each weight is rounded where the embeddings are cast, and the sum once.
    assert found == pytest.approx(weights.astype("float64").sum(), rel=0.004)


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_what_replicas_gather(four_replicas, dtype):
    """Everyone's part is 1 and a bit that half precision holds once, not in a sum."""

    def step():
        values = tf.ones([1, 3], dtype)
        with tf.GradientTape() as tape:
            tape.watch(values)
            everyone = distribute.gather(values)
            # A sum in half precision loses .001 beside 512.
            parts = tf.constant([512.0, 0.75, 0.75, 0.75])
            part = parts[distribute.place()]
            loss = tf.reduce_sum(tf.cast(everyone, tf.float32)) * part
        assert everyone.dtype == dtype
        return tape.gradient(loss, values)

    results = tf.function(lambda: four_replicas.run(step))()
    for gradient in four_replicas.experimental_local_results(results):
        expected = tf.cast(tf.constant(514.25), dtype)
        np.testing.assert_array_equal(gradient, tf.fill([1, 3], expected))
