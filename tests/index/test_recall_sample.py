import numpy as np
import pytest
import tensorflow as tf
from index_oracles import as_list, best, clustered, normal, recall

from tfrs_negatives.index import ScaNN
from tfrs_negatives.index.recall_sample import (
    RecallSample,
    choose_breadth,
    lower_bound,
    sample_rows,
)

CANDIDATES = clustered(0, 6000)
QUERIES, FRESH = clustered(1, 400), clustered(2, 600)


def test_recall_is_the_share_of_the_best_that_was_found():
    queries, candidates = normal(0, 3, 4), normal(1, 30, 4)
    truth = np.array(best(queries, candidates, 5)[1])
    worst = np.argsort(queries @ candidates.T, axis=1)
    found = truth.copy()
    found[1, :2] = worst[1, :2]
    found[2] = -1
    sample = RecallSample(tf.constant(queries), tf.constant(candidates), 5)
    np.testing.assert_allclose(sample.recalls(found), [1, 3 / 5, 0])
    np.testing.assert_allclose(sample.recalls(truth[:, ::-1]), 1)
    # Fewer columns than asked for: what is missing was not found.
    np.testing.assert_allclose(sample.recalls(truth[:, :2]), 2 / 5)


def test_a_candidate_as_good_as_the_kth_best_is_a_hit():
    candidates = np.float32([[1, 0], [1, 0], [1, 0], [0.5, 0], [0, 1]])
    sample = RecallSample(tf.constant([[1.0, 0.0]]), tf.constant(candidates), 2)
    for found, expected in (([[2, 1]], 1), ([[0, 3]], 0.5), ([[3, 4]], 0)):
        np.testing.assert_allclose(sample.recalls(found), expected)


def test_lower_bound_covers_the_mean_nineteen_times_of_twenty():
    rng = np.random.default_rng(0)
    draws = rng.binomial(10, 0.9, (4000, 300)) / 10
    covered = np.mean([lower_bound(draw) <= 0.9 for draw in draws])
    # Five standard errors of a share of .95 of 4,000.
    assert abs(covered - 0.95) < 0.018
    assert lower_bound(np.ones(50)) == 1.0
    assert lower_bound(np.array([0.5])) == 0.5


def test_sampled_rows_are_distinct_and_the_same_each_time():
    rows = tf.constant(normal(0, 200, 3))
    drawn = sample_rows(rows, 50).numpy()
    assert len(np.unique(drawn, axis=0)) == 50
    np.testing.assert_array_equal(drawn, sample_rows(rows, 50))
    assert sample_rows(rows, 200) is rows


class FakeSample:
    queries, k = None, 10

    def recalls(self, found):
        return np.full([4], found)


@pytest.mark.parametrize(
    ("least_leaves", "least_reordering"),
    [(1, 10), (1, 199), (64, 200), (17, 73), (40, 201), (33, 5000)],
)
def test_the_least_work_that_reaches_the_target(least_leaves, least_reordering):
    def search(queries, k, leaves, reordering):
        return float(leaves >= least_leaves and reordering >= least_reordering)

    chosen = choose_breadth(search, FakeSample(), 0.9, 64, 5000)
    assert chosen == (least_leaves, least_reordering, 1.0)


def test_a_target_out_of_reach():
    with pytest.raises(ValueError, match=r"0.99 is out of reach.*recall@10 is 0.9000"):
        choose_breadth(lambda *_: 0.9, FakeSample(), 0.99, 64, 5000)


