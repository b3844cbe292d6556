import numpy as np
import pytest
import tensorflow as tf
from index_oracles import clustered, recall

from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval

pytestmark = pytest.mark.scann

CANDIDATES, QUERIES = clustered(0, 5000), clustered(1, 64)


@pytest.fixture(scope="module")
def rounded():
    return ScaNN(storage="int8").index(CANDIDATES)


def test_int8_needs_less_than_half_of_the_memory(rounded):
    exact = ScaNN().index(CANDIDATES)
    # Per candidate: 32 numbers, 16 four-bit codes as bytes, a leaf, two ints of how
    # much to search, and of its id 4 bytes, a sort key of 8, and a place of 4.
    around = 5000 * (16 + 4 + 8 + 16)
    for index, width in ((exact, 4 * 32), (rounded, 32)):
        expected = around + 5000 * width
        assert expected <= index.searcher.num_bytes() <= 1.15 * expected
    assert BruteForce().index(CANDIDATES).searcher.num_bytes() < 5000 * (128 + 16) + 64


def test_int8_recall_and_scores(rounded):
    scores, ids = rounded(QUERIES, k=10)
    assert recall(ids.numpy(), QUERIES, CANDIDATES) >= 0.95
    products = np.take_along_axis(QUERIES @ CANDIDATES.T, ids.numpy(), axis=1)
    # Each number is off by at most half a step of 1/127 of the largest of its column.
    steps = np.abs(CANDIDATES).max(axis=0) / 127 / 2
    error = np.abs(QUERIES) @ steps
    assert (np.abs(scores - products) <= 1.01 * error[:, None]).all()
    assert np.abs(scores - products).max() > 1e-4  # It was rounded.
    assert (np.diff(scores.numpy(), axis=1) <= 0).all()


def test_int8_refresh_exclusions_and_traced_functions(rounded):
    index = ScaNN(storage="int8").index(CANDIDATES[:300])
    query = tf.function(lambda q: index(q, k=10)[1])
    query(tf.constant(QUERIES))
    for seed, count in ((5, 4000), (6, 700), (7, 2000)):
        candidates = clustered(seed, count)
        index.index(candidates)
        found = query(tf.constant(QUERIES)).numpy()
        assert recall(found, QUERIES, candidates) >= 0.94
        np.testing.assert_array_equal(found, index(QUERIES, k=10)[1])
        without = index.query_with_exclusions(QUERIES, found[:, :4], k=6)[1]
        np.testing.assert_array_equal(without, found[:, 4:])
    assert query.experimental_get_tracing_count() == 1
    # Rounded candidates do not tell their width by themselves.
    index.index(CANDIDATES[:, :8])
    with pytest.raises(ValueError, match=r"width 8 like.*received shape \(64, 32\)"):
        index(QUERIES)
    with pytest.raises(tf.errors.InvalidArgumentError, match="as wide as the indexed"):
        query(tf.constant(QUERIES))


def test_an_int8_index_is_exported(rounded, tmp_path):
    export_retrieval(
        tmp_path / "model",
        lambda x: x,
        rounded,
        query_signature=tf.TensorSpec([None, 32], name="q"),
    )
    loaded = tf.saved_model.load(tmp_path / "model")
    answer = loaded.signatures["serving_default"](
        q=tf.constant(QUERIES), k=tf.constant(20)
    )
    scores, ids = rounded(QUERIES, k=20)
    np.testing.assert_array_equal(answer["ids"], ids)
    np.testing.assert_allclose(answer["scores"], scores, rtol=1e-6)


def test_without_leaves_candidates_are_not_rounded():
    index = ScaNN(storage="int8").index(CANDIDATES[:100])
    scores, ids = index(QUERIES, k=100)
    products = np.take_along_axis(QUERIES @ CANDIDATES[:100].T, ids.numpy(), axis=1)
    np.testing.assert_allclose(scores, products, rtol=1e-4, atol=1e-4)
    assert index.searcher.settings()["storage"] == "float32"


@pytest.mark.parametrize("storage", ["bfloat16", "float16", None])
def test_other_storage_is_refused(storage):
    with pytest.raises(
        ValueError, match=r"`storage` must be one of \('float32', 'int8'"
    ):
        ScaNN(storage=storage)
