"""In `fit` and `evaluate`, on one replica and on two, and in TFRS's own task."""

import corpus_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from grids import only_under, some_of

from tfrs_negatives import distribute
from tfrs_negatives._keras import keras
from tfrs_negatives.metrics import CorpusRecall
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

ITEMS, DIM = 30, 4
KS = (1, 5, 10)
NAMES = [f"factorized_top_k/top_{k}_categorical_accuracy" for k in KS]


class TwoTower(Model):
    """Embedding tables, and a corpus that is a dataset mapped by the item tower."""

    def __init__(self, by_id=True, task_class=Retrieval):
        super().__init__()
        init = [keras.initializers.RandomUniform(-1.0, 1.0, seed=s) for s in (1, 2)]
        self.user_tower = keras.layers.Embedding(ITEMS, DIM, init[0])
        self.item_tower = keras.layers.Embedding(ITEMS, DIM, init[1])
        self.item_tower.build([None])
        items = tf.data.Dataset.range(ITEMS).batch(8)
        corpus = items.map(lambda ids: (ids, self.item_tower(ids)))
        self.task = task_class(metrics=CorpusRecall(corpus, KS))
        self.by_id = by_id
        self.built = True  # For Keras 3 to save weights.

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
            candidate_ids=features["item"] if self.by_id else None,
            sample_weight=features["weight"],
            compute_metrics=not training,
        )


def rows(num_rows=23, batch=10):
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, ITEMS, num_rows) for name in ("user", "item")}
    columns["weight"] = rng.uniform(0.5, 2, num_rows).astype("float32")
    return columns, tf.data.Dataset.from_tensor_slices(columns).batch(batch)


def expected(model, columns):
    users, items = (
        np.asarray(tf.convert_to_tensor(tower.embeddings))
        for tower in (model.user_tower, model.item_tower)
    )
    rankings = [
        oracle.ranked_ids(users[u], items, range(ITEMS), {i})
        for u, i in zip(columns["user"], columns["item"], strict=True)
    ]
    positives = [{i} for i in columns["item"]]
    means = oracle.means(["hit_rate"], KS, rankings, positives, columns["weight"])
    return list(means.values())


def fitted(strategy, **options):
    columns, dataset = rows()
    with strategy.scope():
        model = TwoTower(**options)
        model.compile(keras.optimizers.SGD(0.5))
    history = model.fit(dataset, epochs=2, verbose=0, validation_data=dataset).history
    return model, columns, dataset, history


def check(strategy, **options):
    model, columns, dataset, history = fitted(strategy, **options)
    wanted = expected(model, columns)
    found = [history["val_" + name][-1] for name in NAMES]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    # Not the epoch before.
    assert history["val_" + NAMES[-1]][0] != found[-1]
    # Training steps do not compute them, nor does what they logged stay.
    assert all(history[name][-1] == 0 for name in NAMES)
    logs = model.evaluate(dataset, return_dict=True, verbose=0)
    np.testing.assert_allclose([logs[name] for name in NAMES], wanted, rtol=1e-6)


@pytest.mark.parametrize("by_id", some_of([True, False], [True]))
def test_fit_and_evaluate(by_id):
    check(tf.distribute.get_strategy(), by_id=by_id)


@pytest.mark.slow(reason="unequal rows of two replicas are fast")
def test_two_replicas(two_replicas):
    """The last batch, of three rows, does not divide by two."""
    check(two_replicas)


