"""Negatives of one row each, beside the columns that all rows share."""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from softmax_cases import (
    B,
    C,
    D,
    value_and_gradients,
)

from tfrs_negatives.losses import SampledSoftmax

M = 3


@pytest.mark.parametrize(
    "positive, queries, num_hard_negatives, corrected",
    grid(
        ["all", "negatives", "refined", "outside"],
        ["queries", "heads"],
        [None, 2],
        [False, True],
        rounds=3,
        reason="the same claim for the other combinations, each compiled by XLA",
    ),
)
def test_negatives_of_one_row_are_columns_that_others_do_not_see(
    batch, positive, queries, num_hard_negatives, corrected
):
    """The same as B x M more columns, dropped for all rows but their own."""
    if positive == "refined" and not corrected:
        pytest.skip("refined needs log Q")
    rng = np.random.default_rng(3)
    negatives = rng.normal(size=(B, M, D))
    negative_log_q = np.log(rng.uniform(0.01, 0.6, (B, M)))
    mask = rng.uniform(size=(B, M)) < 0.7
    loss = SampledSoftmax(0.5, positive, num_hard_negatives, row_block=2)
    shared = {"sample_weight": batch["weights"]}

    everyone = np.ones((B, C), bool)
    everyone[~np.eye(B, C, dtype=bool)] = rng.uniform(size=B * C - B) < 0.8
    own = np.zeros((B, B, M), bool)
    own[np.arange(B), np.arange(B)] = mask
    columns = {"score_mask": np.concatenate([everyone, own.reshape(B, -1)], axis=1)}
    rows = {"score_mask": everyone, "negative_mask": mask}
    if corrected:
        rows |= {"candidate_log_q": batch["log_q"], "negative_log_q": negative_log_q}
        log_q = np.concatenate([batch["log_q"], negative_log_q.ravel()])
        columns["candidate_log_q"] = log_q

    expected, d_queries, d_columns = value_and_gradients(
        loss,
        batch[queries],
        np.concatenate([batch["candidates"], negatives.reshape(-1, D)]),
        **columns,
        **shared,
    )
    negatives = tf.constant(negatives)
    with tf.GradientTape() as tape:
        tape.watch(negatives)
        value, d_q, d_candidates = value_and_gradients(
            loss,
            batch[queries],
            batch["candidates"],
            negative_embeddings=negatives,
            **rows,
            **shared,
        )
    d_negatives = tape.gradient(value, negatives)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(d_q, d_queries, atol=1e-12)
    np.testing.assert_allclose(d_candidates, d_columns[:C], atol=1e-12)
    np.testing.assert_allclose(
        d_negatives, tf.reshape(d_columns[C:], (B, M, D)), atol=1e-12
    )
    np.testing.assert_array_equal(d_negatives[~mask], 0)

    compiled = tf.function(loss, jit_compile=True)(
        batch[queries],
        batch["candidates"],
        negative_embeddings=negatives,
        **rows,
        **shared,
    )
    np.testing.assert_allclose(compiled, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negative_embeddings": np.zeros((B, D))}, r"negative_embeddings.*rank 3"),
        ({"negative_embeddings": np.zeros((B + 1, 2, D))}, "negative_embeddings"),
        ({"negative_embeddings": np.zeros((B, 2, D + 1))}, "negative_embeddings"),
        ({"negative_embeddings": np.zeros((B, 2, D), int)}, "floating point"),
        ({"negative_mask": np.ones((B, 2))}, "negative_mask.*bool"),
        ({"negative_mask": np.ones((B, 3), bool)}, "negative_mask"),
        ({"negative_log_q": np.zeros((B, 2))}, "candidate_log_q.*together"),
        ({"candidate_log_q": np.zeros(C)}, "negative_log_q.*together"),
    ],
)
def test_bad_negatives_of_one_row(batch, arguments, message):
    arguments = {"negative_embeddings": np.zeros((B, 2, D))} | arguments
    with pytest.raises(ValueError, match=f"(?s){message}"):
        SampledSoftmax()(batch["queries"], batch["candidates"], **arguments)


def test_no_negatives_of_any_row_change_nothing(batch):
    loss = SampledSoftmax(row_block=2)
    run = value_and_gradients(loss, batch["queries"], batch["candidates"])
    with_none = value_and_gradients(
        loss,
        batch["queries"],
        batch["candidates"],
        negative_embeddings=np.zeros((B, 0, D)),
    )
    for ours, expected in zip(with_none, run, strict=True):
        np.testing.assert_array_equal(ours, expected)
