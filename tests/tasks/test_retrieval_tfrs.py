"""The task against `tfrs.tasks.Retrieval`, wherever that is right.

TFRS is wrong, and is not followed, where it clips q at 1e-6, smooths labels over
masked scores, mines 0 hard negatives, or passes the ids of extra negatives to
corpus metrics; those are tested in test_retrieval.py.
"""

import itertools
import unittest

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.tasks import Retrieval

pytestmark = pytest.mark.usefixtures("keras_2")

B, D, NUM_ITEMS = 12, 4, 20
OPTIONS = [
    "temperature",
    "sampling_probability",
    "accidental_hits",
    "score_mask",
    "hard_negatives",
    "sample_weight",
    "extra_negatives",
    "multi_head",
    "custom_loss",
    "ids_for_metrics",
]


SLOW_IDS = "the options with ids of the other type are fast"


def grid():
    """Each option, each pair, and random larger sets, with both kinds of ids."""
    rng = np.random.default_rng(11)
    larger = [tuple(o for o in OPTIONS if rng.random() < 0.5) for _ in range(25)]
    combinations = itertools.chain(
        itertools.combinations(OPTIONS, 0),
        itertools.combinations(OPTIONS, 1),
        itertools.combinations(OPTIONS, 2),
        larger,
    )
    for index, options in enumerate(combinations):
        for id_type in ("int64", "string"):
            fast = id_type == ("int64", "string")[index % 2]
            yield pytest.param(
                options,
                id_type,
                index,
                id=f"{id_type}-{'-'.join(options) or 'none'}",
                marks=() if fast else pytest.mark.slow(reason=SLOW_IDS),
            )


def test_the_tests_of_tfrs_pass_with_this_class(monkeypatch):
    from tensorflow_recommenders.tasks import retrieval, retrieval_test

    monkeypatch.setattr(retrieval, "Retrieval", Retrieval)
    suite = unittest.defaultTestLoader.loadTestsFromModule(retrieval_test)
    result = unittest.TestResult()
    suite.run(result)
    skipped = len(result.skipped)  # `test_session`, which TensorFlow skips.
    assert not result.failures and not result.errors, result
    assert result.testsRun - skipped == 4


def run(task_class, options, id_type, seed):
    import tensorflow_recommenders as tfrs

    rng = np.random.default_rng(seed)
    num_columns = B + 5 if "extra_negatives" in options else B
    query_shape = (B, 3, D) if "multi_head" in options else (B, D)
    queries = tf.constant(rng.normal(size=query_shape), tf.float32)
    candidates = tf.constant(rng.normal(size=(num_columns, D)), tf.float32)
    corpus = tf.constant(rng.normal(size=(NUM_ITEMS, D)), tf.float32)

    def typed(values):
        return tf.constant(values.astype(str) if id_type == "string" else values)

    ids = rng.integers(0, NUM_ITEMS, num_columns)
    ids[1] = ids[0]
    all_ids = typed(np.arange(NUM_ITEMS))
    corpus_index = tfrs.layers.factorized_top_k.BruteForce(k=10).index(corpus, all_ids)

    constructor, call = {}, {}
    if "temperature" in options:
        constructor["temperature"] = 0.3
    if "hard_negatives" in options:
        constructor["num_hard_negatives"] = 3
    if "accidental_hits" in options:
        constructor["remove_accidental_hits"] = True
    if "custom_loss" in options:
        constructor["loss"] = keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction="sum_over_batch_size"
        )
    if "sampling_probability" in options:
        call["candidate_sampling_probability"] = rng.uniform(
            1e-5, 1.0, num_columns
        ).astype(np.float32)
    if {"accidental_hits", "ids_for_metrics"} & set(options):
        call["candidate_ids"] = typed(ids)
    if "score_mask" in options:
        mask = rng.random((B, num_columns)) < 0.7
        mask[np.arange(B), np.arange(B)] = True
        call["score_mask"] = tf.constant(mask)
    if "sample_weight" in options:
        call["sample_weight"] = tf.constant(rng.uniform(0.1, 2.0, B), tf.float32)
    # TFRS crashes on ids of extra negatives in corpus metrics.
    call["compute_metrics"] = not (
        "extra_negatives" in options and "candidate_ids" in call
    )

    task = task_class(
        metrics=tfrs.metrics.FactorizedTopK(corpus_index, ks=(1, 5, 10)),
        batch_metrics=[
            keras.metrics.TopKCategoricalAccuracy(k=2, name="top_2"),
            keras.metrics.MeanSquaredError(name="mse")
            if not {"score_mask", "accidental_hits", "hard_negatives"} & set(options)
            else keras.metrics.CategoricalAccuracy(name="accuracy"),
        ],
        loss_metrics=[keras.metrics.Mean(name="loss")],
        **constructor,
    )
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        loss = task(queries, candidates, **call)
    gradients = tape.gradient(loss, [queries, candidates])
    metrics = {metric.name: metric.result().numpy() for metric in task.metrics}
    return loss, gradients, metrics


@pytest.mark.parametrize("options, id_type, seed", grid())
def test_equal_to_tfrs(options, id_type, seed):
    import tensorflow_recommenders as tfrs

    loss, gradients, metrics = run(Retrieval, options, id_type, seed)
    theirs = run(tfrs.tasks.Retrieval, options, id_type, seed)
    np.testing.assert_allclose(loss, theirs[0], rtol=1e-5)
    for ours, expected in zip(gradients, theirs[1], strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * scale)
    assert metrics.keys() == theirs[2].keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(value, theirs[2][name], rtol=1e-5, err_msg=name)


def test_same_order_of_arguments():
    import inspect

    import tensorflow_recommenders as tfrs

    for method in ("__init__", "call"):
        ours = inspect.signature(getattr(Retrieval, method)).parameters.values()
        theirs = inspect.signature(
            getattr(tfrs.tasks.Retrieval, method)
        ).parameters.values()
        positional = [p for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert [(p.name, p.default) for p in positional] == [
            (p.name, p.default) for p in theirs
        ]


def test_is_a_tfrs_task():
    import tensorflow_recommenders as tfrs

    assert isinstance(Retrieval(), tfrs.tasks.Task)
