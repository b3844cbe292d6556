"""A step that fails leaves the state as it was, whatever it failed of."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras
from tfrs_negatives._late_changes import LateChanges
from tfrs_negatives.layers import (
    CrossBatchMemory,
    MixedLogQ,
    ScaledLogQ,
    StreamingFrequency,
)
from tfrs_negatives.tasks import Retrieval

B, C, D = 4, 6, 3


# What `fails` is given: nothing happens, an assertion fails, there is no memory.
NOTHING, ASSERTION, MEMORY = 0, 1, 2**44
ERRORS = {
    ASSERTION: tf.errors.InvalidArgumentError,
    # TensorFlow tries for ten seconds.
    MEMORY: tf.errors.ResourceExhaustedError,
}


def fails(how):
    """0, or an error."""
    with tf.control_dependencies([tf.debugging.Assert(how != ASSERTION, ["wrong"])]):
        return 0.0 * tf.reduce_sum(tf.fill([how], 1.0))


class FailingMetric(metrics.NegativeMetric):
    """A metric of negatives that fails when it is told to."""

    def __init__(self, how):
        super().__init__(name="failing")
        self.how = how

    def parts(self, negatives):
        part = tf.cast(fails(self.how), tf.float64)
        return part, tf.ones_like(part)


class FailingLoss(keras.losses.Loss):
    def __init__(self, how):
        super().__init__(reduction="sum")
        self.how = how

    def call(self, labels, scores):
        return tf.reduce_sum(labels * scores, axis=1) + fails(self.how)


def scaled():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 10, 0.9)
    return ScaledLogQ(MixedLogQ([StreamingFrequency(50), -3.0]), schedule, floor=0.1)


CORRECTIONS = {
    "count": lambda: StreamingFrequency(50),
    "hit": lambda: StreamingFrequency(50, mode="hit", initial_gap=100.0),
    "scaled": scaled,
}


def values(*layers):
    return [np.array(v) for layer in layers for v in layer.variables]


@pytest.mark.parametrize(
    ("error", "made", "graph", "place"),
    some_of(
        [
            (error, made, graph, place)
            for error in ERRORS
            for made in CORRECTIONS
            for graph in (False, True)
            for place in ("loss", "metric")
        ],
        [
            (ASSERTION, "count", False, "loss"),
            (ASSERTION, "scaled", True, "loss"),
            (ASSERTION, "hit", True, "metric"),
        ],
    ),
)
def test_nothing_is_learned_from_a_step_that_fails(error, made, graph, place):
    how = tf.Variable(NOTHING, dtype=tf.int64)
    nothing = tf.constant(NOTHING, tf.int64)
    correction = CORRECTIONS[made]()
    memory = CrossBatchMemory(20, D, report_staleness=True)
    task = Retrieval(
        loss=FailingLoss(how if place == "loss" else nothing),
        sampling_correction=correction,
        memory=memory,
        negative_metrics=[FailingMetric(how if place == "metric" else nothing)],
    )
    rng = np.random.default_rng(0)

    def batch():
        towers = rng.normal(size=(B + C, D)).astype(np.float32)
        return towers[:B], towers[B:], rng.integers(0, 9, C)

    def step(queries, candidates, ids):
        return task(queries, candidates, candidate_ids=ids, training=True)

    if graph:
        step = tf.function(step, reduce_retracing=True)
    step(*map(tf.constant, batch()))
    before = values(correction, memory)
    how.assign(error)
    with pytest.raises(ERRORS[error]):
        step(*map(tf.constant, batch()))
    for one, other in zip(values(correction, memory), before, strict=True):
        np.testing.assert_array_equal(one, other)
    how.assign(NOTHING)
    step(*map(tf.constant, batch()))
    assert all(
        (one != other).any()
        for one, other in zip(values(correction), before, strict=False)
    )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("mode", ["count", "hit"])
@pytest.mark.parametrize("initial_gap", [None, 100.0])
def test_what_waits_is_known_already(graph, mode, initial_gap):
    """log q and state are, to the bit, those of a layer that learns at once."""

    def layer():
        return StreamingFrequency(
            13, num_hashes=3, mode=mode, initial_gap=initial_gap, learning_rate=0.2
        )

    at_once, late = layer(), layer()

    def learn(layer, ids, others):
        first = layer(ids, num_positives=7, training=True)
        looked_up = layer(others, training=False)
        second = layer(others, num_positives=3, training=True)
        return first, looked_up, second

    def learn_late(ids, others):
        with LateChanges() as changes:
            found = learn(late, ids, others)
            changes.make()
        return found

    if graph:
        learn, learn_late = tf.function(learn), tf.function(learn_late)
    rng = np.random.default_rng(1)
    for _ in range(20):
        ids, others = (tf.constant(rng.integers(0, 30, n)) for n in (10, 5))
        found = learn(at_once, ids, others)
        for one, other in zip(learn_late(ids, others), found, strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(values(late), values(at_once), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(late._clock) > 0


def test_a_block_that_fails_changes_nothing():
    layer = StreamingFrequency(13)
    with pytest.raises(KeyError), LateChanges() as changes:
        layer(tf.constant([1, 2]), training=True)
        assert int(layer._clock) == 0
        raise KeyError
    layer(tf.constant([1]), training=True)
    assert int(layer._clock) == 1
    changes.make()
    assert int(layer._clock) == 3