@pytest.mark.scann
@pytest.mark.parametrize("target", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("given", [True, False])
def test_the_target_is_reached_on_fresh_queries(target, given):
    index = ScaNN(k=10, num_leaves=100, recall_target=target)
    index.index(CANDIDATES, sample_queries=QUERIES if given else None)
    settings = index.searcher.settings()
    found = recall(index(FRESH)[1].numpy(), FRESH, CANDIDATES)
    # Candidates as queries are like the queries here: all come from the same clusters.
    assert target - 0.02 <= found
    assert settings["sample_recall"] >= target
    assert settings["num_leaves_to_search"] < 100
    # No more than it takes: exact scores for a fraction of the candidates only.
    assert 10 <= settings["num_reordering_candidates"] <= 200


@pytest.mark.scann
def test_a_higher_target_costs_more():
    settings = [
        ScaNN(num_leaves=100, recall_target=target)
        .index(CANDIDATES, sample_queries=QUERIES)
        .searcher.settings()
        for target in (0.5, 1.0)
    ]
    leaves, reordering = "num_leaves_to_search", "num_reordering_candidates"
    assert settings[0][leaves] * settings[0][reordering] < (
        settings[1][leaves] * settings[1][reordering]
    )
    assert settings[1]["sample_recall"] == 1.0


@pytest.mark.scann
def test_a_larger_k_than_the_target_was_for():
    index = ScaNN(k=5, num_leaves=100, recall_target=0.9)
    index.index(CANDIDATES, sample_queries=QUERIES)
    assert recall(index(FRESH, k=200)[1].numpy(), FRESH, CANDIDATES) >= 0.85
    everything = index(FRESH[:2], k=6000)[1].numpy()
    assert (np.sort(everything, axis=1) == np.arange(6000)).all()


@pytest.mark.scann
def test_settings_are_chosen_anew_at_each_refresh():
    index = ScaNN(num_leaves=50, recall_target=0.9)
    query = tf.function(lambda q: index(q)[1])
    chosen = []
    for noise in (0.05, 1.0):
        candidates = clustered(3, 3000, noise=noise)
        queries = clustered(4, 400, noise=noise)
        index.index(candidates, sample_queries=queries)
        found = query(tf.constant(queries)).numpy()
        assert recall(found, queries, candidates) >= 0.9
        np.testing.assert_array_equal(found, index(queries)[1])
        chosen.append(index.searcher.settings()["num_leaves_to_search"])
    assert chosen[0] < chosen[1]
    assert query.experimental_get_tracing_count() == 1


@pytest.mark.scann
def test_a_small_corpus_has_nothing_to_tune():
    index = ScaNN(k=30, recall_target=0.9).index(CANDIDATES[:20])
    assert index.searcher.settings()["sample_recall"] is None
    assert (
        as_list(index(QUERIES[:3], k=4)[1]) == best(QUERIES[:3], CANDIDATES[:20], 4)[1]
    )


@pytest.mark.scann
def test_out_of_reach_leaves_the_index_as_it_was():
    index = ScaNN(storage="int8", recall_target=1.0)
    easy = clustered(0, 1500, noise=0.4) * np.linspace(1, 3, 1500)[:, None]
    with pytest.raises(ValueError, match="`recall_target` 1.0 is out of reach"):
        index.index(easy.astype(np.float32))
    with pytest.raises(ValueError, match="holds no candidates yet"):
        index(QUERIES)
    index.index(CANDIDATES[:20])
    before = index(QUERIES)[1].numpy()
    with pytest.raises(ValueError, match='use storage="float32", or aim lower'):
        index.index(easy.astype(np.float32))
    np.testing.assert_array_equal(index(QUERIES)[1], before)


@pytest.mark.scann
@pytest.mark.parametrize("target", [0, -0.5, 1.01, True, float("nan")])
def test_bad_targets(target):
    with pytest.raises(ValueError, match="above 0 and at most 1, or None, received"):
        ScaNN(recall_target=target)


@pytest.mark.scann
@pytest.mark.parametrize("name", ["num_leaves_to_search", "num_reordering_candidates"])
def test_a_target_excludes_what_it_chooses(name):
    with pytest.raises(
        ValueError, match=f"`recall_target` chooses `{name}`, which is 9"
    ):
        ScaNN(recall_target=0.9, **{name: 9})


@pytest.mark.scann
@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (QUERIES[0], r"shape \[queries, 32\] like the candidates.*\(32,\)"),
        (QUERIES[:0], r"received shape \(0, 32\)"),
        (QUERIES[:, :7], r"received shape \(400, 7\)"),
        (QUERIES.astype(int), "floating-point embeddings, received int64"),
        (QUERIES * np.float32(np.nan), "Sample queries must be finite"),
    ],
)
def test_bad_sample_queries(queries, message):
    index = ScaNN(recall_target=0.9).index(CANDIDATES[:500])
    with pytest.raises(ValueError, match=message):
        index.index(CANDIDATES, sample_queries=queries)
    assert index.searcher.num_rows == 500


@pytest.mark.scann
def test_sample_queries_without_target():
    with pytest.raises(ValueError, match="are for `recall_target`"):
        ScaNN().index(CANDIDATES, sample_queries=QUERIES)
