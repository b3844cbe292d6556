import gc

import numpy as np
import pytest
import tensorflow as tf
from index_oracles import as_list, best, clustered, normal, recall

from tfrs_negatives._scann_ops import scann_ops
from tfrs_negatives.index import ScaNN
from tfrs_negatives.index.scann_searcher import _destroy

pytestmark = pytest.mark.scann

QUERIES = clustered(1, 64)
CANDIDATES = clustered(0, 5000)


@pytest.fixture(scope="module")
def built():
    return ScaNN().index(CANDIDATES)


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_recall_with_default_settings(built, k):
    assert not built.is_exact()
    assert recall(built(QUERIES, k=k)[1].numpy(), QUERIES, CANDIDATES) >= 0.95


def test_scores_are_exact_dot_products_in_descending_order(built):
    scores, ids = built(QUERIES, k=300)
    products = np.take_along_axis(QUERIES @ CANDIDATES.T, ids.numpy(), axis=1)
    np.testing.assert_allclose(scores, products, rtol=1e-4, atol=1e-4)
    assert (np.diff(scores.numpy(), axis=1) <= 0).all()


def test_k_of_the_whole_corpus_finds_everything(built):
    ids = built(QUERIES[:4], k=5000)[1].numpy()
    assert (np.sort(ids, axis=1) == np.arange(5000)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"num_leaves": 100, "num_leaves_to_search": 1},
        {"num_leaves": 100, "num_leaves_to_search": 1, "num_reordering_candidates": 5},
        {"num_leaves": 1, "num_reordering_candidates": 5},
    ],
)
@pytest.mark.parametrize("k", [10, 700, 5000])
def test_no_hit_is_cut_silently_by_narrow_settings(settings, k):
    ids = ScaNN(**settings).index(CANDIDATES)(QUERIES[:8], k=k)[1].numpy()
    assert all(len(set(row)) == k for row in ids)
    assert ids.min() >= 0


def test_explicit_settings_are_used():
    narrow = ScaNN(num_leaves=100, num_leaves_to_search=2).index(CANDIDATES)
    wide = ScaNN(num_leaves=100, num_leaves_to_search=100).index(CANDIDATES)
    recalls = [
        recall(index(QUERIES, k=100)[1].numpy(), QUERIES, CANDIDATES)
        for index in (narrow, wide)
    ]
    assert recalls[0] < 0.95 <= recalls[1]
    coarse = ScaNN(dimensions_per_block=8, num_reordering_candidates=10)
    coarse = coarse.index(CANDIDATES)(QUERIES, k=10)[1].numpy()
    assert recall(coarse, QUERIES, CANDIDATES) < recalls[1]


def test_exclusions_of_many_candidates(built):
    best_ids = built(QUERIES[:8], k=400)[1]
    ids = built.query_with_exclusions(QUERIES[:8], best_ids, k=50)[1]
    assert not any(
        set(a) & set(b) for a, b in zip(ids.numpy(), best_ids.numpy(), strict=True)
    )
    kept = np.concatenate([best_ids.numpy(), ids.numpy()], axis=1)
    assert recall(kept, QUERIES[:8], CANDIDATES) >= 0.95


