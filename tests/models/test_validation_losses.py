"""What `evaluate` logs is a mean over all rows, however they are cut into batches.

In-batch negatives differ from batch to batch, so here each row has negatives of its own
and nothing else: its loss does not depend on the other rows.
"""

import numpy as np
import pytest
import tensorflow as tf
from grids import only_under

from tfrs_negatives._keras import keras
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval
from tfrs_negatives.tasks.noted_losses import note

ROWS, OWN, DIM = 100, 3, 4


def columns(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"query": [DIM], "item": [DIM], "others": [OWN, DIM], "weight": []}
    drawn = {k: rng.normal(size=[ROWS, *v]) for k, v in shapes.items()}
    drawn["weight"] = rng.uniform(0.2, 3.0, ROWS)
    drawn["rating"] = rng.uniform(1, 5, ROWS)
    drawn["key"] = np.zeros(ROWS)  # Of one user: no other row's item is a negative.
    return {k: v.astype(np.float32) for k, v in drawn.items()}


def row_losses(data):
    """Softmax cross-entropy of each row's item against its own negatives."""
    query, item, others = (np.float64(data[k]) for k in ("query", "item", "others"))
    positive = np.sum(query * item, axis=1)
    negative = np.einsum("bd,bmd->bm", query, others)
    scores = np.concatenate([positive[:, None], negative], axis=1)
    top = scores.max(axis=1)
    return np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - positive


class Own(Model):
    """Scores the features themselves; `combine` makes the loss of the tasks'."""

    def __init__(self, combine, **options):
        super().__init__()
        self.combine = combine
        self.scale = keras.layers.Dense(1, kernel_initializer="ones")
        self.task = Retrieval(**options)

    def retrieval(self, features, weight=None, task=None):
        return (task or self.task)(
            features["query"],
            features["item"],
            sample_weight=weight,
            query_keys=tf.cast(features["key"], tf.int64),
            negative_embeddings=features["others"],
        )

    def compute_loss(self, features, training=False):
        return self.combine(self, features)


def evaluated(model, data, batch):
    batches = tf.data.Dataset.from_tensor_slices(data).batch(batch)
    return model.evaluate(batches, verbose=0, return_dict=True)


def plain(model, features):
    return model.retrieval(features)


def weighted(model, features):
    return model.retrieval(features, features["weight"])


def rating_mean(features):
    return tf.reduce_mean(tf.square(features["rating"] - 2.0))


def mean_of(values, weights=None):
    return np.average(np.float64(values), weights=weights)


DATA = columns()
LOSSES = row_losses(DATA)
WEIGHTS = np.float64(DATA["weight"])
RATINGS = mean_of(np.square(np.float64(DATA["rating"]) - 2.0))
CASES = {
    "sum": ({}, plain, mean_of(LOSSES)),
    "weighted sum": ({}, weighted, mean_of(LOSSES, WEIGHTS)),
    "mean": ({"reduction": "sum_over_batch_size"}, plain, mean_of(LOSSES)),
    "weighted mean": (
        {"reduction": "mean_with_sample_weight"},
        weighted,
        mean_of(LOSSES, WEIGHTS),
    ),
    "weights over rows": (
        {"reduction": "sum_over_batch_size"},
        weighted,
        np.sum(WEIGHTS * LOSSES) / ROWS,
    ),
    "reduced by the user": (
        {"reduction": "none"},
        lambda m, f: tf.reduce_mean(m.retrieval(f)),
        mean_of(LOSSES),
    ),
    "no task": ({}, lambda m, f: rating_mean(f), RATINGS),
    "a sum and a mean": (
        {},
        lambda m, f: 0.5 * m.retrieval(f, f["weight"]) + 3.0 * rating_mean(f),
        0.5 * mean_of(LOSSES, WEIGHTS) + 3.0 * RATINGS,
    ),
    "the task twice": (
        {},
        lambda m, f: m.retrieval(f) + 2.0 * m.retrieval(f, f["weight"]),
        mean_of(LOSSES) + 2.0 * mean_of(LOSSES, WEIGHTS),
    ),
    "in a function": (
        {},
        lambda m, f: tf.function(lambda features: m.retrieval(features))(f),
        mean_of(LOSSES),
    ),
}


# The rest differ from these in how the task reduces, not in how terms are told apart.
QUICK = ("weighted sum", "weights over rows", "a sum and a mean", "in a function")


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            c,
            marks=()
            if c in QUICK
            else pytest.mark.slow(
                reason="each way to combine losses is a model of its own"
            ),
        )
        for c in CASES
    ],
)
def test_the_mean_over_all_rows(case, eagerly):
    options, combine, expected = CASES[case]
    model = Own(combine, **options)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=eagerly)
    logs = evaluated(model, DATA, 40 if eagerly else 33)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["total_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["regularization_loss"] == 0.0


def test_no_batch_size_changes_it():
    model = Own(plain)
    model.compile(keras.optimizers.SGD(0.1))
    for batch in (100, 50, 33, 11):
        loss = evaluated(model, DATA, batch)["loss"]
        assert loss == pytest.approx(mean_of(LOSSES), rel=1e-5), batch


@only_under(keras_3=False, reason="`fit` on two replicas is fast under Keras 3")
@pytest.mark.parametrize(
    "case",
    [
        "a sum and a mean",
        pytest.param(
            "weighted mean", marks=pytest.mark.slow(reason="fits on two replicas")
        ),
    ],
)
def test_on_two_replicas(two_replicas, case):
    """A last batch of one row leaves a replica none."""
    options, combine, expected = CASES[case]

    def share(model, features):
        # What is no task's is, on each replica, its rows' share.
        all_rows = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, tf.size(features["rating"])
        )
        total = tf.reduce_sum(tf.square(features["rating"] - 2.0))
        part = total / tf.cast(all_rows, tf.float32)
        return 0.5 * model.retrieval(features, features["weight"]) + 3.0 * part

    with two_replicas.scope():
        model = Own(share if case == "a sum and a mean" else combine, **options)
        model.compile(keras.optimizers.SGD(0.1))
    logs = evaluated(model, DATA, 33)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["total_loss"] == pytest.approx(expected, rel=1e-5)


