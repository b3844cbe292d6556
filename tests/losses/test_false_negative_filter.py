"""Negatives that a guide scores above the positive, beside loops."""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import false_negatives, numeric_gradient, row_losses
from softmax_cases import B, C, D, key_dropped, key_rules, value_and_gradients, zeros

from tfrs_negatives.losses import (
    FalseNegativeFilter,
    SampledSigmoid,
    SampledSoftmax,
)

M = 3
AMOUNTS = [{"margin": 0.3}, {"margin": -0.5}, {"share": 0.8}]
# Queries, whether log q corrects, whether rules mask, hard negatives, rows of a block.
OTHERS = [
    ("queries", True, True, None, 2),
    ("heads", True, False, None, None),
    ("queries", False, True, 2, None),
    ("heads", False, False, None, 2),
]


@pytest.fixture
def guide():
    rng = np.random.default_rng(5)
    queries = rng.normal(size=(B, 2))
    candidates = rng.normal(size=(C, 2))
    candidates[:B] += queries
    return queries, candidates


def arguments(batch, guide, kind, masked, corrected):
    given = {"sample_weight": batch["weights"]}
    if kind == "given":
        given["guide_query_embeddings"] = guide[0]
        given["guide_candidate_embeddings"] = guide[1]
    if corrected:
        given["candidate_log_q"] = batch["log_q"]
    if masked:
        given["rules"] = key_rules(batch)
    return given


@pytest.mark.parametrize(
    "positive, amount, kind, others",
    grid(
        ["all", "negatives", "refined", "outside"],
        AMOUNTS,
        ["towers", "given"],
        OTHERS,
        rounds=2,
    ),
)
def test_value_and_gradients_equal_the_oracle(
    batch, guide, positive, amount, kind, others
):
    queries, corrected, masked, hard, row_block = others
    corrected |= positive == "refined"
    options = {"temperature": 0.7, "positive": positive, "num_hard_negatives": hard}
    q, c, w = batch[queries], batch["candidates"], batch["weights"]
    by_towers = kind == "towers"
    false = false_negatives(*((q, c) if by_towers else guide), **amount)
    assert 0 < false.sum() < B * (C - 1)
    dropped = false | key_dropped(batch) if masked else false

    def oracle(q, c):
        log_q = batch["log_q"] if corrected else None
        return row_losses(q, c, log_q=log_q, dropped=dropped, **options)

    loss = SampledSoftmax(
        row_block=row_block,
        false_negative_filter=FalseNegativeFilter(**amount),
        **options,
    )
    given = arguments(batch, guide, kind, masked, corrected)

    def run(q, c):
        return value_and_gradients(loss, q, c, **given)

    value, d_queries, d_candidates = run(q, c)
    np.testing.assert_allclose(value, w @ oracle(q, c), rtol=1e-10)
    for ours, expected in zip(
        tf.function(run, jit_compile=True)(q, c),
        (value, d_queries, d_candidates),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    if positive == "refined":
        return  # Its factor 1 - P is held constant.
    np.testing.assert_allclose(
        d_queries, numeric_gradient(lambda x: w @ oracle(x, c), q), atol=1e-7
    )
    np.testing.assert_allclose(
        d_candidates, numeric_gradient(lambda x: w @ oracle(q, x), c), atol=1e-7
    )


@pytest.mark.parametrize(
    "kind, corrected, jit_compile",
    grid(["towers", "given"], [False, True], [False, True]),
)
def test_negatives_of_single_rows(batch, guide, kind, corrected, jit_compile):
    """The towers judge them; another guide, which has not seen them, leaves them."""
    rng = np.random.default_rng(3)
    negatives = rng.normal(size=(B, M, D))
    q = batch["queries"]
    scores = np.einsum("nd,nmd->nm", q, negatives)
    own = np.sum(q * batch["candidates"][:B], axis=1)
    mask = scores <= own[:, np.newaxis] + 0.3
    assert 0 < mask.sum() < B * M
    given = arguments(batch, guide, kind, True, corrected)
    if corrected:
        given["negative_log_q"] = np.log(rng.uniform(0.01, 0.6, (B, M)))
    towers = q, batch["candidates"]
    false = false_negatives(*(towers if kind == "towers" else guide), margin=0.3)
    plain = {k: v for k, v in given.items() if not k.startswith("guide")}

    def run(loss, **more):
        return value_and_gradients(
            loss, *towers, negative_embeddings=tf.constant(negatives), **more
        )

    loss = SampledSoftmax(0.5, false_negative_filter=FalseNegativeFilter(margin=0.3))
    found = tf.function(run, jit_compile=jit_compile)(loss, **given)
    expected = run(
        SampledSoftmax(0.5),
        score_mask=~false,
        negative_mask=mask if kind == "towers" else None,
        **plain,
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 1e9])
def test_heavy_collisions_change_nothing(batch, guide, compare_from, share):
    """Rows in another order, of which a block drops columns together."""
    compare_from(share)
    false = false_negatives(batch["queries"], batch["candidates"], margin=-0.5)
    expected = batch["weights"] @ row_losses(
        batch["queries"],
        batch["candidates"],
        log_q=batch["log_q"],
        dropped=false | key_dropped(batch),
    )
    chosen = FalseNegativeFilter(margin=-0.5)
    loss = SampledSoftmax(row_block=2, false_negative_filter=chosen)
    given = arguments(batch, guide, "towers", True, True)
    found = loss(batch["queries"], batch["candidates"], **given)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_sigmoid_loses_them_too(batch):
    args = batch["queries"], batch["candidates"]
    chosen = FalseNegativeFilter(margin=0.3)
    found = value_and_gradients(SampledSigmoid(false_negative_filter=chosen), *args)
    mask = ~false_negatives(*args, margin=0.3)
    expected = value_and_gradients(SampledSigmoid(), *args, score_mask=mask)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("place", ["candidates", "negatives"])
