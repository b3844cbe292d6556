"""Features by id: each row of a batch has those of its user or item."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.data import features_of

COLUMNS = {
    "item": tf.constant(["c", "a", "b"]),
    "title": tf.constant(["see", "ay", "bee"]),
    "year": tf.constant([2003, 2001, 2002], tf.int64),
    "price": tf.constant([3.5, 1.5, 2.5]),
    "tags": tf.constant([["x", "y"], ["z", ""], ["", ""]]),
}


def test_features_of_ids_and_of_unknown_ones():
    features = features_of(COLUMNS, "item")
    assert sorted(features.names) == ["price", "tags", "title", "year"]
    found = features(tf.constant(["b", "c", "new", "b"]))
    assert found["title"].numpy().tolist() == [b"bee", b"see", b"", b"bee"]
    np.testing.assert_array_equal(found["year"], [2002.0, 2003.0, np.nan, 2002.0])
    np.testing.assert_array_equal(found["price"], [2.5, 3.5, np.nan, 2.5])
    assert found["tags"].numpy()[1:3].tolist() == [[b"x", b"y"], [b"", b""]]


def test_they_join_a_dataset():
    features = features_of(COLUMNS, "item")
    rows = tf.data.Dataset.from_tensor_slices({"bought": ["a", "b", "c"]}).batch(2)
    batches = list(features.attach(rows, "bought"))
    assert batches[0]["title"].numpy().tolist() == [b"ay", b"bee"]
    assert sorted(batches[1]) == ["bought", "price", "tags", "title", "year"]


def test_errors():
    with pytest.raises(ValueError, match="`id_feature` must name a feature"):
        features_of(COLUMNS, "user")
    with pytest.raises(ValueError, match="repeat|distinct"):
        features_of({"item": tf.constant([1, 1])}, "item")
    features = features_of(COLUMNS, "item")
    taken = tf.data.Dataset.from_tensors({"item": ["a"], "title": ["other"]})
    with pytest.raises(ValueError, match="must not have.*'title'"):
        features.attach(taken)
    with pytest.raises(ValueError, match="strings"):
        features(tf.constant([1]))
