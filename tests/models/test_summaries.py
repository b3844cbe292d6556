"""The histogram of log q that TensorBoard gets, at each n-th step of any `fit`."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from string_towers import TwoTower, compiled, interactions

from tfrs_negatives import _tensorboard
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import StaticFrequency
from tfrs_negatives.tasks import Retrieval

STEPS = 6  # In an epoch of 96 rows in batches of 16.


def histograms(folder):
    """Steps of the histograms of log q in a folder, and what these hold."""
    steps, values = [], []
    for path in sorted(folder.rglob("*tfevents*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag.endswith("log_q"):
                    steps.append(event.step)
                    values.append(tf.make_ndarray(value.tensor))
    return steps, values


def fit(model, folder=None, update_freq=1, epochs=1):
    callbacks = []
    if folder is not None:
        callbacks = [keras.callbacks.TensorBoard(str(folder), update_freq=update_freq)]
    model.fit(interactions(), epochs=epochs, verbose=0, callbacks=callbacks)


@pytest.mark.parametrize(
    "update_freq", some_of([1, 2, 5], [2], reason="another frequency is fast")
)
def test_every_nth_step(tmp_path, update_freq):
    model = compiled()
    fit(model, tmp_path, update_freq, epochs=2)
    steps, values = histograms(tmp_path)
    assert abs(len(steps) - 2 * STEPS / update_freq) < 1
    assert all(np.diff(steps) == update_freq)
    # All 16 rows of each batch.
    assert all(buckets[:, 2].sum() == 16 for buckets in values)


@pytest.mark.parametrize("installed", [True, False])
def test_without_tensorboard_nothing_is_written(monkeypatch, tmp_path, installed):
    """Of which TensorFlow 2.21 can do without, and then raises an error."""
    monkeypatch.setattr(_tensorboard, "_has_tensorboard", lambda: installed)
    with tf.summary.create_file_writer(str(tmp_path)).as_default(step=3):
        _tensorboard.histogram("log_q", tf.range(16.0))
    assert histograms(tmp_path)[0] == ([3] if installed else [])


@pytest.mark.slow(reason="fits a model and reads its logs")
def test_after_a_fit_without_and_in_folders_of_their_own(tmp_path):
    model = compiled()
    fit(model)
    fit(model, tmp_path / "first", 2)
    fit(model)
    fit(model, tmp_path / "second", 3)
    first, second = (histograms(tmp_path / name)[0] for name in ("first", "second"))
    assert len(first) == STEPS / 2 and min(first) >= STEPS
    assert len(second) == STEPS / 3 and min(second) >= 3 * STEPS


def test_they_hold_log_q_of_the_batch(tmp_path):
    model = TwoTower()
    counts = np.arange(1.0, 31.0)
    ids = np.array([str(i) for i in range(30)])
    model.task = Retrieval(sampling_correction=StaticFrequency((ids, counts)))
    model.compile(keras.optimizers.SGD(0.1))
    fit(model, tmp_path)
    batches = [np.int64(batch["item"].numpy()) for batch in interactions()]
    _, values = histograms(tmp_path)
    for buckets, items in zip(values, batches, strict=True):
        log_q = np.log(counts[items] / counts.sum())
        assert buckets[0, 0] == pytest.approx(log_q.min(), rel=1e-5)
        assert buckets[-1, 1] == pytest.approx(log_q.max(), rel=1e-5)


@pytest.mark.slow(reason="fits a model and reads its logs")
def test_what_the_user_writes_is_recorded_too(tmp_path):
    class Writing(TwoTower):
        def compute_loss(self, features, training=False):
            loss = super().compute_loss(features, training)
            tf.summary.histogram("of_the_user/log_q", tf.reshape(loss, [1]))
            return loss

    model = compiled(Writing)
    fit(model)
    fit(model, tmp_path, 2)
    steps, _ = histograms(tmp_path)
    assert len(steps) == 2 * STEPS / 2


@pytest.mark.slow(reason="fits a model and reads its logs")
def test_no_correction_no_histogram(tmp_path):
    model = TwoTower()
    model.task = Retrieval()
    model.compile(keras.optimizers.SGD(0.1))
    fit(model, tmp_path)
    assert histograms(tmp_path) == ([], [])
    assert list(tmp_path.rglob("*tfevents*"))


@pytest.mark.slow(reason="fits on two replicas")
def test_on_two_replicas(two_replicas, tmp_path):
    with two_replicas.scope():
        model = compiled()
    fit(model, tmp_path, 2)
    steps, values = histograms(tmp_path)
    # The first replica's half of the batch.
    assert len(steps) == STEPS / 2 and all(v[:, 2].sum() == 8 for v in values)
