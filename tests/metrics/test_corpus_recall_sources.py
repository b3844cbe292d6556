"""A corpus that changes or is called otherwise: indexes asked anew, traces, ids."""

import corpus_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from corpus_problem import KS, MEASURES, B, D, N, close, results
from grids import grid, some_of

from tfrs_negatives.index import BruteForce, ScaNN
from tfrs_negatives.metrics import CorpusRecall


def test_an_index_is_asked_anew():
    index = BruteForce().index(np.eye(3, dtype="float32"), np.arange(3))
    metric = CorpusRecall(index, ks=[1], measures="hit_rate")
    metric.update_state([[1.0, 0.0, 0.0]], true_candidate_ids=[0])
    index.index(np.eye(4, dtype="float32")[::-1], np.arange(4))
    metric.update_state([[1.0, 0.0, 0.0, 0.0]], true_candidate_ids=[3])
    close(results(metric), {"hit_rate@1": 1.0})


@pytest.mark.parametrize(
    "index_class, ids", grid([BruteForce, ScaNN], [np.arange(3), ["a", "b", "c"]])
)
def test_an_index_is_asked_anew_whatever_its_ids_become(index_class, ids):
    first, second = np.eye(3, dtype="float32"), np.eye(3, dtype="float32")[::-1]
    index = index_class().index(first, np.arange(3, dtype="int32"))
    metric = CorpusRecall(index, ks=[1], measures="hit_rate")
    metric.update_state(first, true_candidate_ids=np.arange(3))
    close(results(metric), {"hit_rate@1": 1.0})
    metric.reset_state()
    index.index(second, ids)
    metric.update_state(second, true_candidate_ids=ids)
    close(results(metric), {"hit_rate@1": 1.0})


def test_an_index_is_asked_anew_without_ids():
    first, second = np.eye(3, dtype="float32"), 3 - np.eye(3, dtype="float32")
    index = BruteForce().index(first)
    metric = CorpusRecall(index, ks=[1], measures="hit_rate")
    metric.update_state(-first, second)
    close(results(metric), {"hit_rate@1": 0.0})
    metric.reset_state()
    index.index(second, ["a", "b", "c"])
    metric.update_state(-first, second)
    close(results(metric), {"hit_rate@1": 1.0})


