import numpy as np
import pytest
import tensorflow as tf
from oracles import row_losses

from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks import NegativesCurriculum
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

Schedules = keras.optimizers.schedules


class Follower(Model):
    """Its traced step writes down the variables that it reads."""

    def __init__(self, *variables):
        super().__init__()
        self.layer = keras.layers.Dense(1)
        self.read = lambda: [tf.cast(v, tf.float32) for v in variables]
        self.num_traces = 0
        self.notes = Notes()

    def compute_loss(self, features, training=False):
        self.num_traces += training
        tf.py_function(self.notes, self.read(), [])
        return tf.reduce_mean(self.layer(features))


class Notes:
    def __init__(self):
        self.rows = []

    def __call__(self, *values):
        self.rows.append([value.numpy().tolist() for value in values])


def fit(curriculum, variables, steps=6, start=0, epochs=1):
    model = Follower(*variables)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    model.optimizer.iterations.assign(start)
    data = tf.data.Dataset.from_tensor_slices(np.ones([steps, 2], np.float32)).batch(1)
    history = model.fit(data, epochs=epochs, verbose=0, callbacks=[curriculum])
    return model, history.history


def test_piecewise_linear_and_vector_schedules_without_a_retrace():
    skip = tf.Variable(7)
    weights = tf.Variable([1.0, 0.0])
    share = tf.Variable(0.0)
    model, logs = fit(
        NegativesCurriculum(
            {
                "skip": (skip, Schedules.PiecewiseConstantDecay([2, 6], [200, 100, 5])),
                "weights": (weights, lambda step: [1 - step / 10, step / 10]),
                "share": (share, Schedules.PolynomialDecay(0.0, 10, 1.0, power=1)),
            }
        ),
        [skip, weights, share],
        epochs=2,
    )
    expected = [
        [200 if step <= 2 else 100 if step <= 6 else 5, step / 10] for step in range(12)
    ]
    rows = model.notes.rows
    assert [row[0] for row in rows] == [row[0] for row in expected]
    second = [row[1][1] for row in rows]
    np.testing.assert_allclose(second, [row[1] for row in expected], rtol=1e-6)
    linear = [min(row[1], 1) for row in expected]
    np.testing.assert_allclose([row[2] for row in rows], linear, rtol=1e-6)
    assert model.num_traces <= 2  # A symbolic build may be one.
    # Values of each epoch's last step.
    assert logs["skip"] == [100, 5]
    np.testing.assert_allclose(logs["weights_0"], [0.5, -0.1], rtol=1e-5)
    np.testing.assert_allclose(logs["share"], [0.5, 1.0], rtol=1e-6)


def test_integers_are_rounded():
    k = tf.Variable(0, dtype=tf.int64)
    curriculum = NegativesCurriculum({"k": (k, lambda step: 0.6 * step)})
    model, _ = fit(curriculum, [k])
    assert [row[0] for row in model.notes.rows] == [0, 1, 1, 2, 2, 3]


def test_a_resumed_run_has_the_values_of_an_uninterrupted_one():
    def run(start, steps):
        variable = tf.Variable(0.0)
        schedule = Schedules.PolynomialDecay(1.0, 8, 0.0, power=1)
        curriculum = NegativesCurriculum({"share": (variable, schedule)})
        model, _ = fit(curriculum, [variable], steps=steps, start=start)
        return [row[0] for row in model.notes.rows]

    assert run(0, 4) + run(4, 4) == run(0, 8)


def test_variables_of_keras():
    """Weights of a layer, which under Keras 3 are no tf.Variable."""
    layer = keras.layers.Layer()
    weight = layer.add_weight(
        name="k", shape=[], dtype="float32", initializer="zeros", trainable=False
    )
    curriculum = NegativesCurriculum({"k": (weight, lambda step: step + 0.5)})
    fit(curriculum, [tf.Variable(0)], steps=3)
    assert float(tf.convert_to_tensor(weight)) == 2.5


class Decoupled(Model):
    """The positives outside the sum, which a variable weighs."""

    def __init__(self, weight):
        super().__init__()
        self.items = keras.layers.Embedding(4, 3)
        self.task = Retrieval(positive="outside", negative_weight=weight)
        self.num_traces = 0

    def compute_loss(self, features, training=False):
        self.num_traces += training
        return self.task(self.items(features), self.items(features + 1))


def test_a_weight_of_negatives_is_of_the_step_at_which_it_is_used():
    weight = tf.Variable(1.0, trainable=False)
    model = Decoupled(weight)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    schedule = Schedules.PolynomialDecay(1.0, 4, 3.0, power=1)
    history = model.fit(
        tf.data.Dataset.from_tensors(tf.constant([0, 1, 2])),
        epochs=4,
        verbose=0,
        callbacks=[NegativesCurriculum({"rho": (weight, schedule)})],
    ).history
    np.testing.assert_allclose(history["rho"], [1.0, 1.5, 2.0, 2.5])
    table = np.asarray(model.items.weights[0])
    expected = [
        row_losses(table[:3], table[1:], positive="outside", negative_weight=rho).sum()
        for rho in history["rho"]
    ]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    assert model.num_traces <= 2  # A symbolic build may be one.


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({}, "must be a dict"),
        ([1], "must be a dict"),
        ({"a": 3}, "must be a pair"),
        ({"a": (3.0, abs)}, "must begin with a variable, received float"),
        ({"a": (tf.constant(3.0), abs)}, "must begin with a variable"),
        ({"a": (tf.Variable(3.0), 0.5)}, "must end with a schedule"),
    ],
)
def test_bad_schedules(schedules, message):
    with pytest.raises(ValueError, match=message):
        NegativesCurriculum(schedules)


@pytest.mark.parametrize(
    ("value", "shown"),
    [([1.0, 2.0], r"\[1\. 2\.\]"), (float("nan"), "nan"), (float("inf"), "inf")],
)
def test_bad_values_change_nothing(value, shown):
    good, bad = tf.Variable(1.0), tf.Variable(1.0)
    curriculum = NegativesCurriculum(
        {
            "good": (good, lambda step: 5.0),
            "bad": (bad, lambda step: value if step == 2 else 4.0),
        }
    )
    message = rf"schedule of 'bad' must give finite values of shape \(\).*{shown}"
    good_before = []
    curriculum.on_train_batch_end = lambda *_, **__: good_before.append(good.numpy())
    with pytest.raises(ValueError, match=f"{message} at step 2"):
        fit(curriculum, [good, bad])
    assert bad.numpy() == 4.0
    assert len(good_before) == 2
