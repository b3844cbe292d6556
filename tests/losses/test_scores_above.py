"""Scores above a bound of their row are lost, however few or many there are."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.losses import FalseNegativeFilter, SampledSoftmax, scores_above


@pytest.mark.parametrize("columns", [0, 1, 7, 24, 128, 384])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("are_the_same", [True, False])
def test_is_a_comparison_of_all(columns, share, are_the_same):
    rng = np.random.default_rng(0)
    values = rng.random((5, columns)).astype(np.float32)
    bounds = np.full((5, 1), 1 - share, np.float32)
    bounds[2] += 1

    @tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([5, 1])])
    def run(values, bounds):
        # What was just computed, and is no argument, may be written to.
        scores = values + 0.0
        logits = scores if are_the_same else values * 2.0
        return scores_above.drop_above(logits, scores, bounds, in_place=True)

    expected = np.where(
        values > bounds, -np.inf, values if are_the_same else 2 * values
    )
    np.testing.assert_array_equal(run(values, bounds), expected)


@pytest.mark.parametrize("many", [0.0, 1.0])
@pytest.mark.parametrize("margin", [0.1, -0.5])
@pytest.mark.parametrize("corrected", [True, False])
def test_rows_of_many_columns(monkeypatch, margin, corrected, many):
    """Compared or listed, beside a mask of the same."""
    monkeypatch.setattr(scores_above, "_MANY_CHUNKS", many)
    rng = np.random.default_rng(1)
    queries, candidates = rng.normal(size=(6, 4)), rng.normal(size=(256, 4)) / 4
    candidates[:6] = queries / 4
    scores = queries @ candidates.T
    mask = scores <= np.diag(scores)[:, np.newaxis] + margin
    mask[np.arange(6), np.arange(6)] = True
    assert 0 < np.mean(~mask) < 0.7
    given = {"candidate_log_q": rng.uniform(-9, -1, 256)} if corrected else {}
    queries, candidates = tf.constant(queries), tf.constant(candidates)
    results = []
    for chosen, score_mask in ((FalseNegativeFilter(margin), None), (None, mask)):
        loss = SampledSoftmax(0.3, row_block=4, false_negative_filter=chosen)
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            value = loss(queries, candidates, score_mask=score_mask, **given)
        results.append([value, *tape.gradient(value, [queries, candidates])])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
