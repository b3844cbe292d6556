"""Weights of rows by how near their positive is to the first K places."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import losses, tasks

ROWS, COLUMNS, WIDTH, TEMPERATURE = 5, 9, 4, 0.3


@pytest.fixture(name="batch")
def _batch():
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(ROWS, WIDTH)), rng.normal(size=(9, WIDTH))
    kth = rng.normal(size=ROWS)
    kth[2] = -np.inf
    return queries, candidates, kth


def weights_of(queries, candidates, kth, temperature):
    """SL@K's weights, row by row in float64."""
    found = []
    for i in range(len(queries)):
        score = sum(queries[i, d] * candidates[i, d] for d in range(WIDTH))
        found.append(1 / (1 + np.exp(-(score - kth[i]) / temperature)))
    return np.array(found)


def loss_and_gradients(queries, candidates, weights):
    """The weighted mean of softmax losses, weights being constants."""
    scores = queries @ candidates.T
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    value = -(weights * np.log(np.diagonal(p))).sum() / weights.sum()
    p[np.arange(ROWS), np.arange(ROWS)] -= 1
    p *= weights[:, np.newaxis] / weights.sum()
    return value, p @ candidates, p.T @ queries


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("temperature", [TEMPERATURE, 1.0])
@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_weights_equal_the_formula(batch, dtype, temperature, how):
    function = functools.partial(losses.top_k_weights, temperature=temperature)
    if how != "eager":
        shapes = [None, WIDTH], [None, WIDTH], [None]
        signature = [tf.TensorSpec(shape, dtype) for shape in shapes]
        function = tf.function(
            function, input_signature=signature, jit_compile=how == "xla"
        )
    found = function(*(tf.constant(part, dtype) for part in batch))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, weights_of(*batch, temperature), rtol=1e-5)
    assert found[2] == 1


def test_task_pays_the_weighted_mean_and_no_gradient_flows_through_weights(batch):
    queries, candidates, kth = (tf.constant(part, tf.float64) for part in batch)
    task = tasks.Retrieval(reduction="mean_with_sample_weight")
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        weights = losses.top_k_weights(queries, candidates, kth, TEMPERATURE)
        value = task(queries, candidates, sample_weight=weights)
    gradients = tape.gradient(value, [queries, candidates])
    expected = loss_and_gradients(*batch[:2], weights_of(*batch, TEMPERATURE))
    for one, other in zip((value, *gradients), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)


def test_equal_distance_to_the_kth_is_no_weighting(batch):
    """All weights alike: the plain loss, whatever they are."""
    queries, candidates, _ = (tf.constant(part, tf.float32) for part in batch)
    kth = tf.reduce_sum(queries * candidates[:ROWS], axis=1) - 0.7
    weights = losses.top_k_weights(queries, candidates, kth)
    np.testing.assert_allclose(weights, 1 / (1 + np.exp(-0.7)), rtol=1e-5)
    task = tasks.Retrieval(reduction="mean_with_sample_weight")
    np.testing.assert_allclose(
        task(queries, candidates, sample_weight=weights),
        task(queries, candidates),
        rtol=1e-5,
    )


def test_temperature_may_be_a_variable_and_half_precision_is_computed_in_float32(batch):
    temperature = tf.Variable(TEMPERATURE, trainable=False)
    halves = [tf.constant(part, tf.float16) for part in batch]
    found = losses.top_k_weights(*halves, temperature)
    assert found.dtype == tf.float32
    rounded = [np.asarray(part, np.float64) for part in halves]
    np.testing.assert_allclose(found, weights_of(*rounded, TEMPERATURE), rtol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": 0.0}, "finite and above 0, received 0.0"),
        ({"temperature": float("nan")}, "finite and above 0"),
        ({"temperature": "low"}, "must be None, a number or a scalar variable"),
        ({"kth_scores": np.zeros(3)}, "size 5 along axis 0"),
        ({"kth_scores": np.zeros([5, 1])}, "`kth_scores` must have rank 1"),
        ({"kth_scores": np.zeros(5, int)}, "`kth_scores` must be floating point"),
        ({"query_embeddings": np.zeros([5, 2, WIDTH])}, "must have rank 2"),
        ({"candidate_embeddings": np.zeros([9, 3])}, "size 4 along axis 1"),
        ({"candidate_embeddings": np.zeros([4, WIDTH])}, "at least as many rows"),
    ],
)
def test_bad_arguments(batch, changed, message):
    names = "query_embeddings", "candidate_embeddings", "kth_scores"
    arguments = dict(zip(names, batch, strict=True)) | changed
    with pytest.raises(ValueError, match=message):
        losses.top_k_weights(**arguments)
