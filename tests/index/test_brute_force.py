import numpy as np
import pytest
import tensorflow as tf
from index_oracles import as_list, best, normal

from tfrs_negatives.index import BruteForce, brute_force


@pytest.mark.parametrize("k", [1, 7, 50])
def test_is_exact(k):
    queries, candidates = normal(0, 6, 8), normal(1, 50, 8)
    index = BruteForce().index(candidates)
    assert index.is_exact()
    scores, ids = index(queries, k=k)
    expected_scores, expected_ids = best(queries, candidates, k)
    assert as_list(ids) == expected_ids
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)
    assert scores.dtype == tf.float32


def test_ties_come_in_the_order_of_the_candidates():
    rng = np.random.default_rng(0)
    # Products of small integers are exact, and many are equal.
    queries = rng.integers(-1, 2, (10, 3)).astype(np.float32)
    candidates = rng.integers(-1, 2, (40, 3)).astype(np.float32)
    ids = [f"i{i}" for i in rng.permutation(40)]
    _, found = BruteForce().index(candidates, ids)(queries, k=40)
    assert as_list(found) == best(queries, candidates, 40, ids)[1]


def test_ties_keep_their_order_when_others_are_excluded():
    rng = np.random.default_rng(1)
    queries = rng.integers(-1, 2, (10, 3)).astype(np.float32)
    candidates = rng.integers(-1, 2, (40, 3)).astype(np.float32)
    exclusions = rng.integers(0, 40, (10, 12)).astype(np.int32)
    index = BruteForce().index(candidates)
    _, found = index.query_with_exclusions(queries, exclusions, k=20)
    assert as_list(found) == best(queries, candidates, 20, exclusions=exclusions)[1]


def test_scores_beyond_a_hundred_thousand_are_excluded_too():
    index = BruteForce(k=2).index(tf.constant([[1e9], [1e8], [1e7]]))
    scores, ids = index.query_with_exclusions([[1.0]], [[0, 1]])
    assert ids.numpy().tolist() == [[2, -1]]
    assert scores.numpy().tolist() == [[1e7, -np.inf]]


@pytest.mark.parametrize("num_queries", [0, 1, 4, 5, 11])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function])
def test_blocks_of_queries_find_the_same(monkeypatch, num_queries, wrap):
    monkeypatch.setattr(brute_force, "_MAX_SCORES", 4 * 50 + 3)
    queries, candidates = normal(0, num_queries, 8), normal(1, 50, 8)
    index = BruteForce().index(candidates)
    scores, ids = wrap(index)(tf.constant(queries), k=7)
    expected_scores, expected_ids = best(queries, candidates, 7)
    assert as_list(ids) == expected_ids
    expected_scores = np.reshape(expected_scores, [num_queries, 7])
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)


def test_no_more_scores_are_held_than_allowed(monkeypatch):
    monkeypatch.setattr(brute_force, "_MAX_SCORES", 4 * 50 + 3)
    sizes, product = [], tf.matmul

    def recorded(queries, *args, **kwargs):
        sizes.append(len(queries))
        return product(queries, *args, **kwargs)

    index = BruteForce().index(normal(1, 50, 8))
    monkeypatch.setattr(tf, "matmul", recorded)
    index(normal(0, 11, 8), k=7)
    assert sizes == [4, 4, 3]
