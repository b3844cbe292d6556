"""Held-out figures against loops over users and items."""

import dataclasses
import math

import numpy as np
import pytest

from tfrs_negatives.recommender import best_items, held_out_figures
from tfrs_negatives.recommender.held_out_pairs import HeldOut


def make_problem(user, item, pairs, num_users, num_items):
    """What is held out, and how often each item is in training."""
    item = np.asarray(item)
    pairs = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    held_out = HeldOut(
        users=np.arange(num_users),
        user=pairs[:, 0],
        item=pairs[:, 1],
        seen_user=np.asarray(user),
        seen_item=item,
        num_users=num_users,
        num_pairs=len(pairs),
        num_unknown=int((pairs[:, 1] < 0).sum()),
    )
    return held_out, np.bincount(item, minlength=num_items)


def random_problem(seed, num_users=23, num_items=140, dim=3, levels=None):
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, num_items + 1)
    user = rng.integers(0, num_users, 400)
    item = rng.choice(num_items, 400, p=weights / weights.sum())
    seen = set(zip(user.tolist(), item.tolist(), strict=True))
    pairs = set()
    for _ in range(150):
        u, i = int(rng.integers(0, num_users - 2)), int(rng.integers(-1, num_items))
        if (u, i) not in seen:
            pairs.add((u, i))
    shapes = ((num_users, dim), (num_items, dim))
    if levels:  # Few distinct values: many equal scores.
        embeddings = [rng.integers(0, levels, s).astype(np.float32) for s in shapes]
    else:
        embeddings = [rng.normal(size=s).astype(np.float32) for s in shapes]
    return make_problem(user, item, pairs, num_users, num_items), *embeddings


def oracle(held_out, users, items):
    """The figures by loops, in float64."""
    num_items = len(items)
    seen = {u: set() for u in range(len(users))}
    counts = [0] * num_items
    for u, i in zip(
        held_out.seen_user.tolist(), held_out.seen_item.tolist(), strict=True
    ):
        seen[u].add(i)
        counts[i] += 1
    by_count = sorted(range(num_items), key=lambda i: (-counts[i], i))
    head = set(by_count[: math.ceil(0.2 * num_items)])

    hits = {10: [], 50: [], 100: []}
    groups = {"head": [], "tail": []}
    gains = {}
    for u, i in zip(held_out.user.tolist(), held_out.item.tolist(), strict=True):
        above = num_items
        if i >= 0:
            own = float(np.dot(users[u].astype(np.float64), items[i]))
            above = 0
            for j in range(num_items):
                other = float(np.dot(users[u].astype(np.float64), items[j]))
                if j != i and j not in seen[u] and other >= own:
                    above += 1
            groups["head" if i in head else "tail"].append(above < 50)
        for k, found in hits.items():
            found.append(above < k)
        gains.setdefault(u, []).append(above)
    ndcg, reciprocal = [], []
    for ranks in gains.values():
        reciprocal.append(max(1 / (r + 1) if r < 100 else 0 for r in ranks))
        found = sum(1 / math.log2(r + 2) for r in ranks if r < 10)
        best = sum(1 / math.log2(r + 2) for r in range(min(10, len(ranks))))
        ndcg.append(found / best)
    shown = set()
    for u in range(len(users)):
        scores = [float(np.dot(users[u].astype(np.float64), i)) for i in items]
        unseen = [j for j in range(num_items) if j not in seen[u]]
        shown |= set(sorted(unseen, key=lambda j: (-scores[j], j))[:10])
    return {
        **{f"recall@{k}": sum(found) / len(found) for k, found in hits.items()},
        "ndcg@10": sum(ndcg) / len(ndcg),
        "mrr@100": sum(reciprocal) / len(reciprocal),
        "head recall@50": sum(groups["head"]) / len(groups["head"]),
        "tail recall@50": sum(groups["tail"]) / len(groups["tail"]),
        "coverage@10": len(shown) / num_items,
    }


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_loops(seed, levels):
    problem, users, items = random_problem(seed, levels=levels)
    found = held_out_figures.figures(users, items, *problem)
    expected = oracle(problem[0], users, items)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert 0 < expected["recall@50"] < 1


