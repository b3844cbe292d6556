"""Whatever Keras saves of a trained model and restores, it restores whole."""

import numpy as np
import pytest
import tensorflow as tf
from string_towers import Scoring, TwoTower, compiled, interactions, trained

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.models import input_specs


def arrays(variables):
    variables = variables() if callable(variables) else variables  # Keras 2
    return [np.asarray(variable.numpy()) for variable in variables]


def assert_equal(found, expected, rtol=0.0):
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, rtol=rtol, atol=rtol)


def assert_same(restored, model, optimizer=True):
    found, expected = arrays(restored.weights), arrays(model.weights)
    assert len(found) == len(expected) >= 6  # two towers, the estimator's four
    if optimizer:
        found += arrays(restored.optimizer.variables)
        expected += arrays(model.optimizer.variables)
    assert_equal(found, expected)
    for tower in ("user_tower", "item_tower"):
        ids = tf.constant(["1", "7", "none"])
        np.testing.assert_array_equal(
            getattr(restored, tower)(ids), getattr(model, tower)(ids)
        )
    batches = interactions(batch=7)
    assert restored.evaluate(batches, verbose=0) == model.evaluate(batches, verbose=0)


@pytest.fixture(scope="module")
def model():
    """Trained; not to be changed."""
    return trained(Scoring)


def test_a_model_saved_whole(model, tmp_path):
    model.save(tmp_path / "model.keras")
    assert_same(keras.models.load_model(tmp_path / "model.keras"), model)


@pytest.mark.slow(reason="a checkpoint of the memory is fast, and a saved model")
def test_what_the_task_remembers_is_saved_and_trains_on(tmp_path):
    model = trained(with_memory=True)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert_same(restored, model)
    for each in (model, restored):
        each.fit(interactions(), verbose=0)
    assert_equal(arrays(restored.weights), arrays(model.weights), rtol=1e-5)


@pytest.mark.slow(reason="weights are loaded in a fast test, into a trained model")
def test_weights_into_a_model_that_was_only_evaluated(model, tmp_path):
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    restored = compiled()
    restored.evaluate(interactions().take(1), verbose=0)
    restored.load_weights(path)
    assert_same(restored, model, optimizer=False)


class AfterEpoch(keras.callbacks.Callback):
    """Keeps the weights that the model had after each epoch."""

    def __init__(self):
        super().__init__()
        self.weights, self.losses = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(arrays(self.model.weights))
        self.losses.append(logs["val_loss"])


@pytest.mark.slow(reason="fits for some epochs and saves a model after each")
def test_checkpoints_and_early_stopping(tmp_path):
    """All of them keep the epoch whose `val_loss` is the highest: an early one."""
    paths = [str(tmp_path / name) for name in ("best.keras", "best.weights.h5")]
    best = {"monitor": "val_loss", "mode": "max"}
    after = AfterEpoch()
    callbacks = [
        after,
        *(
            keras.callbacks.ModelCheckpoint(
                path,
                save_best_only=True,
                save_weights_only=path.endswith("h5"),
                **best,
            )
            for path in paths
        ),
        keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True, **best),
    ]
    stopped = trained(epochs=6, callbacks=callbacks)
    epoch = int(np.argmax(after.losses))
    assert epoch < len(after.losses) - 1
    assert_equal(arrays(stopped.weights), after.weights[epoch])
    whole, by_weights = keras.models.load_model(paths[0]), compiled()
    by_weights.fit(interactions(), verbose=0)
    by_weights.load_weights(paths[1])
    for restored in (whole, by_weights):
        assert_equal(arrays(restored.weights), after.weights[epoch])
        assert_same(restored, stopped, optimizer=False)


class Epochs(keras.callbacks.Callback):
    """Notes which epochs begin, and may interrupt one."""

    def __init__(self, interrupted=None):
        super().__init__()
        self.begun, self.interrupted = [], interrupted

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.interrupted:
            raise KeyboardInterrupt
        self.begun.append(epoch)


@pytest.mark.slow(reason="fits, saves and loads another model")
def test_backup_and_restore(tmp_path):
    """Interrupted after two epochs of four: a new object goes on from there."""
    keras.utils.set_random_seed(3)
    whole = compiled()
    whole.fit(interactions(), epochs=4, verbose=0)
    keras.utils.set_random_seed(3)
    cut = compiled()
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(KeyboardInterrupt):
        cut.fit(interactions(), epochs=4, verbose=0, callbacks=[backup, Epochs(2)])
    resumed, epochs = compiled(), Epochs()
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    resumed.fit(interactions(), epochs=4, verbose=0, callbacks=[backup, epochs])
    assert epochs.begun == [2, 3]
    assert_equal(arrays(resumed.weights), arrays(whole.weights), rtol=1e-4)


@pytest.mark.slow(reason="fits, saves and loads another model")
def test_a_clone_takes_the_weights(model):
    clone = keras.models.clone_model(model)
    clone.build_from_config(model.get_build_config())
    assert clone.built
    clone.compile(keras.optimizers.Adam(0.05))
    clone.set_weights(model.get_weights())
    assert_same(clone, model, optimizer=False)


def test_the_summary_counts_what_towers_hold(model):
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(map(str, lines))
    assert str(13 * 8) in text and str(31 * 8) in text
    assert model.count_params() >= 13 * 8 + 31 * 8


