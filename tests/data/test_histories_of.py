"""Histories are what came strictly before, against a loop over rows."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrs_negatives.data import Interactions, histories_of


def random_table(kind=int, rows=400, times=25):
    rng = np.random.default_rng(3)
    return {
        "user": rng.integers(-3, 9, rows).astype(kind),
        "item": rng.integers(-20, 20, rows).astype(kind),
        # Many ties, and rows in no order.
        "time": rng.integers(0, times, rows),
    }


def before(table, row, length):
    """What a row's user did at earlier times, in order of time, then of rows."""
    times = table["time"]
    rows = [
        other
        for other in range(len(times))
        if table["user"][other] == table["user"][row] and times[other] < times[row]
    ]
    rows.sort(key=lambda other: (times[other], other))
    return [table["item"][other] for other in rows][-length:]


def lists(ragged):
    return [
        [v.decode() if isinstance(v, bytes) else v for v in row]
        for row in ragged.to_list()
    ]


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("length", [1, 4, 1000])
def test_rows_see_what_came_strictly_before(kind, length):
    table = random_table(kind)
    histories = histories_of(table, length)
    found = lists(histories.before(range(len(table["user"]))))
    assert found == [before(table, row, length) for row in range(len(histories))]
    assert max(map(len, found)) <= length


def test_nothing_of_a_row_or_of_later_ones_is_seen():
    """No leak: histories stay what they are whatever the rows from then on hold."""
    table = random_table()
    histories = histories_of(table, 10)
    rows = np.arange(len(histories))
    now = 12
    earlier = rows[table["time"] <= now]
    changed = dict(table)
    changed["item"] = np.where(table["time"] >= now, 1000 + rows, table["item"])
    other = histories_of(changed, 10)
    expected = histories.before(earlier).to_list()
    assert other.before(earlier).to_list() == expected
    # Later rows do see them, so the comparison could have failed.
    later = rows[table["time"] > now]
    assert other.before(later).to_list() != histories.before(later).to_list()


def test_rows_of_one_basket_do_not_see_each_other():
    table = {"user": [1] * 4, "item": [10, 11, 12, 13], "time": [5, 9, 9, 9]}
    assert histories_of(table).before([0, 1, 2, 3]).to_list() == [[], [10], [10], [10]]


@pytest.mark.parametrize("kind", [int, str])
def test_the_latest_items_of_users(kind):
    table = random_table(kind)
    histories = histories_of(table, 6)
    users = np.unique(table["user"])[::-1]
    never = np.array(["never"] if kind is str else [77])
    found = lists(histories.latest(np.concatenate([users, never])))
    end = {**table, "time": np.append(table["time"], 1000)}
    expected = [
        before({**end, "user": np.append(table["user"], user)}, len(histories), 6)
        for user in users
    ]
    assert found == [*expected, []]


@pytest.mark.parametrize("time", [None, "interactions"])
def test_without_times_rows_are_in_order(time):
    table = random_table()
    order = {**table, "time": np.arange(len(table["user"]))}
    if time == "interactions":
        rows = np.arange(len(table["user"]))
        given = Interactions(
            table["user"], table["item"], rows, rows, np.ones(len(rows))
        )
        histories = histories_of(given, 5)
    else:
        histories = histories_of(table, 5, time=None)
    found = histories.before(range(len(histories))).to_list()
    assert found == [before(order, row, 5) for row in range(len(histories))]


def test_dates_and_other_names():
    frame = pd.DataFrame(
        {
            "who": ["a", "a"],
            "what": ["x", "y"],
            "when": pd.to_datetime(["2024-03-01", "2023-03-01"]),
        }
    )
    histories = histories_of(frame, user="who", item="what", time="when")
    assert lists(histories.before([0, 1])) == [["y"], []]


def test_they_join_a_dataset():
    table = random_table()
    histories = histories_of(table, 3)
    rows = tf.data.Dataset.from_tensor_slices({"row": np.arange(len(histories))})
    batches = list(histories.attach(rows.shuffle(400, seed=1).batch(150)))
    assert [int(b["history"].nrows()) for b in batches] == [150, 150, 100]
    for batch in batches:
        expected = [before(table, row, 3) for row in batch["row"].numpy()]
        assert batch["history"].to_list() == expected


@pytest.mark.parametrize(
    "changed, options, message",
    [
        ({"time": None}, {}, "what came before: expected a column of times 'time'"),
        ({"time": ["a", "b"]}, {}, "must hold times.*received strings"),
        ({"time": [1.0, np.nan]}, {}, "a time for each row.*`time=None`"),
        ({"user": [1, None]}, {}, "'user' must hold ids"),
        ({"item": [1, 2, 3]}, {}, "as many users as items.*received 2, 3 and 2"),
        ({"user": [], "item": [], "time": []}, {}, "user"),
        ({}, {"length": 0}, "length"),
    ],
)
def test_tables_that_do_not_fit(changed, options, message):
    table = {"user": [1, 2], "item": [3, 4], "time": [5, 6], **changed}
    table = {name: column for name, column in table.items() if column is not None}
    with pytest.raises(ValueError, match=message) as error:
        histories_of(table, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [1, 4, 1000])
def test_rows_above_of_the_same_time_may_be_seen(length):
    table = random_table()
    times = table["time"]
    # Times by which no two rows are equal, and the order is that of the table.
    apart = {**table, "time": times * len(times) + np.arange(len(times))}
    histories = histories_of(table, length, ties="above")
    rows = range(len(histories))
    found = histories.before(rows).to_list()
    assert found == [before(apart, row, length) for row in rows]
    assert found != histories_of(table, length).before(rows).to_list()
    users = np.unique(table["user"])
    latest = histories_of(table, length).latest(users)
    assert histories.latest(users).to_list() == latest.to_list()


def test_unknown_ties_are_refused():
    with pytest.raises(ValueError, match="`ties` must be .*received 'below'"):
        histories_of(random_table(), ties="below")