@only_under(keras_3=True, reason="the same sums under Keras 3")
def test_two_replicas_of_unequal_rows(two_replicas):
    """One of them with no rows at all, and exclusions and several positives."""
    rng = np.random.default_rng(2)
    corpus = rng.normal(size=(ITEMS, DIM)).astype("float32")
    queries = rng.normal(size=(7, DIM)).astype("float32")
    positives = rng.integers(-1, ITEMS, (7, 3))
    excluded = rng.integers(-1, ITEMS, (7, 6))
    ids = np.arange(ITEMS) - 1
    weights = rng.uniform(0.5, 2, 7)
    dataset = tf.data.Dataset.from_tensor_slices((ids, corpus)).batch(9)
    with two_replicas.scope():
        metric = CorpusRecall(dataset, KS, measures=["recall", "mrr"])

    @tf.function
    def step(*batch):
        def update(queries, positives, weights, excluded):
            metric.update_state(queries, None, positives, weights, excluded)

        two_replicas.run(update, args=batch)

    for begin, middle, end in ((0, 4, 5), (5, 7, 7)):
        parts = slice(begin, middle), slice(middle, end)

        def values(context, parts=parts):
            here = parts[context.replica_id_in_sync_group]
            batch = queries, positives, weights, excluded
            return tuple(tf.constant(part[here]) for part in batch)

        step(*two_replicas.experimental_distribute_values_from_function(values))
    sets = [set(row) for row in positives.tolist()]
    rankings = [
        oracle.ranked_ids(query, corpus, ids.tolist(), own, set(out))
        for query, own, out in zip(queries, sets, excluded.tolist(), strict=True)
    ]
    means = oracle.means(["recall", "mrr"], KS, rankings, sets, weights)
    np.testing.assert_allclose(metric.result(), list(means.values()), rtol=1e-6)
    metric.reset_state()
    np.testing.assert_array_equal(metric.result(), np.zeros(len(means)))


def test_made_outside_of_the_scope_is_refused(two_replicas):
    corpus = tf.data.Dataset.from_tensors(np.eye(3, dtype="float32"))
    metric = CorpusRecall(corpus, [1])
    with pytest.raises(ValueError, match="outside of the strategy's scope"):
        two_replicas.run(lambda: metric.update_state(tf.eye(3), tf.eye(3)))
    assert distribute.num_replicas() == 1


def test_in_the_task_of_tfrs(keras_2):
    import tensorflow_recommenders as tfrs

    check(tf.distribute.get_strategy(), task_class=tfrs.tasks.Retrieval)


def test_equal_to_tfrs_where_there_are_no_ties(keras_2):
    import tensorflow_recommenders as tfrs

    rng = np.random.default_rng(4)
    corpus = rng.normal(size=(500, 16)).astype("float32")
    queries = rng.normal(size=(200, 16)).astype("float32")
    rows = rng.integers(0, 500, 200)
    weights = rng.uniform(size=200).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices(corpus).batch(64)
    found = []
    for metric_class in (CorpusRecall, tfrs.metrics.FactorizedTopK):
        metric = metric_class(dataset)
        metric.update_state(queries, corpus[rows], sample_weight=weights)
        names = [m.name for m in metric.metrics]
        found.append(dict(zip(names, [float(r) for r in metric.result()], strict=True)))
    assert found[0].keys() == found[1].keys()
    np.testing.assert_allclose(*[list(f.values()) for f in found], rtol=1e-5)


@pytest.mark.slow(reason="fits and evaluates a model twice")
def test_checkpoints_leave_the_corpus_out(tmp_path):
    """They are those of the model, before an evaluation and after."""
    model, columns, dataset, _ = fitted(tf.distribute.get_strategy())
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    shapes = [shape for _, shape in tf.train.list_variables(path)]
    # Two tables with and without the optimizer's slots, and scalars.
    assert {tuple(shape) for shape in shapes} <= {(), (1,), (ITEMS, DIM)}
    model.save_weights(str(tmp_path / "model.weights.h5"))
    before = model.evaluate(dataset, return_dict=True, verbose=0)
    other = fitted(tf.distribute.get_strategy())[0]
    other.fit(dataset, verbose=0)
    other.load_weights(str(tmp_path / "model.weights.h5"))
    after = other.evaluate(dataset, return_dict=True, verbose=0)
    assert after == before
