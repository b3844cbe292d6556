import collections
import importlib

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.data import count_ids

RNG = np.random.default_rng(5)
IDS = RNG.integers(-3, 9, 1000)


def assert_counted(result, ids):
    expected = collections.Counter(ids.tolist())
    found, counts = result
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == expected
    assert counts.dtype == np.int64


@pytest.mark.parametrize("batch", [None, 1, 64, 5000])
def test_counts(batch):
    dataset = tf.data.Dataset.from_tensor_slices(IDS)
    dataset = dataset if batch is None else dataset.batch(batch)
    assert_counted(count_ids(dataset, progress=False), IDS)


def test_strings_by_feature(capsys):
    names = IDS.astype(str).astype("S")
    columns = {"item": names, "other": np.zeros(1000)}
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(100)
    assert_counted(count_ids(dataset, "item"), names)
    assert "10/10" in capsys.readouterr().out


def test_ragged_batches():
    rows = tf.ragged.constant([[1, 2], [], [2, 2, 5]])
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(2)
    assert_counted(count_ids(dataset, progress=False), np.array([1, 2, 2, 2, 5]))


def test_merging_changes_nothing(monkeypatch):
    # The package's name is the function; the module is what the import system has.
    module = importlib.import_module("tfrs_negatives.data.count_ids")
    monkeypatch.setattr(module, "_MERGE", 4)
    dataset = tf.data.Dataset.from_tensor_slices(IDS).batch(10)
    assert_counted(count_ids(dataset, progress=False), IDS)


def test_many_distinct_ids_are_merged_a_few_times(monkeypatch):
    module = importlib.import_module("tfrs_negatives.data.count_ids")
    monkeypatch.setattr(module, "_MERGE", 40)
    merged, sizes = module.merged_counts, []

    def noted(parts):
        sizes.append(sum(len(ids) for ids, _ in parts))
        return merged(parts)

    monkeypatch.setattr(module, "merged_counts", noted)
    dataset = tf.data.Dataset.range(10_000).batch(10)
    assert len(count_ids(dataset, progress=False)[0]) == 10_000
    # In proportion to the ids, and not once a batch.
    assert sum(sizes) < 4 * 10_000


@pytest.mark.parametrize(
    ("dataset", "feature", "message"),
    [
        ([3, 3, 4], None, "received a list. Count columns by `np.unique"),
        (tf.data.Dataset.range(3).repeat(), None, "infinite"),
        (tf.data.Dataset.range(0), None, "empty"),
        (tf.data.Dataset.from_tensors([1.5]), None, "integer or string"),
        (tf.data.Dataset.range(3), "item", "feature.*'item'"),
        (tf.data.Dataset.from_tensors({"a": [1]}), "item", "feature.*'item'.*'a'"),
        (tf.data.Dataset.from_tensors({"a": [1]}), None, "feature.*None.*'a'"),
    ],
)
def test_bad_datasets(dataset, feature, message):
    with pytest.raises(ValueError, match=message):
        count_ids(dataset, feature, progress=False)
