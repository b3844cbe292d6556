"""Every argument of a call is converted and checked once, before any state changes."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import _checks, metrics
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.losses import inputs, reductions
from tfrs_negatives.tasks import Retrieval, repeats
from tfrs_negatives.tasks import batch as batch_lib

B, C, D, M = 6, 9, 4, 2


def names(rng, *shape):
    return np.array([f"id {n}" for n in rng.integers(0, 9, np.prod(shape))]).reshape(
        shape
    )


@pytest.fixture
def given():
    """Arguments as arrays of NumPy, so that each needs a conversion."""
    rng = np.random.default_rng(0)
    score_mask = rng.random((B, C)) < 0.8
    score_mask[np.arange(B), np.arange(B)] = True
    return {
        "query_embeddings": rng.normal(size=(B, D)).astype("float32"),
        "candidate_embeddings": rng.normal(size=(C, D)).astype("float32"),
        "candidate_ids": names(rng, C),
        "query_keys": {"user": names(rng, B), "request": names(rng, B)},
        "query_key_mask": {"user": rng.random(B) < 0.8},
        "candidate_keys": {"user": names(rng, C)},
        "candidate_key_mask": {"user": rng.random(C) < 0.8},
        "known_positive_ids": names(rng, B, 3),
        "measured_positive_ids": names(rng, B, 2),
        "negative_embeddings": rng.normal(size=(B, M, D)).astype("float32"),
        "negative_ids": names(rng, B, M),
        "negative_mask": rng.random((B, M)) < 0.8,
        "negative_log_q": np.full((B, M), -2.0, "float32"),
        "candidate_log_q": np.full(C, -2.0, "float32"),
        "target_ids": names(rng, B, M),
        "target_weights": np.ones((B, M), "float32"),
        "target_embeddings": rng.normal(size=(B, M, D)).astype("float32"),
        "target_log_q": np.full((B, M), -2.0, "float32"),
        "sample_weight": np.ones(B, "float32"),
        "score_mask": score_mask,
        "training": True,
    }


def make_task(**options):
    return Retrieval(
        remove_accidental_hits=True,
        mask_shared_positives=True,
        memory=CrossBatchMemory(2 * B, D, num_keys=2),
        negative_metrics=[metrics.FalseNegativeRate(), metrics.DistinctKeys("user")],
        **options,
    )


@pytest.fixture
def counts(monkeypatch):
    """How often what was called, filled while the test runs."""
    counted = collections.Counter()

    def count(owner, name, key=None):
        function = getattr(owner, name)

        def counting(*args, **kwargs):
            found = key(*args) if key else name
            if found:
                counted[found] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    def converted(name, value):
        return None if tf.is_tensor(value) else f"dense {name}"

    count(_checks, "dense", converted)
    count(tf.strings, "to_hash_bucket_strong")
    count(inputs, "check_scored")
    count(inputs, "check_score_mask")
    count(repeats, "check_distinct")
    count(reductions, "check_row_weights")
    count(batch_lib, "keys_of_batch")
    count(batch_lib, "KnownPositives")
    return counted


def test_each_argument_is_converted_and_checked_once(given, counts):
    make_task().call(**given)  # Not by Keras, which converts some of them too.
    conversions = {k: n for k, n in counts.items() if k.startswith("dense ")}
    assert set(conversions.values()) == {1}
    arguments = {name.split()[1].split("[")[0] for name in conversions}
    masks = {"query_key_mask", "candidate_key_mask"}
    assert arguments == set(given) - {"training"} and masks <= arguments
    # Ids, two keys of rows, one of candidates, known and measured positives, negatives,
    # targets.
    assert counts["to_hash_bucket_strong"] == 8
    once = {name: counts[name] for name in counts if name.startswith(("check", "keys"))}
    assert once == dict.fromkeys(once, 1) and len(once) == 4
    assert counts["KnownPositives"] == 1


def test_embeddings_given_once_are_checked_once(given, counts):
    given = {k: given[k] for k in ("query_embeddings", "candidate_embeddings")}
    Retrieval().call(**given, query_rows=np.zeros(B, int))
    assert counts["check_distinct"] == 1
    assert counts["dense query_embeddings"] == counts["dense query_rows"] == 1


BAD = {
    "candidate_ids": np.zeros(C - 1, int),
    "query_keys": np.zeros(B + 1, int),
    "candidate_key_mask": {"user": np.zeros(C, int)},
    "known_positive_ids": np.zeros((B - 1, 2), int),
    "measured_positive_ids": np.zeros((B, 2), int),
    "negative_embeddings": np.zeros((B, M, D + 1)),
    "negative_ids": np.zeros((B, M + 1), int),
    "negative_mask": np.zeros((B, M), int),
    "target_ids": np.zeros((B, M + 1), int),
    "target_weights": np.zeros((B, M)),
    "target_embeddings": np.zeros((B, M, D + 1)),
    "target_log_q": np.full((B, M), np.inf),
    "sample_weight": np.zeros(B + 1),
    "score_mask": np.zeros((B, C), bool),
    "training": None,
    "labels": np.zeros(B),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_changes_no_state(given, name):
    loss_metric = keras.metrics.Mean(name="loss")
    task = make_task(
        sampling_correction=StreamingFrequency(64), loss_metrics=loss_metric
    )
    del given["candidate_log_q"]
    before = [np.array(v) for v in task.variables]
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        task(**{**given, name: BAD[name]})
    for variable, value in zip(task.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


GRAPH_ONLY = ["candidate_ids", "query_keys", "negative_ids", "sample_weight"]


def test_nor_does_one_whose_size_a_graph_finds_out(given):
    """Where sizes are unknown while tracing, the check waits for values."""
    task = make_task(sampling_correction=StreamingFrequency(64))
    kept = ["query_embeddings", "candidate_embeddings", "candidate_ids", "query_keys"]
    kept += ["negative_embeddings", "negative_ids", "sample_weight"]
    kept += ["measured_positive_ids"]
    given = {k: tf.nest.map_structure(tf.constant, given[k]) for k in kept}

    def spec(value):
        return tf.TensorSpec([None] * value.shape.rank, value.dtype)

    @tf.function(input_signature=[tf.nest.map_structure(spec, given)])
    def step(arguments):
        return task(**arguments, training=True)

    step(given)  # Traces, and changes state.
    before = [np.array(v) for v in task.variables]
    for name in GRAPH_ONLY:
        shorter = tf.nest.map_structure(lambda x: x[:-1], given[name])
        with pytest.raises(tf.errors.InvalidArgumentError):
            step({**given, name: shorter})
        for variable, value in zip(task.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value, err_msg=name)