def test_a_model_with_a_call_predicts_and_is_exported(model, tmp_path):
    rows = interactions()
    expected = np.concatenate(
        [
            np.sum(
                np.float64(model.user_tower(batch["user"]))
                * np.float64(model.item_tower(batch["item"])),
                axis=1,
            )
            for batch in rows
        ]
    )
    np.testing.assert_allclose(model.predict(rows, verbose=0), expected, rtol=1e-5)
    model.export(str(tmp_path / "exported"))
    served = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(served.serve(next(iter(rows))), expected[:16], rtol=1e-5)


@pytest.mark.slow(reason="fits, saves and loads another model")
def test_a_model_without_a_call_cannot_be_called(tmp_path):
    model = trained(epochs=1)
    with pytest.raises(NotImplementedError, match="call"):
        model.predict(interactions(), verbose=0)
    # Keras 2 says to call it first.
    with pytest.raises((NotImplementedError, ValueError), match="call"):
        model.export(str(tmp_path))


def test_a_model_that_was_called_before_it_is_trained():
    """Calling it builds it as Keras does; training must not undo that."""
    model = compiled(Scoring)
    batch = next(iter(interactions()))
    before = model(batch).numpy()
    assert model.built
    np.testing.assert_array_equal(model.predict_on_batch(batch), before)
    model.fit(interactions(), verbose=0)
    assert np.abs(model(batch).numpy() - before).max() > 0.01


@pytest.mark.slow(reason="fits a model for each trial of a tuner")
def test_a_tuner_loads_the_best_model(tmp_path):
    if not IS_KERAS_3:
        pytest.skip("KerasTuner runs the package keras, which is Keras 3")
    reason = "needs the package keras-tuner, of the extra `test`"
    tuners = pytest.importorskip("keras_tuner", reason=reason)

    def build(choices):
        model = TwoTower()
        model.compile(keras.optimizers.Adam(choices.Choice("rate", [1e-6, 0.05])))
        return model

    tuner = tuners.GridSearch(
        build, objective="val_loss", directory=tmp_path, project_name="towers"
    )
    batches = interactions()
    tuner.search(batches, epochs=2, validation_data=batches, verbose=0)
    assert tuner.get_best_hyperparameters()[0].get("rate") == 0.05
    best = tuner.get_best_models()[0]
    loss = best.evaluate(batches, verbose=0, return_dict=True)["loss"]
    scores = [trial.score for trial in tuner.oracle.get_best_trials(2)]
    assert loss == pytest.approx(scores[0], rel=1e-5) and loss < scores[1]


@pytest.mark.slow(reason="fits on two replicas and loads on one")
def test_a_model_of_two_replicas(two_replicas, tmp_path):
    path = str(tmp_path / "model.keras")
    strategy = two_replicas
    with strategy.scope():
        model = compiled()
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    model.fit(interactions(), verbose=0, callbacks=[backup])
    model.save(path)
    with strategy.scope():
        restored = keras.models.load_model(path)
    assert_same(restored, model)
    alone = keras.models.load_model(path)
    assert_equal(arrays(alone.weights), arrays(model.weights))


class WithHead(TwoTower):
    """Calls one of its layers while training only."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(8)

    def compute_loss(self, features, training=False):
        loss = super().compute_loss(features, training)
        if training:
            loss += tf.reduce_sum(self.head(self.user_tower(features["user"])))
        return loss


def test_weights_of_layers_that_were_never_called_are_not_passed_over(tmp_path):
    path = str(tmp_path / "model.weights.h5")
    saved = compiled(WithHead)
    saved.fit(interactions().take(1), verbose=0)
    saved.save_weights(path)
    fresh = compiled(WithHead)
    with pytest.raises(ValueError, match="no weights yet.*evaluate.*load_weights"):
        fresh.load_weights(path)
    assert not fresh.built
    fresh.test_step(next(iter(interactions())))  # Without the head.
    with pytest.raises(ValueError, match="8 weights, WithHead 6.*never called"):
        fresh.load_weights(path)
    fresh.fit(interactions().take(1), verbose=0)
    fresh.load_weights(path)
    assert_equal(arrays(fresh.weights), arrays(saved.weights))


def test_a_model_that_cannot_be_rebuilt_says_so():
    specs = {"person": tf.TensorSpec([None], tf.string)}
    config = {"features": input_specs.to_config(specs), "training": True}
    with pytest.raises(ValueError, match="person.*cannot be restored.*load_weights"):
        TwoTower().build_from_config(config)


def test_specs_of_all_kinds_come_back():
    features = (
        {
            "dense": tf.zeros([3, 4]),
            "ragged": tf.ragged.constant([["a"], [], ["b", "c"]]),
            "sparse": tf.sparse.from_dense([[0, 1], [2, 0]]),
            "none": None,
        },
        tf.constant(1.0),
    )
    specs = input_specs.specs_of(features)
    assert specs == (
        {
            "dense": tf.TensorSpec([None, 4], tf.float32),
            "ragged": tf.RaggedTensorSpec([None, None], tf.string, 1),
            "sparse": tf.SparseTensorSpec([None, 2], tf.int32),
            "none": None,
        },
        tf.TensorSpec([], tf.float32),
    )
    assert input_specs.from_config(input_specs.to_config(specs)) == specs
    assert input_specs.specs_of(specs) == specs
