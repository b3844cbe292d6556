import numpy as np
import pytest
import tensorflow as tf
from grids import some_of

from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks import EvaluateCorpus
from tfrs_negatives.index import ScaNN
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

ITEMS, USERS, DIM = 25, 8, 4
IDS = np.array([f"item {n}" if n != 7 else "" for n in range(ITEMS)])


class TwoTower(Model):
    def __init__(self):
        super().__init__()
        init = [keras.initializers.RandomUniform(-1.0, 1.0, seed=s) for s in (1, 2)]
        self.user_tower = keras.layers.Embedding(USERS, DIM, init[0])
        self.item_tower = keras.layers.Embedding(ITEMS, DIM, init[1])
        self.task = Retrieval()

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]), self.item_tower(features["item"])
        )


def training_rows():
    rng = np.random.default_rng(0)
    rows = {"user": rng.integers(0, USERS, 40), "item": rng.integers(0, ITEMS, 40)}
    return tf.data.Dataset.from_tensor_slices(rows).batch(10)


def items():
    return tf.data.Dataset.from_tensor_slices((IDS, np.arange(ITEMS))).batch(10)


HELD_OUT = [[3, 4], [5], [], [7, 8, 9], [1], [0], [24], [10]]
SEEN = [[1, 2], [], [0], [1, 2, 3], [2], [5], [6], [9]]


def ragged(lists):
    names = [[IDS[i] for i in row] for row in lists]
    return tf.ragged.constant(names, tf.string, row_splits_dtype=tf.int64)


def queries(with_seen):
    positives = ragged(HELD_OUT)
    targets = positives
    if with_seen:
        targets = {"positive_ids": positives, "excluded_ids": ragged(SEEN)}
    return tf.data.Dataset.from_tensor_slices((np.arange(USERS), targets)).batch(3)


def recall(model, k, with_seen):
    users, catalogue = (
        np.float64(tf.convert_to_tensor(tower.embeddings))
        for tower in (model.user_tower, model.item_tower)
    )
    shares = []
    for user, own in enumerate(HELD_OUT):
        scores = catalogue @ users[user]
        if with_seen:
            scores[SEEN[user]] = -np.inf
        best = set(np.argsort(-scores)[:k])
        if own:
            shares.append(len(best & set(own)) / len(own))
    return np.mean(shares)


def callback(model, with_seen=True, **options):
    return EvaluateCorpus(
        items(),
        model.item_tower,
        queries(with_seen),
        model.user_tower,
        **{"ks": [3, 10], "measures": ["recall"], **options},
    )


def fit(model, *callbacks, epochs=2):
    model.compile(keras.optimizers.SGD(1.0))
    return model.fit(
        training_rows(), epochs=epochs, verbose=0, callbacks=list(callbacks)
    ).history


@pytest.mark.parametrize("with_seen", some_of([True, False], fast=[True]))
def test_measures_in_the_logs(with_seen):
    model = TwoTower()
    history = fit(model, callback(model, with_seen))
    for k in (3, 10):
        values = history[f"val_corpus/recall@{k}"]
        assert len(values) == 2
        np.testing.assert_allclose(values[-1], recall(model, k, with_seen), rtol=1e-6)
    assert len(set(history["val_corpus/recall@10"])) == 2


@pytest.mark.scann
def test_approximate_and_every_other_epoch():
    """So small a corpus ScaNN searches exactly."""
    model = TwoTower()
    seldom = callback(model, index=ScaNN(), every_epochs=2, name="served")
    history = fit(model, seldom, epochs=3)
    assert len(history["served/recall@3"]) == 1
    expected = recall(model, 3, True)
    np.testing.assert_allclose(seldom.evaluate()["served/recall@3"], expected)


def test_k_beyond_the_catalogue():
    """The default `ks` go to 100."""
    model = TwoTower()
    evaluate = EvaluateCorpus(
        items(), model.item_tower, queries(True), model.user_tower
    )
    found = evaluate.evaluate()
    assert found["val_corpus/recall@100"] == 1
    expected = recall(model, 10, True)
    np.testing.assert_allclose(found["val_corpus/recall@10"], expected, rtol=1e-6)


def test_later_callbacks_read_them():
    model, read = TwoTower(), []
    reader = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: read.append(logs["val_corpus/recall@10"])
    )
    history = fit(model, callback(model), reader)
    assert history["val_corpus/recall@10"] == read and len(read) == 2


@pytest.mark.slow(reason="the metric on two replicas is fast")
def test_on_two_replicas(two_replicas):
    with two_replicas.scope():
        model = TwoTower()
        evaluate = callback(model)
        model.compile(keras.optimizers.SGD(1.0))
    history = model.fit(training_rows(), verbose=0, callbacks=[evaluate]).history
    found = history["val_corpus/recall@10"][-1]
    np.testing.assert_allclose(found, recall(model, 10, True), rtol=1e-6)


def test_one_trace():
    model = TwoTower()
    evaluate = callback(model)
    first = evaluate.evaluate()
    model.item_tower.embeddings.assign(-model.item_tower.embeddings)
    second = evaluate.evaluate()
    assert first != second
    assert evaluate._step.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(second["val_corpus/recall@3"], recall(model, 3, True))


def test_errors():
    model = TwoTower()
    good = items(), model.item_tower, queries(True), model.user_tower
    for place, value, message in [
        (0, items().map(lambda ids, x: x), "candidates.*pairs"),
        (2, items().map(lambda ids, x: x), "queries.*pairs"),
        (2, queries(True).repeat(), "finite"),
        (3, None, "query_tower"),
    ]:
        arguments = [*good]
        arguments[place] = value
        with pytest.raises(ValueError, match=message):
            EvaluateCorpus(*arguments)
    unnamed = queries(False).map(lambda x, ids: (x, {"positives": ids}))
    with pytest.raises(ValueError, match="positive_ids"):
        EvaluateCorpus(*good[:2], unnamed, good[3])
    for options, message in [
        ({"every_epochs": 0}, "every_epochs"),
        ({"index": "ScaNN"}, "BruteForce or ScaNN"),
        ({"measures": ["auc"]}, "measures"),
    ]:
        with pytest.raises(ValueError, match=message):
            callback(model, **options)
    twice = tf.data.Dataset.from_tensor_slices((IDS[[3, 1, 3]], np.arange(3))).batch(2)
    with pytest.raises(ValueError, match="ids of candidates.*b'item 3' occurs 2 times"):
        fit(model, EvaluateCorpus(twice, *good[1:]))
    assert not model.optimizer.iterations.numpy()
    broken = callback(model)
    model.item_tower.build([None])
    model.item_tower.embeddings.assign(tf.fill([ITEMS, DIM], np.nan))
    with pytest.raises(ValueError, match="diverged"):
        broken.evaluate()
