import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sampler_oracles import check_distribution, collect, restricted, rows_dataset

from tfrs_negatives.layers import MixedLogQ
from tfrs_negatives.samplers import Popularity

COUNTS = np.array([40, 0, 1, 9, 0, 100, 25, 3, 16, 0])


def proportions(power):
    weights = [count**power if count else 0.0 for count in COUNTS.tolist()]
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("power", [0, 0.5, 0.75, 1.0])
def test_draws_follow_the_power_of_counts(power):
    sampler = Popularity(np.arange(10), COUNTS, power)
    draws, log_q = collect(
        sampler.attach(rows_dataset(100), 400, seed=2), "negatives", "negatives_log_q"
    )
    q = proportions(power)
    check_distribution(draws, q)
    np.testing.assert_allclose(np.exp(log_q), q[draws], rtol=1e-6)


def test_the_default_is_the_power_of_word2vec():
    assert Popularity(np.arange(10), COUNTS).power == 0.75


@pytest.mark.parametrize("power", [0.75, 1.0])
def test_excluded_items_are_not_drawn(power):
    # The most popular, neighbours, items never drawn, the ends, a repeat.
    excluded = [[5, 5, -1], [6, 7, 8], [1, 4, 9], [0, 9, 77]]
    dataset = rows_dataset(20, 400, known=np.array(excluded))
    dataset = Popularity(np.arange(10), COUNTS, power).attach(
        dataset, 5, per_row=True, exclude="known", seed=3
    )
    draws, log_q, mask = collect(
        dataset, "negatives", "negatives_log_q", "negatives_mask"
    )
    assert mask.all()
    for row, items in enumerate(excluded):
        q = restricted(proportions(power), {e for e in items if 0 <= e < 10})
        check_distribution(draws[row::4], q)
        np.testing.assert_allclose(np.exp(log_q[row::4]), q[draws[row::4]], rtol=1e-6)


def test_rows_that_know_all_items_with_counts_are_masked():
    known = np.array([[0, 2, 3, 5, 6, 7, 8]])
    dataset = Popularity(np.arange(10), COUNTS).attach(
        rows_dataset(1, 1, known=known), 3, per_row=True, exclude="known"
    )
    assert not collect(dataset, "negatives_mask").any()


