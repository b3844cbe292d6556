"""`fit` on two replicas is `fit` on one, under both Kerases."""

import numpy as np
import pytest
import tensorflow as tf
from grids import only_under
from replicated_two_tower import compiled, one_replica, rows, state

from tfrs_negatives._keras import IS_KERAS_3, keras


@only_under(keras_3=True, reason="losses of two replicas are fast under Keras 2")
@pytest.mark.parametrize(
    "steps_per_execution",
    [
        1,
        pytest.param(
            4, marks=pytest.mark.slow(reason="one step in an execution is fast")
        ),
    ],
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


@pytest.mark.slow(reason="fits on one replica and on two")
def test_local_negatives_are_another_loss(two_replicas):
    """Half of the negatives and batch statistics alike: the loss is lower."""
    losses = [
        compiled(strategy, global_negatives=False)
        .fit(rows(), epochs=1, verbose=0)
        .history["loss"][0]
        for strategy in (one_replica(), two_replicas)
    ]
    assert losses[1] < losses[0] - 0.1


@pytest.mark.slow(reason="fits on one replica and on two")
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


@pytest.mark.slow(reason="fits on one replica and on two")
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