@pytest.mark.parametrize("block", [1, 300, 10_000])
def test_blocks_change_nothing(monkeypatch, block):
    problem, users, items = random_problem(7)
    expected = held_out_figures.figures(users, items, *problem)
    monkeypatch.setattr(held_out_figures, "_BLOCK_USERS", block)
    monkeypatch.setattr(best_items, "_BLOCK_USERS", block)
    monkeypatch.setattr(best_items, "_BLOCK_SCORES", 7 * block)
    assert held_out_figures.figures(users, items, *problem) == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_agree_with_ir_measures(seed):
    """ir-measures shares no code with the package, and sorts lists by itself."""
    ir_measures = pytest.importorskip(
        "ir_measures", reason="needs ir-measures, of the extra `test`, to compare with"
    )
    (held_out, counts), users, items = random_problem(seed, num_items=400, dim=16)
    ours = held_out_figures.figures(users, items, held_out, counts)
    run = []
    for user in np.unique(held_out.user):
        scores = items.astype(np.float64) @ users[user]
        scores[held_out.seen_item[held_out.seen_user == user]] = -np.inf
        run += [
            ir_measures.ScoredDoc(str(user), str(item), float(scores[item]))
            for item in np.flatnonzero(np.isfinite(scores))
        ]
    # An item that is not in the catalogue is relevant, and never found.
    relevant = [
        ir_measures.Qrel(str(u), str(i) if i >= 0 else f"unknown {n}", 1)
        for n, (u, i) in enumerate(zip(held_out.user, held_out.item, strict=True))
    ]
    pairs_of = dict(zip(*np.unique(held_out.user, return_counts=True), strict=True))
    for k in (10, 50, 100):
        # Theirs is a mean over users, ours over pairs.
        recall = ir_measures.R @ k
        hits = sum(
            found.value * pairs_of[int(found.query_id)]
            for found in ir_measures.iter_calc([recall], relevant, run)
        )
        expected = hits / len(held_out.user)
        assert ours[f"recall@{k}"] == pytest.approx(expected, abs=1e-6)
    wanted = {"ndcg@10": ir_measures.nDCG @ 10, "mrr@100": ir_measures.RR @ 100}
    theirs = ir_measures.calc_aggregate(wanted.values(), relevant, run)
    for name, measure in wanted.items():
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-6)


def test_order_of_held_out_pairs_changes_nothing():
    problem, users, items = random_problem(8)
    held_out, counts = problem
    shuffled = np.random.default_rng(0).permutation(len(held_out.user))
    other = dataclasses.replace(
        held_out, user=held_out.user[shuffled], item=held_out.item[shuffled]
    )
    found = held_out_figures.figures(users, items, *problem)
    assert held_out_figures.figures(users, items, other, counts) == pytest.approx(found)


def test_equal_scores_are_no_hits():
    problem, users, items = random_problem(1, num_items=300)
    found = held_out_figures.figures(np.zeros_like(users), items, *problem)
    assert found.pop("coverage@10") < 0.3  # All users get the first of the catalogue.
    assert set(found.values()) == {0.0}


def test_seen_items_are_no_candidates():
    # User 0 has seen items 0 and 1, which score above the held-out item 2.
    items = np.linspace(1, 0.1, 15, dtype=np.float32)[:, None]
    users = np.ones((2, 1), np.float32)
    problem = make_problem([0, 0, 1], [0, 1, 3], [(0, 2)], 2, 15)
    found = held_out_figures.figures(users, items, *problem)
    assert found["recall@10"] == found["ndcg@10"] == found["mrr@100"] == 1.0


def test_a_catalogue_smaller_than_k():
    items = np.linspace(1, 0.1, 5, dtype=np.float32)[:, None]
    users = np.ones((2, 1), np.float32)
    problem = make_problem([0, 1], [0, 1], [(0, 4), (1, -1)], 2, 5)
    found = held_out_figures.figures(users, items, *problem)
    # Every candidate is among 100; an item that is none still is a miss.
    assert found["recall@100"] == 0.5
    assert found["ndcg@10"] == pytest.approx(0.5 / math.log2(3 + 2))
    assert found["mrr@100"] == pytest.approx(0.5 / 4)
    assert found["coverage@10"] == 1.0
    assert found["head recall@50"] is None
    assert found["tail recall@50"] == 1.0
    # The recall of all is below that of each group, or there is none: both are told.
    assert held_out_figures.notes(*problem) == [
        "note: 1 of 2 held-out pairs are of items never in training: misses in "
        "recall@k and ndcg@k, in neither head nor tail recall, both of which may lie "
        "above the recall of all.",
        "note: head recall@50 is empty: no held-out pair is of an item of the head.",
    ]


def test_a_sample_of_users_is_noted():
    held_out, counts = make_problem([0, 1, 1], [0, 1, 2], [(0, 2), (1, 0)], 2, 5)
    held_out = dataclasses.replace(held_out, num_users=7)
    assert held_out_figures.notes(held_out, counts) == [
        "note: figures are of 2 of 7 users with held-out pairs, drawn at random."
    ]


def test_nothing_to_note():
    problem = make_problem([0, 1, 1], [0, 1, 2], [(0, 2), (1, 0)], 2, 5)
    assert held_out_figures.notes(*problem) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_embeddings_are_an_error(bad):
    problem, users, items = random_problem(2)
    users[3, 0] = bad
    with pytest.raises(FloatingPointError, match="diverged"):
        held_out_figures.figures(users, items, *problem)


def test_head_is_a_fifth_of_the_items():
    item = np.repeat([4, 2, 0, 1], [5, 4, 4, 1])
    head = held_out_figures.head_items(np.bincount(item, minlength=10))
    assert np.flatnonzero(head).tolist() == [0, 4]  # Item 0 before 2, by position.
    assert held_out_figures.head_items(np.array([1, 0])).tolist() == [True, False]