def test_extreme_counts_keep_their_probability():
    counts = np.array([1, 10**12, 1, 10**12])
    sampler = Popularity(np.arange(4), counts, 1.0)
    dataset = sampler.attach(
        rows_dataset(4, 1, known=np.array([[1, 3]])), 500, per_row=True, exclude="known"
    )
    draws, log_q = collect(dataset, "negatives", "negatives_log_q")
    check_distribution(draws, [0.5, 0, 0.5, 0])
    np.testing.assert_allclose(log_q, np.log(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    "ids", [np.arange(10) * 7 + 3, np.array([f"item {i}" for i in range(10)])]
)
def test_log_q_is_a_layer_of_ids(ids):
    corpus = {"name": ids, "price": np.ones(10)}
    sampler = Popularity(corpus, COUNTS, 0.75, id_feature="name")
    q = proportions(0.75)
    some = np.array([0, 5, 7, 8])
    np.testing.assert_allclose(
        np.exp(sampler.log_q(tf.constant(ids[some]))), q[some], rtol=1e-5
    )
    dataset = sampler.attach(rows_dataset(2), 6)
    for element in dataset:
        np.testing.assert_allclose(
            sampler.log_q(element["negatives"]["name"]),
            element["negatives_log_q"],
            rtol=1e-5,
        )


def test_log_q_is_a_source_of_a_mixture_of_columns():
    sampler = Popularity(np.arange(10), COUNTS, 1.0)
    mixed = MixedLogQ([-np.log(10.0).item(), sampler.log_q])
    ids = tf.constant([0, 5, 2, 3])
    expected = (1 * 0.1 + 3 * proportions(1.0)[ids.numpy()]) / 4
    np.testing.assert_allclose(np.exp(mixed(ids, num_positives=1)), expected, rtol=1e-5)


@pytest.mark.parametrize("num", [1, 3])
def test_columns_of_items_without_a_count(num):
    """Every id's mixture of one column of the batch and `num` of the sampler."""
    sampler = Popularity(np.arange(10), COUNTS, 1.0)
    mixed = MixedLogQ([-np.log(10.0).item(), sampler.log_q], sizes=[num])
    log_q = mixed(tf.range(10), num_positives=1, num_columns=1 + num)
    expected = (0.1 + num * proportions(1.0)) / (1 + num)
    np.testing.assert_allclose(np.exp(log_q), expected, rtol=1e-5)
    rebuilt = MixedLogQ.from_config(mixed.get_config())
    np.testing.assert_array_equal(
        rebuilt(tf.range(10), num_positives=1, num_columns=1 + num), log_q
    )


def test_alone_items_without_a_count_have_the_q_of_one_occurrence():
    log_q = Popularity(np.arange(10), COUNTS, 1.0).log_q
    expected = np.maximum(COUNTS, 1) / COUNTS.sum()
    np.testing.assert_allclose(np.exp(log_q(tf.range(10))), expected, rtol=1e-5)
    absent = np.exp(log_q(tf.constant([77])))
    np.testing.assert_allclose(absent, 1 / COUNTS.sum(), rtol=1e-5)


def test_ids_that_are_no_text():
    """Bytes that are not UTF-8, which a config must hold as text."""
    ids = np.array([b"\xff", b"a", "é".encode(), b"\xfe\x00"], object)
    layer = Popularity(ids, [1, 2, 5, 0], 1.0).log_q
    config = json.loads(json.dumps(layer.get_config()))
    for log_q in (layer, type(layer).from_config(config)):
        np.testing.assert_allclose(
            np.exp(log_q(tf.constant(ids))), [1 / 8, 2 / 8, 5 / 8, 1 / 8], rtol=1e-5
        )


def test_a_layer_with_ids_as_text_is_rebuilt_from_its_config():
    layer = Popularity(np.array(["é", "b"]), [3, 1], 1.0).log_q
    rebuilt = type(layer).from_config(layer.get_config())
    ids = tf.constant(["b", "é"])
    np.testing.assert_allclose(np.exp(rebuilt(ids)), [0.25, 0.75], rtol=1e-6)


def test_counts_that_name_their_ids_are_put_in_order():
    corpus = {"name": np.array(["c", "a", "b"])}
    for counts in ({"a": 3, "b": 1}, pd.Series([1, 3], index=["b", "a"])):
        sampler = Popularity(corpus, counts, 1.0, id_feature="name")
        drawn = next(iter(sampler.attach(rows_dataset(), 4000)))["negatives"]["name"]
        share = np.mean(drawn.numpy() == b"a")
        assert set(drawn.numpy()) == {b"a", b"b"} and abs(share - 0.75) < 0.04


@pytest.mark.parametrize(
    "counts, power, message",
    [
        ([1, 2], 0.5, r"expected shape \(3,\), received \(2,\)"),
        ([1, -2, 3], 0.5, "none negative.*-2"),
        ([1, np.inf, 3], 0.5, "finite"),
        ([0, 0, 0], 0.5, "at least positive|one at least positive"),
        ({0: 1, 7: 2}, 0.5, "1 ids that it lacks, 7 for one"),
        (pd.Series([3, 4], index=[2, -5]), 0.5, "1 ids that it lacks, -5"),
        ({0: -1}, 0.5, "none negative"),
        ([1, 2, 3], -0.1, "`power`.*-0.1"),
        ([1, 2, 3], 1.5, "`power`.*1.5"),
        ([1, 2, 3], np.nan, "`power`.*nan"),
    ],
)
def test_bad_counts_and_powers(counts, power, message):
    with pytest.raises(ValueError, match=message):
        Popularity(np.arange(3), counts, power)
