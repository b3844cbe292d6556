"""Mined tables that Keras's `BackupAndRestore` keeps with the model."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from refresh_model import (
    USERS,
    Recorder,
    compiled,
    fit,
    interactions,
    refresher,
    sampler,
)

from tfrs_negatives._keras import IS_KERAS_3, keras

STEPS, EPOCHS = {"every_steps": 3}, {"every_epochs": 2}
SLOW = pytest.mark.slow(reason="fits, saves and restores another model")


class CutOff(keras.callbacks.Callback):
    """Interrupts an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def built(mined):
    keras.utils.set_random_seed(3)
    model = compiled()
    model.evaluate(interactions(mined, 1), verbose=0)
    return model


def train(folder, mined, how, backup_first, cut_off=None):
    """Fits four epochs; returns the model and what the table was before each step."""
    model, recorder = built(mined), Recorder(mined)
    callbacks = [
        refresher(mined, model, **how),
        keras.callbacks.BackupAndRestore(str(folder)),
    ]
    callbacks = callbacks[::-1] if backup_first else callbacks
    if cut_off is None:
        fit(model, mined, 4, *callbacks, recorder, epochs=4)
    else:
        with pytest.raises(KeyboardInterrupt):
            fit(model, mined, 4, *callbacks, recorder, CutOff(cut_off), epochs=4)
    return model, recorder


@pytest.mark.parametrize(
    ("how", "backup_first"),
    some_of(
        [(how, first) for how in (STEPS, EPOCHS) for first in (False, True)],
        [(EPOCHS, True)],
    ),
)
def test_training_resumes_with_the_table_it_had(tmp_path, how, backup_first):
    """In a new process, as far as objects go; nothing but the folder is left."""
    _, expected = train(tmp_path / "whole", sampler(), how, backup_first)
    train(tmp_path / "cut", sampler(), how, backup_first, cut_off=2)
    _, recorder = train(tmp_path / "cut", sampler(), how, backup_first)
    assert recorder.refreshed_at == expected.refreshed_at[8:]
    assert 0 not in recorder.refreshed_at
    # Draws of a pass are not what a backup keeps, so that later ones are others.
    np.testing.assert_array_equal(recorder.tables[0], expected.tables[8])


@SLOW
def test_two_samplers_and_a_fit_that_was_cut_off_before(tmp_path):
    """Each finds its own table again, in the same process too."""
    tables = []
    mined, others = sampler(), sampler()
    model = built(mined)
    for cut_off in (1, 2):
        mined, others = sampler(), sampler()
        fit_cut = [
            refresher(mined, model, every_steps=3),
            refresher(others, model, every_steps=2),
            keras.callbacks.BackupAndRestore(str(tmp_path)),
            Recorder(mined),
            Recorder(others),
            CutOff(cut_off),
        ]
        with pytest.raises(KeyboardInterrupt):
            fit(model, mined, 4, *fit_cut, epochs=4)
        tables.append([recorder.refreshed_at for recorder in fit_cut[3:5]])
    assert tables == [[[0, 0, 0, 3], [0, 0, 2, 2]], [[3, 3, 6, 6], [4, 4, 6, 6]]]


def test_a_model_is_what_it_was_after_fit():
    mined = sampler()
    model = built(mined)
    names = set(dir(model))
    weights, layers = len(model.weights), list(model.layers)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append((len(model.weights), list(model.layers)))

    fit(model, mined, 2, refresher(mined, model, every_steps=1), Look())
    assert seen == [(weights, layers)] * 2
    assert not [name for name in set(dir(model)) - names if "mined" in name]


@SLOW
def test_what_was_saved_with_a_table_is_loaded_without(tmp_path):
    mined = sampler()
    model = built(mined)
    path = str(tmp_path / "model.weights.h5")
    saved = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    fit(model, mined, 2, refresher(mined, model, every_steps=1), saved)
    other = built(mined)
    other.load_weights(path)
    for one, expected in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(expected))


@pytest.mark.skipif(not IS_KERAS_3, reason="Keras 2 does not say what it lacks")
def test_a_backup_without_a_table_is_told(tmp_path):
    mined = sampler()
    backup = keras.callbacks.BackupAndRestore(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        fit(built(mined), mined, 2, backup, CutOff(1), epochs=2)
    model, backup = built(mined), keras.callbacks.BackupAndRestore(str(tmp_path))
    with pytest.warns(UserWarning, match="holds no mined table.*RefreshNegatives"):
        fit(model, mined, 2, refresher(mined, model, every_steps=9), backup, epochs=2)


@SLOW
def test_a_table_of_other_rows_is_refused(tmp_path):
    train(tmp_path, sampler(), STEPS, False, cut_off=1)
    other = sampler()
    other.table = tf.Variable(
        np.zeros([USERS - 1, 2], np.int32), shape=[USERS - 1, None]
    )
    with pytest.raises(ValueError, match=r"11 rows.*of 12|hape"):
        train(tmp_path, other, STEPS, False)
