"""Synchronised batch normalisation and a curriculum, on N replicas and on one.

Step by step: loss, the gradient of every weight, and then weights, moving statistics,
estimator and queue.
"""

import numpy as np
import pytest
import tensorflow as tf
from replicated_two_tower import TwoTower, one_replica, rows, state

from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks import NegativesCurriculum
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

STEPS = 5


def train(strategy):
    """Loss and gradients of some steps, the last one uneven, and all state."""
    with strategy.scope():
        model = TwoTower()
        model.compile(keras.optimizers.SGD(0.2))
        for tower in (model.user_tower, model.item_tower):
            tower(tf.constant(["1", "2"]))  # Makes the weights.

    def step(features):
        weights = model.trainable_variables
        # Variables of Keras 3 hold one of TensorFlow.
        values = [getattr(weight, "value", weight) for weight in weights]
        values = weights if callable(values[0]) else values
        with tf.GradientTape() as tape:
            loss = model.compute_loss(features, training=True)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, values)]
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])

    run = tf.function(lambda features: strategy.run(step, args=[features]))
    history = []
    batches = strategy.experimental_distribute_dataset(rows(num_rows=70, batch=15))
    for batch in batches:
        outputs = [strategy.experimental_local_results(x)[0] for x in run(batch)]
        history.append([output.numpy() for output in outputs])
    return history, state(model)


@pytest.fixture(scope="module")
def expected():
    return train(one_replica())


@pytest.mark.slow(reason="trains on two and four replicas")
@pytest.mark.parametrize("num_replicas", [2, 4])
def test_synchronized_batch_normalization(num_replicas, expected, request):
    name = {2: "two_replicas", 4: "four_replicas"}[num_replicas]
    history, end = train(request.getfixturevalue(name))
    assert len(history) == STEPS and len(history[0]) == 1 + 2 * 3
    for step, (found, wanted) in enumerate(zip(history, expected[0], strict=True)):
        for value, target in zip(found, wanted, strict=True):
            np.testing.assert_allclose(
                value, target, rtol=1e-5, atol=1e-5, err_msg=f"step {step}"
            )
    for value, target in zip(end, expected[1], strict=True):
        np.testing.assert_allclose(value, target, rtol=1e-5, atol=1e-5)


class TwoTables(Model):
    """The number of hard negatives is a variable."""

    def __init__(self):
        super().__init__()
        self.users, self.items = (
            keras.layers.Embedding(20, 4, keras.initializers.RandomUniform(-1, 1, seed))
            for seed in (1, 2)
        )
        self.num_hard = tf.Variable(99, trainable=False)
        self.task = Retrieval(
            num_hard_negatives=self.num_hard,
            reduction="sum_over_batch_size",
            global_negatives=True,
        )

    def compute_loss(self, features, training=False):
        return self.task(
            self.users(features["user"]),
            self.items(features["item"]),
            query_keys=features["user"],
            training=training,
        )


@pytest.mark.slow(reason="trains on one replica and on two; on one it is fast")
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_a_curriculum(two_replicas, steps_per_execution):
    """Its values are of the step, whatever runs it; four steps have the first's."""
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 20, 55) for name in ("user", "item")}
    batches = tf.data.Dataset.from_tensor_slices(columns).batch(15)
    boundaries, values = [1, 3, 5], [12, 6, 3, 1]
    logs, weights = [], []
    for strategy in (one_replica(), two_replicas):
        with strategy.scope():
            model = TwoTables()
            model.compile(
                keras.optimizers.SGD(0.5), steps_per_execution=steps_per_execution
            )
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
        curriculum = NegativesCurriculum({"hard": (model.num_hard, schedule)})
        history = model.fit(batches, epochs=2, verbose=0, callbacks=[curriculum])
        logs.append(history.history)
        weights.append([model.users.get_weights()[0], model.items.get_weights()[0]])
    assert logs[0]["hard"] == logs[1]["hard"]
    assert logs[0]["hard"] == ([6, 1] if steps_per_execution == 1 else [12, 3])
    np.testing.assert_allclose(logs[1]["loss"], logs[0]["loss"], rtol=1e-5)
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-5, atol=1e-5)
