"""Time-ordered split against loops, and its properties."""

import numpy as np
import pytest

from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.cli.time_split import last_interactions, split
from tfrs_negatives.data import Interactions


def table(user, item, time=None, request=None, title=None):
    user, item = np.asarray(user), np.asarray(item)
    time = np.arange(len(user)) if time is None else np.asarray(time)
    request = user if request is None else np.asarray(request)
    label = np.ones(len(user))
    return Interactions(user, item, request, time, label, title, name="a table")


def random_table(seed, num_rows=600):
    rng = np.random.default_rng(seed)
    user = rng.integers(100, 140, num_rows)
    item = np.array([f"i{n}" for n in rng.integers(0, 90, num_rows)])
    title = np.array([f"title of {i}" for i in item], dtype=object)
    time = rng.integers(0, 50, num_rows)  # Many ties.
    return table(user, item, time, user * 10 + time // 10, title)


def oracle_held_out(user, time):
    """Row numbers held out, by a loop over users."""
    held_out = set()
    for one in set(user.tolist()):
        rows = [row for row in range(len(user)) if user[row] == one]
        rows.sort(key=lambda row: (time[row], row))
        if len(rows) > 1:
            held_out.update(rows[-max(1, len(rows) // 5) :])
    return held_out


@pytest.mark.parametrize("seed", range(3))
def test_last_interactions_equal_a_loop(seed):
    data = random_table(seed)
    found = np.flatnonzero(last_interactions(data.user, data.time))
    assert set(found.tolist()) == oracle_held_out(data.user, data.time)


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, 0), (2, 1), (5, 1), (9, 1), (10, 2), (14, 2), (15, 3)]
)
def test_how_many_are_held_out(rows, expected):
    held_out = last_interactions(np.full(rows, 3), np.arange(rows))
    assert held_out.sum() == expected
    assert held_out[rows - expected :].all()


def test_ties_go_by_file_order():
    held_out = last_interactions(np.array([1, 2, 1, 1, 2]), np.array([5, 7, 5, 5, 7]))
    assert held_out.tolist() == [False, False, False, True, True]


def test_strings_and_fractions_of_seconds():
    user = np.array(["b", "a", "b", "a"])
    held_out = last_interactions(user, np.array([0.2, 0.5, 0.1, 0.75]))
    assert held_out.tolist() == [True, False, False, True]


@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_split_equals_loops(seed, validation):
    data = random_table(seed)
    kept = list(range(len(data)))
    held_out = oracle_held_out(data.user, data.time)
    if validation:
        kept = [row for row in kept if row not in held_out]
        inner = oracle_held_out(data.user[kept], data.time[kept])
        held_out = {kept[place] for place in inner}
    train = [row for row in kept if row not in held_out]
    train_pairs = [(int(data.user[r]), str(data.item[r])) for r in train]
    catalogue = {i for _, i in train_pairs}
    truth = {(int(data.user[r]), str(data.item[r])) for r in held_out}
    truth -= set(train_pairs)

    parts = split(data, validation=validation)
    ids = zip(parts.user_ids[parts.user], parts.item_ids[parts.item], strict=True)
    assert [(int(u), str(i)) for u, i in ids] == train_pairs
    assert parts.item_ids.tolist() == sorted(catalogue)
    assert parts.user_ids.tolist() == sorted({u for u, _ in train_pairs})
    assert parts.titles.tolist() == [f"title of {i}" for i in sorted(catalogue)]

    known = parts.held_out_item >= 0
    found = {
        (int(parts.user_ids[u]), str(parts.item_ids[i]))
        for u, i in zip(
            parts.held_out_user[known], parts.held_out_item[known], strict=True
        )
    }
    assert found == {(u, i) for u, i in truth if i in catalogue}
    assert known.sum() == len(found)  # No pair twice.
    assert (~known).sum() == sum(i not in catalogue for _, i in truth)

    requests = data.request[train]
    same = requests[:, None] == requests[None, :]
    assert (same == (parts.request[:, None] == parts.request[None, :])).all()


def test_a_user_with_one_interaction_is_trained_on_and_not_evaluated():
    parts = split(table([1, 1, 1, 2], ["a", "b", "c", "c"]))
    assert parts.user_ids.tolist() == [1, 2]
    assert parts.held_out_user.tolist() == [0]
    assert parts.item_ids[parts.held_out_item].tolist() == ["c"]


def test_repeated_pairs_count_once_and_never_after_training():
    user = [1] * 15 + [2, 2]
    item = ["a", "b", "d"] + ["c"] * 9 + ["a", "e", "e"] + ["e", "d"]
    parts = split(table(user, item))
    # Of user 1's last three, "a" is in training, and "e" occurs twice.
    pairs = zip(parts.held_out_user, parts.item_ids[parts.held_out_item], strict=True)
    assert sorted((int(u), str(i)) for u, i in pairs) == [(0, "e"), (1, "d")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (table([1, 1, 2, 2], ["a", "a", "b", "b"]), "nothing to evaluate"),
        (table([1, 1, 2, 2], ["a", "b", "a", "c"]), "at least 2 items"),
    ],
)
def test_what_cannot_be_split(data, expected):
    with pytest.raises(CommandError, match=expected):
        split(data)
