"""Lists of each key's items, against loops, and what a task does with them."""

import collections
import re

import numpy as np
import pandas as pd
import pyarrow
import pytest
import tensorflow as tf

from tfrs_negatives import data, metrics, models, samplers, tasks
from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import keras

USERS = np.array([-5, 3, -5, 9, 3, 3, -(2**62), -5])
ITEMS = np.array([7, -1, 7, 0, 2, 7, 4, -9])
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


def oracle(users, items):
    lists = collections.defaultdict(set)
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        lists[user].add(item)
    return {user: sorted(found) for user, found in lists.items()}


def text(values):
    return [v.decode() if isinstance(v, bytes) else v for v in values]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_lists_equal_loops(kind, table):
    users, items = KINDS[kind]
    positives = data.positives_of(TABLES[table](users, items))
    expected = oracle(users, items)
    asked = np.array([*expected, *list(expected)[:2]])
    found = positives(tf.constant(asked))
    assert isinstance(found, tf.RaggedTensor) and found.shape.as_list() == [
        len(asked), None,
    ]  # fmt: skip
    for user, row in zip(asked.tolist(), found.to_list(), strict=True):
        assert text(row) == text(expected[user])
    assert positives.num_keys == len(expected)
    unknown = "nobody" if asked.dtype.kind in "SU" else -77
    assert positives(tf.constant([unknown])).to_list() == [[]]


def test_other_columns():
    table = {"basket": [2, 1, 2], "sku": ["a", "b", "c"], "user": [0, 0, 0]}
    positives = data.positives_of(table, key="basket", item="sku")
    assert positives(tf.constant([1, 2])).to_list() == [[b"b"], [b"a", b"c"]]


@pytest.mark.parametrize("strings", [False, True])
def test_attached_lists_follow_the_rows(strings):
    users, items = KINDS["U" if strings else "int64"]
    positives = data.positives_of({"user": users, "item": items})
    who = np.tile(np.append(users, users.dtype.type(77)), 3)
    rows = tf.data.Dataset.from_tensor_slices({"who": who}).batch(4)
    rows = positives.attach(rows, "who", "liked")
    expected = oracle(users, items)
    place = 0
    for batch in rows:
        for row in batch["liked"].to_list():
            assert text(row) == expected.get(who[place].item(), [])
            place += 1
    assert place == len(who)


def test_iterators_checkpoint(tmp_path):
    positives = data.positives_of({"user": USERS, "item": ITEMS})
    rows = tf.data.Dataset.from_tensor_slices({"user": USERS}).batch(2)
    iterator = iter(positives.attach(rows, "user"))
    next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "c"))
    expected = next(iterator)["known_positives"].to_list()
    other = iter(positives.attach(rows, "user"))
    tf.train.Checkpoint(iterator=other).restore(path)
    assert next(other)["known_positives"].to_list() == expected


