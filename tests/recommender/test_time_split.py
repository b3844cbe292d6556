"""Time-ordered split against loops, and its properties."""

import dataclasses
import os

import numpy as np
import pyarrow as pa
import pytest

from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.data import interactions, row_buckets, table_sources
from tfrs_negatives.data.table_parts import ArrowParts
from tfrs_negatives.recommender.time_split import split


@dataclasses.dataclass
class Table:
    """Columns of a table; those that are None are not there."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None = None
    request: np.ndarray | None = None
    title: np.ndarray | None = None

    def __len__(self):
        return len(self.user)


def table(**columns):
    return Table(**{name: np.asarray(column) for name, column in columns.items()})


def split_of(data, folder, **options):
    columns = {n: c for n, c in vars(data).items() if c is not None}
    names = {name: name for name in columns}
    parts = ArrowParts(pa.table(columns), names, "a table")
    return split(parts, folder, **options)


def random_table(seed, num_rows=600):
    rng = np.random.default_rng(seed)
    user = rng.integers(100, 140, num_rows)
    item = np.array([f"i{n}" for n in rng.integers(0, 90, num_rows)])
    time = rng.integers(0, 50, num_rows)  # Many ties.
    return table(
        user=user,
        item=item,
        time=time,
        request=user * 10 + time // 10,
        title=np.array([f"title of {i}, {n}" for n, i in enumerate(item)]),
    )


@pytest.fixture(params=["held", "on disk"])
def in_windows(request, monkeypatch):
    """Whether rows are one window in memory, or many on disk."""
    if request.param == "on disk":
        monkeypatch.setattr(row_buckets, "HELD_ROWS", 37)
        monkeypatch.setattr(row_buckets, "WINDOW_ROWS", 50)
    return request.param == "on disk"


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
def test_split_equals_loops(seed, validation, in_windows, tmp_path):
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
    titles = {str(data.item[r]): str(data.title[r]) for r in reversed(train)}

    parts = split_of(data, tmp_path, validation=validation)
    assert bool(os.listdir(tmp_path)) == in_windows
    windows = list(parts.training.rows.windows())
    assert (len(windows) > 5) == in_windows
    rows = np.concatenate(windows)
    rows = rows[np.argsort(rows["row"])]
    assert rows["row"].tolist() == train
    ids = zip(
        parts.training.user_ids[rows["user"]],
        parts.training.item_ids[rows["item"]],
        strict=True,
    )
    assert [(int(u), str(i)) for u, i in ids] == train_pairs
    assert parts.training.item_ids.tolist() == sorted(catalogue)
    assert parts.training.user_ids.tolist() == sorted({u for u, _ in train_pairs})
    assert parts.training.titles.tolist() == [titles[i] for i in sorted(catalogue)]
    counts = [sum(i == one for _, i in train_pairs) for one in parts.training.item_ids]
    assert parts.training.item_counts.tolist() == counts

    found = parts.held_out
    users = parts.training.user_ids[found.users]
    known = found.item >= 0
    pairs = {
        (int(users[u]), str(parts.training.item_ids[i]))
        for u, i in zip(found.user[known], found.item[known], strict=True)
    }
    assert pairs == {(u, i) for u, i in truth if i in catalogue}
    assert known.sum() == len(pairs)  # No pair twice.
    assert (~known).sum() == sum(i not in catalogue for _, i in truth)
    assert found.num_pairs == len(truth)
    assert found.num_unknown == (~known).sum()
    assert found.num_users == len(users) == len({u for u, _ in truth})
    seen = zip(found.seen_user, found.seen_item, strict=True)
    assert sorted(
        (int(users[u]), str(parts.training.item_ids[i])) for u, i in seen
    ) == sorted(pair for pair in train_pairs if pair[0] in set(users.tolist()))

    requests = data.request[train]
    same = requests[:, None] == requests[None, :]
    assert (same == (rows["request"][:, None] == rows["request"][None, :])).all()
    assert parts.training.rows.num_requests == len(set(requests.tolist()))
    assert not parts.training.rows.have_shared_requests
    for window in windows:  # Requests are whole.
        inside = np.isin(rows["request"], window["request"])
        assert inside.sum() == len(window)


def test_requests_are_days_of_users_or_users(in_windows, tmp_path):
    data = random_table(4)
    time = data.time * 30_000 - 700_000
    for columns, key in (
        ({"time": time}, list(zip(data.user, time // 86_400, strict=True))),
        ({}, data.user.tolist()),
    ):
        parts = split_of(table(user=data.user, item=data.item, **columns), tmp_path)
        rows = np.concatenate(list(parts.training.rows.windows()))
        wanted = [key[row] for row in rows["row"]]
        order = {one: place for place, one in enumerate(sorted(set(wanted)))}
        # Equal and in order, as shuffling goes by it.
        numbers = np.unique(rows["request"], return_inverse=True)[1]
        assert numbers.tolist() == [order[one] for one in wanted]


def test_shared_requests_are_found(in_windows, tmp_path):
    data = random_table(5)
    data.request = np.arange(len(data)) // 4
    assert split_of(data, tmp_path).training.rows.have_shared_requests


def test_a_sample_of_users_is_evaluated(in_windows, tmp_path):
    data = random_table(6)
    whole = split_of(data, tmp_path).held_out
    few = split_of(data, tmp_path, evaluated_users=7).held_out
    assert len(few.users) == 7
    if not in_windows:  # One window: its first users would be the first ids.
        assert few.users.tolist() != whole.users[:7].tolist()
    assert (few.num_users, few.num_pairs) == (whole.num_users, whole.num_pairs)
    for pairs in (("user", "item"), ("seen_user", "seen_item")):
        user, item = (getattr(whole, name) for name in pairs)
        wanted = sorted(
            (whole.users[u], i)
            for u, i in zip(user, item, strict=True)
            if whole.users[u] in few.users
        )
        user, item = (getattr(few, name) for name in pairs)
        assert sorted(zip(few.users[user], item, strict=True)) == wanted


def test_a_user_with_one_interaction_is_trained_on_and_not_evaluated(tmp_path):
    parts = split_of(table(user=[1, 1, 1, 2], item=["a", "b", "c", "c"]), tmp_path)
    assert parts.training.user_ids.tolist() == [1, 2]
    assert parts.held_out.users.tolist() == [0]
    assert parts.training.item_ids[parts.held_out.item].tolist() == ["c"]


def test_repeated_pairs_count_once_and_never_after_training(tmp_path):
    user = [1] * 15 + [2, 2]
    item = ["a", "b", "d"] + ["c"] * 9 + ["a", "e", "e"] + ["e", "d"]
    parts = split_of(table(user=user, item=item), tmp_path)
    found = parts.held_out
    # Of user 1's last three, "a" is in training, and "e" occurs twice.
    pairs = zip(
        found.users[found.user], parts.training.item_ids[found.item], strict=True
    )
    assert sorted((int(u), str(i)) for u, i in pairs) == [(0, "e"), (1, "d")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (table(user=[1, 1, 2, 2], item=["a", "a", "b", "b"]), "nothing to evaluate"),
        (table(user=[1, 1, 2, 2], item=["a", "b", "a", "c"]), "at least 2 items"),
        (table(user=[1, 1], item=["a", "b"]), "at least 2 users"),
        (table(user=[1, 2], item=["a", "a"]), "at least 2 items"),
    ],
)
def test_what_cannot_be_split(data, expected, tmp_path):
    with pytest.raises(ValueError, match=expected):
        split_of(data, tmp_path)


def test_rows_without_a_positive_label_are_dropped(in_windows, tmp_path):
    data = random_table(7)
    label = np.random.default_rng(0).integers(-1, 2, len(data))
    columns = {n: c for n, c in vars(data).items() if n != "title"}
    rows = pa.table({**columns, "label": label})
    parts = ArrowParts(rows, {n: n for n in rows.column_names}, "a table")
    found = split(parts, tmp_path)
    few = rows.filter(pa.array(label > 0))
    wanted = split(ArrowParts(few, {n: n for n in few.column_names}, "a"), tmp_path)
    assert found.table.num_dropped == (label <= 0).sum()
    assert found.training.user_ids.tolist() == wanted.training.user_ids.tolist()
    assert found.training.item_ids.tolist() == wanted.training.item_ids.tolist()
    for one, other in zip(
        found.training.rows.windows(), wanted.training.rows.windows(), strict=True
    ):
        assert one.tolist() == other.tolist()


def test_ids_of_dropped_rows_decide_what_ids_are(in_windows, tmp_path):
    path = tmp_path / "table.csv"
    rows = ["1,5,1", "1,6,1", "1,7,1", "2,6,1", "2,5,1", "2,8,1", "x,5,0"]
    path.write_text("\n".join(["user,item,label", *rows]) + "\n")
    named = dict.fromkeys(("user", "item", "request", "time", "label", "title"))
    parts = table_sources.parts(path, None, None, {**named, "label": "label"})
    whole = interactions(path, label="label")
    found = split(parts, tmp_path)
    assert found.training.user_ids.tolist() == sorted(set(whole.user)) == ["1", "2"]
    assert found.training.item_ids.tolist() == [5, 6]


def test_no_room_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 37)
    with pytest.raises(OSError, match="Free space"):
        split_of(random_table(8), tmp_path / "absent")
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 10**6)

    class Small(row_buckets.RowBuckets):
        """Has no room for training rows."""

        def add(self, rows, keys):
            if rows.dtype.itemsize == 24:
                raise OSError("Free space")
            super().add(rows, keys)

    monkeypatch.setattr("tfrs_negatives.recommender.training_rows.RowBuckets", Small)
    with pytest.raises(OSError, match="Free space"):
        split_of(random_table(8), tmp_path)


def rows_of(training):
    """Rows by place in the table: (row, user id, item id)."""
    rows = np.concatenate(list(training.rows.windows()))
    rows = rows[np.argsort(rows["row"])]
    users, items = training.user_ids[rows["user"]], training.item_ids[rows["item"]]
    return list(zip(rows["row"].tolist(), users.tolist(), items.tolist(), strict=True))


def test_rows_for_early_stopping_are_the_last_of_some_users(in_windows, tmp_path):
    data = random_table(11)
    parts = split_of(data, tmp_path)
    held_out = oracle_held_out(data.user, data.time)
    train = [row for row in range(len(data)) if row not in held_out]
    last = oracle_held_out(data.user[train], data.time[train])
    last = {train[place] for place in last}
    left = {row for row, _, _ in rows_of(parts.fitted)}
    gone = set(train) - left
    users = {int(data.user[row]) for row in gone}
    # A quarter of the 40, which have less than 2,000 pairs.
    assert len(users) == 10
    assert gone == {row for row in last if int(data.user[row]) in users}
    assert [row for row, _, _ in rows_of(parts.whole)] == list(range(len(data)))

    fitted = {(user, item) for _, user, item in rows_of(parts.fitted)}
    truth = {(int(data.user[row]), str(data.item[row])) for row in gone} - fitted
    found = parts.validation
    users = parts.training.user_ids[found.users][found.user].tolist()
    items = parts.training.item_ids[found.item].tolist()
    assert set(zip(users, items, strict=True)) == truth
    # One catalogue, so that one model is measured on both.
    assert parts.fitted.item_ids.tolist() == parts.training.item_ids.tolist()
    assert parts.fitted.item_counts.tolist() == parts.training.item_counts.tolist()
    assert parts.whole.item_ids.tolist() == sorted(set(data.item.tolist()))


def test_users_of_many_rows_are_few(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrs_negatives.recommender.time_split._VALIDATION_PAIRS", 10)
    parts = split_of(random_table(12), tmp_path)
    # 600 rows of 40 users: 2.4 pairs a user, so that five users have more than ten.
    assert len(parts.validation.users) == 5


def test_without_early_stopping_nothing_is_put_aside(tmp_path):
    parts = split_of(random_table(13), tmp_path, stops_early=False)
    assert parts.fitted is parts.training
    assert parts.validation is None


def test_users_of_one_row_leave_no_validation(tmp_path):
    user, item = [1, 1, 2, 2, 3], ["a", "b", "b", "a", "b"]
    parts = split_of(table(user=user, item=item), tmp_path)
    assert parts.fitted is parts.training
    assert parts.validation is None


@pytest.mark.parametrize("ties", [None, "above", "unseen"])
@pytest.mark.parametrize("part", ["fitted", "training", "whole"])
def test_histories_see_what_came_before_alone(in_windows, part, ties, tmp_path):
    data = random_table(14)
    parts = split_of(data, tmp_path, history=6, ties=ties)

    def moment(row):
        return (data.time[row], 0 if ties == "unseen" else row)

    training = getattr(parts, part)
    rows = rows_of(training)
    histories = training.histories
    places = histories.places(np.array([row for row, _, _ in rows]))
    found = histories.before(places).to_list()
    for (row, user, _), items in zip(rows, found, strict=True):
        earlier = [
            (data.time[r], r, item)
            for r, other, item in rows
            if other == user and moment(r) < moment(row)
        ]
        wanted = [item for _, _, item in sorted(earlier)][-6:]
        assert training.item_ids[items].tolist() == wanted
    for place, user in enumerate(training.user_ids):
        of_user = [(data.time[r], r, i) for r, other, i in rows if other == user]
        items = histories.latest([place]).to_list()[0]
        wanted = [item for _, _, item in sorted(of_user)][-6:]
        assert training.item_ids[items].tolist() == wanted


def test_rows_of_one_time_that_are_sorted_by_item_are_unseen(in_windows, tmp_path):
    data = random_table(17)
    order = np.lexsort([data.item, data.time, data.user])
    columns = ("user", "item", "time", "request", "title")
    by_item = table(**{name: getattr(data, name)[order] for name in columns})
    for part in ("fitted", "training", "whole"):
        found = getattr(split_of(data, tmp_path), part).histories
        assert found.ties == "above"
        assert getattr(split_of(by_item, tmp_path), part).histories.ties == "unseen"
    asked = split_of(by_item, tmp_path, ties="above")
    assert asked.whole.histories.ties == "above"


def test_tables_without_times_have_no_histories_unless_asked(tmp_path):
    data = random_table(15)
    untimed = table(user=data.user, item=data.item)
    assert split_of(untimed, tmp_path).training.histories is None
    assert split_of(data, tmp_path).training.histories.length == 50
    assert split_of(untimed, tmp_path, history=3).training.histories.length == 3
    assert split_of(data, tmp_path, history=0).training.histories is None


def test_later_rows_of_an_item_are_no_training_rows_unless_asked(in_windows, tmp_path):
    data = random_table(16)
    every = split_of(data, tmp_path, history=6)
    first = split_of(data, tmp_path, history=6, repeats=False)
    for part in ("fitted", "training", "whole"):
        rows = rows_of(getattr(every, part))
        wanted = {}
        for row, user, item in rows:
            earlier = wanted.setdefault((user, item), row)
            if (data.time[row], row) < (data.time[earlier], earlier):
                wanted[user, item] = row
        assert 0 < len(wanted) < len(rows)
        found = getattr(first, part)
        assert [row for row, _, _ in rows_of(found)] == sorted(wanted.values())
        # What is known of users and items is as it was.
        assert found.item_counts.tolist() == getattr(every, part).item_counts.tolist()
        for one in (0, 7):
            histories = found.histories, getattr(every, part).histories
            assert len({str(h.latest([one]).to_list()) for h in histories}) == 1
    assert first.held_out.item.tolist() == every.held_out.item.tolist()


def split_given(data, is_held_out, folder, **options):
    """The split where a table of its own has the rows of `is_held_out`."""
    parts = []
    for rows, name in ((~is_held_out, "a table"), (is_held_out, "the other")):
        columns = {n: c[rows] for n, c in vars(data).items() if c is not None}
        parts.append(ArrowParts(pa.table(columns), {n: n for n in columns}, name))
    return split(parts[0], folder, held_out=parts[1], **options)


def pairs_of(found, training):
    users = training.user_ids[found.users][found.user].tolist()
    items = [i if i < 0 else str(training.item_ids[i]) for i in found.item.tolist()]
    return list(zip(users, items, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_table_to_hold_out_is_held_out(seed, in_windows, tmp_path):
    data = random_table(seed)
    is_held_out = np.random.default_rng(seed).random(len(data)) < 0.3
    is_held_out |= np.isin(data.user, [101, 107])  # Without training rows.
    is_held_out |= data.item == "i3"
    parts = split_given(data, is_held_out, tmp_path)
    train = {
        (u, i)
        for u, i in zip(
            data.user[~is_held_out].tolist(),
            data.item[~is_held_out].tolist(),
            strict=True,
        )
    }
    assert {(u, i) for _, u, i in rows_of(parts.training)} == train
    assert parts.num_new_users == 2
    catalogue = {item for _, item in train}
    truth = set(
        zip(
            data.user[is_held_out].tolist(),
            data.item[is_held_out].tolist(),
            strict=True,
        )
    )
    truth = {(u, i) for u, i in truth - train if u not in (101, 107)}
    found = pairs_of(parts.held_out, parts.training)
    assert {pair for pair in found if pair[1] != -1} == {
        pair for pair in truth if pair[1] in catalogue
    }
    assert "i3" not in catalogue
    assert len(found) == len(truth) == parts.held_out.num_pairs
    # What is exported learns from all of it.
    assert len(rows_of(parts.whole)) == len(data)
    assert {101, 107} < set(parts.whole.user_ids.tolist())


def test_early_stopping_does_not_take_the_order_of_a_file_for_time(tmp_path):
    data = random_table(3)
    data.time = None
    order = np.argsort(data.item, kind="stable")  # As files of splits are written.
    data = table(user=data.user[order], item=data.item[order])
    is_held_out = np.arange(len(data)) % 4 == 0
    parts = split_given(data, is_held_out, tmp_path)
    fitted = {row for row, _, _ in rows_of(parts.fitted)}
    gone = [row for row, _, _ in rows_of(parts.training) if row not in fitted]
    last = {row for row, _, _ in rows_of(parts.training)}
    rows, user = sorted(last), [u for _, u, _ in rows_of(parts.training)]
    by_order = oracle_held_out(np.array(user), np.zeros(len(user)))
    assert len(gone) > 10
    assert not set(gone) <= {rows[place] for place in by_order}


def test_settings_are_chosen_without_the_table_to_hold_out(tmp_path):
    data = random_table(5)
    is_held_out = np.arange(len(data)) % 4 == 0
    parts = split_given(data, is_held_out, tmp_path, validation=True)
    rows = {row for row, _, _ in rows_of(parts.whole)}
    assert rows == set(range((~is_held_out).sum()))
    kept = data.user[~is_held_out], data.time[~is_held_out]
    assert rows - {row for row, _, _ in rows_of(parts.training)} == oracle_held_out(
        *kept
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"user": [1], "item": ["a"]}, "columns of a table: expected item, time, user"),
        ({"user": ["1"], "item": ["a"], "time": [3]}, "whole numbers, received str"),
        ({"user": [9], "item": ["a"], "time": [3]}, "none of them in the other"),
    ],
)
def test_what_cannot_be_held_out(columns, expected, tmp_path):
    train = {"user": [1, 1, 2], "item": ["a", "b", "a"], "time": [1, 2, 3]}
    one, other = (
        ArrowParts(pa.table(of), {n: n for n in of}, name)
        for of, name in ((train, "a table"), (columns, "the other"))
    )
    with pytest.raises(ValueError, match=expected):
        split(one, tmp_path, held_out=other)
