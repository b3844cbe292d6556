"""What `SampledSoftmax` refuses, and its configuration."""

import numpy as np
import pytest
import tensorflow as tf
from softmax_cases import (
    zeros,
)

from tfrs_negatives.losses import SampledSoftmax


def test_rebuilt_from_its_config(batch):
    loss = SampledSoftmax(0.3, "outside", 3, "sum_over_batch_size", 2, 1.3)
    rebuilt = SampledSoftmax.from_config(loss.get_config())
    args = batch["queries"], batch["candidates"]
    assert rebuilt.get_config() == loss.get_config()
    np.testing.assert_array_equal(
        rebuilt(*args, candidate_log_q=batch["log_q"]),
        loss(*args, candidate_log_q=batch["log_q"]),
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": 0.0}, "temperature.*positive.*0.0"),
        ({"temperature": -1}, "temperature.*positive"),
        ({"temperature": float("nan")}, "temperature.*positive"),
        ({"positive": "none"}, "positive.*all.*received 'none'"),
        ({"reduction": "average"}, "reduction.*received 'average'"),
        ({"row_block": 0}, "row_block.*at least 1.*0"),
        *(
            ({"positive": "outside", "negative_weight": rho}, f"finite, received {rho}")
            for rho in (0, -1.5, np.nan, np.inf)
        ),
        ({"positive": "outside", "negative_weight": "2"}, "negative_weight.*'2'"),
        ({"positive": "outside", "negative_weight": tf.Variable(2)}, "weight.*float32"),
        ({"positive": "refined", "negative_weight": 1.0}, "outside.*refined"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SampledSoftmax(**options)


@pytest.mark.parametrize(
    "args, kwargs, message",
    [
        ((zeros(3), zeros(3, 2)), {}, "query_embeddings.*rank 2 or 3"),
        ((zeros(3, 2), zeros(6)), {}, "candidate_embeddings.*rank 2"),
        ((zeros(3, 2), zeros(3, 4)), {}, "candidate_embeddings.*size 2 along axis 1"),
        ((zeros(3, 2), zeros(2, 2)), {}, "at least as many rows.*3.*received 2"),
        ((np.zeros((3, 2), int), zeros(3, 2)), {}, "floating point.*int64"),
        ((zeros(3, 2), zeros(4, 2)), {"candidate_log_q": zeros(3) - 1}, "size 4"),
        ((zeros(3, 2), zeros(3, 2)), {"candidate_log_q": zeros(3, 1) - 1}, "rank 1"),
        ((zeros(3, 2), zeros(3, 2)), {"sample_weight": zeros(2)}, "weight.*size 3"),
        ((zeros(3, 2), zeros(3, 2)), {"sample_weight": zeros(3, 2)}, "weight.*size 1"),
        ((zeros(3, 2), zeros(3, 2)), {"score_mask": zeros(3, 3)}, "must be bool"),
        (
            (zeros(3, 2), zeros(4, 2)),
            {"score_mask": np.ones((3, 3), bool)},
            "score_mask.*size 4",
        ),
    ],
)
def test_bad_shapes(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        SampledSoftmax()(*args, **kwargs)


@pytest.mark.parametrize("log_q", [np.nan, np.inf, -np.inf])
def test_bad_log_q(log_q):
    log_q = np.array([-1.0, log_q, -1.0], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="log q must be finite"):
        SampledSoftmax()(zeros(3, 2), zeros(3, 2), candidate_log_q=log_q)


def test_refined_needs_a_q_below_one():
    refined = SampledSoftmax(positive="refined")
    with pytest.raises(ValueError, match="expected `candidate_log_q`"):
        refined(zeros(3, 2), zeros(3, 2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="q < 1"):
        refined(zeros(3, 2), zeros(3, 2), candidate_log_q=zeros(3))


def test_score_mask_hiding_a_positive_names_the_row():
    mask = np.ones((4, 5), bool)
    mask[2, 2] = False
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"(?s)score_mask.*rows.*2$"
    ):
        SampledSoftmax()(zeros(4, 2), zeros(5, 2), score_mask=mask)


def test_sizes_are_checked_when_they_are_known_only_at_run_time():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2]),
            tf.TensorSpec([None, 2]),
            tf.TensorSpec([None]),
        ]
    )
    def loss(queries, candidates, log_q):
        return SampledSoftmax()(queries, candidates, candidate_log_q=log_q)

    assert float(loss(zeros(2, 2), zeros(2, 2), zeros(2) - 1)) > 0
    for args, message in (
        ((zeros(3, 2), zeros(2, 2), zeros(2)), "at least as many rows"),
        ((zeros(2, 2), zeros(2, 2), zeros(3)), "candidate_log_q"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            loss(*args)


@pytest.mark.parametrize("rho", [0.0, -1.0, np.nan, np.inf])
def test_a_curriculum_that_sets_a_bad_negative_weight_is_an_error(rho):
    loss = SampledSoftmax(positive="outside", negative_weight=tf.Variable(rho))
    with pytest.raises(tf.errors.InvalidArgumentError, match="negative_weight.*finite"):
        loss(zeros(2, 2), zeros(2, 2))


def test_temperature_that_trains_below_zero_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="temperature"):
        SampledSoftmax(tf.Variable(-0.1))(zeros(2, 2), zeros(2, 2))
