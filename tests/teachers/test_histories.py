"""Histories from tables, lists and matrices, of ids of all kinds."""

import numpy as np
import pandas as pd
import pyarrow
import pytest
import scipy.sparse
import tensorflow as tf

from tfrs_negatives import data, teachers

Histories = teachers.Histories

USERS = np.array([-5, 3, -5, 9, 3, 3, -(2**62), -5])
ITEMS = np.array([7, -1, 7, 0, 2, 7, 4, -9])
WEIGHTS = np.array([1, 2, 0.5, 3, 0, 1, 1, 4])
KINDS = {
    "int64": (USERS, ITEMS),
    "int32": (USERS.clip(-(2**31)).astype(np.int32), ITEMS.astype(np.int32)),
    "U": (USERS.astype(str), ITEMS.astype(str)),
    "object": (USERS.astype(str).astype(object), ITEMS.astype(str).astype(object)),
    "bytes": (USERS.astype(bytes), ITEMS.astype(bytes)),
    "empty string": (np.where(USERS == 3, "", "é"), ITEMS),
}
TABLES = {
    "dict": lambda users, items: {"user": users, "item": items},
    "lists": lambda users, items: {"user": users.tolist(), "item": items.tolist()},
    "frame": lambda users, items: pd.DataFrame({"user": users, "item": items}),
    "arrow": lambda users, items: pyarrow.table({"user": users, "item": items}),
    "interactions": lambda users, items: data.Interactions(
        users, items, users, np.arange(len(users)), np.ones(len(users))
    ),
}


def pairs(histories):
    """Dict from (user, item) to weight."""
    entries = histories.matrix.tocoo()
    users = histories.user_ids[entries.row].tolist()
    items = histories.item_ids[entries.col].tolist()
    return dict(zip(zip(users, items, strict=True), entries.data, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
def test_table(table, kind):
    users, items = KINDS[kind]
    if table == "arrow" and kind == "bytes":
        users, items = users.astype(object), items.astype(object)
    found = Histories.from_table(TABLES[table](users, items))
    expected = dict.fromkeys(zip(users.tolist(), items.tolist(), strict=True), 1)
    assert pairs(found) == expected
    assert len(found) == len(set(users.tolist()))


def test_weights_of_rows_that_repeat_add_up_and_zeros_are_left_out():
    table = {"who": USERS, "what": ITEMS, "much": WEIGHTS}
    found = Histories.from_table(table, "who", "what", "much")
    expected = {}
    for user, item, weight in zip(USERS.tolist(), ITEMS.tolist(), WEIGHTS, strict=True):
        expected[user, item] = expected.get((user, item), 0) + weight
    assert pairs(found) == {pair: w for pair, w in expected.items() if w}
    assert 2 in found.item_ids, "the catalogue has what weighs nothing"


@pytest.mark.parametrize(
    "lists",
    [
        [["b", "a", "b"], [], ["a"]],
        tf.ragged.constant([["b", "a", "b"], [], ["a"]]),
    ],
)
def test_lists(lists):
    found = Histories.from_lists(lists, ["ann", "bob", "eve"])
    kept = [[as_text(i) for i in own] for own in found.lists()]
    assert kept == [["a", "b"], [], ["a"]]
    assert found.user_ids.tolist() == ["ann", "bob", "eve"]
    numbered = Histories.from_lists([[5, 4], [4, 9]])
    assert numbered.user_ids.tolist() == [0, 1]
    assert [own.tolist() for own in numbered.lists()] == [[4, 5], [4, 9]]


def as_text(value):
    return value.decode() if isinstance(value, bytes) else value


def test_rows_are_of_the_same_items():
    found = Histories.from_lists([["b", "a"], [], ["a"]], ["ann", "bob", "eve"])
    for rows in (slice(1, 3), np.array([2, 0])):
        part = found.rows(rows)
        assert part.user_ids.tolist() == found.user_ids[rows].tolist()
        assert part.item_ids is found.item_ids
        assert (part.matrix != found.matrix[rows]).nnz == 0


def test_what_is_given_stays_as_it_is():
    matrix = scipy.sparse.coo_matrix(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])))
    found = Histories([1, 2], ["a", "b"], matrix)
    assert found.matrix.toarray().tolist() == [[0, 3], [0, 0]]
    assert found.matrix.nnz == 1 and matrix.nnz == 3
    assert "2 users, 2 items, 1 entries" in repr(found)


def of_table(**columns):
    return lambda: Histories.from_table({"user": USERS, "item": ITEMS, **columns})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_table(user=[], item=[]), "'user' must hold ids|at least one"),
        (of_table(item=ITEMS[1:]), "as many rows"),
        (of_table(item=ITEMS + 0.5), "'item' must hold ids"),
        (of_table(item=None), "must be a vector"),
        (lambda: Histories.from_table({"user": USERS}), "a column 'item'"),
        (lambda: Histories.from_lists([[], []]), "at least one id"),
        (lambda: Histories.from_lists([[1], [2]], [5]), "one id for each list"),
        (lambda: Histories.from_lists([[1], [2]], [5, 5]), "user_ids"),
        (lambda: Histories([1], [2, 2], scipy.sparse.eye(1, 2)), "item_ids"),
        (lambda: Histories([1], [2], scipy.sparse.eye(2)), r"\(1, 1\), received"),
        (lambda: Histories([1], [2], np.eye(1)), "SciPy sparse"),
        (lambda: Histories([1], [2], -scipy.sparse.eye(1)), "finite and at least 0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_weights_that_are_none(wrong):
    table = {"user": [1, 2], "item": [3, 4], "weight": [1.0, wrong]}
    with pytest.raises(ValueError, match=f"finite and at least 0.*such as {wrong}"):
        Histories.from_table(table, weight="weight")
    table["weight"] = ["1", "2"]
    with pytest.raises(ValueError, match="'weight' must be a vector of weights"):
        Histories.from_table(table, weight="weight")
