import pathlib
import resource
import time

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sampler_oracles import rows_dataset

from tfrs_negatives.samplers import Mined, Mixture, Popularity, Uniform
from tfrs_negatives.samplers.item_corpus import ItemCorpus


def test_corpus_from_a_dataset():
    items = tf.data.Dataset.range(70_000).map(lambda i: {"id": i, "twice": 2 * i})
    sampler = Uniform(items)
    assert sampler.num_items == 70_000  # More than is read at once.
    negatives = next(iter(sampler.attach(rows_dataset(), 9)))["negatives"]
    np.testing.assert_array_equal(negatives["twice"], 2 * negatives["id"])


def dataset_of(size, **options):
    return tf.data.Dataset.from_tensor_slices(CATALOGUE).batch(size, **options)


CATALOGUE = {"id": np.array([30, 10, 20, 7]), "x": np.arange(8.0).reshape(4, 2)}
NAMES = np.array(["c", "", "b", "é"])
CATALOGUES = {
    "batches": (dataset_of(3), "id"),
    "batches of a known size": (dataset_of(2, drop_remainder=True), "id"),
    "batches without id_feature": (dataset_of(3).map(lambda row: row["id"]), None),
    "batches of names": (tf.data.Dataset.from_tensor_slices(NAMES).batch(3), None),
    "single names": (tf.data.Dataset.from_tensor_slices(NAMES), None),
    "series": (pd.Series(CATALOGUE["id"]), None),
    "series of names": (pd.Series(NAMES), None),
    "columns of a frame": (
        {"id": pd.Series(CATALOGUE["id"]), "x": CATALOGUE["x"]}, "id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CATALOGUES)
def test_each_item_is_drawn_with_its_probability(kind):
    corpus, id_feature = CATALOGUES[kind]
    sampler = Uniform(corpus, id_feature=id_feature)
    element = next(iter(sampler.attach(rows_dataset(), 100)))
    drawn = element["negatives"]
    if id_feature:
        assert drawn["x"].shape == (100, 2)
        drawn = drawn["id"]
    expected = NAMES if "names" in kind else CATALOGUE["id"]
    assert drawn.shape == (100,)
    found = {n.decode() if isinstance(n, bytes) else n for n in drawn.numpy().tolist()}
    assert found == set(expected.tolist())
    np.testing.assert_allclose(element["negatives_log_q"], np.log(1 / 4), rtol=1e-6)


def test_vectors_of_single_items_are_no_batches():
    items = tf.data.Dataset.from_tensor_slices({"x": CATALOGUE["x"]})
    assert Uniform(items).num_items == 4
    items = tf.data.Dataset.from_tensor_slices(CATALOGUE)
    assert Uniform(items, id_feature="id").num_items == 4


@pytest.mark.parametrize("corpus", [[30, 10, 20], {"id": [30, 10, 20], "x": [[1]] * 3}])
def test_lists_are_features(corpus):
    sampler = Uniform(corpus)
    assert sampler.num_items == 3
    negatives = next(iter(sampler.attach(rows_dataset(), 40)))["negatives"]
    ids = negatives["id"] if isinstance(corpus, dict) else negatives
    assert set(ids.numpy()) == {10, 20, 30}


@pytest.mark.parametrize(
    "corpus, options, message",
    [
        (np.zeros(0), {}, r"at least one.*\[\[0\]\]"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, {}, r"same number.*\[\[3\], \[4\]\]"),
        (np.float32(3), {}, r"along the first axis.*\[\[\]\]"),
        (tf.data.Dataset.range(0), {}, "at least one item"),
        (tf.data.Dataset.range(3).repeat(), {}, "endless dataset"),
        (tf.data.Dataset.range(4).batch(2, True), {}, "may be an item or a batch"),
        (pd.DataFrame(CATALOGUE["id"]), {}, "a dict of features.* DataFrame"),
        (pd.Series([5, 5, 6]).value_counts(), {}, "index of its own.*to_numpy"),
        ({"id": np.ones(3)}, {"id_feature": "id"}, "integers or strings"),
        (np.array([4, 5, 4]), {}, "each id once.* 3 ids of which 1 are repeats"),
        (
            {"id": np.array(["a", "a"]), "x": np.zeros(2)},
            {"id_feature": "id"},
            "each id once",
        ),
        ({"a": np.zeros(3)}, {"id_feature": "b"}, r"'b' and \['a'\]"),
        (np.zeros(3), {"id_feature": "b"}, "'b' and a corpus that is not a dict"),
        (
            {"a": np.zeros(2), "b": tf.ragged.constant([[1], [2, 3]])},
            {},
            r"dense features.*RaggedTensor of shape \(2, None\).*to_tensor",
        ),
        (
            {"a": tf.sparse.from_dense([[1, 0], [0, 2]])},
            {},
            "dense features.*SparseTensor.*to_dense",
        ),
    ],
)
def test_bad_corpus(corpus, options, message):
    with pytest.raises(ValueError, match=message):
        Uniform(corpus, **options)


@pytest.mark.parametrize(
    "ids, message",
    [
        ([4, 5, 4], "each id once.*1 are repeats, .*4"),
        ([4, -5, -5], "each id once.*1 are repeats, .*-5"),
        (["a", "", ""], "each id once.*1 are repeats, b''"),
        ([[1], [2], [3]], "rank 1"),
    ],
)
def test_bad_ids_are_told_when_ids_are_needed(ids, message):
    corpus = {"id": np.array(ids)}
    with pytest.raises(ValueError, match=message):
        Mined(corpus, [[1]], "row", id_feature="id")
    dataset = rows_dataset(1, 2, known=np.array([[1], [2]]))
    with pytest.raises(ValueError, match=message):
        sampler = Uniform(corpus, id_feature="id")
        sampler.attach(dataset, 2, per_row=True, exclude="known")


def seconds_an_element(dataset):
    """The median of a hundred elements, after a warm-up."""
    iterator, times = iter(dataset), []
    for _ in range(110):
        start = time.perf_counter()
        next(iterator)
        times.append(time.perf_counter() - start)
    return np.median(times[10:])


@pytest.mark.slow(reason="ten million items")
def test_ten_million_items_are_held_once(tmp_path):
    """Neither elements, nor iterators, nor their checkpoints copy the corpus."""

    def dataset(num_items):
        items = tf.range(num_items, dtype=tf.int64)
        corpus = {"id": items, "x": tf.zeros([num_items, 4])}
        popularity = Popularity(corpus, np.ones(num_items), 1.0, id_feature="id")
        mixture = Mixture([Uniform(corpus, id_feature="id"), popularity], [1, 1])
        rows = rows_dataset(100_000, 8, known=np.arange(8)[:, None])
        return mixture.attach(rows, 8, per_row=True, exclude="known")

    def resident():
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    small, large = dataset(1000), dataset(10_000_000)
    corpus_bytes = 10_000_000 * (8 + 16)
    seconds_an_element(large)
    before = most = resident()
    iterator = iter(large)
    for _ in range(500):
        next(iterator)
        most = max(most, resident())
    tf.train.Checkpoint(iterator=iterator).save(tmp_path / "iterator")
    most = max(most, resident())
    assert most - before < corpus_bytes / 4
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2**20
    # Binary searches over 10^4 times as many items, half of a millisecond otherwise.
    assert seconds_an_element(large) < 3 * seconds_an_element(small) + 1e-3


@pytest.mark.parametrize("ids", [CATALOGUE["id"], NAMES], ids=["integers", "strings"])
@pytest.mark.parametrize("constants", [False, True])
def test_a_sampler_is_made_inside_a_function(ids, constants):
    """As a strategy's workers do, which call a `dataset_fn` in a graph."""

    @tf.function
    def drawn():
        sampler = Uniform(tf.constant(ids) if constants else ids)
        return next(iter(sampler.attach(rows_dataset(), 9)))["negatives"]

    found = drawn().numpy()
    expected = {name.encode() for name in ids} if ids is NAMES else set(ids)
    assert len(found) == 9 and set(found) <= expected


@pytest.mark.parametrize("ids", [[3, 1, 3], ["a", "b", "a"]])
def test_ids_that_repeat_inside_a_function(ids):
    @tf.function
    def make():
        return tf.zeros([Uniform(np.array(ids)).num_items])

    with pytest.raises(ValueError, match="must hold each id once, received 3 ids"):
        make()


def test_ids_that_a_graph_computes_cannot_be_looked_up():
    @tf.function(input_signature=[tf.TensorSpec([3], tf.int64)])
    def look_up(ids):
        return ItemCorpus(ids).lookup("ids", ids)

    with pytest.raises(ValueError, match="must be known while a graph is traced"):
        look_up(tf.constant([3, 1, 2], tf.int64))