def test_what_is_not_a_number_is_not_hidden(batch, place, jit_compile):
    given = {
        "candidates": batch["candidates"].copy(),
        "negatives": np.zeros((B, M, D)),
    }
    given[place][3] = np.nan
    chosen = FalseNegativeFilter(margin=-1e6)
    loss = SampledSoftmax(reduction="none", false_negative_filter=chosen)
    found = tf.function(loss, jit_compile=jit_compile)(
        batch["queries"],
        given["candidates"],
        negative_embeddings=given["negatives"],
    )
    assert np.isnan(found[3])


def test_no_gradient_reaches_the_guide_or_the_margin(batch, guide):
    guide = [tf.constant(x) for x in guide]
    margin = tf.Variable(0.3, dtype=tf.float64)
    loss = SampledSoftmax(false_negative_filter=FalseNegativeFilter(margin=margin))
    with tf.GradientTape() as tape:
        tape.watch([*guide, margin])
        value = loss(
            batch["queries"],
            batch["candidates"],
            guide_query_embeddings=guide[0],
            guide_candidate_embeddings=guide[1],
        )
    assert tape.gradient(value, [*guide, margin]) == [None] * 3


def test_a_margin_that_changes_is_a_warm_up(batch):
    margin = tf.Variable(1e9, trainable=False)
    loss = SampledSoftmax(false_negative_filter=FalseNegativeFilter(margin=margin))
    step = tf.function(lambda: loss(batch["queries"], batch["candidates"]))
    towers = batch["queries"], batch["candidates"]
    for value in (1e9, 0.25):
        margin.assign(value)
        dropped = false_negatives(*towers, margin=value)
        expected = row_losses(*towers, dropped=dropped).sum()
        np.testing.assert_allclose(step(), expected, rtol=1e-10)
    margin.assign(np.nan)
    with pytest.raises(tf.errors.InvalidArgumentError, match="margin.*finite"):
        step()


def test_rows_that_lose_all_cost_nothing(batch):
    """And no row its positive, whatever the margin."""
    loss = SampledSoftmax(
        reduction="none", false_negative_filter=FalseNegativeFilter(margin=-1e6)
    )
    found = value_and_gradients(loss, batch["queries"], batch["candidates"])
    assert not any(np.any(x) for x in found)


def test_rebuilt_from_its_config(batch):
    chosen = FalseNegativeFilter(share=tf.Variable(0.95, trainable=False))
    loss = SampledSoftmax(0.5, false_negative_filter=chosen)
    rebuilt = SampledSoftmax.from_config(loss.get_config())
    assert rebuilt.get_config() == loss.get_config()
    args = batch["queries"], batch["candidates"]
    np.testing.assert_array_equal(rebuilt(*args), loss(*args))
    assert "false_negative_filter=FalseNegativeFilter(share=0.95)" in repr(loss)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "one of `margin` and `share`.*None"),
        ({"margin": 0.1, "share": 0.9}, "one of `margin` and `share`"),
        ({"margin": np.nan}, "`margin` must be a finite number, received nan"),
        ({"margin": np.inf}, "`margin` must be a finite number, received inf"),
        ({"share": 0.0}, "`share` must be positive and finite, received 0.0"),
        ({"margin": "0"}, "margin.*number.*'0'"),
        ({"share": tf.Variable(1)}, "share.*float32"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FalseNegativeFilter(**options)


def test_what_is_no_filter():
    with pytest.raises(ValueError, match=r"losses.FalseNegativeFilter`, received 0.1"):
        SampledSoftmax(false_negative_filter=0.1)


@pytest.mark.parametrize(
    "rows, columns, message",
    [
        (zeros(B, 2), None, "`guide_candidate_embeddings` is None"),
        (None, zeros(C, 2), "`guide_query_embeddings` is None"),
        (zeros(B - 1, 2), zeros(C, 2), "guide_query_embeddings.*size 5 along axis 0"),
        (zeros(B, 2), zeros(C + 1, 2), "guide_candidate_embeddings.*size 8"),
        (zeros(B, 2), zeros(C, 3), "guide_candidate_embeddings.*size 2 along axis 1"),
        (zeros(B), zeros(C, 2), "guide_query_embeddings.*rank 2"),
        (zeros(B, 2).astype(int), zeros(C, 2), "guide_query_embeddings.*floating"),
    ],
)
def test_bad_guides(batch, rows, columns, message):
    loss = SampledSoftmax(false_negative_filter=FalseNegativeFilter(margin=0.0))
    towers = batch["queries"], batch["candidates"]
    given = {"guide_query_embeddings": rows, "guide_candidate_embeddings": columns}
    with pytest.raises(ValueError, match=message):
        loss(*towers, **given)


def test_a_guide_without_a_filter(batch, guide):
    with pytest.raises(ValueError, match="false_negative_filter.*received None"):
        SampledSoftmax()(
            batch["queries"],
            batch["candidates"],
            guide_query_embeddings=guide[0],
            guide_candidate_embeddings=guide[1],
        )
