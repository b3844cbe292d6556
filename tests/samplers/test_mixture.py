import warnings

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from sampler_oracles import check_distribution, collect, restricted, rows_dataset

from tfrs_negatives.samplers import Mined, Mixture, Popularity, Uniform

ITEMS = np.arange(8)
COUNTS = np.array([5, 0, 1, 20, 3, 0, 9, 2])
TABLE = [[7, 1, 5], [3], []]
UNIFORM = np.full(8, 1 / 8)
POPULAR = COUNTS / COUNTS.sum()
EXCLUDED = [[3, 1], [3, 7], [0, 0]]


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
        excluded = set(EXCLUDED[row]) if exclude else set()
        mined = np.array([float(item in TABLE[row]) for item in ITEMS])
        mined[list(excluded)] = 0
        # What the table lacks is masked, the last outcome here.
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


@pytest.mark.parametrize("exclude", [None, "known"])
def test_several_draws_of_a_row_are_independent_and_of_the_reported_q(exclude):
    """More draws than a row has mined items; each pair of them by chi-square."""
    known = np.array([[5], [3], [7]])
    dataset = rows_dataset(100, 600, query=np.arange(3), known=known)
    items, table = np.arange(5), [[1, 2], [4, 0, 3], [2]]
    sampler = Mixture([Uniform(items), Mined(items, table, "query")], [1.0, 1.0])
    with pytest.warns(UserWarning, match="others are repeats"):
        dataset = sampler.attach(dataset, 8, per_row=True, exclude=exclude, seed=5)
    names = "negatives", "negatives_log_q", "negatives_mask"
    draws, log_q, mask = collect(dataset, *names)
    assert mask.all() and sampler.num_padded.numpy() == 0
    for row, mined in enumerate([{1, 2}, {4, 0, 3}, {2}]):
        excluded = {e for e in known[row].tolist() if e < 5} if exclude else set()
        q = 0.5 * restricted(np.ones(5), excluded)
        q += 0.5 * restricted(np.ones(5), excluded | (set(range(5)) - mined))
        drawn = draws[row::3]
        np.testing.assert_allclose(np.exp(log_q[row::3]), q[drawn], rtol=1e-5)
        check_distribution(drawn, q)
        pairs = drawn[:, 0::2] * 5 + drawn[:, 1::2]
        check_distribution(pairs, np.outer(q, q).ravel())


def supply_warnings(caught):
    return [str(w.message) for w in caught if "mined table" in str(w.message)]


@pytest.mark.parametrize(
    "weights, needed",
    [((1, 3), 6), ((1, 0), 1), ((0, 1), 8), ((0.75, 0.25), 2), ((0.7, 0.3), 3)],
)
def test_short_supply_is_counted(weights, needed):
    """By how many draws of the table's rows are expected; without any is masked."""
    sizes = [8, 7, 6, 5, 1, 0]
    table = [[*range(size)] for size in sizes]
    sampler = Mixture([Uniform(ITEMS), Mined(ITEMS, table, "query")], weights)
    dataset = rows_dataset(1, 6, query=np.arange(6))
    short = sum(size < needed for size in sizes)
    with pytest.warns(UserWarning) as caught:
        sampler.attach(dataset, 8, per_row=True)
    (message,) = supply_warnings(caught)
    assert message.startswith(f"{short} of the mined table's 6 rows ({short / 6:.1%})")
    assert f"fewer than the {needed} negatives" in message
    assert "draws of 1 without any are masked" in message
    full = [[*range(8)]] * 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler.samplers[1].assign(full)
        sampler.attach(dataset, 8, per_row=True)


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


ZEROS = np.array([0, 0, 0, 8, 2])


@pytest.mark.parametrize(
    "power, weights, names",
    grid(
        [0.0, 0.75, 1.0],
        [(1.0, 1.0), (0.1, 0.9), (1.0, 0.0)],
        [None, np.array(["a", "b", "c", "d", "e"])],
        rounds=2,
    ),
)
def test_log_q_of_every_id_of_which_some_have_no_count(power, weights, names):
    items = np.arange(5) if names is None else names
    popularity = Popularity(items, ZEROS, power)
    sampler = Mixture([Uniform(items), popularity], weights)
    popular = np.array([count**power if count else 0.0 for count in ZEROS.tolist()])
    q = (weights[0] / 5 + weights[1] * popular / popular.sum()) / sum(weights)
    layer = sampler.log_q
    rebuilt = type(layer).from_config(layer.get_config())
    nested = Mixture([sampler, sampler], [3.0, 1.0]).log_q
    for log_q in (layer, rebuilt, nested, tf.function(layer)):
        np.testing.assert_allclose(np.exp(log_q(tf.constant(items))), q, rtol=1e-5)
    assert np.exp(layer(tf.constant(items))).sum() == pytest.approx(1)
    for element in sampler.attach(rows_dataset(1), 50):
        np.testing.assert_allclose(
            layer(element["negatives"]), element["negatives_log_q"], rtol=1e-5
        )


def test_ids_that_no_sampler_draws_have_a_finite_log_q():
    """The floors' mixture: what an id with one occurrence would have."""
    samplers = [Popularity(np.arange(5), ZEROS, 1.0) for _ in range(2)]
    layer = Mixture(samplers, [1.0, 3.0]).log_q
    expected = [0.1, 0.1, 0.1, 0.8, 0.2, 0.1]
    np.testing.assert_allclose(np.exp(layer(tf.range(6))), expected, rtol=1e-5)
    layer = Mixture([Uniform(np.arange(5)), samplers[0]], [0.0, 1.0]).log_q
    np.testing.assert_allclose(np.exp(layer(tf.range(6))), expected, rtol=1e-5)


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
