"""Which ids corpus metrics are given: never such as would meet row numbers."""

import corpus_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from grids import some_of

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.index import BruteForce, ScaNN
from tfrs_negatives.metrics import CorpusRecall, PopularityBands
from tfrs_negatives.metrics.corpus_ids import eval_ids
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

CORPUS = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
NAMES = np.array([f"title {n}" for n in range(20)])
OTHERS = np.arange(20, dtype=np.int32)[::-1] * 3


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


def ours(ids=None):
    return BruteForce().index(CORPUS, ids)


def theirs(layer, ids=None):
    import tensorflow_recommenders as tfrs

    index = getattr(tfrs.layers.factorized_top_k, layer)(**LAYERS[layer])
    return index.index_from_dataset(
        (dataset(CORPUS) if ids is None else dataset(ids, CORPUS)).batch(20)
    )


LAYERS = {"Streaming": {}, "BruteForce": {}, "ScaNN": {"num_leaves": 1}}
KNOWN = {
    "dataset": lambda ids: dataset(CORPUS if ids is None else (ids, CORPUS)).batch(7),
    "our index": ours,
    **{name: lambda ids, name=name: theirs(name, ids) for name in LAYERS},
}


def metrics_of(source, ids):
    """The corpus metrics of candidates with these ids, or without."""
    if source in LAYERS and IS_KERAS_3:
        pytest.skip("needs TensorFlow Recommenders, hence TF_USE_LEGACY_KERAS=1")
    candidates = KNOWN[source](ids)
    yield CorpusRecall(candidates, [1])
    if not IS_KERAS_3:
        import tensorflow_recommenders as tfrs

        yield tfrs.metrics.FactorizedTopK(candidates, [1])


@pytest.mark.parametrize("source", KNOWN)
def test_candidates_without_ids_are_compared_by_score(source):
    for metric in metrics_of(source, None):
        for ids in (tf.range(3), tf.range(3, dtype=tf.int64), tf.constant(NAMES[:3])):
            assert eval_ids(metric, ids) is None
        assert eval_ids(metric, None) is None


@pytest.mark.parametrize("source", KNOWN)
@pytest.mark.parametrize("ids", [NAMES, OTHERS, OTHERS.astype(np.int64)])
def test_ids_of_candidates_are_looked_for(source, ids):
    for metric in metrics_of(source, ids):
        wanted = tf.constant(ids[:3])
        for found in (eval_ids(metric, wanted), eval_ids(metric, None, wanted)):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
        other = tf.constant(OTHERS if ids is NAMES else NAMES)
        for arguments in ((other,), (None, other)):
            with pytest.raises(ValueError, match="can never equal.*eval_candidate_ids"):
                eval_ids(metric, *arguments)


@pytest.mark.parametrize("narrow", [True, False])
def test_integers_of_another_width(narrow):
    ids = OTHERS if narrow else OTHERS.astype(np.int64)
    wanted = tf.constant(OTHERS[:3], tf.int64 if narrow else tf.int32)
    for metric in metrics_of("dataset", ids):
        if narrow and not isinstance(metric, CorpusRecall):
            with pytest.raises(ValueError, match="must have the dtype.*int32"):
                eval_ids(metric, wanted)
        else:
            np.testing.assert_array_equal(eval_ids(metric, wanted), wanted)
            metric.update_state(CORPUS[:3], CORPUS[:3], eval_ids(metric, wanted))


@pytest.mark.scann
def test_ids_that_are_needed():
    """An approximate index and bands cannot fall back to scores."""
    approximate = CorpusRecall(ScaNN().index(CORPUS), [1])
    bands = CorpusRecall(ours(), [1], popularity=PopularityBands(np.ones(20)))
    for metric in (approximate, bands):
        with pytest.raises(ValueError, match="given no ids.*`identifiers`.$"):
            eval_ids(metric, tf.range(3))


def test_ids_that_were_meant_for_candidates_without():
    with pytest.raises(ValueError, match="given no ids.*eval_by_scores=True"):
        eval_ids(CorpusRecall(CORPUS, [1]), None, tf.range(3))
    # Row numbers of an index may be meant.
    np.testing.assert_array_equal(
        eval_ids(CorpusRecall(ours(), [1]), None, tf.range(3)), [0, 1, 2]
    )


def test_what_is_not_known_is_left_alone():
    ids = tf.range(3)
    assert eval_ids(CorpusRecall(BruteForce(), [1]), ids) is ids
    assert eval_ids(CorpusRecall(lambda queries, k: 0, [1]), ids) is ids


