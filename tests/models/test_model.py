import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.layers import MixedLogQ, StreamingFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.samplers import Uniform
from tfrs_negatives.tasks import Retrieval
from tfrs_negatives.teachers import Suggestions

USERS, ITEMS, DIM = 12, 30, 8


class TwoTower(Model):
    def __init__(self, regularizer=None, **options):
        super().__init__()
        self.user_tower = self._tower(USERS, None)
        self.item_tower = self._tower(ITEMS, regularizer)
        self.task = Retrieval(
            temperature=0.5,
            batch_metrics=[keras.metrics.TopKCategoricalAccuracy(5, name="top_5")],
            **options,
        )

    def _tower(self, size, regularizer):
        init = keras.initializers.RandomNormal(seed=3)
        return keras.Sequential(
            [
                keras.layers.StringLookup(vocabulary=[str(i) for i in range(size)]),
                keras.layers.Embedding(size + 1, DIM, init, regularizer),
            ]
        )

    def compute_loss(self, features, training=False):
        items = features["item"]
        if "negatives" in features:
            items = tf.concat([items, features["negatives"]], axis=0)
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(items),
            candidate_ids=items,
            query_keys=features["user"],
            training=training,
        )


def interactions(rows=100, batch=16):
    """User u likes items with the same remainder by 6."""
    rng = np.random.default_rng(2)
    users = rng.integers(0, USERS, rows)
    items = users % 6 + 6 * rng.integers(0, ITEMS // 6, rows)
    columns = {"user": users.astype(str), "item": items.astype(str)}
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch)


@pytest.mark.slow(reason="test_two_tower learns, and a train step is exact")
def test_fit_learns_with_everything_switched_on():
    sampler = Uniform(np.arange(ITEMS).astype(str))
    log_q = MixedLogQ([StreamingFrequency(1000), sampler.log_q])
    model = TwoTower(sampling_correction=log_q, remove_accidental_hits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    # 100 rows: the last batch is a partial one.
    history = model.fit(
        sampler.attach(interactions(), 8, seed=1), epochs=8, verbose=0
    ).history
    assert {"loss", "regularization_loss", "total_loss", "top_5"} <= set(history)
    assert history["top_5"][-1] > 1.5 * history["top_5"][0]
    seen = log_q.sources[0].variables[0]
    assert int(seen.numpy()) == 800
    logs = model.evaluate(
        sampler.attach(interactions(), 8, seed=1), verbose=0, return_dict=True
    )
    assert logs["top_5"] > 0.5
    assert int(seen.numpy()) == 800


@pytest.mark.slow(reason="says once more what test_fit_checkpoint_and_one_trace says")
def test_one_trace_for_all_batches():
    traces = []

    class Counting(TwoTower):
        def compute_loss(self, features, training=False):
            traces.append(training)
            return super().compute_loss(features, training)

    model = Counting()
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    model.fit(interactions(), epochs=2, verbose=0)
    # Keras 3 builds the model first; TensorFlow traces once with the full batch's shape
    # or a relaxed one.
    assert len(traces) <= 2 + IS_KERAS_3
    count = len(traces)
    model.fit(interactions(), epochs=2, verbose=0)
    assert len(traces) == count


def test_regularization_is_part_of_the_total():
    model = TwoTower(regularizer=keras.regularizers.L2(0.01))
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    model.evaluate(interactions(16), verbose=0)
    table = model.item_tower.layers[-1].embeddings
    logs = model.evaluate(interactions(16), verbose=0, return_dict=True)
    expected = 0.01 * np.sum(np.square(table.numpy()))
    assert logs["regularization_loss"] == pytest.approx(expected, rel=1e-4)
    assert logs["total_loss"] == pytest.approx(
        logs["loss"] + logs["regularization_loss"], rel=1e-5
    )


def test_a_train_step_descends_the_gradient():
    model = TwoTower()
    model.compile(optimizer=keras.optimizers.SGD(0.5))
    batch = next(iter(interactions()))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    variables = model.trainable_variables
    before = [v.numpy() for v in variables]
    gradients = [
        tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, variables)
    ]
    model.fit(interactions().take(1), verbose=0)
    for variable, value, gradient in zip(variables, before, gradients, strict=True):
        np.testing.assert_allclose(variable, value - 0.5 * gradient, atol=1e-5)


