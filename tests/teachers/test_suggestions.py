"""Tables of suggestions: what they hold, attach, save."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import teachers

Histories, Suggestions = teachers.Histories, teachers.Suggestions

WEIGHTS = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [0, 0, 0]], np.float32)
KINDS = {
    "int": (np.array([-7, 2**62, 0]), np.array([[5, -1, 9], [9, 9, 9], [5, 5, 5]])),
    "str": (
        np.array(["ann", "", "é"]),
        np.array([["a", "bb", "c"], ["c", "c", "c"], ["", "a", "a"]]),
    ),
    "mixed": (["ann", "bob", "eve"], [[5, 4, 3], [1, 2, 3], [0, 0, 0]]),
}


def bytes_of(ids):
    return [i.encode() if isinstance(i, str) else i for i in np.asarray(ids).tolist()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_attach(kind, drop_remainder):
    users, items = map(np.asarray, KINDS[kind])
    table = Suggestions(users, items, WEIGHTS)
    np.testing.assert_array_equal(table.item_ids, items)
    unknown = 10**9 if kind == "int" else "nobody"
    order = [2, 0, 1]
    asked = [unknown, *users[order].tolist()]
    dataset = tf.data.Dataset.from_tensor_slices({"who": asked, "x": [1, 2, 3, 4]})
    dataset = dataset.batch(4, drop_remainder=drop_remainder)
    batch = next(iter(table.attach(dataset, "who", ragged=False)))
    assert batch["x"].numpy().tolist() == [1, 2, 3, 4]
    ids, weights = batch["target_ids"], batch["target_weights"]
    assert ids.shape == weights.shape == [4, 3]
    assert ids[1:].numpy().tolist() == [bytes_of(own) for own in items[order]]
    np.testing.assert_array_equal(weights, np.vstack([[0, 0, 0], WEIGHTS[order]]))

    batch = next(iter(table.attach(dataset, "who")))
    expected = [[], *(own[w > 0] for own, w in zip(items, WEIGHTS, strict=True))]
    expected = [expected[0], *(expected[1 + place] for place in order)]
    assert batch["target_ids"].to_list() == [bytes_of(own) for own in expected]
    assert batch["target_weights"].to_list() == [[], [], [0.5, 0.25, 0.25], [1.0]]

    named = table.attach(dataset, "who", ids_name="i", weights_name="w", ragged=False)
    assert set(named.element_spec) == {"who", "x", "i", "w"}
    assert named.element_spec["w"].shape[1] == 3


def test_a_vocabulary_is_what_ids_are_places_in():
    table = Suggestions([1, 2], [[0, 2], [1, 1]], [[1, 0], [0.5, 0.5]], ["x", "y", "z"])
    assert table.item_ids.tolist() == [["x", "z"], ["y", "y"]]
    assert len(table) == 2 and repr(table) == "Suggestions(2 users, 2 items each)"


@pytest.mark.parametrize("kind", KINDS)
def test_saved_is_loaded(kind, tmp_path):
    users, items = KINDS[kind]
    if kind == "str":
        users = users.astype(object)
    path = tmp_path / "table.npz"
    table = Suggestions(users, items, WEIGHTS)
    Suggestions([1], [[1]], [[1]]).save(path)
    table.save(path)
    assert os.listdir(tmp_path) == ["table.npz"]
    loaded = Suggestions.load(path)
    np.testing.assert_array_equal(loaded.user_ids, table.user_ids)
    np.testing.assert_array_equal(loaded.item_ids, table.item_ids)
    np.testing.assert_array_equal(loaded.weights, table.weights)


def test_what_is_no_table(tmp_path):
    path = tmp_path / "table.npz"
    path.write_bytes(b"not a table")
    with pytest.raises(ValueError, match="`Suggestions.save`"):
        Suggestions.load(path)
    np.savez(path, weights=WEIGHTS)
    with pytest.raises(ValueError, match="`Suggestions.save`"):
        Suggestions.load(path)
    np.savez(path, format=2, user_ids=[1], vocabulary=[1], places=[[0]], weights=[[1]])
    with pytest.raises(ValueError, match="format 1"):
        Suggestions.load(path)
    with pytest.raises(FileNotFoundError):
        Suggestions.load(tmp_path / "none.npz")
    table = Suggestions([1], [[1]], [[1]])
    with pytest.raises(ValueError, match="must end in .npz"):
        table.save(tmp_path / "table")
    with pytest.raises(OSError):
        table.save(tmp_path / "nowhere" / "table.npz")


def test_it_is_a_teacher():
    table = Suggestions(["ann", "bob"], [[5, 4], [3, 3]], [[2, 1], [1, 0]])
    ids, weights = table(Histories.from_lists([[1], [2]], ["bob", "eve"]), 1)
    assert ids[0].tolist() == [3, 3]
    assert weights.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 1], [[1], [2]], [[1], [1]]), "user_ids"),
        (([1], [[1], [2]], [[1], [1]]), r"each of the 1 users, received \(2, 1\)"),
        (([1, 2], [[1], [2]], [[1, 2], [1, 2]]), r"received \(2, 1\) and \(2, 2\)"),
        (([1, 2], [1, 2], [1, 2]), "must be .U, M."),
        (([1], np.zeros([1, 0], int), np.zeros([1, 0])), "one column"),
        (([1], [[1.5]], [[1]]), "'item_ids' must hold ids"),
        (([1], [[1]], [["a"]]), "swapped"),
        (([1], [[1]], [[-1]]), "at least 0, received 1 others, such as -1"),
        (([1], [[1]], [[np.nan]]), "such as nan"),
        (([1], [[1]], [[np.inf]]), "such as inf"),
        (([1], [[1]], [[1]], ["a"]), "places in `vocabulary`, from 0 to 0"),
        (([1], [[-1]], [[1]], ["a"]), "places in `vocabulary`"),
        (([1], [["a"]], [[1]], ["a"]), "places in `vocabulary`"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Suggestions(*arguments)


def test_errors_of_attach():
    table = Suggestions([1], [[1]], [[1]])
    rows = tf.data.Dataset.from_tensor_slices({"who": [1, 2], "name": ["a", "b"]})
    with pytest.raises(ValueError, match="keys' feature 'user'"):
        table.attach(rows.batch(2), "user")
    with pytest.raises(ValueError, match="added, received 'name' in"):
        table.attach(rows.batch(2), "who", ids_name="i", weights_name="name")
    with pytest.raises(ValueError, match="needs batches"):
        table.attach(rows, "who")
    with pytest.raises(ValueError, match="must hold integers"):
        table.attach(rows.batch(2), "name")
    with pytest.raises(ValueError, match="two names"):
        table.attach(rows.batch(2), "who", ids_name="i", weights_name="i")
