import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from index_oracles import as_list, best, normal

from tfrs_negatives.index import BruteForce, ScaNN
from tfrs_negatives.index.collect_embeddings import collect

ROWS = normal(0, 500, 8)


@pytest.mark.parametrize("sizes", [[500], [1, 499], [7] * 71 + [3], [300, 0, 200]])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_batches_of_any_size(sizes, dtype):
    ends = np.cumsum([0, *sizes])

    def batches():
        for start, end in zip(ends[:-1], ends[1:], strict=True):
            ids = [f"item {i}" for i in range(start, end)]
            yield tf.constant(ids, tf.string), tf.cast(ROWS[start:end], dtype)

    spec = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 8], dtype)
    ids, rows = collect(tf.data.Dataset.from_generator(batches, output_signature=spec))
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows, tf.cast(ROWS, dtype))
    assert ids.numpy().tolist() == [f"item {i}".encode() for i in range(500)]


def test_without_ids():
    ids, rows = collect(tf.data.Dataset.from_tensor_slices(ROWS).batch(64))
    assert ids is None
    np.testing.assert_array_equal(rows, ROWS)


def test_batches_are_let_go_before_the_index_is_built(monkeypatch):
    alive = []

    def read(batch):
        alive.append(weakref.ref(batch))
        return batch

    class Dataset:
        element_spec = tf.TensorSpec([None, 8])

        def cardinality(self):
            return tf.constant(5, tf.int64)

        def __iter__(self):
            return (read(tf.constant(ROWS[i * 100 : (i + 1) * 100])) for i in range(5))

    index = BruteForce(k=1)
    build = index.index

    def count(*arguments):
        gc.collect()
        assert len(alive) == 5
        assert not any(batch() is not None for batch in alive)
        return build(*arguments)

    monkeypatch.setattr(index, "index", count)
    index.index_from_dataset(Dataset())
    assert as_list(index(ROWS[:3])[1]) == best(ROWS[:3], ROWS, 1)[1]


def test_progress_is_shown_when_asked_for(capsys):
    dataset = tf.data.Dataset.from_tensor_slices(ROWS).batch(100)
    BruteForce().index_from_dataset(dataset)
    assert capsys.readouterr().out == ""
    BruteForce().index_from_dataset(dataset, verbose=1)
    assert "5/5" in capsys.readouterr().out


@pytest.mark.scann
def test_sample_queries_reach_the_index():
    rows = normal(1, 1500, 8)
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(400)
    index = ScaNN(k=3, recall_target=1.0)
    index.index_from_dataset(dataset, sample_queries=ROWS[:50])
    assert index.searcher.settings()["sample_recall"] == 1.0
    assert as_list(index(ROWS[:50])[1]) == best(ROWS[:50], rows, 3)[1]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (tf.data.Dataset.from_tensor_slices(ROWS).batch(9).repeat(), "is endless"),
        (
            tf.data.Dataset.from_tensor_slices(ROWS),
            r"element of shape \(8,\). Batch it",
        ),
        (
            tf.data.Dataset.from_generator(
                lambda: iter([ROWS[:5], ROWS[:5, :3]]),
                output_signature=tf.TensorSpec([None, None]),
            ),
            "equally wide, received widths 8 and 3",
        ),
    ],
)
def test_bad_datasets_leave_the_index_as_it_was(dataset, message):
    index = BruteForce(k=2).index(ROWS[:20])
    with pytest.raises(ValueError, match=message):
        index.index_from_dataset(dataset)
    assert as_list(index(ROWS[:3])[1]) == best(ROWS[:3], ROWS[:20], 2)[1]