BAD = {
    "no column": ({"user": [1]}, "column 'item'"),
    "lengths": ({"user": [1, 2], "item": [1]}, "received 2 and 1"),
    "empty": ({"user": np.zeros(0, int), "item": np.zeros(0, int)}, "at least one"),
    "floats": ({"user": [1.0], "item": [1]}, "'user' must hold ids, .* float64"),
    "missing": ({"user": [None, "a"], "item": [1, 2]}, "NoneType and str"),
    "missing in a frame": (
        pd.DataFrame({"user": pd.array([1, None], "Int64"), "item": [1, 2]}),
        "none missing",
    ),
    "booleans": ({"user": [True], "item": [1]}, "received bool"),
    "mixed": ({"user": np.array([1, "a"], object), "item": [1, 2]}, "int and str"),
    "large": ({"user": np.array([2**64 - 1], np.uint64), "item": [1]}, "64 bits"),
    "matrix": ({"user": [[1]], "item": [1]}, "must be a vector"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables(case):
    table, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        data.positives_of(table)


def test_a_dataset_or_another_columns_name_is_told_the_remedy():
    columns = {"user": USERS, "item": ITEMS}
    with pytest.raises(ValueError, match=r"a dict with \['user', 'item'\]"):
        data.positives_of(columns, key="who")
    rows = tf.data.Dataset.from_tensor_slices(columns).batch(2)
    with pytest.raises(ValueError, match="is no table.*np.concatenate") as raised:
        data.positives_of(rows)
    # What the message says to do works.
    batches = list(rows.as_numpy_iterator())
    remedy = re.search(r"`(\{name: .*\})`", str(raised.value)).group(1)
    gathered = eval(remedy, {"np": np, "batches": batches})
    expected = data.positives_of(columns)(USERS).to_list()
    assert data.positives_of(gathered)(USERS).to_list() == expected


def test_bad_datasets_and_keys():
    positives = data.positives_of({"user": USERS, "item": ITEMS})
    rows = tf.data.Dataset.from_tensor_slices({"user": USERS})
    with pytest.raises(ValueError, match="needs batches"):
        positives.attach(rows, "user")
    with pytest.raises(ValueError, match="keys' feature 'who'"):
        positives.attach(rows.batch(2), "who")
    with pytest.raises(ValueError, match="must not have.*added, received 'user' in"):
        positives.attach(rows.batch(2), "user", "user")
    with pytest.raises(ValueError, match="must be integers, as in the table"):
        positives(tf.constant(["3"]))
    with pytest.raises(ValueError, match=r"must be a vector"):
        positives(tf.constant([[3]]))


class TwoTower(models.Model):
    def __init__(self):
        super().__init__()
        self.users = keras.layers.Embedding(10, 4)
        self.items = keras.layers.Embedding(10, 4)
        self.task = tasks.Retrieval(
            negative_metrics=[
                metrics.MaskRate(),
                metrics.FalseNegativeRate(),
                metrics.FalseNegativeRate(after_masks=False),
            ],
            negative_metric_rows=None,
        )

    def compute_loss(self, features, training=False):
        return self.task(
            self.users(features["user"]),
            self.items(features["item"]),
            candidate_ids=features["item"],
            known_positive_ids=features.get("known"),
            measured_positive_ids=features["liked"],
            training=training,
        )


def test_fit_masks_known_positives():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 10, 48), rng.integers(0, 10, 48)
    known = set(zip(users.tolist(), items.tolist(), strict=True))
    positives = data.positives_of({"user": users, "item": items})
    rows = tf.data.Dataset.from_tensor_slices({"user": users, "item": items})
    rows = positives.attach(rows.batch(12), "user", "liked")
    masked = positives.attach(rows, "user", "known")
    logs = []
    for dataset in (rows, masked):
        model = TwoTower()
        model.compile(keras.optimizers.SGD(0.1))
        history = model.fit(dataset, verbose=0).history
        logs.append({name: value[-1] for name, value in history.items()})
    pairs = [
        (user, item)
        for start in range(0, 48, 12)
        for i, user in enumerate(users[start : start + 12])
        for j, item in enumerate(items[start : start + 12])
        if i != j
    ]
    false = [(int(u), int(i)) in known for u, i in pairs]
    share = sum(false) / len(pairs)
    assert 0.1 < share < 0.9
    for found, rate, left in ((logs[0], 0, share), (logs[1], share, 0)):
        assert found["mask_rate"] == pytest.approx(rate, abs=1e-6)
        assert found["false_negative_rate"] == pytest.approx(left, abs=1e-6)
        assert found["false_negative_rate_before_masks"] == pytest.approx(share)


def test_known_positives_are_not_drawn():
    users, items = np.repeat(np.arange(4), 6), np.arange(24) % 8
    positives = data.positives_of({"user": users, "item": items})
    rows = tf.data.Dataset.from_tensor_slices({"user": np.arange(4)}).batch(4)
    rows = positives.attach(rows, "user", "known")
    drawn = samplers.Uniform(np.arange(8)).attach(
        rows, 50, per_row=True, exclude="known"
    )
    found = next(iter(drawn))["negatives"].numpy()
    for user in range(4):
        assert set(found[user]) == set(range(8)) - set(items[users == user])


@pytest.mark.parametrize("kind", KINDS)
def test_all_lists(kind):
    """Of keys in the order of their numbers, items ascending."""
    users, items = KINDS[kind]
    positives = data.positives_of({"user": users, "item": items})
    numbers, counts, flat = positives.lists()
    distinct = np.unique(users)
    order = np.argsort(as_int64("keys", distinct).numpy())
    np.testing.assert_array_equal(numbers, as_int64("keys", distinct[order]))
    expected = positives(distinct[order])
    np.testing.assert_array_equal(counts, expected.row_lengths())
    np.testing.assert_array_equal(flat, expected.flat_values)
    assert positives.keys_are_strings == (tf.constant(users).dtype == tf.string)
