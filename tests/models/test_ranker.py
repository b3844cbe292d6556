"""Rankers on request-sorted batches: what batch normalisation does to them."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras

ROWS = 8


def batches():
    """Two requests each: a replica has the rows of one.

    The first feature is the request's, the second the row's; the label depends on the
    request alone.
    """
    rng = np.random.default_rng(0)
    steps = 40
    qualities = rng.permuted(np.tile([1.0, -1.0], (steps, 1)), axis=1)
    of_request = np.repeat(qualities + 0.1 * rng.normal(size=(steps, 2)), ROWS, axis=1)
    features = np.stack([of_request, rng.normal(size=of_request.shape)], axis=2)
    labels = rng.random(of_request.shape) < np.where(of_request > 0, 0.9, 0.1)
    rows = features.reshape(-1, 2), labels.reshape(-1, 1)
    rows = tuple(column.astype("float32") for column in rows)
    return tf.data.Dataset.from_tensor_slices(rows).batch(2 * ROWS)


def train(synchronized, strategy):
    """The output's kernel, all weights, and the log loss at inference."""
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.layers.Input([2]),
                keras.layers.BatchNormalization(
                    synchronized=synchronized, momentum=0.5, scale=False
                ),
                keras.layers.Dense(1, kernel_initializer="zeros"),
            ]
        )
        model.compile(
            keras.optimizers.SGD(0.5),
            keras.losses.BinaryCrossentropy(from_logits=True),
        )
    model.fit(batches(), epochs=2, shuffle=False, verbose=0)
    loss = model.evaluate(batches(), verbose=0)
    kernel = np.asarray(model.layers[-1].get_weights()[0])
    return kernel, [np.asarray(w) for w in model.get_weights()], loss


@pytest.mark.slow(reason="what Keras's own layer does, trained on two replicas")
def test_a_request_on_each_replica(two_replicas):
    """Normalised alone, a request's own feature is gone: nothing is learned from it.

    Synchronised, two replicas compute what one device does with both requests.
    """
    kernel, _, loss = train(False, two_replicas)
    assert abs(kernel[0, 0]) < 1e-3
    assert loss > 0.65  # log 2 is .693.

    kernel, together, loss = train(True, two_replicas)
    assert kernel[0, 0] > 1
    assert loss < 0.4  # Of the true probabilities: .325.
    _, one, _ = train(False, tf.distribute.OneDeviceStrategy("CPU:0"))
    for weight, expected in zip(together, one, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow(reason="a process that trains an example")
def test_the_example():
    script = pathlib.Path(__file__).parents[2] / "examples" / "ranker.py"
    done = subprocess.run(
        [sys.executable, script, "--requests", "1500", "--epochs", "2"],
        capture_output=True,
        text=True,
        check=True,
    )
    losses = [float(line.rsplit(" ", 1)[1]) for line in done.stdout.splitlines()]
    usual, corrected, synchronized, true = losses
    assert usual > corrected > synchronized > true
