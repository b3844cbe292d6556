"""`fit` on two replicas is `fit` on one, under both Kerases."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

ITEMS, DIM = 20, 4


class TwoTower(Model):
    """String features, synchronised batch normalisation, all state there is."""

    def __init__(self, regularizer=None, global_negatives=True):
        super().__init__()
        self.user_tower = self._tower(1, regularizer)
        self.item_tower = self._tower(2, None)
        self.task = Retrieval(
            remove_accidental_hits=True,
            sampling_correction=StreamingFrequency(500, num_hashes=2),
            memory=CrossBatchMemory(40, DIM, num_keys=1),
            reduction="sum_over_batch_size",
            global_negatives=global_negatives,
            batch_metrics=[keras.metrics.MeanSquaredError(name="squares")],
        )

    def _tower(self, seed, regularizer):
        init = keras.initializers.RandomUniform(-1.0, 1.0, seed=seed)
        return keras.Sequential(
            [
                keras.layers.StringLookup(vocabulary=[str(i) for i in range(ITEMS)]),
                keras.layers.Embedding(ITEMS + 1, DIM, init, regularizer),
                keras.layers.BatchNormalization(synchronized=True),
            ]
        )

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"], training=training),
            self.item_tower(features["item"], training=training),
            candidate_ids=features["item"],
            query_keys=features["user"],
            training=training,
        )


def rows(num_rows=55, batch=15):
    """Batches that do not divide by two, the last one short."""
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, ITEMS, num_rows) for name in ("user", "item")}
    columns = {name: values.astype(str) for name, values in columns.items()}
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch)


def one_replica():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def compiled(strategy, steps_per_execution=1, **options):
    with strategy.scope():
        model = TwoTower(**options)
        # Adam would blow up the rounding of gradients that are nothing but rounding:
        # a softmax does not see a shift of all items.
        optimizer = keras.optimizers.SGD(0.2, momentum=0.9)
        model.compile(optimizer, steps_per_execution=steps_per_execution)
    return model


def state(model):
    return [np.asarray(v.numpy()) for v in model.variables if v.dtype != "string"]


@pytest.mark.parametrize(
    "steps_per_execution", [1, pytest.param(4, marks=pytest.mark.slow)]
)
def test_fit_and_evaluate(two_replicas, steps_per_execution):
    logs, states = [], []
    for strategy in (one_replica(), two_replicas):
        model = compiled(strategy, steps_per_execution)
        fitted = model.fit(rows(), epochs=2, verbose=0).history
        evaluated = model.evaluate(rows(), return_dict=True, verbose=0)
        logs.append({**fitted, **{f"val_{k}": [v] for k, v in evaluated.items()}})
        states.append(state(model))
    assert logs[0].keys() == logs[1].keys()
    assert {"loss", "squares", "val_loss"} <= logs[0].keys()
    for name, values in logs[0].items():
        # Keras 3 averages metrics over replicas, though their rows are not as many.
        rtol = 1e-2 if IS_KERAS_3 and "squares" in name else 1e-4
        np.testing.assert_allclose(logs[1][name], values, rtol=rtol, err_msg=name)
    for found, expected in zip(states[1], states[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_local_negatives_are_another_loss(two_replicas):
    """Half of the negatives and batch statistics alike: the loss is lower."""
    losses = [
        compiled(strategy, global_negatives=False)
        .fit(rows(), epochs=1, verbose=0)
        .history["loss"][0]
        for strategy in (one_replica(), two_replicas)
    ]
    assert losses[1] < losses[0] - 0.1


@pytest.mark.slow
def test_a_checkpoint_of_two_goes_on_with_one(two_replicas, tmp_path):
    models = [compiled(two_replicas), compiled(one_replica())]
    models[0].fit(rows(), epochs=1, verbose=0)
    path = tf.train.Checkpoint(model=models[0], optimizer=models[0].optimizer).save(
        tmp_path / "checkpoint"
    )
    models[1].fit(rows(), epochs=1, verbose=0)  # Makes all variables.
    models[1].fit(rows(), epochs=1, verbose=0)
    tf.train.Checkpoint(model=models[1], optimizer=models[1].optimizer).restore(
        path
    ).assert_existing_objects_matched()
    for found, expected in zip(state(models[1]), state(models[0]), strict=True):
        np.testing.assert_array_equal(found, expected)
    losses = [m.fit(rows(), verbose=0).history["loss"][0] for m in models]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    for found, expected in zip(state(models[1]), state(models[0]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not IS_KERAS_3, reason="tfrs.Model counts it once for each replica")
def test_regularization_counts_once(two_replicas):
    states, logged = [], []
    for strategy in (one_replica(), two_replicas):
        model = compiled(strategy, regularizer=keras.regularizers.L2(0.1))
        history = model.fit(rows(), epochs=1, verbose=0).history
        logged.append(history["regularization_loss"][0])
        states.append(state(model))
    assert logged[0] > 0.1
    np.testing.assert_allclose(logged[1], logged[0], rtol=1e-4)
    for found, expected in zip(states[1], states[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
