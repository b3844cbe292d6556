"""The best items of users against sorting."""

import numpy as np
import pytest

from tfrs_negatives.recommender import best_items


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_best_items_equal_sorting(monkeypatch, size):
    monkeypatch.setattr(best_items, "_BLOCK_USERS", 4)
    monkeypatch.setattr(best_items, "_BLOCK_SCORES", 4 * size)
    rng = np.random.default_rng(size)
    # Few distinct values: many equal scores.
    users, items = rng.integers(0, 3, (9, 2)), rng.integers(0, 3, (14, 2))
    seen = np.argwhere(rng.random((9, 14)) < 0.3)
    seen = np.concatenate([seen, [[2, item] for item in range(12)]])
    found = best_items.best_items(users, items, *seen.T, k=5)
    for user, row in enumerate(found):
        unseen = sorted(set(range(14)) - set(seen[seen[:, 0] == user, 1].tolist()))
        scores = users[user] @ items.T
        wanted = sorted(unseen, key=lambda item: (-scores[item], item))[:5]
        assert row.tolist() == [*wanted, *[-1] * (5 - len(wanted))]


def test_more_than_there_are():
    ones = np.ones((2, 1), np.float32)
    nothing = np.zeros(0, np.int64)
    found = best_items.best_items(ones, ones, nothing, nothing, k=5)
    assert found.tolist() == [[0, 1], [0, 1]]