def test_a_function_traced_before_does_not_answer_from_candidates_that_are_gone():
    index = BruteForce().index(np.eye(3, dtype="float32"))
    metric = CorpusRecall(index, ks=[1], measures="hit_rate")
    step = tf.function(lambda queries: metric.sums(queries, queries))
    step(tf.eye(3))
    index.index(np.eye(3, dtype="float32"), ["a", "b", "c"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Trace it again"):
        step(tf.eye(3))


def test_a_function_traced_for_ids_does_not_take_row_numbers_for_them():
    corpus, ids = np.eye(3, dtype="float32"), np.array([2, 1, 0], np.int32)
    index = BruteForce().index(corpus, ids)
    metric = CorpusRecall(index, ks=[1], measures="hit_rate")
    step = tf.function(lambda queries: metric.sums(queries, true_candidate_ids=ids))
    assert step(tf.eye(3))[0][0] == 3
    index.index(corpus, ids)
    assert step(tf.eye(3))[0][0] == 3
    index.index(corpus)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Trace it again"):
        step(tf.eye(3))


@pytest.mark.scann
def test_one_trace_serves_an_approximate_index_that_shrinks_and_grows():
    """Ties are seen one place beyond k, where there is such a place."""
    alike = np.ones([6, D], "float32")
    index = ScaNN().index(alike[:2], np.arange(2))
    metric = CorpusRecall(index, ks=[1, 2], measures="recall")

    @tf.function(input_signature=[tf.TensorSpec([None, D])])
    def step(queries):
        return [a for a, _ in metric.sums(queries, true_candidate_ids=[0])]

    # The other tie stands before it.
    assert np.array_equal(step(alike[:1]), [0, 1])
    index.index(alike, np.arange(6))
    assert np.array_equal(step(alike[:1]), [0, 0])
    index.index(alike[:2], np.arange(2))
    assert np.array_equal(step(alike[:1]), [0, 1])
    # Fewer than k: all of them.
    index.index(alike[:1], np.arange(1))
    assert np.array_equal(step(alike[:1]), [1, 1])
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("index_class", some_of([BruteForce, ScaNN], [ScaNN]))
def test_ids_wider_than_those_of_the_index_are_no_others(index_class):
    """2^32 as int32 would be 0."""
    corpus = np.eye(3, dtype="float32")
    index = index_class().index(corpus, np.arange(3, dtype="int32"))
    metric = CorpusRecall(index, ks=[1], measures="hit_rate")
    metric.update_state(corpus, true_candidate_ids=np.arange(3) + 2**32)
    close(results(metric), {"hit_rate@1": 0.0})
    metric.reset_state()
    query = np.array([[3.0, 2.0, 1.0]], "float32")
    metric.update_state(query, true_candidate_ids=[1], excluded_ids=[[2**32]])
    close(results(metric), {"hit_rate@1": 0.0})
    metric.reset_state()
    metric.update_state(query, true_candidate_ids=[1], excluded_ids=[[0]])
    close(results(metric), {"hit_rate@1": 1.0})
    # Nor is an exclusion taken for a positive.
    metric.reset_state()
    positives = np.array([[1, 2**32]])
    excluded = np.array([[0]], "int32")
    metric.update_state(query, true_candidate_ids=positives, excluded_ids=excluded)
    close(results(metric), {"hit_rate@1": 1.0})


def test_a_dataset_is_embedded_once_in_each_evaluation():
    weights = tf.Variable(tf.eye(3))
    runs = tf.Variable(0)

    def tower(batch):
        runs.assign_add(1)
        return tf.matmul(tf.cast(batch, tf.float32), weights)

    corpus = tf.data.Dataset.from_tensor_slices((np.arange(3), np.eye(3))).batch(2)
    corpus = corpus.map(lambda ids, features: (ids, tower(features)))
    metric = CorpusRecall(corpus, ks=[1], measures="hit_rate")
    query = [[1.0, 0.0, 0.0]]
    for _ in range(3):
        metric.update_state(query, true_candidate_ids=[0])
    assert runs.numpy() == 2  # Batches.
    # A step of training within the evaluation changes nothing.
    weights.assign(tf.eye(3)[::-1])
    metric.update_state(query, true_candidate_ids=[0])
    close(results(metric), {"hit_rate@1": 1.0})
    metric.reset_state()
    metric.update_state(query, true_candidate_ids=[2])
    close(results(metric), {"hit_rate@1": 1.0})
    assert runs.numpy() == 4


@pytest.mark.scann
def test_approximate_indexes_need_ids():
    rng = np.random.default_rng(0)
    corpus = rng.normal(size=(20, D)).astype("float32")
    metric = CorpusRecall(ScaNN().index(corpus, np.arange(20)), ks=[1, 5])
    with pytest.raises(ValueError, match="true_candidate_ids.*not exact"):
        metric.update_state(corpus[:2], corpus[:2])
    assert all(value == 0 for value in results(metric).values())
    metric.update_state(corpus[:2] * 100, corpus[:2], [0, 1])
    rows = [
        oracle.ranked_ids(c, corpus, range(20), {i}) for i, c in enumerate(corpus[:2])
    ]
    expected = np.mean([i in row[:5] for i, row in enumerate(rows)])
    assert results(metric)["top_5_categorical_accuracy"] == expected


@pytest.mark.parametrize("index_class", [BruteForce, ScaNN])
def test_the_row_numbers_of_an_index_can_be_said(index_class):
    corpus = np.eye(3, dtype="float32")
    metric = CorpusRecall(index_class().index(corpus), [1], measures="hit_rate")
    metric.update_state(corpus, true_candidate_ids=[0, 1, -1])
    close(results(metric), {"hit_rate@1": 2 / 3})


def foreign(ids, candidates):
    """A layer of someone else's: scores and ids, and -inf where it finds fewer."""

    def retrieve(queries, k):
        scores = tf.matmul(queries, candidates, transpose_b=True)
        found = tf.math.top_k(scores, tf.minimum(k, len(candidates)))
        missing = [[0, 0], [0, k - tf.shape(found.values)[1]]]
        return (
            tf.pad(found.values, missing, constant_values=-np.inf),
            # Whose id stands there is nobody's business.
            tf.gather(ids, tf.pad(found.indices, missing)),
        )

    return retrieve


SHIFTS = {
    "plus one": lambda n: n + 1,
    "minus 1000": lambda n: n - 1000,
    "strings": lambda n: "" if n == 7 else f"item {n}",
}


SOURCES = {
    "dataset": lambda ids, rows: tf.data.Dataset.from_tensors((ids, rows)),
    "BruteForce": lambda ids, rows: BruteForce().index(rows, ids),
    "ScaNN": lambda ids, rows: ScaNN().index(rows, ids),
    "foreign": foreign,
}


@pytest.mark.parametrize("kind, shift", grid(SOURCES, SHIFTS))
def test_results_do_not_depend_on_what_items_are_called(kind, shift):
    rng = np.random.default_rng(9)
    candidates, queries = rng.normal(size=(N, D)), rng.normal(size=(B, D))
    candidates, queries = np.float32(candidates), np.float32(queries)
    positives = [rng.integers(0, N + 3, size).tolist() for size in range(B)]
    excluded = [rng.integers(0, N + 3, 9 - size).tolist() for size in range(B)]
    positives[3].append(excluded[3][0])
    rankings = [
        oracle.ranked_ids(query, candidates, range(N), set(own), set(out))
        for query, own, out in zip(queries, positives, excluded, strict=True)
    ]
    expected = oracle.means(MEASURES, KS, rankings, [set(p) for p in positives])
    name = SHIFTS[shift]
    ids = tf.constant([name(n) for n in range(N)])
    positives, excluded = (
        tf.ragged.constant([[name(n) for n in row] for row in rows], ids.dtype)
        for rows in (positives, excluded)
    )
    source = SOURCES[kind](ids, tf.constant(candidates))
    metric = CorpusRecall(source, KS, measures=MEASURES)
    metric.update_state(queries, None, positives, None, excluded)
    close(results(metric), expected)
