"""Figures over discounts of popularity, against rescoring by hand."""

import numpy as np
import pytest

from tfrs_negatives.recommender import held_out_figures, popularity_tradeoff
from tfrs_negatives.recommender.held_out_pairs import HeldOut

V, N, TEMPERATURE = 11, 130, 0.3


@pytest.fixture
def problem():
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 200, N)
    is_seen = rng.random((V, N)) < 0.1
    is_held = ~is_seen & (rng.random((V, N)) < 0.1)
    (user, item), seen = np.nonzero(is_held), np.nonzero(is_seen)
    held_out = HeldOut(np.arange(V) + 3, user, item, *seen, V, len(user), 0)
    return rng.normal(size=(V, 4)), rng.normal(size=(N, 4)), held_out, counts


def by_hand(users, items, held_out, counts, discount):
    """Recall and coverage in float64."""
    log_q = np.log(counts / counts.sum())
    scores = users @ items.T - discount * TEMPERATURE * log_q
    scores[held_out.seen_user, held_out.seen_item] = -np.inf
    hits = [
        (scores[user] >= scores[user, item]).sum() <= 50
        for user, item in zip(held_out.user, held_out.item, strict=True)
    ]
    shown = np.unique(np.argsort(-scores, axis=1)[:, :10])
    return np.mean(hits), len(shown) / N


def test_equals_rescoring(problem):
    found = popularity_tradeoff.trade_off(*problem, TEMPERATURE)
    assert len(found) == len(popularity_tradeoff.DISCOUNTS) == 11
    for discount, of in zip(popularity_tradeoff.DISCOUNTS, found, strict=True):
        recall, coverage = by_hand(*problem, discount)
        assert of["recall@50"] == pytest.approx(recall, abs=1e-9)
        assert of["coverage@10"] == pytest.approx(coverage, abs=1e-9)
    assert found[0] == held_out_figures.figures(*problem)
    assert found[10] != found[0]


def of(recalls, tails):
    return [
        {"recall@50": recall, "tail recall@50": tail}
        for recall, tail in zip(recalls, tails, strict=True)
    ]


def test_the_best_tail_that_leaves_two_thirds_of_the_recall():
    recalls = np.linspace(0.3, 0.1, 11)  # 0.2 at the sixth.
    recalls[5] += 1e-9
    assert popularity_tradeoff.chosen(of(recalls, np.arange(11))) == 0.5
    tails = [0, 1, 2, 2, 1, 1, 9, 9, 9, 9, 9]  # Of equal ones the smallest.
    assert popularity_tradeoff.chosen(of(recalls, tails)) == 0.2
    assert popularity_tradeoff.chosen(of(recalls, [None] * 11)) == 0.0


def test_of_many_users_some_are_looked_at(problem, monkeypatch):
    held_out = problem[2]
    assert popularity_tradeoff.looked_at(held_out, N) is held_out
    monkeypatch.setattr(popularity_tradeoff, "_MOST_PRODUCTS", 4 * N)
    fewer = popularity_tradeoff.looked_at(held_out, N)
    assert len(fewer.users) == 4 and (np.diff(fewer.users) > 0).all()

    def pairs(of, kind):
        users = of.users[getattr(of, f"{kind}user")]
        return sorted(zip(users, getattr(of, f"{kind}item"), strict=True))

    for kind in ("", "seen_"):
        there = pairs(held_out, kind)
        wanted = [(user, item) for user, item in there if user in fewer.users]
        assert pairs(fewer, kind) == wanted
        assert 0 < len(wanted) < len(there)
