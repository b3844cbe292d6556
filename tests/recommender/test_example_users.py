"""Users with what they did last, and suggestions."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfrs_negatives.recommender.example_users import example_users
from tfrs_negatives.recommender.row_histories import RowHistories
from tfrs_negatives.recommender.training_rows import TrainingRows
from tfrs_negatives.recommender.training_set import TrainingSet

TITLES = np.array(["A", "B", "", "D", "E", "F", "G"], object)


def towers(folder, titles, has_times):
    """Seven items, of which user 0 likes the last ones and user 1 the first ones."""
    user, item = np.array([0, 1, 0, 0, 1, 2]), np.array([2, 6, 0, 1, 3, 0])
    rows = TrainingRows.of(folder, user, item, request=user)
    histories = None
    if has_times:  # The other way round.
        time = np.arange(6)[::-1]
        histories = RowHistories(np.arange(6), user, item, time, 9, 6, "unseen")
    counts = np.array([2, 1, 1, 1, 0, 0, 1])
    training = TrainingSet(
        np.array([70, 71, 72]), np.arange(7) + 10, titles, rows, counts, histories
    )
    signs = np.array([1.0, -1.0, 1.0])
    return SimpleNamespace(
        training=training,
        embed_items=lambda: np.arange(7.0)[:, np.newaxis],
        embed_users=lambda users: signs[users][:, np.newaxis],
    )


@pytest.mark.parametrize("has_times", [False, True])
def test_example_users(tmp_path, has_times):
    found = example_users(towers(tmp_path, TITLES, has_times), np.array([0, 1]))
    first, second = sorted(found, key=lambda example: example.user)
    assert (first.user, second.user) == ("70", "71")
    # Item 2 has no title: its id stands for it.
    assert first.last == (["12", "A", "B"] if has_times else ["B", "A", "12"])
    assert first.ours == ["G", "F", "E", "D"]
    assert second.ours == ["A", "B", "12", "E", "F"]
    assert first.popular == ["D", "G", "E", "F"]
    assert second.popular == ["A", "B", "12", "E", "F"]


def test_ids_where_there_are_no_titles(tmp_path):
    [user] = example_users(towers(tmp_path, None, False), np.array([2]))
    assert user.last == ["10"]
    assert user.ours == ["16", "15", "14", "13", "12"]