@pytest.mark.slow(reason="checkpoints of the task and of every layer are fast")
def test_weights_save_and_load(tmp_path):
    options = {"sampling_correction": StreamingFrequency(100)}
    model = TwoTower(**options)
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    model.fit(interactions(), verbose=0)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "model")
    other = TwoTower(sampling_correction=StreamingFrequency(100))
    other.compile(optimizer=keras.optimizers.Adam(0.05))
    other.evaluate(interactions(), verbose=0)
    tf.train.Checkpoint(model=other).restore(path).expect_partial()
    assert model.evaluate(interactions(), verbose=0) == pytest.approx(
        other.evaluate(interactions(), verbose=0)
    )


def test_compute_loss_must_be_written():
    model = Model()
    with pytest.raises(NotImplementedError, match="compute_loss"):
        model.compute_loss({})


class WithTemperature(TwoTower):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature
        self.task = Retrieval(temperature=temperature)


@pytest.mark.skipif(not IS_KERAS_3, reason="Keras 2 trains a `tf.Variable`")
def test_a_variable_that_keras_does_not_hold_is_named():
    model = WithTemperature(tf.Variable(1.0, name="of_the_user"))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    with pytest.warns(UserWarning, match="not trained or saved.*of_the_user"):
        model.fit(interactions(), verbose=0)
    assert model.temperature.numpy() == 1.0


@pytest.mark.skipif(not IS_KERAS_3, reason="Keras 2 has no such variables")
def test_a_variable_of_keras_is_trained(recwarn):
    model = WithTemperature(keras.Variable(1.0))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    model.fit(interactions(), verbose=0)
    assert model.temperature.numpy() != 1.0
    assert not any("not trained" in str(warning.message) for warning in recwarn)


@pytest.mark.slow(reason="fits two models and evaluates them")
@pytest.mark.skipif(not IS_KERAS_3, reason="Keras 2 and TFRS hand a tuple on")
def test_a_batch_by_itself():
    """Keras 3 adds targets and weights to it, None both."""
    model, whole = TwoTower(), TwoTower()
    batch = next(iter(interactions()))
    for each in (model, whole):
        each.compile(optimizer=keras.optimizers.SGD(0.5))
    whole.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    model.train_on_batch(batch)
    for found, expected in zip(model.weights, whole.weights, strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-6)
    logs = [
        model.test_on_batch(batch, return_dict=True),
        whole.evaluate(
            tf.data.Dataset.from_tensors(batch), verbose=0, return_dict=True
        ),
    ]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-5)


@pytest.mark.slow(reason="trains on targets whose losses and gradients are fast")
@pytest.mark.parametrize("ragged", [True, False])
def test_fit_learns_from_targets_that_are_attached_to_batches(ragged):
    users, items = np.arange(USERS).astype(str), np.arange(ITEMS).astype(str)
    suggested = np.arange(USERS)[:, np.newaxis] % 6 + 6 * np.arange(2)
    weights = np.tile([1.0, 0.5], (USERS, 1))
    if ragged:
        weights[3] = 0  # Nothing is known of this user.
    table = Suggestions(users, suggested, weights, vocabulary=items)

    class Distilled(TwoTower):
        def compute_loss(self, features, training=False):
            columns = tf.concat([features["item"], items], axis=0)
            return self.task(
                self.user_tower(features["user"]),
                self.item_tower(columns),
                candidate_ids=columns,
                target_ids=features["target_ids"],
                target_weights=features["target_weights"],
                training=training,
            )

    model = Distilled(remove_accidental_hits=True, positive="outside")
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    dataset = table.attach(interactions(), "user", ragged=ragged)
    losses = model.fit(dataset, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.95 * losses[0]
