import warnings

import numpy as np
import pytest
import tensorflow as tf
from sampler_oracles import check_distribution, collect, restricted, rows_dataset

from tfrs_negatives.samplers import Mined, Mixture, Popularity, Uniform

ITEMS = np.arange(8)
COUNTS = np.array([5, 0, 1, 20, 3, 0, 9, 2])
TABLE = np.array([[7, 1, 5], [3, -1, -1], [-1, -1, -1]])
UNIFORM = np.full(8, 1 / 8)
POPULAR = COUNTS / COUNTS.sum()
EXCLUDED = [[3, 1], [3, 7], [0, -1]]


def mixture(weights=(1.0, 2.0)):
    return Mixture([Uniform(ITEMS), Popularity(ITEMS, COUNTS, 1.0)], weights)


def with_mined(weights=(1.0, 1.0, 2.0)):
    samplers = [*mixture().samplers, Mined(ITEMS, TABLE, "query")]
    return Mixture(samplers, weights)


def per_row(sampler, num, num_batches, size=3, **options):
    dataset = rows_dataset(
        num_batches, size, query=np.arange(3), known=np.array(EXCLUDED)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The table's last row is empty.
        return sampler.attach(dataset, num, per_row=True, **options)


def test_shared_draws_are_of_the_mixture():
    draws, log_q = collect(
        mixture().attach(rows_dataset(200), 100, seed=1),
        "negatives",
        "negatives_log_q",
    )
    q = (UNIFORM + 2 * POPULAR) / 3
    check_distribution(draws, q)
    np.testing.assert_allclose(np.exp(log_q), q[draws], rtol=1e-5)


@pytest.mark.parametrize("exclude", [None, "known"])
def test_rows_draw_from_their_own_mixture(exclude):
    sampler = with_mined()
    draws, log_q, mask = collect(
        per_row(sampler, 1, 40, 600, exclude=exclude, seed=2),
        "negatives",
        "negatives_log_q",
        "negatives_mask",
    )
    for row in range(3):
        excluded = {e for e in EXCLUDED[row] if e >= 0} if exclude else set()
        mined = np.array([float(item in TABLE[row]) for item in ITEMS])
        mined[list(excluded)] = 0
        # What the table lacks is padding, the last outcome here.
        mined = np.append(mined, not mined.any()) / max(mined.sum(), 1)
        q = 0.5 * mined
        for other in (UNIFORM, POPULAR):
            q += 0.25 * np.append(restricted(other, excluded), 0)
        here = mask[row::3]
        check_distribution(np.where(here, draws[row::3], 8), q)
        np.testing.assert_allclose(
            np.exp(log_q[row::3][here]), q[draws[row::3][here]], rtol=1e-5
        )
    assert sampler.num_padded.numpy() == (~mask).sum() > 0


def test_mined_draws_of_a_row_are_distinct_and_all_used():
    # All weight on the table: a short row gives all it has before any padding.
    dataset = per_row(with_mined((0.0, 0.0, 1.0)), 3, 20)
    draws, mask = collect(dataset, "negatives", "negatives_mask")
    assert all(set(row) == {7, 1, 5} for row in draws[0::3])
    np.testing.assert_array_equal(mask[1::3], [[True, False, False]] * 20)
    assert not mask[2::3].any()


def test_a_running_pipeline_follows_the_weights():
    sampler = with_mined((1.0, 0.0, 0.0))
    traces = []
    iterator = iter(per_row(sampler, 50, 1000))

    @tf.function
    def step(features):
        traces.append(1)
        return features["negatives"], features["negatives_log_q"]

    draws, log_q = step(next(iterator))
    np.testing.assert_allclose(log_q, np.log(1 / 8), rtol=1e-6)
    sampler.weights.assign([0.0, 3.0, 0.0])
    for _ in range(40):
        draws, log_q = step(next(iterator))
    assert not np.isin(draws, np.flatnonzero(COUNTS == 0)).any()
    np.testing.assert_allclose(np.exp(log_q), POPULAR[draws], rtol=1e-5)
    assert len(traces) == 1


def test_weights_that_went_wrong_stop_the_pipeline():
    for bad, message in [([0, 0], "must not all be 0"), ([-1, 2], "not be negative")]:
        sampler = mixture()
        sampler.weights.assign(bad)
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            next(iter(sampler.attach(rows_dataset(), 3)))


def test_a_checkpoint_has_weights_and_tables(tmp_path):
    sampler = with_mined()
    sampler.weights.assign([1.0, 0.0, 5.0])
    sampler.samplers[2].assign([[1], [2], [3]], step=4)
    path = tf.train.Checkpoint(sampler=sampler).save(tmp_path / "mixture")
    other = with_mined()
    tf.train.Checkpoint(sampler=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other.weights, [1.0, 0.0, 5.0])
    np.testing.assert_array_equal(other.samplers[2].table, [[1], [2], [3]])
    assert other.samplers[2].refreshed_at.numpy() == 4


def test_log_q_of_ids():
    sampler = mixture()
    ids = tf.constant([0, 3, 6])
    q = (UNIFORM + 2 * POPULAR) / 3
    log_q = tf.function(sampler.log_q)
    np.testing.assert_allclose(np.exp(log_q(ids)), q[ids.numpy()], rtol=1e-5)
    sampler.weights.assign([3.0, 1.0])
    q = (3 * UNIFORM + POPULAR) / 4
    np.testing.assert_allclose(np.exp(log_q(ids)), q[ids.numpy()], rtol=1e-5)
    layer = sampler.log_q
    rebuilt = type(layer).from_config(layer.get_config())
    np.testing.assert_allclose(rebuilt(ids), log_q(ids), rtol=1e-6)
    uniform = Uniform(ITEMS)
    assert Mixture([uniform, uniform], [1, 5]).log_q == pytest.approx(np.log(1 / 8))
    with pytest.raises(ValueError, match="belongs to one row"):
        with_mined().log_q  # noqa: B018


def test_a_mixture_of_mixtures():
    inner = mixture()
    outer = Mixture([inner, Uniform(ITEMS)], [3.0, 1.0])
    draws, log_q = collect(
        outer.attach(rows_dataset(100), 100), "negatives", "negatives_log_q"
    )
    q = 0.5 * UNIFORM + 0.5 * POPULAR
    check_distribution(draws, q)
    np.testing.assert_allclose(np.exp(log_q), q[draws], rtol=1e-5)
    np.testing.assert_allclose(np.exp(outer.log_q(tf.constant([3]))), q[3], rtol=1e-5)


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0], r"expected shape \(2,\), received \(1,\)"),
        ([1.0, -1.0], "none negative"),
        ([0.0, 0.0], "one at least positive"),
        ([np.nan, 1.0], "finite"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        mixture(weights)


def test_bad_samplers():
    with pytest.raises(ValueError, match="at least one sampler"):
        Mixture([], [])
    with pytest.raises(ValueError, match=r"corpora of \[8, 9\] items"):
        Mixture([Uniform(ITEMS), Uniform(np.arange(9))], [1, 1])
    with pytest.raises(ValueError, match="different orders"):
        Mixture([Uniform(ITEMS), Uniform(ITEMS[::-1].copy())], [1, 1])
    with pytest.raises(ValueError, match="expected `per_row=True`"):
        with_mined().attach(rows_dataset(query=np.arange(3)), 2)
