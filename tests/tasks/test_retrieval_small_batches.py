"""Batches of no row, one, two and three, whose sizes are known while tracing or not."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.metrics import FalseNegativeRate, MaskRate
from tfrs_negatives.tasks import Retrieval

D = 4


def keras_loss():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    return Retrieval(loss, remove_accidental_hits=True)


# The task, and which arguments of `arguments` it is called with.
KINDS = {
    "columns": (
        lambda: Retrieval(remove_accidental_hits=True, positive="refined"),
        ["candidate_ids", "query_keys", "known_positive_ids", "candidate_log_q"],
    ),
    "keys": (
        lambda: Retrieval(reduction="none", mask_shared_positives=True),
        ["candidate_ids", "query_keys", "query_key_mask", "candidate_keys", "ragged"]
        + ["candidate_key_mask", "sample_weight"],
    ),
    "hard": (
        lambda: Retrieval(
            num_hard_negatives=1, reduction="sum_over_batch_size", positive="outside"
        ),
        ["score_mask", "query_keys"],
    ),
    "own": (
        lambda: Retrieval(SampledSigmoid(), remove_accidental_hits=True),
        ["candidate_ids", "known_positive_ids", "negative_ids", "negative_embeddings"]
        + ["negative_mask", "labels"],
    ),
    "state": (
        lambda: Retrieval(
            memory=CrossBatchMemory(9, D, num_keys=1),
            sampling_correction=StreamingFrequency(50),
            positive="negatives",
            negative_metrics=[FalseNegativeRate(), MaskRate()],
        ),
        ["candidate_ids", "query_keys", "query_key_mask", "known_positive_ids"],
    ),
    "repeats": (
        lambda: Retrieval(remove_accidental_hits=True, positive="outside"),
        ["candidate_ids", "query_keys", "query_rows", "candidate_rows"],
    ),
    "Keras": (keras_loss, ["candidate_ids", "query_keys"]),
}


def arguments(num_rows, num_columns, names):
    rng = np.random.default_rng(2)
    score_mask = rng.random((num_rows, num_columns)) < 0.5
    score_mask |= np.eye(num_rows, num_columns, dtype=bool)
    everything = {
        "candidate_ids": rng.integers(0, 4, num_columns),
        "query_keys": rng.integers(0, 2, num_rows),
        "query_key_mask": rng.random(num_rows) < 0.7,
        "candidate_keys": rng.integers(0, 2, num_columns),
        "candidate_key_mask": rng.random(num_columns) < 0.7,
        "known_positive_ids": rng.integers(0, 4, (num_rows, 2)),
        "score_mask": score_mask,
        "candidate_log_q": np.full(num_columns, -2.0, np.float32),
        "negative_embeddings": rng.normal(size=(num_rows, 2, D)).astype(np.float32),
        "negative_ids": rng.integers(0, 4, (num_rows, 2)),
        "negative_mask": rng.random((num_rows, 2)) < 0.8,
        "labels": rng.random(num_rows),
        "sample_weight": rng.random(num_rows).astype(np.float32),
        "query_rows": np.zeros(num_rows, int),
        "candidate_rows": np.arange(num_columns) // 2,
    }
    found = {n: tf.constant(everything[n]) for n in names if n in everything}
    if "ragged" in names:
        lengths = np.arange(num_rows) % 3
        found["known_positive_ids"] = tf.RaggedTensor.from_row_lengths(
            tf.constant(rng.integers(0, 4, lengths.sum())), lengths
        )
    return found


def step_of(make):
    task = make()

    def step(queries, candidates, given):
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            loss = task(
                queries,
                candidates,
                training=True,
                **given,
            )
            total = tf.reduce_sum(loss)
        gradients = tape.gradient(
            total,
            [queries, candidates],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [loss, *map(tf.convert_to_tensor, gradients)]

    return step


def sizes():
    """Rows, extra columns, whether they are known while tracing, and the kind of task.

    The slow ones take minutes together; the others have what has failed, in turns.
    """
    all_sizes = itertools.product((0, 1, 2, 3), (0, 3), (True, False))
    failed = (0, 0, True), (1, 3, True)
    for size, (place, kind) in itertools.product(all_sizes, enumerate(KINDS)):
        fast = size == failed[place % 2]
        marks = () if fast else pytest.mark.slow(reason="each is a trace: see above")
        yield pytest.param(*size, kind, marks=marks)


@pytest.mark.parametrize("num_rows, extra, static, kind", sizes())
def test_a_graph_equals_eager(num_rows, extra, static, kind):
    make, names = KINDS[kind]
    num_columns = num_rows + extra
    given = arguments(num_rows, num_columns, names)
    rng = np.random.default_rng(1)
    lengths = num_rows, num_columns
    if kind == "repeats":
        lengths = min(num_rows, 1), -(-num_columns // 2)
    embeddings = [tf.constant(rng.normal(size=(n, D)), tf.float32) for n in lengths]

    def spec(value):
        if isinstance(value, tf.RaggedTensor):
            return tf.RaggedTensorSpec(
                [None, None], value.dtype, row_splits_dtype=tf.int64
            )
        shape = value.shape if static else [None] * value.shape.rank
        return tf.TensorSpec(shape, value.dtype)

    inputs = (*embeddings, given)
    eager = step_of(make)
    graph = tf.function(
        step_of(make), input_signature=tf.nest.map_structure(spec, inputs)
    )
    # The second step finds what the first has left, in state and in buffers.
    for sign in (1.0, -1.0):
        inputs = (*(sign * part for part in embeddings), given)
        expected, found = eager(*inputs), graph(*inputs)
        for one, other in zip(found, expected, strict=True):
            assert np.isfinite(other).all()
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    if num_rows == 0:
        assert not np.any(expected[0])
        assert not np.any(expected[2])


def test_a_task_of_several_without_rows_costs_nothing():
    """A model of two tasks trains on batches in which one of them has no row."""
    first, second = Retrieval(), Retrieval(sampling_correction=StreamingFrequency(50))
    table = tf.Variable(np.random.default_rng(0).normal(size=(4, D)), dtype=tf.float32)

    @tf.function
    def step(ids, is_second):
        with tf.GradientTape() as tape:
            total = 0.0
            for task, chosen in ((first, ~is_second), (second, is_second)):
                own = tf.boolean_mask(ids, chosen)
                embeddings = tf.gather(table, own)
                total += task(embeddings, embeddings, candidate_ids=own, training=True)
        return total, tf.convert_to_tensor(tape.gradient(total, table))

    ids = tf.constant([0, 1, 2])
    for is_second in ([False] * 3, [True] * 3, [False, True, False]):
        total, gradient = step(ids, tf.constant(is_second))
        assert np.isfinite(total) and np.isfinite(gradient).all()
    total, gradient = step(ids, tf.constant([False] * 3))
    alone = Retrieval()(tf.gather(table, ids), tf.gather(table, ids))
    np.testing.assert_allclose(total, alone, rtol=1e-6)
