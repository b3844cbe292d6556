"""Losses and gradients beside the oracle, and what the loss does not depend on."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import numeric_gradient, row_losses
from softmax_cases import B, C, D, key_dropped, key_rules, value_and_gradients

from tfrs_negatives.losses import SampledSoftmax, rules


@pytest.mark.parametrize("row_block", [None, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_hard_negatives", [None, 2])
@pytest.mark.parametrize("queries", ["queries", "heads"])
@pytest.mark.parametrize("positive", ["all", "negatives", "refined", "outside"])
def test_value_and_gradients_equal_the_oracle(
    batch, positive, queries, num_hard_negatives, masked, row_block
):
    options = {
        "temperature": 0.7,
        "positive": positive,
        "num_hard_negatives": num_hard_negatives,
        "negative_weight": 1.3 if positive == "outside" else None,
    }

    def oracle(q, c):
        return row_losses(
            q,
            c,
            log_q=batch["log_q"],
            dropped=key_dropped(batch) if masked else None,
            **options,
        )

    loss = SampledSoftmax(row_block=row_block, **options)
    value, d_queries, d_candidates = value_and_gradients(
        loss,
        batch[queries],
        batch["candidates"],
        candidate_log_q=batch["log_q"],
        rules=key_rules(batch) if masked else (),
        sample_weight=batch["weights"],
    )
    q, c, w = batch[queries], batch["candidates"], batch["weights"]
    np.testing.assert_allclose(value, w @ oracle(q, c), rtol=1e-10)
    if positive == "refined":
        return  # Its factor 1 - P is held constant: see the test below.
    np.testing.assert_allclose(
        d_queries, numeric_gradient(lambda x: w @ oracle(x, c), q), atol=1e-7
    )
    np.testing.assert_allclose(
        d_candidates, numeric_gradient(lambda x: w @ oracle(q, x), c), atol=1e-7
    )


def test_masking_is_deleting(batch):
    """A dropped column changes nothing and gets no gradient at all."""
    for positive, hard in itertools.product(SampledSoftmax.POSITIVES, (None, 2)):
        loss = SampledSoftmax(0.5, positive, hard)
        value, d_queries, d_candidates = value_and_gradients(
            loss,
            batch["queries"],
            batch["candidates"],
            candidate_log_q=batch["log_q"],
            rules=key_rules(batch),
        )
        total, d_columns = 0.0, np.zeros((C, D))
        for i in range(B):
            dropped = key_dropped(batch)[i]
            kept = [i, *(k for k in range(C) if k != i and not dropped[k])]
            row = value_and_gradients(
                loss,
                batch["queries"][i : i + 1],
                batch["candidates"][kept],
                candidate_log_q=batch["log_q"][kept],
            )
            total += row[0]
            np.testing.assert_allclose(d_queries[i], row[1][0], rtol=1e-9)
            np.add.at(d_columns, kept, row[2].numpy())
        np.testing.assert_allclose(value, total, rtol=1e-12)
        np.testing.assert_allclose(d_candidates, d_columns, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("positive", ["all", "negatives", "refined", "outside"])
def test_rows_without_negatives_cost_nothing(positive):
    queries = np.array([[1.0, 2.0], [3.0, -1.0]])
    keys = tf.constant([5, 5], tf.int64)
    value, d_queries, d_candidates = value_and_gradients(
        SampledSoftmax(positive=positive),
        queries,
        queries[::-1].copy(),
        candidate_log_q=np.log([0.5, 0.5]),
        rules=[rules.same_key(keys, rules.SortedColumns(keys, 2))],
    )
    assert float(value) == 0.0
    assert not np.any(d_queries) and not np.any(d_candidates)


def test_a_rule_never_drops_the_positive(batch):
    everything = tf.zeros([C], tf.int64)
    rule = rules.same_key(everything[:B], rules.SortedColumns(everything, C))
    value, *_ = value_and_gradients(
        SampledSoftmax(reduction="none"),
        batch["queries"],
        batch["candidates"],
        rules=[rule, rule],
    )
    np.testing.assert_array_equal(value, np.zeros(B))


def test_order_of_extra_columns_is_moot(batch):
    order = np.array([0, 1, 2, 3, 4, 7, 5, 6])
    loss = SampledSoftmax()
    plain = loss(batch["queries"], batch["candidates"], candidate_log_q=batch["log_q"])
    permuted = loss(
        batch["queries"],
        batch["candidates"][order],
        candidate_log_q=batch["log_q"][order],
    )
    np.testing.assert_allclose(plain, permuted, rtol=1e-12)


def test_constant_q_is_no_correction(batch):
    constant = np.full(C, np.log(0.125))
    args = batch["queries"], batch["candidates"]
    np.testing.assert_allclose(
        SampledSoftmax()(*args, candidate_log_q=constant),
        SampledSoftmax()(*args),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    "k, masked, jit_compile", grid([0, -1, C - 1, C, 100], [True, False], [False, True])
)
def test_all_negatives_as_hard_negatives_is_no_mining(batch, k, masked, jit_compile):
    """Also where rules leave a row fewer negatives than are to be kept."""

    @tf.function(jit_compile=jit_compile)
    def run(loss):
        rules = key_rules(batch) if masked else ()
        return value_and_gradients(
            loss, batch["queries"], batch["candidates"], rules=rules
        )

    mined, plain = run(SampledSoftmax(num_hard_negatives=k)), run(SampledSoftmax())
    for ours, expected in zip(mined, plain, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-10)
