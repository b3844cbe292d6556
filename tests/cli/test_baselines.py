"""What baselines score, against loops and float64 NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfrs_negatives.cli import baselines, comparison, row_names
from tfrs_negatives.recommender.held_out_pairs import HeldOut
from tfrs_negatives.recommender.training_rows import TrainingRows
from tfrs_negatives.recommender.training_set import TrainingSet

U, N = 40, 60


@pytest.fixture
def split(tmp_path):
    rng = np.random.default_rng(4)
    tastes = rng.integers(0, 4, U)
    rows = [
        (u, i)
        for u in range(U)
        for i in rng.permutation(np.flatnonzero(np.arange(N) % 4 == tastes[u]))[:9]
    ]
    rows += [(u, int(rng.integers(N))) for u in range(U) for _ in range(4)]
    rows = rng.permutation(np.unique(rows, axis=0))
    is_held = rng.random(len(rows)) < 0.3
    user, item = rows[~is_held].T
    users = np.arange(3, U)  # Not all of them are evaluated.
    held = rows[is_held & (rows[:, 0] >= 3)]
    seen = user >= 3
    held_out = HeldOut(
        users=users,
        user=held[:, 0] - 3,
        item=np.where(held[:, 1] == 7, -1, held[:, 1]),
        seen_user=user[seen] - 3,
        seen_item=item[seen],
        num_users=len(users),
        num_pairs=len(held),
        num_unknown=0,
    )
    repeated = np.concatenate([user, user[:5]]), np.concatenate([item, item[:5]])
    training = TrainingRows.of(
        tmp_path, user=repeated[0], item=repeated[1], request=repeated[0]
    )
    counts = np.bincount(repeated[1], minlength=N)
    ids = np.arange(U) + 100, np.arange(N) + 500
    found = TrainingSet(*ids, None, training, counts)
    return SimpleNamespace(training=found, held_out=held_out)


def scores_of(name, split):
    """[U, N] float64."""
    rows = split.training.rows.of_users(np.ones(U, bool))
    x = np.zeros((U, N))
    x[rows["user"], rows["item"]] = 1
    if name == row_names.POPULARITY:
        return np.tile(split.training.item_counts.astype(float), (U, 1)), x
    assert name == row_names.EASE
    p = np.linalg.inv(x.T @ x + 200 * np.eye(N))
    b = np.eye(N) - p / np.diag(p)
    return np.maximum(x @ b, 0), x


@pytest.mark.parametrize("name", [row_names.POPULARITY, row_names.EASE])
def test_figures_equal_loops(split, name):
    found = baselines.figures(name, split, progress=False)
    scores, seen = scores_of(name, split)
    held, hits, in_all = split.held_out, {10: 0, 50: 0}, len(split.held_out.item)
    for v, item in zip(held.user, held.item, strict=True):
        if item < 0:
            continue
        user = held.users[v]
        own = scores[user, item]
        others = [k for k in range(N) if not seen[user, k] and k != item]
        rank = 1 + sum(scores[user, k] >= own - 1e-9 for k in others)
        for k in hits:
            hits[k] += rank <= k and own > 0
    for k, number in hits.items():
        assert found[f"recall@{k}"] == pytest.approx(number / in_all, abs=1.5 / in_all)
    assert found[comparison.SECONDS] >= 0


def test_neighbours_find_the_taste(split):
    found = baselines.figures(row_names.NEIGHBOURS, split, progress=False)
    popular = baselines.figures(row_names.POPULARITY, split, progress=False)
    assert found["recall@10"] > 1.5 * popular["recall@10"]


def test_ties_count_against_an_item():
    held = SimpleNamespace(
        user=np.array([0, 0, 0, 1, 1]), item=np.array([4, 2, 9, 5, -1])
    )
    items = np.array([[3, 4, 2, 1], [5, 5, 5, 5]])
    scores = np.array([[0.9, 0.5, 0.5, 0.1], [0.0, 0.0, 0.0, 0.0]])
    found = baselines.ranks_in_lists(items, scores, held)
    assert found.tolist() == [3, 3, 0, 0, 0]


def test_what_is_too_large_says_so(split, monkeypatch):
    monkeypatch.setattr(baselines, "_MOST_ENTRIES", U - 1)
    assert "inverts a dense" in baselines.figures(row_names.EASE, split, False)
    monkeypatch.setattr(baselines, "_MOST_ROWS", 10)
    for name in (row_names.EASE, row_names.NEIGHBOURS):
        assert "more than 10" in baselines.figures(name, split, False)
    assert baselines.figures(row_names.POPULARITY, split, False)["recall@50"] > 0