@pytest.mark.parametrize("count", [1, 3, 15, 16, 20, 999])
def test_small_corpora_are_searched_exactly(count):
    candidates = clustered(count, count)
    for index in (ScaNN(), ScaNN(num_leaves=16), ScaNN(num_leaves=1000)):
        index.index(candidates)
        for k in {1, (count + 1) // 2, count}:
            scores, ids = index(QUERIES[:3], k=k)
            expected = best(QUERIES[:3], candidates, k)
            np.testing.assert_allclose(scores, expected[0], rtol=1e-4, atol=1e-4)
            if index.searcher.settings()["num_leaves"] == 0 or k == count:
                assert as_list(ids) == expected[1]


@pytest.mark.parametrize(
    ("count", "leaves", "to_search"),
    [(999, 0, 0), (1000, 32, 32), (5000, 71, 71), (20_000, 141, 85), (40_000, 200, 70)],
)
def test_default_rule(count, leaves, to_search):
    index = ScaNN(training_iterations=1).index(normal(0, count, 4))
    settings = index.searcher.settings()
    assert settings["num_leaves"] == leaves
    assert settings["num_leaves_to_search"] == to_search


def test_a_refresh_may_add_and_drop_leaves():
    index = ScaNN().index(CANDIDATES)
    query = tf.function(lambda q: index(q, k=10)[1])
    query(tf.constant(QUERIES))
    for seed, count in enumerate((20, 3000, 500, 6000)):
        candidates = clustered(seed + 10, count)
        index.index(candidates)
        found = query(tf.constant(QUERIES)).numpy()
        assert recall(found, QUERIES, candidates) >= 0.95
    assert query.experimental_get_tracing_count() == 1


def resource_exists(handle):
    try:
        scann_ops().scann_search_batched(handle, QUERIES[:1], 1, -1, -1, False)
    except tf.errors.NotFoundError:
        return False
    return True


def test_a_dropped_index_leaves_no_resource_behind():
    index = ScaNN().index(CANDIDATES[:500])
    index(QUERIES)
    handle = index.searcher._resource
    assert resource_exists(handle)
    del index
    gc.collect()
    assert not resource_exists(handle)


def test_an_index_may_be_dropped_while_a_graph_is_built():
    # The garbage collector runs whenever it likes.
    index = ScaNN().index(CANDIDATES[:500])
    handle = index.searcher._resource
    with tf.Graph().as_default() as graph:
        _destroy(handle)
    assert not graph.get_operations()
    assert not resource_exists(handle)
    # A graph makes a new resource when one is missing.
    assert tf.function(index)(tf.constant(QUERIES))[1].shape == (64, 10)


def test_two_indexes_do_not_share_candidates():
    first = ScaNN(k=3).index(CANDIDATES[:500])
    second = ScaNN(k=3).index(CANDIDATES[500:900])
    assert as_list(first(QUERIES[:4])[1]) == best(QUERIES[:4], CANDIDATES[:500], 3)[1]
    expected = best(QUERIES[:4], CANDIDATES[500:900], 3)[1]
    assert as_list(second(QUERIES[:4])[1]) == expected


def test_candidates_of_huge_norm_are_refused():
    index = ScaNN(k=3).index(CANDIDATES)
    before = index(QUERIES)[1].numpy()
    with pytest.raises(ValueError, match=r"norms up to 1e\+15 for ScaNN, received"):
        index.index(CANDIDATES * np.float32(1e30))
    np.testing.assert_array_equal(index(QUERIES)[1], before)
    scaled = index.index(CANDIDATES * np.float32(1e13))(QUERIES * np.float32(1e10))
    assert np.isfinite(scaled[0]).all()


def test_one_query_at_a_time():
    index = ScaNN(k=3, parallelize_batch_searches=False).index(CANDIDATES)
    assert recall(index(QUERIES)[1].numpy(), QUERIES, CANDIDATES) >= 0.95


def test_other_distances_are_refused():
    with pytest.raises(ValueError, match='must be "dot_product", received .squared_l2'):
        ScaNN(distance_measure="squared_l2")


@pytest.mark.parametrize("value", [0, -1, 1.5])
@pytest.mark.parametrize(
    "setting",
    ["num_leaves", "num_leaves_to_search", "num_reordering_candidates"]
    + ["training_iterations", "dimensions_per_block"],
)
def test_bad_settings(setting, value):
    with pytest.raises(ValueError, match=f"`{setting}` must be a positive int"):
        ScaNN(**{setting: value})


def test_config_holds_every_argument():
    arguments = {
        "k": 7,
        "distance_measure": "dot_product",
        "num_leaves": 30,
        "num_leaves_to_search": 4,
        "training_iterations": 5,
        "dimensions_per_block": 3,
        "num_reordering_candidates": 60,
        "parallelize_batch_searches": False,
        "storage": "int8",
        "recall_target": None,
        "name": "near",
    }
    config = ScaNN(**arguments).get_config()
    assert config == {"query_model": None, **arguments}
    rebuilt = ScaNN.from_config(config).index(CANDIDATES)
    assert rebuilt.get_config() == config
    settings = rebuilt.searcher.settings()
    assert settings["num_leaves"] == 30
    assert settings["num_leaves_to_search"] == 4
    assert settings["training_iterations"] == 5
    assert settings["dimensions_per_block"] == 3
    assert settings["num_reordering_candidates"] == 60
    assert settings["parallel"] is False
