"""Ranks on real numbers, over many blocks, against float64."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.metrics import exact_counts, ranks


@pytest.fixture(params=["one block", "many blocks", "the best of a block"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(exact_counts, "_BLOCK_SCORES", 1)  # 256 candidates.
        monkeypatch.setattr(ranks, "_BLOCK_QUERIES", 7)
    if request.param == "the best of a block":
        monkeypatch.setattr(exact_counts, "_MANY_SCORES", 1)
        monkeypatch.setattr(exact_counts, "_SHARE_OF_BEST", 1.0)
        monkeypatch.setattr(exact_counts, "_MORE", 0)


def ranks_in_float64(queries, candidates, positives, excluded):
    """By sorting; the data has no ties. Positives: distinct row numbers or -1."""
    found = np.zeros(positives.shape, int)
    for row, query in enumerate(np.float64(queries)):
        scores = np.float64(candidates) @ query
        out = set(excluded[row]) - set(positives[row]) - {-1}
        scores[list(out)] = -np.inf
        place = np.empty(len(scores), int)
        place[np.argsort(-scores)] = np.arange(len(scores)) + 1
        for m, positive in enumerate(positives[row]):
            found[row, m] = place[positive] if positive >= 0 else 0
    return found


def norm(candidates):
    return tf.constant(np.linalg.norm(np.float64(candidates), axis=1).max())


# Scores that float32 rounds by more than they differ; lengths of all sizes; products
# too small for float32.
CORPORA = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "nearly alike": lambda rng, shape: 1 + 1e-4 * rng.normal(size=shape),
    "of all lengths": lambda rng, shape: (
        rng.normal(size=shape) * 10 ** rng.uniform(-6, 6, (shape[0], 1))
    ),
    "tiny": lambda rng, shape: rng.normal(size=shape) * 1e-21,
}


@pytest.mark.parametrize("corpus", CORPORA)
def test_positions(blocks, corpus):
    rng = np.random.default_rng(1)
    candidates = CORPORA[corpus](rng, (700, 16)).astype("float32")
    queries = CORPORA[corpus](rng, (20, 16)).astype("float32")
    positives = np.stack([rng.permutation(700)[:5] for _ in queries])
    positives[rng.random(positives.shape) < 0.3] = -1
    excluded = rng.integers(-1, 700, (20, 40))
    excluded[:, :2] = positives[:, :2]
    expected = ranks_in_float64(queries, candidates, positives, excluded)
    for deepest in (700, 30, 2):
        found = ranks.ranks_of_positions(
            tf.constant(queries),
            tf.constant(candidates),
            norm(candidates),
            tf.constant(positives, tf.int32),
            tf.constant(excluded, tf.int32),
            deepest,
        ).numpy()
        exact = expected <= deepest
        np.testing.assert_array_equal(found[exact], expected[exact])
        assert (found[~exact] > deepest).all()
    assert (expected > 30).any() and ((expected > 0) & (expected <= 30)).any()


def test_the_best_are_too_few_where_float32_knows_no_order(monkeypatch):
    """Equal in float32: which of them count cannot be told from some of them."""
    monkeypatch.setattr(exact_counts, "_MORE", 0)
    rng = np.random.default_rng(0)
    query = np.array([[1, 2.0**-30]], "float32")
    # Scores of 1 + 2^-30 z, which float32 takes for 1.
    z = rng.permutation(600)
    candidates = np.stack([np.ones(600), z], axis=1).astype("float32")
    positives = np.argsort(-z)[[0, 3, 20, 21, 40, 41, 42, 59, 70, 300]][np.newaxis]
    expected = ranks_in_float64(query, candidates, positives, [[]])
    found = ranks.ranks_of_positions(
        tf.constant(query),
        tf.constant(candidates),
        norm(candidates),
        tf.constant(positives, tf.int32),
        tf.zeros([1, 0], tf.int32),
        60,
    ).numpy()
    np.testing.assert_array_equal(found[expected <= 60], expected[expected <= 60])
    assert (found[expected > 60] > 60).all()


def test_embeddings(blocks):
    rng = np.random.default_rng(2)
    candidates = rng.normal(size=(700, 16)).astype("float32")
    queries = rng.normal(size=(20, 16)).astype("float32")
    positives = rng.integers(0, 700, (20, 1))
    expected = ranks_in_float64(queries, candidates, positives, [[]] * 20)
    found = ranks.ranks_of_embeddings(
        tf.constant(queries),
        tf.constant(candidates),
        norm(candidates),
        tf.constant(candidates[positives[:, 0]]),
        700,
    )
    np.testing.assert_array_equal(found, expected)
    # Every item twice: the copy of each that stands before a positive, and its own.
    found = ranks.ranks_of_embeddings(
        tf.constant(queries),
        tf.constant(np.repeat(candidates, 2, axis=0)),
        norm(candidates),
        tf.constant(candidates[positives[:, 0]]),
        1400,
    )
    np.testing.assert_array_equal(found, 2 * expected)


def test_float32_is_not_enough():
    """The corpus that is nearly alike does need float64."""
    rng = np.random.default_rng(1)
    candidates = CORPORA["nearly alike"](rng, (700, 16)).astype("float32")
    queries = CORPORA["nearly alike"](rng, (20, 16)).astype("float32")
    exact = np.float64(queries) @ np.float64(candidates).T
    rounded = queries @ candidates.T
    assert (np.argsort(exact, 1) != np.argsort(rounded, 1, "stable")).mean() > 0.02


def test_retrieved():
    keys = [[5, 9, 2, 7, -1], [4, 3, 2, 1, -1]]
    scores = [[3.0, 2.0, 2.0, 2.0, -np.inf], [1.0, 1.0, 1.0, 1.0, 1.0]]
    positives = [[2, 5, -1], [2, -1, -1]]
    present = [[True, True, True], [True, True, False]]
    found = ranks.ranks_of_retrieved(
        tf.constant(keys, tf.int64),
        tf.constant(scores),
        tf.constant(positives, tf.int64),
        tf.constant(present),
    )
    # 9 and 7 score as 2 does; three others as both positives of the second row.
    np.testing.assert_array_equal(found, [[4, 1, 0], [4, 5, 0]])


def test_scores():
    scores = tf.constant([[3.0, 2.0, 2.0, 1.0], [3.0, 2.0, np.nan, -np.inf]])
    found = ranks.ranks_of_scores(scores, tf.constant([[2.0], [2.5]]), 1e-6)
    np.testing.assert_array_equal(found, [[3], [2]])


def by_loops(values, lists, present):
    listed = [
        {v for v, there in zip(row, here, strict=True) if there}
        for row, here in zip(lists.tolist(), present.tolist(), strict=True)
    ]
    return [[v in own for v in row] for row, own in zip(values, listed, strict=True)]


@pytest.mark.parametrize("shape", [(9, 12), (3, 1), (4, 0), (0, 5)])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_lists_of_which_some_entries_are_none(shape, dtype):
    """Any number may be an entry: those that stand for none are among them."""
    rng = np.random.default_rng(3)
    extremes = np.iinfo(dtype)
    pool = np.array([extremes.min, -2, -1, 0, 1, extremes.max], dtype)
    lists, present = rng.choice(pool, shape), rng.random(shape) < 0.6
    values = np.tile(pool, (shape[0], 1))
    found = ranks.are_among(*map(tf.constant, (values, lists, present)))
    assert found.numpy().tolist() == by_loops(values, lists, present)
    first = ranks.first_occurrences(*map(tf.constant, (lists, present))).numpy()
    for row in range(shape[0]):
        met = set()
        for value, here, is_first in zip(
            lists[row], present[row], first[row], strict=True
        ):
            assert is_first == (here and value not in met)
            met |= {value} if here else set()
