"""The quality benchmark's evaluator."""

import math

import numpy as np
import pytest

from benchmarks.quality import compare_evaluators, evaluate, rankers


def expected(factors, split):
    """Measures by a loop over users, in float64."""
    counts = np.bincount(split.train.items, minlength=90)
    order = np.argsort(-counts, kind="stable")
    bands = {"head": order[:18], "torso": order[18:45], "tail": order[45:]}
    found = {name: [] for name in ("recall", "ndcg", *bands)}
    for user in np.unique(split.test_users):
        wanted = set(split.test_items[split.test_users == user])
        seen = set(split.train.items[split.train.users == user])
        scores = factors.items.astype(np.float64) @ factors.users[user]
        ranked = [item for item in np.argsort(-scores) if item not in seen][:20]
        hits = [item in wanted for item in ranked]
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        ideal = sum(1 / math.log2(place + 2) for place in range(min(20, len(wanted))))
        found["recall"].append(sum(hits) / len(wanted))
        found["ndcg"].append(gain / ideal)
        for band, items in bands.items():
            of_band = wanted & set(items)
            if of_band:
                found[band].append(len(of_band & set(ranked)) / len(of_band))
    return [np.mean(values) for values in found.values()]


def test_evaluator_equals_a_loop_over_users(split, factors):
    other = rankers.Scores(lambda users: factors.users[users] @ factors.items.T)
    for ranker in factors, other:
        measures = evaluate.evaluate(ranker, split)
        assert list(measures) == evaluate.MEASURES
        np.testing.assert_allclose(
            list(measures.values()), expected(factors, split), atol=1e-6
        )


def test_evaluator_agrees_with_ir_measures(split, factors):
    pytest.importorskip(
        "ir_measures", reason="needs ir-measures, of the extra `test`, to compare with"
    )

    ours, theirs = (
        f(factors, split)
        for f in (evaluate.evaluate, compare_evaluators.of_ir_measures)
    )
    assert set(theirs) == {"recall_at_20", "ndcg_at_20"}
    for measure, value in theirs.items():
        assert ours[measure] == pytest.approx(value, abs=1e-6)
