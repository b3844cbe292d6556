"""Blocks, graphs, XLA and replicas change nothing of what is computed."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from softmax_cases import (
    B,
    C,
    D,
    everything_on,
    key_rules,
    value_and_gradients,
)

from tfrs_negatives.losses import SampledSoftmax
from tfrs_negatives.losses.block_sizes import partition_of


@pytest.mark.parametrize("row_block", [1, 2, 3, 5, 100])
def test_blocks_change_nothing(batch, row_block):
    def run(loss):
        return value_and_gradients(
            loss,
            batch["queries"],
            batch["candidates"],
            candidate_log_q=batch["log_q"],
            rules=key_rules(batch),
            score_mask=np.eye(B, C, dtype=bool) | (batch["ids"] > 3),
            sample_weight=batch["weights"],
        )

    blocks = run(SampledSoftmax(row_block=row_block))
    for ours, expected in zip(blocks, run(SampledSoftmax()), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("rows", "columns", "num_blocks", "overlap"),
    [
        ([2048, 2], 2048, 4, True),  # 1 million scores a block
        ([4096, 2], 4096, 16, True),
        ([8192, 2], 16384, 32, True),  # 256 rows a block
        ([8193, 2], 16384, 33, True),
        ([8192, 2], 32768, 37, False),  # 7 million scores a block
        ([8192, 2], 65536, 74, False),
        ([8192, 2], 131072, 74, False),  # 112 rows a block
        ([4096, 8, 2], 4096, 128, True),  # each head has scores
        ([10, 2], 3, 1, True),
    ],
)
def test_automatic_blocks_follow_the_columns(rows, columns, num_blocks, overlap):
    partition = partition_of(tf.zeros(rows), tf.zeros([columns, 2]))
    assert int(partition.num_blocks) == num_blocks
    assert bool(partition.overlap) == overlap


def test_eager_equals_graph_and_traces_once(batch):
    loss = SampledSoftmax(temperature=0.3, row_block=2)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, D], tf.float64)] * 2)
    def step(queries, candidates):
        traces.append(1)
        return value_and_gradients(loss, queries, candidates)

    for size in (B, 3, 1):
        queries, candidates = batch["queries"][:size], batch["candidates"]
        eager = value_and_gradients(loss, queries, candidates)
        for ours, expected in zip(step(queries, candidates), eager, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "num_traces", some_of([4, 12], [4], reason="some more traces of the same")
)
def test_all_that_is_given_may_be_constant(batch, num_traces):
    """TensorFlow folds constants without an order between reading and writing."""

    def run():
        loss = SampledSoftmax(num_hard_negatives=C - 1)
        args = batch["queries"], batch["candidates"]
        return value_and_gradients(loss, *args, rules=key_rules(batch))

    expected = run()
    # Without precaution each trace was wrong with a probability of nearly a half.
    for _ in range(num_traces):
        for ours, theirs in zip(tf.function(run)(), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


OPTIONS = [
    {
        "positive": positive,
        "num_hard_negatives": hard,
        "negative_weight": 0.7 if positive == "outside" else None,
    }
    for positive in ("all", "negatives", "refined", "outside")
    for hard in (None, 2)
]


CASES = [(options, name) for options in OPTIONS for name in ("queries", "heads")]


@pytest.mark.parametrize(
    "options, queries",
    some_of(CASES, CASES[-1:], reason="compiles with XLA many times"),
)
def test_xla_equals_eager(batch, options, queries):
    loss = SampledSoftmax(temperature=0.5, row_block=2, **options)

    @tf.function(jit_compile=True)
    def compiled(q, c):
        return value_and_gradients(loss, q, c, **everything_on(batch))

    args = batch[queries], batch["candidates"]
    eager = value_and_gradients(loss, *args, **everything_on(batch))
    for ours, expected in zip(compiled(*args), eager, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 1e9])
def test_heavy_collisions_change_nothing(batch, compare_from, share):
    """Listing the pairs and comparing the whole block drop the same pairs."""
    loss = SampledSoftmax(row_block=2)
    args = batch["queries"], batch["candidates"]
    usual = value_and_gradients(loss, *args, **everything_on(batch))
    compare_from(share)
    forced = value_and_gradients(loss, *args, **everything_on(batch))
    for ours, expected in zip(forced, usual, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_writing_in_place_leaves_constants_alone(batch):
    """TensorFlow may fold constant scores; a second call must see them whole."""

    @tf.function
    def step():
        return value_and_gradients(
            SampledSoftmax(),
            tf.constant(batch["queries"]),
            tf.constant(batch["candidates"]),
            rules=key_rules(batch),
        )

    first = [tensor.numpy() for tensor in step()]
    for _ in range(2):
        for again, expected in zip(step(), first, strict=True):
            np.testing.assert_array_equal(again, expected)


@pytest.mark.slow(reason="test_retrieval_replicas says it of the task")
def test_replicas_compute_what_one_device_does(batch, two_replicas):
    """Each of two replicas gets the loss and gradients of its own arguments."""

    def arguments(replica):
        return dict(
            query_embeddings=batch["queries"] * (1 + replica),
            candidate_embeddings=batch["candidates"],
            candidate_log_q=batch["log_q"],
            sample_weight=batch["weights"],
        )

    def run(replica):
        every = arguments(tf.cast(replica, batch["queries"].dtype))
        return value_and_gradients(
            SampledSoftmax(row_block=2),
            every.pop("query_embeddings"),
            every.pop("candidate_embeddings"),
            rules=key_rules(batch),
            **every,
        )

    @tf.function
    def step():
        return two_replicas.run(
            lambda: run(tf.distribute.get_replica_context().replica_id_in_sync_group)
        )

    per_replica = [two_replicas.experimental_local_results(x) for x in step()]
    for replica in range(2):
        for ours, expected in zip(per_replica, run(replica), strict=True):
            np.testing.assert_allclose(ours[replica], expected, rtol=1e-6, atol=1e-9)
