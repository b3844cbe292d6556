import pathlib
import resource
import time

import numpy as np
import pytest
import tensorflow as tf
from sampler_oracles import rows_dataset

from tfrs_negatives.samplers import Mined, Mixture, Popularity, Uniform


def test_corpus_from_a_dataset():
    items = tf.data.Dataset.range(70_000).map(lambda i: {"id": i, "twice": 2 * i})
    sampler = Uniform(items)
    assert sampler.num_items == 70_000  # More than is read at once.
    negatives = next(iter(sampler.attach(rows_dataset(), 9)))["negatives"]
    np.testing.assert_array_equal(negatives["twice"], 2 * negatives["id"])


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
        ([4, 5, 4], "distinct.*1 repeats, .*4"),
        ([4, -5, -5], "distinct.*1 repeats, .*-5"),
        (["a", "", ""], "distinct.*1 repeats, b''"),
        ([[1], [2], [3]], "rank 1"),
        ([1.0, 2.0, 3.0], "integers or strings"),
    ],
)
def test_bad_ids_are_told_when_ids_are_needed(ids, message):
    corpus = {"id": np.array(ids)}
    with pytest.raises(ValueError, match=message):
        Mined(corpus, [[1]], "row", id_feature="id")
    dataset = rows_dataset(1, 2, known=np.array([[1], [2]]))
    sampler = Uniform(corpus, id_feature="id")
    with pytest.raises(ValueError, match=message):
        sampler.attach(dataset, 2, per_row=True, exclude="known")


def seconds_an_element(dataset):
    """The median of a hundred elements, after a warm-up."""
    iterator, times = iter(dataset), []
    for _ in range(110):
        start = time.perf_counter()
        next(iterator)
        times.append(time.perf_counter() - start)
    return np.median(times[10:])


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
