"""Metrics of a task on two replicas are those of one with all rows.

Read outside of the step. What Keras 3's `fit` logs is an average over replicas, in
which those with few rows count as much as others.
"""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.tasks import Retrieval

D, CORPUS, KS = 4, 40, (1, 3)
EVEN = [[6, 6], [4, 4]]
UNEVEN = [[6, 6], [5, 2], [3, 0]]
SPLITS = [
    pytest.param(UNEVEN, id="uneven"),
    pytest.param(EVEN, id="even", marks=pytest.mark.slow(reason="uneven has even too")),
]


def make_batches(splits):
    """Queries, positives among the corpus, and weights of each step."""
    rng = np.random.default_rng(3)
    corpus = rng.normal(size=[CORPUS, D]).astype("float32")
    batches = []
    for split in splits:
        items = rng.permutation(CORPUS)[: sum(split)]
        queries = corpus[items] + rng.normal(size=[sum(split), D])
        weights = rng.uniform(0.5, 2.0, sum(split))
        batches.append(
            (queries.astype("float32"), items, weights.astype("float32"), split)
        )
    return corpus, batches


def share_in_top(corpus, batches, k, of_batch):
    """The weighted share of rows with fewer than k columns above their positive."""
    hits, total = 0.0, 0.0
    for queries, items, weights, _ in batches:
        for query, item, weight in zip(queries, items, weights, strict=True):
            others = items[items != item] if of_batch else np.arange(CORPUS) != item
            margins = (corpus[others] - corpus[item]) @ query.astype("float64")
            above = np.sum(margins > 0)
            hits += weight * (above < k)
            total += weight
    return hits / total


def measure(strategy, make_task, splits, factorized):
    """Trains on the steps' rows in these splits; returns all metrics' results."""
    corpus, batches = make_batches(splits)
    with strategy.scope():
        task = make_task(corpus)

    def step(queries, items, weights):
        return task(
            queries,
            tf.gather(tf.constant(corpus), items),
            sample_weight=weights,
            candidate_ids=items,
            compute_metrics=factorized,
        )

    run = tf.function(lambda *rows: strategy.run(step, args=rows))
    for *arrays, split in batches:
        ends = np.cumsum([0, *split])

        def part(context, arrays=arrays, ends=ends):
            place = context.replica_id_in_sync_group
            return tuple(tf.constant(a[ends[place] : ends[place + 1]]) for a in arrays)

        run(*strategy.experimental_distribute_values_from_function(part))
    with strategy.scope():
        return [float(metric.result()) for metric in task.metrics]


@pytest.mark.parametrize("splits", SPLITS)
def test_batch_metrics(two_replicas, splits):
    def make_task(_):
        metrics = [keras.metrics.TopKCategoricalAccuracy(k, name=f"{k}") for k in KS]
        return Retrieval(global_negatives=True, batch_metrics=metrics)

    found = measure(two_replicas, make_task, splits, factorized=False)
    expected = [share_in_top(*make_batches(splits), k, of_batch=True) for k in KS]
    assert 0.1 < expected[0] < expected[1] < 1
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("splits", SPLITS)
def test_corpus_metrics(two_replicas, splits, keras_2):
    import tensorflow_recommenders as tfrs

    def make_task(corpus):
        index = tfrs.layers.factorized_top_k.BruteForce(k=max(KS))
        index.index(corpus, tf.range(CORPUS, dtype=tf.int64))
        metric = tfrs.metrics.FactorizedTopK(index, ks=KS)
        return Retrieval(global_negatives=True, metrics=metric)

    found = measure(two_replicas, make_task, splits, factorized=True)
    expected = [share_in_top(*make_batches(splits), k, of_batch=False) for k in KS]
    assert 0.1 < expected[0] < expected[1] < 1
    np.testing.assert_allclose(found, expected, rtol=1e-5)
