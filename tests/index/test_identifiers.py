import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.index import identifiers
from tfrs_negatives.index.identifiers import Identifiers, checked

IDS = {
    "int32": np.array([7, -1, 2**31 - 1, 0], np.int32),
    "int64": np.array([7, -(2**62), 2**62, -1]),
    "float32": np.array([0.5, -7.25, 1e30, -1], np.float32),
    "float64": np.array([0.5, -7.25, 1e300, -1]),
    "string": np.array(["b", "", "ä" * 40, "item 3"]),
}


@pytest.mark.parametrize("dtype", IDS)
def test_positions_and_ids_are_inverse(dtype):
    ids = Identifiers(checked(IDS[dtype], 4))
    assert ids.dtype == tf.as_dtype(dtype)
    rows = tf.constant([[2, 0], [3, 1]])
    np.testing.assert_array_equal(ids.positions(ids.gather(rows)), rows)


@pytest.mark.parametrize("dtype", IDS)
def test_unknown_ids_have_no_position(dtype):
    ids = Identifiers(checked(IDS[dtype], 4))
    unknown = "zz" if dtype == "string" else 5
    values = tf.constant([unknown, *IDS[dtype][:2]], ids.dtype)
    assert ids.positions(values).numpy().tolist() == [-1, 0, 1]


def test_ids_of_a_wider_type():
    """2^32 as int32 would be 0, and 2^32 - 1 would be -1."""
    ids = Identifiers(checked(IDS["int32"], 4))
    wide = tf.constant([2**32, 0, 2**32 - 1, -1, 7], tf.int64)
    assert ids.positions_of_any("ids", wide).numpy().tolist() == [-1, 3, -1, 1, 0]
    with pytest.raises(ValueError, match="`those` .string. can never equal"):
        ids.positions_of_any("those", tf.constant(["a"]))


def test_no_ids_are_row_numbers():
    ids = checked(None, 3)
    assert ids.dtype == tf.int32
    assert ids.numpy().tolist() == [0, 1, 2]


def test_strings_of_equal_hash_are_told_apart(monkeypatch):
    # 8 strings over 64 hashes: two share one with probability .37 per salt, and an
    # unknown string shares one with probability .12.
    monkeypatch.setattr(identifiers, "_NUM_HASHES", 64)
    for start in range(20):
        names = [f"{start}-{i}" for i in range(8)]
        ids = Identifiers(checked(names, 8))
        others = [f"other {start}-{i}" for i in range(8)]
        assert ids.positions(tf.constant(names)).numpy().tolist() == list(range(8))
        assert ids.positions(tf.constant(others)).numpy().tolist() == [-1] * 8


def test_assign_changes_the_ids_in_place():
    ids = Identifiers(checked(["a", "b"], 2))
    position = tf.function(ids.positions)
    assert position(tf.constant(["b", "c"])).numpy().tolist() == [1, -1]
    ids.assign(checked(["x", "c", "b"], 3))
    assert position(tf.constant(["b", "c"])).numpy().tolist() == [2, 1]
    assert position.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1], [2]], r"must have shape \[2\], received shape \(2, 1\)"),
        ([1, 2, 3], "`candidates` has 2 rows, but `identifiers` has 3"),
        ([True, False], "must be one of .*int32.*received bool"),
        ([5, 5], r"must be distinct, but 5 occurs 2 times \(1 ids are"),
        (["a", "a"], "must be distinct, but b'a' occurs 2 times"),
        ([0.5, np.nan], "contains NaN"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        checked(ids, 2)


@pytest.mark.parametrize("dtype", ["int64", "string"])
def test_rows_of_exclusions(dtype):
    """What fills a ragged row is no id; in a matrix every entry is one."""
    ids = Identifiers(checked(IDS[dtype], 4))
    first, second = IDS[dtype][:2].tolist()
    unknown = "zz" if dtype == "string" else 5
    lists = [[second], [unknown, first]]
    ragged = tf.ragged.constant(lists, ids.dtype)
    found = ids.positions_of_exclusions(ragged)
    assert found.numpy().tolist() == [[1, -1], [-1, 0]]
    dense = ids.positions_of_exclusions(ragged.to_tensor(second))
    assert dense.numpy().tolist() == [[1, 1], [-1, 0]]
    assert ids.positions_of_exclusions([[]]).shape == (1, 0)


@pytest.mark.parametrize(
    ("exclusions", "message"),
    [
        (np.array([[1]], np.int32), "must be int64 like the ids.*received int32"),
        ([["a"]], "must be int64 like the ids.*received string"),
        (tf.ragged.constant([["a"]]), "must be int64 like the ids.*received string"),
        ([1, 2], r"must have shape \[queries, ids.*received shape \(2,\)"),
    ],
)
def test_bad_exclusions(exclusions, message):
    ids = Identifiers(checked(IDS["int64"], 4))
    with pytest.raises(ValueError, match=message):
        ids.positions_of_exclusions(exclusions)
