import pytest
import tensorflow as tf
from grids import some_of
from tensorflow.python.autograph.pyct import transpiler

from tfrs_negatives import layers, models, tasks
from tfrs_negatives._keras import IS_KERAS_3, keras


class TwoTower(models.Model):
    def __init__(self, task):
        super().__init__()
        self.user_tower = keras.layers.Embedding(8, 4)
        self.item_tower = keras.layers.Embedding(8, 4)
        self.task = task

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
            candidate_ids=features["item"],
            query_keys=features["user"],
            training=training,
        )


def fit(task):
    rows = {"user": tf.constant([0, 1, 2, 2]), "item": tf.constant([3, 4, 5, 5])}
    model = TwoTower(task)
    model.compile(keras.optimizers.SGD(0.1))
    return model.fit(tf.data.Dataset.from_tensors(rows), verbose=0).history["loss"]


@pytest.fixture
def converted(monkeypatch):
    """Names of the modules whose functions autograph converts."""
    modules = []
    convert = transpiler.PyToPy.transform_function

    def noting(self, function, context):
        modules.append(function.__module__)
        return convert(self, function, context)

    monkeypatch.setattr(transpiler.PyToPy, "transform_function", noting)
    return modules


@pytest.mark.parametrize(
    "correction", some_of(["streaming", "static", "batches alone"], ["streaming"])
)
def test_no_code_of_the_package_is_converted(correction, converted):
    frequency = layers.StreamingFrequency(64)
    if correction == "static":
        frequency = layers.StaticFrequency({3: 1, 4: 1, 5: 2})
    if correction != "batches alone":
        frequency = layers.ScaledLogQ(
            layers.MixedLogQ([frequency, -2.0]), strength=0.5, floor=0.01
        )
    fit(
        tasks.Retrieval(
            remove_accidental_hits=True,
            sampling_correction=frequency,
            memory=layers.CrossBatchMemory(8, 4, num_keys=1),
        )
    )
    # Keras 2 converts its own step; Keras 3 nothing.
    assert bool(converted) is not IS_KERAS_3
    assert [name for name in converted if name.startswith("tfrs_negatives")] == []


class HalfOfLongLists(keras.layers.Layer):
    """log q that a user wrote, with an `if` over a tensor."""

    def call(self, ids, num_positives=None, num_columns=None, training=False):
        if tf.reduce_sum(ids) > 3:
            log_q = tf.fill(tf.shape(ids), -1.0)
        else:
            log_q = tf.fill(tf.shape(ids), -2.0)
        return log_q


class Mixing(HalfOfLongLists):
    """One with the methods that other layers of the package have."""

    def batch_log_q(self, ids):
        return HalfOfLongLists.call(self, ids)

    drawn_log_q = batch_log_q


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that a user wrote, with an `if` over a tensor."""

    def __call__(self, step):
        if step < 10:
            rate = 0.5
        else:
            rate = 1.0
        return rate


class CorpusMetric(keras.layers.Layer):
    """A corpus metric that a user wrote, with an `if` over a tensor."""

    def update_state(self, queries, candidates, true_candidate_ids, sample_weight):
        if tf.reduce_sum(queries) > 0:
            queries = -queries
        return queries


class Mean(keras.losses.Loss):
    """A loss that a user wrote, with an `if` over a tensor."""

    def call(self, labels, logits):
        if tf.reduce_sum(labels) > 0:
            value = tf.reduce_mean(logits, axis=-1)
        else:
            value = tf.zeros(tf.shape(logits)[0])
        return value


@pytest.mark.skipif(IS_KERAS_3, reason="its `fit` converts nothing")
@pytest.mark.parametrize("mixed", some_of([False, True], [True]))
def test_layers_and_losses_of_users_are_converted(mixed):
    correction = HalfOfLongLists()
    if mixed:
        correction = layers.MixedLogQ([correction, -2.0])
    assert len(fit(tasks.Retrieval(sampling_correction=correction))) == 1
    assert len(fit(tasks.Retrieval(Mean()))) == 1


CONVERTED = {
    "schedule": lambda: layers.ScaledLogQ(layers.StreamingFrequency(64), Warmup()),
    "source": lambda: layers.ScaledLogQ(Mixing(), 0.5, floor=0.1),
    "drawn": lambda: layers.MixedLogQ([-1.0, Mixing()]),
    "correction": Mixing,
}


@pytest.mark.skipif(IS_KERAS_3, reason="its `fit` converts nothing")
@pytest.mark.parametrize(
    "correction",
    some_of(CONVERTED, ["schedule"], reason="each is a model that is fitted"),
)
def test_what_the_package_calls_without_keras_is_converted(correction):
    memory = layers.CrossBatchMemory(8, 4, num_keys=1)
    task = tasks.Retrieval(sampling_correction=CONVERTED[correction](), memory=memory)
    assert len(fit(task)) == 1


@pytest.mark.skipif(IS_KERAS_3, reason="its `fit` converts nothing")
def test_corpus_metrics_of_users_are_converted():
    assert len(fit(tasks.Retrieval(metrics=CorpusMetric(), eval_by_scores=True))) == 1


def test_eager_calls_convert_nothing(converted):
    """Not even where `training` is a tensor: eager code reads it."""
    embeddings, ids = tf.eye(4), tf.range(4)
    frequency = layers.ScaledLogQ(layers.StreamingFrequency(64), 0.5)
    task = tasks.Retrieval(sampling_correction=frequency)
    plain = task(embeddings, embeddings, candidate_ids=ids, training=False)
    converted.clear()
    given = tf.constant(False)
    loss = task(embeddings, embeddings, candidate_ids=ids, training=given)
    assert float(loss) == float(plain)
    assert [name for name in converted if name.startswith("tfrs_negatives")] == []