def test_steps_in_one_execution():
    model = Own(weighted)
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=3)
    expected = mean_of(LOSSES, WEIGHTS)
    assert evaluated(model, DATA, 11)["loss"] == pytest.approx(expected, rel=1e-5)


def test_each_evaluation_begins_anew():
    model = Own(plain)
    model.compile(keras.optimizers.SGD(0.1))
    first = evaluated(model, DATA, 50)["loss"]
    other = {name: values[:20] for name, values in DATA.items()}
    expected = mean_of(LOSSES[:20])
    assert evaluated(model, other, 50)["loss"] == pytest.approx(expected, rel=1e-5)
    assert evaluated(model, DATA, 33)["loss"] == pytest.approx(first, rel=1e-5)


def test_regularization_is_averaged_and_added():
    """That of activities differs from batch to batch: Keras takes the batch's mean."""

    def combine(model, features):
        model.scale(features["query"])
        return model.retrieval(features)

    model = Own(combine)
    model.scale = keras.layers.Dense(
        1, kernel_initializer="ones", activity_regularizer=keras.regularizers.L2(0.5)
    )
    model.compile(keras.optimizers.SGD(0.1))
    activities = np.float64(DATA["query"]).sum(axis=1)
    expected = 0.5 * np.mean(np.square(activities))
    logs = evaluated(model, DATA, 33)
    assert logs["regularization_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["total_loss"] == pytest.approx(expected + mean_of(LOSSES), rel=1e-5)


def test_training_logs_the_last_batch_as_tfrs_does():
    model = Own(lambda m, f: m.retrieval(f) + 0.0 * tf.reduce_sum(m.scale(f["query"])))
    model.compile(keras.optimizers.SGD(0.0))
    batches = tf.data.Dataset.from_tensor_slices(DATA).batch(33)
    logs = model.fit(batches, verbose=0, validation_data=batches).history
    assert logs["loss"] == pytest.approx([LOSSES[99:].sum()], rel=1e-5)
    assert logs["val_loss"] == pytest.approx([LOSSES.mean()], rel=1e-5)


def test_early_stopping_watches_the_mean():
    """The last batch alone, of one row, gets worse while the mean gets better."""
    logged = []

    class Shifting(Own):
        """What rows cost falls with each step, but for the last one's, which rises."""

        def __init__(self):
            super().__init__(None, reduction="none")
            self.step = tf.Variable(0.0, trainable=False)

        def compute_loss(self, features, training=False):
            last = tf.cast(features["key"] > 0, tf.float32)
            scale = 1.0 / (1.0 + self.step) + last * 2.0 * self.step
            return tf.reduce_mean(
                scale * tf.square(self.scale(features["query"])[:, 0])
            )

    class Advance(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.step.assign(float(epoch))

        def on_epoch_end(self, epoch, logs=None):
            logged.append(logs["val_loss"])

    data = {**DATA, "key": np.float32(np.arange(ROWS) == ROWS - 1)}
    batches = tf.data.Dataset.from_tensor_slices(data).batch(33)
    model = Shifting()
    model.compile(keras.optimizers.SGD(0.0))
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=1)
    model.fit(
        batches,
        epochs=4,
        validation_data=batches,
        verbose=0,
        callbacks=[Advance(), stopping],
    )
    assert len(logged) == 4 and logged == sorted(logged, reverse=True)


def test_a_model_is_one_of_tfrs(keras_2):
    import tensorflow_recommenders as tfrs

    assert isinstance(Own(plain), tfrs.Model)


def test_a_task_of_tfrs_is_a_sum(keras_2):
    import tensorflow_recommenders as tfrs

    class Swapped(Model):
        def __init__(self):
            super().__init__()
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, features, training=False):
            # Batches of one row and itself again: log 2 each.
            return self.task(features["query"] * 0.0, features["item"])

    model = Swapped()
    model.compile(keras.optimizers.SGD(0.1))
    for batch in (50, 25):
        logs = evaluated(model, DATA, batch)
        assert logs["loss"] == pytest.approx(np.log(batch), rel=1e-5)


def test_too_many_tasks():
    loss = tf.constant(1.0)
    many = Own(lambda *_: [note(loss, "sum", None, 1) for _ in range(33)] and loss)
    many.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    with pytest.raises(ValueError, match="calls 33 tasks: expected at most 32"):
        evaluated(many, DATA, 100)