def test_a_task_may_compare_scores_where_there_are_ids():
    """Such as ids that can never equal those of the corpus."""
    towers = CORPUS[:3], CORPUS[:3]
    with pytest.raises(ValueError, match="can never equal.*eval_by_scores=True"):
        Retrieval(metrics=CorpusRecall(ours(OTHERS), [1]))(
            *towers, candidate_ids=NAMES[:3]
        )
    metric = CorpusRecall(ours(OTHERS), [1])
    task = Retrieval(metrics=metric, eval_by_scores=True)
    task(*towers, candidate_ids=NAMES[:3])
    norms = CORPUS[:3] @ CORPUS.T
    expected = np.mean(norms.argmax(axis=1) == np.arange(3))
    np.testing.assert_allclose(metric.result()[0], expected)
    config = Retrieval(eval_by_scores=True).get_config()
    assert repr(Retrieval.from_config(config)) == "Retrieval(eval_by_scores=True)"


class TwoTower(Model):
    """As in TFRS's tutorial, with ids for the masks."""

    def __init__(self, metric_class, titles, with_ids=False):
        super().__init__()
        # Products of eighths are exact: the positive's score is the same to the bit,
        # however it is computed.
        rng = np.random.default_rng(3)
        eighths = rng.integers(-64, 64, (2, 20, 4)) / 8
        init = [keras.initializers.Constant(values) for values in eighths]
        self.user_tower = keras.layers.Embedding(20, 4, init[0])
        self.item_tower = keras.layers.Embedding(20, 4, init[1])
        self.item_tower.build([None])
        items = tf.data.Dataset.range(20).batch(8)
        corpus = items.map(self.item_tower)
        if with_ids:
            names = tf.data.Dataset.from_tensor_slices(titles).batch(8)
            corpus = tf.data.Dataset.zip(names, corpus)
        self.task = Retrieval(
            metrics=metric_class(corpus, ks=[1, 5]), remove_accidental_hits=True
        )
        self.titles = tf.constant(titles)

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
            candidate_ids=tf.gather(self.titles, features["item"]),
            compute_metrics=not training,
        )


def batches():
    rng = np.random.default_rng(1)
    columns = {name: rng.integers(0, 20, 40) for name in ("user", "item")}
    return columns, tf.data.Dataset.from_tensor_slices(columns).batch(20)


# Titles, and whether the corpus has them as ids.
TITLES = {
    "names": (NAMES, False),
    "int32": (OTHERS, False),
    "negative int64": (OTHERS.astype(np.int64) - 30, False),
    "names as ids": (NAMES, True),
}
EVALUATED = [(titles, of_tfrs) for titles in TITLES for of_tfrs in (False, True)]


@pytest.mark.parametrize("titles, tfrs_metric", some_of(EVALUATED, EVALUATED[:1]))
def test_evaluation_of_a_task_with_ids(titles, tfrs_metric):
    titles, with_ids = TITLES[titles]
    if tfrs_metric and IS_KERAS_3:
        pytest.skip("needs TensorFlow Recommenders, hence TF_USE_LEGACY_KERAS=1")
    metric_class = CorpusRecall
    if tfrs_metric:
        import tensorflow_recommenders as tfrs

        metric_class = tfrs.metrics.FactorizedTopK
    model = TwoTower(metric_class, titles, with_ids)
    model.compile(keras.optimizers.SGD(0.1))
    columns, rows = batches()
    logs = model.evaluate(rows, return_dict=True, verbose=0)
    users, items = (
        np.asarray(tf.convert_to_tensor(tower.embeddings))
        for tower in (model.user_tower, model.item_tower)
    )
    rankings = [
        oracle.ranked_ids(users[user], items, range(20), {item})
        for user, item in zip(columns["user"], columns["item"], strict=True)
    ]
    positives = [{item} for item in columns["item"]]
    means = oracle.means(["hit_rate"], [1, 5], rankings, positives)
    for k in (1, 5):
        found = logs[f"factorized_top_k/top_{k}_categorical_accuracy"]
        np.testing.assert_allclose(found, means[f"hit_rate@{k}"], rtol=1e-6)


def test_ids_of_another_kind_are_an_error_before_training():
    class Mixed(TwoTower):
        def __init__(self):
            super().__init__(CorpusRecall, NAMES, with_ids=True)
            self.titles = tf.constant(OTHERS)

    model = Mixed()
    model.compile(keras.optimizers.SGD(0.1))
    before = np.asarray(tf.convert_to_tensor(model.item_tower.embeddings))
    with pytest.raises(ValueError, match="`candidate_ids` .int32. can never equal"):
        model.fit(batches()[1], verbose=0)
    np.testing.assert_array_equal(model.item_tower.embeddings, before)
