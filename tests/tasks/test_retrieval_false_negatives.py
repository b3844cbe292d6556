"""The task without the negatives that a guide takes for false ones."""

import numpy as np
import pytest
import tensorflow as tf
from oracles import false_negatives, row_losses

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.losses import FalseNegativeFilter, SampledSigmoid
from tfrs_negatives.tasks import Retrieval

B, C, D = 6, 9, 3


@pytest.fixture
def towers():
    rng = np.random.default_rng(2)
    return [rng.normal(size=(n, D)).astype(np.float32) for n in (B, C)]


@pytest.fixture
def guide():
    rng = np.random.default_rng(3)
    return [rng.normal(size=(n, 2)).astype(np.float32) for n in (B, C)]


def given(guide):
    names = "guide_query_embeddings", "guide_candidate_embeddings"
    return dict(zip(names, guide, strict=True))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("kind", ["towers", "given"])
def test_equals_the_oracle_and_counts_as_masked(towers, guide, kind, jit_compile):
    task = Retrieval(
        temperature=0.5,
        positive="outside",
        false_negative_filter=FalseNegativeFilter(margin=0.2),
        negative_metrics=metrics.MaskRate(),
        negative_metric_rows=None,
        jit_compile=jit_compile,
    )
    by, more = (towers, {}) if kind == "towers" else (guide, given(guide))
    dropped = false_negatives(*by, margin=0.2)
    assert 0 < dropped.sum() < B * (C - 1)
    options = {"temperature": 0.5, "positive": "outside"}
    expected = row_losses(*towers, dropped=dropped, **options).sum()
    loss = tf.function(lambda: task(*towers, **more))()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    rate = task._negative_metrics[0].result()
    np.testing.assert_allclose(rate, dropped.sum() / (B * (C - 1)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["towers", "given"])
def test_embeddings_given_once(towers, guide, kind):
    """Rows of one query have positives of their own, hence bounds."""
    task = Retrieval(false_negative_filter=FalseNegativeFilter(margin=0.2))
    query_rows, candidate_rows = np.arange(B) // 2, np.arange(C) % 5
    queries, candidates = towers[0][query_rows], towers[1][candidate_rows]
    more = {} if kind == "towers" else given(guide)
    maps = {"query_rows": query_rows, "candidate_rows": candidate_rows}
    np.testing.assert_allclose(
        task(*towers, **maps, **more), task(queries, candidates, **more), rtol=1e-6
    )


def test_entries_of_the_memory_are_judged_by_the_towers(towers):
    memory = CrossBatchMemory(2 * B, D)
    task = Retrieval(
        memory=memory, false_negative_filter=FalseNegativeFilter(margin=0.2)
    )
    task(*towers, training=True)
    queries, candidates = (-t for t in towers)
    columns = np.concatenate([candidates[:B], towers[1][:B], candidates[B:]])
    dropped = false_negatives(queries, columns, margin=0.2)
    assert dropped[:, B : 2 * B].any()
    expected = row_losses(queries, columns, dropped=dropped).sum()
    found = task(queries, candidates, training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_keras_loss_does_not_see_them(towers):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    chosen = FalseNegativeFilter(share=0.8)
    np.testing.assert_allclose(
        Retrieval(loss, false_negative_filter=chosen)(*towers),
        Retrieval(false_negative_filter=chosen)(*towers),
        rtol=1e-5,
    )


def test_rebuilt_and_restored(towers, tmp_path):
    def make(value):
        share = tf.Variable(value, trainable=False)
        return Retrieval(false_negative_filter=FalseNegativeFilter(share=share))

    task, restored = make(0.9), make(0.1)
    path = tf.train.Checkpoint(task=task).save(str(tmp_path / "task"))
    tf.train.Checkpoint(task=restored).restore(path).assert_consumed()
    rebuilt = Retrieval.from_config(task.get_config())
    described = "Retrieval(false_negative_filter=FalseNegativeFilter(share=0.9))"
    assert repr(task) == repr(rebuilt) == described
    for other in (restored, rebuilt):
        np.testing.assert_array_equal(other(*towers), task(*towers))
    loss = SampledSigmoid(false_negative_filter=FalseNegativeFilter(margin=0.0))
    assert repr(Retrieval(loss)) == f"Retrieval(loss={loss!r})"


@pytest.mark.parametrize("traced", [False, True])
def test_what_is_refused_changes_nothing(towers, guide, traced):
    def refused(message, task, more):
        def step():
            return task(*towers, candidate_ids=np.arange(C), training=True, **more)

        errors = ValueError, tf.errors.InvalidArgumentError
        with pytest.raises(errors, match=message):
            (tf.function(step) if traced else step)()

    memory, frequency = CrossBatchMemory(2 * B, D), StreamingFrequency(99)
    options = {"memory": memory, "sampling_correction": frequency}
    before = [v.numpy() for v in memory.variables + frequency.variables]
    chosen = FalseNegativeFilter(margin=0.0)
    by_margin = Retrieval(false_negative_filter=chosen, **options)
    refused("guide.*None beside a `memory`", by_margin, given(guide))
    refused("expected one beside", Retrieval(**options), given(guide))
    few = given([guide[0][1:], guide[1]])
    refused("guide_query_embeddings.*size 6", by_margin, few)
    chosen = FalseNegativeFilter(share=tf.Variable(-1.0, trainable=False))
    by_share = Retrieval(false_negative_filter=chosen, **options)
    refused("share.*positive and finite", by_share, {})
    for variable, value in zip(
        memory.variables + frequency.variables, before, strict=True
    ):
        np.testing.assert_array_equal(variable, value)
